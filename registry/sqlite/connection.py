"""One SQLite connection on a thread of its own, away from the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from registry.exceptions import RegistryUnavailableError, UnreadableRegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

BUSY_SECONDS = 10
"""Seconds that one process waits for another's write."""


class Connection:
    """A connection that runs jobs one after another, in the order of the calls.

    The order also holds if a caller is cancelled: its job ends, then the next one runs. So a
    rollback never overlaps a statement that is still running.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job and return what it returns.

        Raises:
            RegistryUnavailableError: the file is locked for too long, or the disk fails or is full.
            UnreadableRegistryError: the file is damaged.
        """
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, self._run, job))

    async def aclose(self) -> None:
        """Close the connection after all earlier jobs; an open transaction is rolled back."""
        try:
            loop = asyncio.get_running_loop()
            await asyncio.shield(loop.run_in_executor(self._thread, self._close))
        finally:
            self._thread.shutdown(wait=False)

    def _run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        with _store_errors(self._path):
            if self._db is None:
                self._db = _connect(self._path)
            return job(self._db)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: a file that was removed since it was checked must not come back empty.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA synchronous = FULL")
    return db


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:  # not the file's fault but the caller's
            raise
        if code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise UnreadableRegistryError(
                f"{path} is damaged: {error}; restore a backup"
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise RegistryUnavailableError(f"{path} cannot be written: its disk is full") from error
        if code == sqlite3.SQLITE_IOERR_SHMSIZE:
            # The first process that opens the file creates another beside it, even to read.
            raise RegistryUnavailableError(f"{path} cannot be opened: its disk is full") from error
        raise RegistryUnavailableError(f"{path} does not answer: {error}") from error
