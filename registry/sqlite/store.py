"""The registry in one SQLite file, which several processes may open at the same time."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from lictor_common.version import RegistryVersion
from registry import changelog
from registry.changelog import GENESIS, LogEntry
from registry.checks import check_origin
from registry.interface import Change, Delta, Export, Finding, Published
from registry.model import Kind, Record, Ref, Token, Usage
from registry.sqlite import tables, usage
from registry.sqlite.connection import Connection

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
    from pathlib import Path

R = TypeVar("R", bound=Record)
T = TypeVar("T")

_BATCH = 250  # records per hop to the thread in an export: a few milliseconds
_BEFORE_ALL = -(2**63)  # as a revision; an entry that is not ours may have any number


class SQLiteTransaction:
    """A `registry.interface.Transaction`."""

    version: RegistryVersion

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._touched: set[Ref] = set()
        self._next_epoch = False
        self._over = False

    async def begin(self) -> None:
        """Become the file's only writer."""
        self.version = await self._run(_begin)

    async def get(self, type_: type[R], id_: str, /) -> R | None:
        """See `Transaction.get`."""
        return await self._run(lambda db: tables.get(db, type_, id_))

    async def all(self, type_: type[R], /) -> list[R]:
        """See `Transaction.all`."""
        return await self._run(lambda db: list(tables.select(db, type_)))

    async def tokens_labelled(self, label: str, /) -> list[Token]:
        """See `Transaction.tokens_labelled`."""
        return await self._run(
            lambda db: list(tables.select(db, Token, "WHERE label = ?", (label,)))
        )

    async def put(self, *records: Record) -> None:
        """See `Transaction.put`."""

        def job(db: sqlite3.Connection) -> None:
            for record in records:
                self._touched |= tables.put(db, record)

        await self._run(job)

    async def touch(self, *refs: Ref) -> None:
        """See `Transaction.touch`."""
        self._touched |= set(refs)

    async def next_epoch(self) -> None:
        """See `Transaction.next_epoch`."""
        self._next_epoch = True

    async def delete(self, type_: type[Record], id_: str, /) -> None:
        """See `Transaction.delete`."""

        def job(db: sqlite3.Connection) -> None:
            self._touched |= tables.delete(db, type_, id_)

        await self._run(job)

    async def commit(self, *, at: float, actor: str, action: str) -> None:
        """Write the revision and its log entry, if anything was touched."""
        touched = tuple(sorted(self._touched))

        def job(db: sqlite3.Connection) -> RegistryVersion:
            if self._next_epoch:
                db.execute("UPDATE registry SET epoch = epoch + 1")
            if touched or self._next_epoch:
                revision = self.version.revision + 1
                _write_log(db, revision, touched, at=at, actor=actor, action=action)
            after = tables.version(db)
            db.execute("COMMIT")
            return after

        self.version = await self._run(job)

    async def end(self) -> None:
        """Undo what is not committed, and refuse any further use."""
        self._over = True
        await self._connection.run(_rollback)

    async def _run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        if self._over:
            raise RuntimeError("this transaction is over")
        return await self._connection.run(job)


