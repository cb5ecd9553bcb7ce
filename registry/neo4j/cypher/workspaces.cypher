// Workspaces, without their libraries.
// Parameters: $ids (list of strings).
// Columns: id (string), name (string). One row for each node; two of one id are a fault.
UNWIND $ids AS id
MATCH (n:Workspace {id: id})
RETURN id, n.name AS name
