// How often tokens were used, and when last.
// Parameters: $ids (list of strings): digests.
// Columns: digest (string), uses (integer), last_used_at (float: seconds since 1970). No row for a token that
// never was.
UNWIND $ids AS id
MATCH (n:Token {digest: id})
WHERE n.uses IS NOT NULL
RETURN id AS digest, n.uses AS uses, n.last_used_at AS last_used_at
