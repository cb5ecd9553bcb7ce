"""Uses of tokens. Every function runs inside a transaction that its caller began."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from registry.model import MOST_USES, Usage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

# Created with the first recorded use, and not in schema.sql: older files lack it, and a file that
# is only read is not altered.
_TABLE = """
CREATE TABLE IF NOT EXISTS usage (
  digest       TEXT PRIMARY KEY REFERENCES tokens (digest) ON DELETE CASCADE,
  uses         INTEGER NOT NULL,
  last_used_at REAL NOT NULL
) STRICT, WITHOUT ROWID
"""
_IS_THERE = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'usage'"
_ADD = """
INSERT INTO usage (digest, uses, last_used_at)
SELECT digest, :uses, :last FROM tokens WHERE digest = :digest
ON CONFLICT (digest) DO UPDATE SET
  uses = min(uses + excluded.uses, :most),
  last_used_at = max(last_used_at, excluded.last_used_at)
"""
_READ = """
SELECT digest, uses, last_used_at FROM usage
WHERE digest IN (SELECT value FROM json_each(?))
"""


def add(db: sqlite3.Connection, uses: Mapping[str, Usage]) -> None:
    """See `Registry.record_usage`."""
    db.execute(_TABLE)
    db.executemany(
        _ADD,
        [
            {"digest": digest, "uses": one.uses, "last": one.last_used_at, "most": MOST_USES}
            for digest, one in uses.items()
        ],
    )


def read(db: sqlite3.Connection, digests: Iterable[str]) -> dict[str, Usage]:
    """See `Registry.usage`."""
    if db.execute(_IS_THERE).fetchone() is None:
        return {}
    rows = db.execute(_READ, (json.dumps(list(digests)),))
    return {digest: Usage(uses, last) for digest, uses, last in rows}
