// Which libraries are in a workspace.
// Parameters: $ids (list of strings): workspaces.
// Columns: id (string): the workspace; libraries (list of strings): uids, in any order.
UNWIND $ids AS id
RETURN id, COLLECT {
  MATCH (l:Library {workspace_id: id})
  WHERE l.uid > ''
  RETURN l.uid
} AS libraries
