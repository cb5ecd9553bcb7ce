-- The registry in one SQLite file. A change here is a new LAYOUT in file.py.
-- Tokens are digests and keys are names: there is no column for a secret.

CREATE TABLE registry (
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  epoch    INTEGER NOT NULL,
  revision INTEGER NOT NULL
) STRICT;

CREATE TABLE settings (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL CHECK (json_valid(value))
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
  id     TEXT PRIMARY KEY,
  name   TEXT NOT NULL,
  active INTEGER NOT NULL CHECK (active IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE workspaces (
  id   TEXT PRIMARY KEY,
  name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE libraries (
  uid          TEXT PRIMARY KEY,
  name         TEXT NOT NULL,
  workspace_id TEXT NOT NULL REFERENCES workspaces (id),
  tags         TEXT NOT NULL CHECK (json_type(tags) = 'array')
) STRICT, WITHOUT ROWID;

CREATE INDEX libraries_by_workspace ON libraries (workspace_id);

CREATE TABLE teams (
  id         TEXT PRIMARY KEY,
  name       TEXT NOT NULL,
  owner      TEXT NOT NULL REFERENCES users (id),
  active     INTEGER NOT NULL CHECK (active IN (0, 1)),
  active_jti TEXT NOT NULL,
  tools      TEXT NOT NULL CHECK (json_type(tools) = 'array')
) STRICT, WITHOUT ROWID;

CREATE INDEX teams_by_owner ON teams (owner);

CREATE TABLE team_workspaces (
  team      TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  workspace TEXT NOT NULL REFERENCES workspaces (id),
  PRIMARY KEY (team, workspace)
) STRICT, WITHOUT ROWID;

CREATE INDEX team_workspaces_by_workspace ON team_workspaces (workspace);

CREATE TABLE tokens (
  digest     TEXT PRIMARY KEY,
  label      TEXT NOT NULL,
  user       TEXT NOT NULL REFERENCES users (id),
  active     INTEGER NOT NULL CHECK (active IN (0, 1)),
  expires_at REAL,
  libraries  TEXT NOT NULL CHECK (json_type(libraries) = 'array'),
  tools      TEXT NOT NULL CHECK (json_type(tools) = 'array')
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_by_label ON tokens (label);
CREATE INDEX tokens_by_user ON tokens (user);

CREATE TABLE keys (
  kid    TEXT PRIMARY KEY,
  alg    TEXT NOT NULL,
  active INTEGER NOT NULL CHECK (active IN (0, 1))
) STRICT, WITHOUT ROWID;

-- The revision that last touched each record, deleted ones too.
CREATE TABLE changes (
  kind     TEXT NOT NULL CHECK (kind IN (
    'users', 'teams', 'tokens', 'workspaces', 'libraries', 'keys', 'settings'
  )),
  id       TEXT NOT NULL,
  revision INTEGER NOT NULL,
  PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX changes_by_revision ON changes (revision);

CREATE TABLE log (
  revision INTEGER PRIMARY KEY,
  at       REAL NOT NULL,
  actor    TEXT NOT NULL,
  action   TEXT NOT NULL,
  touched  TEXT NOT NULL CHECK (json_type(touched) = 'array'),
  previous TEXT NOT NULL,
  hash     TEXT NOT NULL
) STRICT;
