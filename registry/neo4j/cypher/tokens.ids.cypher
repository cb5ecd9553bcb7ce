// The ids of the tokens, in order, a page at a time.
// Parameters: $after (string): ids above it; $limit (integer): at most so many.
// Columns: id (string).
MATCH (n:Token)
WHERE n.digest > $after
RETURN n.digest AS id
ORDER BY id
LIMIT $limit
