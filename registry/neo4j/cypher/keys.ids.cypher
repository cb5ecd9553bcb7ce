// The ids of the signing keys, in order, a page at a time.
// Parameters: $after (string): ids above it; $limit (integer): at most so many.
// Columns: id (string).
MATCH (n:SigningKey)
WHERE n.kid > $after
RETURN n.kid AS id
ORDER BY id
LIMIT $limit
