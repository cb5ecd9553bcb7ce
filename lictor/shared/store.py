"""What MCP servers share, in one SQLite file: it outlives `lictor serve`, as a Redis would.

Neither a jti nor a count is worth a write to the disk of its own: a crash of the machine may lose
the last of them, a crash of the process loses none.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from bundles.exceptions import StoreUnusableError

MOST_ROWS: Final = 1_000_000
"""Jtis, and likewise tokens with uses; each takes some hundred bytes."""
BATCH: Final = 1_000
"""Tokens taken at a time."""

_REMEMBERED_BATCH = 600.0
"""Seconds: a request is refused long before."""
_CACHED_WITHIN = 3600.0
"""Seconds: far above a lease, since the clock may have been set."""
_SWEEP_EVERY = 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jtis (jti TEXT PRIMARY KEY, first_exp REAL NOT NULL, until REAL NOT NULL)
  WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jtis_until ON jtis (until);
CREATE TABLE IF NOT EXISTS uses (digest TEXT PRIMARY KEY, uses INTEGER NOT NULL, last REAL NOT NULL)
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS noted (name TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""
_ADD = """
INSERT INTO uses VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE
SET uses = min(uses + excluded.uses, 9007199254740991), last = max(last, excluded.last)
"""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class SharedStateStore:
    """The file, on a thread of its own."""

    def __init__(
        self,
        path: Path,
        *,
        most_rows: int = MOST_ROWS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the store; the file is opened, or made, on first use.

        Args:
            path: in the state directory.
            most_rows: the most rows of a table.
            clock: seconds since 1970.
        """
        self._path = path
        self._most_rows = most_rows
        self._clock = clock
        self._db: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shared-state")
        self._swept_at = -1.0
        self._noted: dict[str, float] = {}

    async def first_exp(self, jti: str, *, exp: float, remember: float) -> float:
        """Return the expiry with which a jti was first seen, in one step with remembering it.

        Args:
            jti: a digest of the issuer and the jti.
            exp: its expiry now.
            remember: seconds for which a first one is remembered.

        Raises:
            StoreUnusableError: the file cannot be read or written.
        """

        def job(db: sqlite3.Connection) -> float:
            now = self._clock()
            self._sweep(db, now)
            db.execute("DELETE FROM jtis WHERE jti = ? AND until <= ?", (jti, now))
            db.execute("INSERT OR IGNORE INTO jtis VALUES (?, ?, ?)", (jti, exp, now + remember))
            (first,) = db.execute("SELECT first_exp FROM jtis WHERE jti = ?", (jti,)).fetchone()
            return float(first)

        return await self._run(job)

    async def add_uses(self, batch: str, uses: Mapping[str, tuple[int, float]]) -> None:
        """Add the counts of a batch, once however often it arrives.

        Raises:
            StoreUnusableError: the file cannot be written, or holds too many tokens.
        """

        def job(db: sqlite3.Connection) -> None:
            now = self._clock()
            self._sweep(db, now)
            added = db.execute(
                "INSERT OR IGNORE INTO batches VALUES (?, ?)", (batch, now + _REMEMBERED_BATCH)
            )
            if not added.rowcount:
                return
            (rows,) = db.execute("SELECT count(*) FROM uses").fetchone()
            if rows + len(uses) > self._most_rows:
                raise StoreUnusableError(f"{self._path} holds the uses of too many tokens")
            db.executemany(_ADD, [(digest, n, at) for digest, (n, at) in uses.items()])

        await self._run(job)
        await self.note("counting")

    async def take_uses(self, *, most: int = BATCH) -> dict[str, tuple[int, float]]:
        """Remove the uses of some tokens, and return them.

        Raises:
            StoreUnusableError: the file cannot be read or written.
        """

        def job(db: sqlite3.Connection) -> dict[str, tuple[int, float]]:
            rows = db.execute("SELECT digest, uses, last FROM uses LIMIT ?", (most,)).fetchall()
            db.executemany("DELETE FROM uses WHERE digest = ?", [(digest,) for digest, *_ in rows])
            return {digest: (n, at) for digest, n, at in rows}

        return await self._run(job)

    async def note(self, name: str, *, every: float = _SWEEP_EVERY) -> None:
        """Note durably that something happens now; at most once in so many seconds.

        Raises:
            StoreUnusableError: the file cannot be written.
        """
        now = self._clock()
        if abs(now - self._noted.get(name, -every)) < every:
            return
        await self._run(lambda db: db.execute("REPLACE INTO noted VALUES (?, ?)", (name, now)))
        self._noted[name] = now

    async def noted_at(self, name: str) -> float | None:
        """Return when something was noted last, in seconds since 1970; None if never.

        Raises:
            StoreUnusableError: the file cannot be read.
        """

        def job(db: sqlite3.Connection) -> float | None:
            row = db.execute("SELECT at FROM noted WHERE name = ?", (name,)).fetchone()
            return float(row[0]) if row else None

        return await self._run(job) if self._path.exists() else None

    async def may_have_caches(self) -> bool:
        """Whether caches that polled an earlier process may still hold what it gave them."""
        try:
            at = await self.noted_at("caching")
        except StoreUnusableError:
            return True
        return at is not None and self._clock() - at < _CACHED_WITHIN

    async def aclose(self) -> None:
        """Close the file after all earlier jobs."""
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(self._thread, self._close))
        self._thread.shutdown(wait=False)

    async def _run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, self._transact, job))

    def _transact(self, job: Callable[[sqlite3.Connection], T]) -> T:
        try:
            db = self._db = self._db or self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                result = job(db)
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            raise StoreUnusableError(
                f"{self._path} cannot be used ({type(error).__name__}: {error}); "
                "if it is damaged, remove it"
            ) from None
        return result

    def _open(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        db = sqlite3.connect(self._path, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(_SCHEMA)
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _sweep(self, db: sqlite3.Connection, now: float) -> None:
        """Delete what has expired, and what is too much."""
        if abs(now - self._swept_at) < _SWEEP_EVERY:
            return
        self._swept_at = now
        db.execute("DELETE FROM jtis WHERE until <= ?", (now,))
        db.execute("DELETE FROM batches WHERE until <= ?", (now,))
        (rows,) = db.execute("SELECT count(*) FROM jtis").fetchone()
        # Those that end first, as in the memory of one process.
        db.execute(
            "DELETE FROM jtis WHERE jti IN (SELECT jti FROM jtis ORDER BY until LIMIT ?)",
            (max(0, rows - self._most_rows),),
        )

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
