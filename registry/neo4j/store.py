"""The registry in Neo4j."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from lictor_common.version import RegistryVersion
from registry.changelog import Chain, LogEntry
from registry.checks import check_origin
from registry.exceptions import LogBrokenError, UnreadableRegistryError
from registry.interface import Change, Delta, Export, Finding
from registry.model import Kind, Record, Ref, Setting, Usage
from registry.neo4j import usage
from registry.neo4j.check import check
from registry.neo4j.errors import store_errors
from registry.neo4j.export import export
from registry.neo4j.metadata import (
    BEFORE_ALL,
    State,
    count_log,
    hold_state,
    read_changes,
    read_log,
    read_state,
)
from registry.neo4j.queries import Queries
from registry.neo4j.reader import PAGE, Reader, by_kind
from registry.neo4j.session import ANSWER_SECONDS, LONG_SECONDS, TRANSACTION_SECONDS, Graph
from registry.neo4j.transaction import Neo4jTransaction
from registry.neo4j.url import read_target

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Mapping,
    )
    from pathlib import Path

    from registry.interface import Published
    from registry.neo4j.session import Open

R = TypeVar("R", bound=Record)
T = TypeVar("T")

_SMALL = 2000
"""Changes that are read while commits wait; further ones are read without blocking writers."""
_TRIES = 3
_LOG_PAGE = 2000


def open_graph(
    url: str, *, clock: Callable[[], float], password_file: Path | None, cypher: Path | None
) -> Neo4jRegistry:
    """See `registry.open_registry`."""
    queries = Queries(cypher)
    graph = Graph(read_target(url, password_file=password_file))
    return Neo4jRegistry(graph, Reader(queries), clock=clock)


class Neo4jRegistry:
    """A `registry.interface.Registry`. Open one with `registry.open_registry`."""

    def __init__(self, graph: Graph, reader: Reader, *, clock: Callable[[], float]) -> None:
        self._graph = graph
        self._reader = reader
        self._clock = clock
        self._writing = asyncio.Lock()

    async def version(self) -> RegistryVersion:
        """See `Registry.version`."""
        return (await self._graph.read(read_state)).version

    @asynccontextmanager
    async def transaction(self, *, actor: str, action: str) -> AsyncIterator[Neo4jTransaction]:
        """See `Registry.transaction`."""
        check_origin(actor=actor, action=action)
        async with self._writing:
            transaction = Neo4jTransaction(self._graph, self._reader)
            try:
                await transaction.begin()
                yield transaction
                await transaction.commit(at=float(self._clock()), actor=actor, action=action)
            finally:
                await transaction.end()

    async def get(self, type_: type[R], id_: str, /) -> R | None:
        """See `Registry.get`; raises `UnreadableRegistryError` if several nodes have the id."""
        return await self._read(lambda opened: self._reader.get(opened, type_, id_))

    async def all(self, type_: type[R], /) -> list[R]:
        """See `Registry.all`; nodes whose id is not text are not among them."""
        return await self._read(
            lambda opened: self._reader.all(opened, type_), seconds=TRANSACTION_SECONDS
        )

    async def changed_since(self, revision: int) -> Delta:
        """See `Registry.changed_since`."""
        async with self._held() as (opened, state):
            changes, settings = await read_changes(opened, after=revision, limit=_SMALL + 1)
            if len(changes) <= _SMALL:
                return await self._delta(opened, state, changes, settings)
        for _ in range(_TRIES):
            before = await self._held_state()
            delta = await self._graph.read(
                partial(self._all_changes, state=before, revision=revision),
                seconds=TRANSACTION_SECONDS,
            )
            if await self._held_state() == before:
                return delta
        async with self._held() as (opened, state):
            return await self._all_changes(opened, state=state, revision=revision)

    @asynccontextmanager
    async def export_records(self) -> AsyncIterator[Export]:
        """See `Registry.export_records`; it may include records written meanwhile."""
        # Held, as otherwise a commit included in the version may not be readable everywhere yet.
        version = (await self._held_state()).version
        async with aclosing(self._exported(version)) as records:
            yield Export(version=version, records=records)

    async def counts(self) -> Mapping[Kind, int]:
        """See `Registry.counts`."""
        return await self._read(self._reader.counts)

    async def record_usage(self, uses: Mapping[str, Usage], /) -> None:
        """See `Registry.record_usage`."""
        async with self._writing:
            await usage.add(self._graph, uses)

    async def usage(self, digests: Iterable[str], /) -> Mapping[str, Usage]:
        """See `Registry.usage`."""
        asked = list(digests)
        return await self._read(
            lambda opened: usage.read(opened, self._reader.queries, asked),
            seconds=TRANSACTION_SECONDS,
        )

    async def log(self, *, after: int = 0, limit: int | None = None) -> list[LogEntry]:
        """See `Registry.log`."""
        until = (await self._held_state()).version.revision
        entries: list[LogEntry] = []
        while limit is None or len(entries) < limit:
            size = _LOG_PAGE if limit is None else min(_LOG_PAGE, limit - len(entries))
            page = await self._log_page(after, until, size)
            entries += page
            if len(page) < size:
                break
            after = page[-1].revision
        return entries

    async def verify_log(self) -> int:
        """See `Registry.verify_log`."""
        until = (await self._held_state()).version.revision
        chain, after = Chain(), BEFORE_ALL
        while page := await self._log_page(after, until, _LOG_PAGE):
            for entry in page:
                chain.add(entry)
            after = page[-1].revision
        async with self._held() as (opened, state):
            for entry in await read_log(opened, after=after):
                chain.add(entry)
            if await count_log(opened) != chain.count:  # some have no revision, or another's
                raise LogBrokenError(chain.count + 1)
            chain.end(revision=state.version.revision)
        return chain.count

    async def check(self, *, fix: bool = False) -> list[Finding]:
        """See `Registry.check`."""
        return await check(self._graph, self._reader, fix=fix)

    async def aclose(self) -> None:
        """See `Registry.aclose`."""
        await self._graph.aclose()

    async def _read(
        self, work: Callable[[Open], Awaitable[T]], *, seconds: float = ANSWER_SECONDS
    ) -> T:
        """Run reads in a graph that has a registry."""

        async def validate(opened: Open) -> T:
            await read_state(opened)
            return await work(opened)

        return await self._graph.read(validate, seconds=seconds)

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[tuple[Open, State]]:
        """Open a transaction that blocks commits through any registry."""
        opened, state = await self._graph.begin(hold_state)
        try:
            with store_errors(self._graph.place):
                yield opened, state
        finally:
            await opened.end()

    async def _held_state(self) -> State:
        async with self._held() as (_, state):
            return state

    async def _all_changes(self, opened: Open, *, state: State, revision: int) -> Delta:
        changes, settings = await read_changes(opened, after=revision)
        return await self._delta(opened, state, changes, settings)

    async def _delta(
        self, opened: Open, state: State, changes: Mapping[Ref, int], settings: Iterable[Setting]
    ) -> Delta:
        records: dict[Ref, Published | None] = {}
        for kind, ids in by_kind(changes).items():
            for start in range(0, len(ids), PAGE):
                part = ids[start : start + PAGE]
                found = await self._reader.published(opened, kind, part)
                records |= {Ref(kind, id_): record for id_, record in found.items()}
        return Delta(
            version=state.version,
            head=state.head,
            changes={ref: Change(at, records.get(ref)) for ref, at in changes.items()},
            settings={setting.name: setting.value for setting in settings},
        )

    async def _exported(
        self, version: RegistryVersion
    ) -> AsyncGenerator[tuple[Ref, Published], None]:
        async with aclosing(export(self._graph, self._reader)) as records:
            async for row in records:
                yield row
        # A graph emptied during the export must not be mistaken for one with few records.
        now = await self.version()
        if now.epoch != version.epoch or now.revision < version.revision:
            raise UnreadableRegistryError(
                f"{self._graph.place} became another registry while it was read; try again"
            )

    async def _log_page(self, after: int, until: int, size: int) -> list[LogEntry]:
        return await self._read(
            lambda opened: read_log(opened, after=after, until=until, limit=size),
            seconds=LONG_SECONDS,
        )