class SQLiteRegistry:
    """A `registry.interface.Registry`. Open one with `registry.open_registry`.

    Reads, writes and exports have separate connections, so that they do not wait for each other.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._reader = Connection(path)
        self._writer = Connection(path)
        self._writing = asyncio.Lock()

    async def version(self) -> RegistryVersion:
        """See `Registry.version`."""
        return await self._reader.run(tables.version)

    @asynccontextmanager
    async def transaction(self, *, actor: str, action: str) -> AsyncIterator[SQLiteTransaction]:
        """See `Registry.transaction`."""
        check_origin(actor=actor, action=action)
        async with self._writing:
            transaction = SQLiteTransaction(self._writer)
            try:
                await transaction.begin()
                yield transaction
                await transaction.commit(at=float(self._clock()), actor=actor, action=action)
            finally:
                await transaction.end()

    async def get(self, type_: type[R], id_: str, /) -> R | None:
        """See `Registry.get`."""
        return await self._reader.run(lambda db: tables.get(db, type_, id_))

    async def all(self, type_: type[R], /) -> list[R]:
        """See `Registry.all`."""
        return await self._reader.run(lambda db: list(tables.select(db, type_)))

    async def changed_since(self, revision: int) -> Delta:
        """See `Registry.changed_since`."""

        def job(db: sqlite3.Connection) -> Delta:
            rows = db.execute(
                "SELECT kind, id, revision FROM changes WHERE revision > ? AND kind <> ?"
                " ORDER BY kind, id",
                (revision, Kind.SETTINGS),
            )
            refs = [(Ref(Kind(kind), id_), touched) for kind, id_, touched in rows]
            return Delta(
                version=tables.version(db),
                head=_head(db),
                changes={ref: Change(touched, tables.published(db, ref)) for ref, touched in refs},
                settings=tables.settings(db),
            )

        return await self._reader.run(_consistent(job))

    @asynccontextmanager
    async def export_records(self) -> AsyncIterator[Export]:
        """See `Registry.export_records`."""
        async with (
            aclosing(Connection(self._path)) as connection,
            aclosing(_batches(connection)) as records,
        ):
            await connection.run(lambda db: db.execute("BEGIN"))
            version = await connection.run(tables.version)
            yield Export(version=version, records=records)

    async def counts(self) -> Mapping[Kind, int]:
        """See `Registry.counts`."""
        return await self._reader.run(tables.counts)

    async def record_usage(self, uses: Mapping[str, Usage], /) -> None:
        """See `Registry.record_usage`."""

        def job(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            try:
                usage.add(db, uses)
                db.execute("COMMIT")
            finally:
                _rollback(db)

        async with self._writing:
            await self._writer.run(job)

    async def usage(self, digests: Iterable[str], /) -> Mapping[str, Usage]:
        """See `Registry.usage`."""
        return await self._reader.run(_consistent(lambda db: usage.read(db, digests)))

    async def log(self, *, after: int = 0, limit: int | None = None) -> list[LogEntry]:
        """See `Registry.log`."""
        return await self._reader.run(lambda db: list(_read_log(db, after=after, limit=limit)))

    async def verify_log(self) -> int:
        """See `Registry.verify_log`."""

        def job(db: sqlite3.Connection) -> int:
            entries = _read_log(db, after=_BEFORE_ALL, limit=None)
            return changelog.verify(entries, revision=tables.version(db).revision)

        async with aclosing(Connection(self._path)) as connection:
            return await connection.run(_consistent(job))

    async def check(self, *, fix: bool = False) -> list[Finding]:
        """See `Registry.check`; a file is never altered."""
        del fix
        async with aclosing(Connection(self._path)) as connection:
            return [Finding(what) for what in await connection.run(_consistent(tables.faults))]

    async def aclose(self) -> None:
        """See `Registry.aclose`."""
        await self._reader.aclose()
        await self._writer.aclose()


def _begin(db: sqlite3.Connection) -> RegistryVersion:
    db.execute("BEGIN IMMEDIATE")
    return tables.version(db)


def _rollback(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")


def _consistent(job: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    """Wrap a job so that all its reads see one state."""

    def run(db: sqlite3.Connection) -> T:
        db.execute("BEGIN")
        try:
            return job(db)
        finally:
            _rollback(db)

    return run


async def _batches(connection: Connection) -> AsyncGenerator[tuple[Ref, Published], None]:
    rows = await connection.run(tables.all_published)
    try:
        while batch := await connection.run(lambda _: list(islice(rows, _BATCH))):
            for row in batch:
                yield row
    finally:
        await connection.run(lambda _: rows.close())


def _head(db: sqlite3.Connection) -> str:
    last = db.execute("SELECT hash FROM log ORDER BY revision DESC LIMIT 1").fetchone()
    return last[0] if last else GENESIS


def _write_log(
    db: sqlite3.Connection,
    revision: int,
    touched: tuple[Ref, ...],
    *,
    at: float,
    actor: str,
    action: str,
) -> None:
    entry = LogEntry(
        revision=revision,
        at=at,
        actor=actor,
        action=action,
        touched=touched,
        previous=_head(db),
    ).with_hash()
    refs = json.dumps([[ref.kind, ref.id] for ref in touched])
    db.execute(
        "INSERT INTO log (revision, at, actor, action, touched, previous, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (revision, at, actor, action, refs, entry.previous, entry.hash),
    )
    db.executemany(
        "INSERT INTO changes (kind, id, revision) VALUES (?, ?, ?)"
        " ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision",
        [(ref.kind, ref.id, revision) for ref in touched],
    )
    db.execute("UPDATE registry SET revision = ?", (revision,))


def _read_log(db: sqlite3.Connection, *, after: int, limit: int | None) -> Iterator[LogEntry]:
    rows = db.execute(
        "SELECT revision, at, actor, action, touched, previous, hash FROM log"
        " WHERE revision > ? ORDER BY revision LIMIT ?",
        (after, -1 if limit is None else limit),
    )
    return map(changelog.read_entry, rows)
