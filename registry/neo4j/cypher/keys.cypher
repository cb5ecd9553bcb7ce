// Signing keys; never the keys themselves.
// Parameters: $ids (list of strings).
// Columns: kid (string), alg (string), active (boolean). One row for each node; two of one kid are a fault.
UNWIND $ids AS id
MATCH (n:SigningKey {kid: id})
RETURN id AS kid, n.alg AS alg, n.active AS active
