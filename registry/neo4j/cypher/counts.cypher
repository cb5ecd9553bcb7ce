// About how many records there are of each kind, for a progress bar.
// Parameters: none.
// Columns: kind (string: users, workspaces, libraries, teams, tokens or keys), count (integer).
MATCH (n:User) RETURN 'users' AS kind, count(n) AS count
UNION ALL
MATCH (n:Workspace) RETURN 'workspaces' AS kind, count(n) AS count
UNION ALL
MATCH (n:Library) RETURN 'libraries' AS kind, count(n) AS count
UNION ALL
MATCH (n:Team) RETURN 'teams' AS kind, count(n) AS count
UNION ALL
MATCH (n:Token) RETURN 'tokens' AS kind, count(n) AS count
UNION ALL
MATCH (n:SigningKey) RETURN 'keys' AS kind, count(n) AS count
