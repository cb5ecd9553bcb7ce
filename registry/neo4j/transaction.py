"""A transaction on the graph: records checked, compared, written, and counted as touched."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from lictor_common.version import RegistryVersion
from registry import model
from registry.changelog import LogEntry
from registry.checks import validate
from registry.exceptions import (
    InvalidRecordError,
    NotFoundError,
    RegistryUnavailableError,
    StillReferencedError,
)
from registry.model import Kind, Library, Record, Ref, Setting, Team, Token
from registry.neo4j import writes
from registry.neo4j.errors import store_errors
from registry.neo4j.metadata import has_entry, take_write_lock, write_revision
from registry.neo4j.reader import by_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from registry.neo4j.reader import Reader
    from registry.neo4j.session import Graph, Open

R = TypeVar("R", bound=Record)

_BATCH = 1000
"""Records per statement."""


class Neo4jTransaction:
    """A `registry.interface.Transaction`."""

    version: RegistryVersion

    def __init__(self, graph: Graph, reader: Reader) -> None:
        self._graph = graph
        self._reader = reader
        self._opened: Open | None = None
        self._head = ""
        self._touched: set[Ref] = set()
        self._known: dict[Ref, Record | None] = {}
        self._next_epoch = False

    async def begin(self) -> None:
        """Acquire the write lock of the graph."""
        self._opened, state = await self._graph.begin(take_write_lock)
        self.version, self._head = state.version, state.head

    async def get(self, type_: type[R], id_: str, /) -> R | None:
        """See `Transaction.get`."""
        with self._use() as opened:
            found = (await self._stored(opened, type_, [id_])).get(id_)
        self._known[Ref(type_.kind, id_)] = found
        return found

    async def all(self, type_: type[R], /) -> list[R]:
        """See `Transaction.all`."""
        with self._use() as opened:
            return await self._reader.all(opened, type_)

    async def tokens_labelled(self, label: str, /) -> list[Token]:
        """See `Transaction.tokens_labelled`."""
        with self._use() as opened:
            return await self._reader.tokens_labelled(opened, label)

    async def put(self, *records: Record) -> None:
        """See `Transaction.put`."""
        with self._use() as opened:
            for batch in _batches(records):
                self._touched |= await self._put(opened, type(batch[0]), batch)

    async def touch(self, *refs: Ref) -> None:
        """See `Transaction.touch`."""
        self._touched |= set(refs)

    async def next_epoch(self) -> None:
        """See `Transaction.next_epoch`."""
        self._next_epoch = True

    async def delete(self, type_: type[Record], id_: str, /) -> None:
        """See `Transaction.delete`."""
        if type_ is Setting:
            raise InvalidRecordError("settings", "name", "cannot be deleted")
        with self._use() as opened:
            before = (await self._stored(opened, type_, [id_])).get(id_)
            if before is None:
                raise NotFoundError(type_.kind, id_)
            if await writes.is_named(opened, type_, id_):
                raise StillReferencedError(type_.kind, id_)
            await writes.delete_node(opened, type_, id_)
            self._known.pop(before.ref, None)
        self._touched |= {before.ref} | _home(before)

    async def commit(self, *, at: float, actor: str, action: str) -> None:
        """Write the revision and its log entry, if anything was touched."""
        if not (self._touched or self._next_epoch):
            return
        version = RegistryVersion(self.version.epoch + self._next_epoch, self.version.revision + 1)
        entry = LogEntry(
            revision=version.revision,
            at=at,
            actor=actor,
            action=action,
            touched=tuple(sorted(self._touched)),
            previous=self._head,
        ).with_hash()
        with self._use() as opened:
            await write_revision(opened, entry, epoch=version.epoch)
        try:
            with self._use() as opened:
                await opened.commit()
        except RegistryUnavailableError:
            await self._find_out(entry)
        self.version = version

    async def end(self) -> None:
        """Roll back what is not committed, and refuse any further use."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.end()

    async def _find_out(self, entry: LogEntry) -> None:
        """Find out whether a commit took place during which the connection was lost."""
        await self.end()
        try:
            # Once this transaction has the lock, the commit is over.
            self._opened, _ = await self._graph.begin(take_write_lock)
            with self._use() as opened:
                written = await has_entry(opened, entry)
        except RegistryUnavailableError as error:
            raise RegistryUnavailableError(
                f"{error}; whether the write took place is not known"
            ) from error
        if not written:
            raise RegistryUnavailableError(
                f"{self._graph.place} gave up a commit; nothing was written"
            )

    @contextmanager
    def _use(self) -> Iterator[Open]:
        if self._opened is None:
            raise RuntimeError("this transaction is over")
        with store_errors(self._graph.place):
            yield self._opened

    async def _put(self, opened: Open, type_: type[R], batch: Sequence[R]) -> set[Ref]:
        """Store records of one type, each id once, and return the changed records."""
        before = await self._stored(opened, type_, [record.ref.id for record in batch])
        pairs = [(before.get(record.ref.id), record) for record in batch]
        changed = [record for old, record in pairs if old != record]
        if not changed:
            return set()
        moved = [record for old, record in pairs if _named(old) != _named(record)]
        await self._require(opened, moved)
        await writes.write_nodes(opened, type_, changed)
        await writes.write_links(opened, type_, moved)
        for record in changed:
            self._known.pop(record.ref, None)
        homes = [_home(old) ^ _home(record) for old, record in pairs if old != record]
        return {record.ref for record in changed}.union(*homes)

    async def _stored(self, opened: Open, type_: type[R], ids: Sequence[str]) -> dict[str, R]:
        """Return the records that have these ids, without rereading those that `get` returned."""
        refs = [Ref(type_.kind, id_) for id_ in ids]
        new = [ref.id for ref in refs if ref not in self._known]
        found = await self._reader.stored(opened, type_, new) if new else {}
        known = [self._known.get(ref) for ref in refs]
        return found | {record.ref.id: record for record in known if isinstance(record, type_)}

    async def _require(self, opened: Open, records: Sequence[Record]) -> None:
        """Refuse records that name others that do not exist."""
        named = dict.fromkeys(ref for record in records for ref in model.references(record))
        for kind, ids in by_kind(named).items():
            missing = set(ids) - await self._reader.existing(opened, kind, ids)
            if missing:
                raise NotFoundError(kind, next(id_ for id_ in ids if id_ in missing))


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Yield checked records in batches, split where the type changes or an id recurs."""
    batch: dict[Ref, Record] = {}
    for record in map(validate, records):
        last = next(iter(batch.values()), record)
        if type(last) is not type(record) or record.ref in batch or len(batch) == _BATCH:
            yield list(batch.values())
            batch = {}
        batch[record.ref] = record
    if batch:
        yield list(batch.values())


def _named(record: Record | None) -> Any:
    """Return the records that a record names, if they are stored apart from its properties."""
    match record:
        case Team():
            return record.owner, record.workspaces
        case Token():
            return record.user
        case Library():
            return record.workspace_id
        case _:
            return None


def _home(record: Record | None) -> set[Ref]:
    """Return the workspace whose published record lists this one."""
    if not isinstance(record, Library) or not isinstance(record.workspace_id, str):
        return set()
    return {Ref(Kind.WORKSPACES, record.workspace_id)}
