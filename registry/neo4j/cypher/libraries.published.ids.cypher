// The ids of the libraries that have a record in bundles, in order, a page at a time: those with tags,
// and those without a workspace, so that they are reported.
// Parameters: $after (string): ids above it; $limit (integer): at most so many.
// Columns: id (string).
MATCH (n:Library)
WHERE n.uid > $after
  AND (
    n.tags <> []
    OR CASE WHEN n.workspace_id IS :: STRING NOT NULL THEN trim(n.workspace_id) = '' ELSE true END
  )
RETURN n.uid AS id
ORDER BY id
LIMIT $limit
