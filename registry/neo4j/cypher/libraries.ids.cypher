// The ids of the libraries, in order, a page at a time.
// Parameters: $after (string): ids above it; $limit (integer): at most so many.
// Columns: id (string).
MATCH (n:Library)
WHERE n.uid > $after
RETURN n.uid AS id
ORDER BY id
LIMIT $limit
