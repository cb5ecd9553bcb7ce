// Libraries.
// Parameters: $ids (list of strings).
// Columns: uid (string), name (string), workspace_id (string), tags (list of strings).
// One row for each node; two of one uid are a fault.
UNWIND $ids AS id
MATCH (n:Library {uid: id})
RETURN id AS uid, n.name AS name, n.workspace_id AS workspace_id, coalesce(n.tags, []) AS tags
