// Teams.
// Parameters: $ids (list of strings).
// Columns: id (string), name (string), owners (list of strings: user ids, exactly one), active (boolean),
// active_jti (string), workspaces (list of strings: ids, in any order), tools (list of strings: globs).
// One row for each node; two of one id are a fault.
UNWIND $ids AS id
MATCH (n:Team {id: id})
RETURN
  id,
  n.name AS name,
  [(n)-[:OWNED_BY]->(u:User) | u.id] AS owners,
  n.active AS active,
  n.active_jti AS active_jti,
  [(n)-[:ASSIGNED_TO]->(w:Workspace) WHERE w.id > '' | w.id] AS workspaces,
  n.tools AS tools
