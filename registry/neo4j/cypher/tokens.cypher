// Opaque tokens.
// Parameters: $ids (list of strings): digests.
// Columns: digest (string), label (string), users (list of strings: user ids, exactly one), active (boolean),
// expires_at (float: seconds since 1970, or null), libraries (list of strings: uids), tools (list of strings:
// globs). One row for each node; two of one digest are a fault.
UNWIND $ids AS id
MATCH (n:Token {digest: id})
RETURN
  id AS digest,
  n.label AS label,
  [(n)-[:BELONGS_TO]->(u:User) | u.id] AS users,
  n.active AS active,
  n.expires_at AS expires_at,
  n.libraries AS libraries,
  n.tools AS tools
