"""A large registry, written directly into its store, and bearers for its tokens and teams."""

import json
import sqlite3
import uuid
from contextlib import closing
from hashlib import sha256
from itertools import islice

WORKSPACES_PER_TEAM = 2
LIBRARIES_PER_TOKEN = 4
_BATCH = 20_000


class GeneratedRegistry:
    """The numbers, ids and fields of all generated records."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.teams = max(1, tokens // 10)
        self.users = max(1, tokens // 20)
        self.workspaces = max(1, tokens // 20)
        self.libraries = tokens

    def bearer(self, n):
        return f"bench-{n}"

    def digest(self, n):
        return sha256(self.bearer(n).encode()).hexdigest()

    def team_id(self, n):
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"team-{n}"))

    def rows(self):
        """Kind to an iterator of rows, in an order in which references exist."""
        return {
            "users": ({"id": f"u-{n}", "name": f"User {n}"} for n in range(self.users)),
            "workspaces": (
                {"id": f"w-{n}", "name": f"Workspace {n}"} for n in range(self.workspaces)
            ),
            "libraries": (
                {
                    "uid": f"lib-{n}",
                    "name": f"Library {n}",
                    "workspace_id": f"w-{n % self.workspaces}",
                }
                for n in range(self.libraries)
            ),
            "teams": (
                {
                    "id": self.team_id(n), "name": f"Team {n}", "owner": f"u-{n % self.users}",
                    "active_jti": f"jti-{n}", "tools": ["*"],
                    "workspaces": sorted(
                        {f"w-{(n * 7 + k) % self.workspaces}" for k in range(WORKSPACES_PER_TEAM)}
                    ),
                }
                for n in range(self.teams)
            ),
            "tokens": (
                {
                    "digest": digest, "label": f"lct_…{digest[:8]}", "user": f"u-{n % self.users}",
                    "tools": ["search", "read_*"],
                    "libraries": sorted(
                        {f"lib-{(n * 3 + k) % self.libraries}" for k in range(LIBRARIES_PER_TOKEN)}
                    ),
                }
                for n in range(self.tokens)
                for digest in [self.digest(n)]
            ),
        }  # fmt: skip


def batches(rows):
    while batch := list(islice(rows, _BATCH)):
        yield batch


def fill_sqlite(path, generated):
    """Write generated records into an SQLite registry that holds only settings and keys."""
    inserts = {
        "users": "INSERT INTO users VALUES (:id, :name, 1)",
        "workspaces": "INSERT INTO workspaces VALUES (:id, :name)",
        "libraries": "INSERT INTO libraries VALUES (:uid, :name, :workspace_id, '[]')",
        "teams": "INSERT INTO teams VALUES (:id, :name, :owner, 1, :active_jti, :tools)",
        "tokens": "INSERT INTO tokens VALUES (:digest, :label, :user, 1, NULL, :libraries, :tools)",
    }
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        for kind, rows in generated.rows().items():
            for batch in batches(rows):
                db.execute("BEGIN")
                if kind == "teams":
                    links = [(row["id"], w) for row in batch for w in row["workspaces"]]
                    flat = [{**row, "tools": json.dumps(row["tools"])} for row in batch]
                    db.executemany(inserts[kind], flat)
                    db.executemany("INSERT INTO team_workspaces VALUES (?, ?)", links)
                elif kind == "tokens":
                    flat = [
                        {**row, **{name: json.dumps(row[name]) for name in ("tools", "libraries")}}
                        for row in batch
                    ]
                    db.executemany(inserts[kind], flat)
                else:
                    db.executemany(inserts[kind], batch)
                db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


FILL_NEO4J = {
    "users": "UNWIND $rows AS row CREATE (u:User) SET u = row, u.active = true",
    "workspaces": "UNWIND $rows AS row CREATE (w:Workspace) SET w = row",
    "libraries": "UNWIND $rows AS row CREATE (l:Library) SET l = row",
    "teams": """
        UNWIND $rows AS row
        MATCH (u:User {id: row.owner})
        CREATE (t:Team {id: row.id, name: row.name, active: true, active_jti: row.active_jti,
                        tools: row.tools})-[:OWNED_BY]->(u)
        WITH t, row UNWIND row.workspaces AS workspace
        MATCH (w:Workspace {id: workspace}) CREATE (t)-[:ASSIGNED_TO]->(w)
    """,
    "tokens": """
        UNWIND $rows AS row
        MATCH (u:User {id: row.user})
        CREATE (t:Token {digest: row.digest, label: row.label, active: true,
                         libraries: row.libraries, tools: row.tools})-[:BELONGS_TO]->(u)
    """,
}


def fill_neo4j(url, generated):
    """Write generated records into a graph that `lictor registry check --fix` has prepared."""
    import neo4j

    with neo4j.GraphDatabase.driver(url) as driver, driver.session() as session:
        for kind, rows in generated.rows().items():
            for batch in batches(rows):
                session.run(FILL_NEO4J[kind], rows=batch).consume()
