// The digests of the tokens that have a label.
// Parameters: $label (string).
// Columns: id (string).
MATCH (n:Token {label: $label})
RETURN n.digest AS id
