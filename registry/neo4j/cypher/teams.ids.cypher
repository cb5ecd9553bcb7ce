// The ids of the teams, in order, a page at a time.
// Parameters: $after (string): ids above it; $limit (integer): at most so many.
// Columns: id (string).
MATCH (n:Team)
WHERE n.id > $after
RETURN n.id AS id
ORDER BY id
LIMIT $limit
