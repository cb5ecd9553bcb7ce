// The ids of the users, in order, a page at a time.
// Parameters: $after (string): ids above it; $limit (integer): at most so many.
// Columns: id (string).
MATCH (n:User)
WHERE n.id > $after
RETURN n.id AS id
ORDER BY id
LIMIT $limit
