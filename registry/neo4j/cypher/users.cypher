// Users.
// Parameters: $ids (list of strings).
// Columns: id (string), name (string), active (boolean). One row for each node; two of one id are a fault.
UNWIND $ids AS id
MATCH (n:User {id: id})
RETURN id, n.name AS name, n.active AS active
