"""Reading of records with the `.cypher` files, in a transaction that the caller has opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from registry.exceptions import UnreadableRegistryError
from registry.model import Kind, Record, Ref, Setting, Token
from registry.neo4j import rows as row_of
from registry.neo4j.metadata import read_settings
from registry.neo4j.session import ANSWER_SECONDS, LONG_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from registry.interface import Published
    from registry.neo4j.queries import Queries
    from registry.neo4j.session import Open

R = TypeVar("R", bound=Record)

PAGE = 5000
"""Records read at a time: about a megabyte, and a tenth of a second."""

KINDS = tuple(kind for kind in row_of.TYPES if kind is not Kind.SETTINGS)
"""The kinds that are published, each after those that it may name."""


class Reader:
    """A reader of records with one registry's queries."""

    def __init__(self, queries: Queries) -> None:
        self.queries = queries

    async def get(self, opened: Open, type_: type[R], id_: str) -> R | None:
        """See `Registry.get`.

        Raises:
            UnreadableRegistryError: several nodes have the id.
        """
        return (await self.stored(opened, type_, [id_])).get(id_)

    async def stored(self, opened: Open, type_: type[R], ids: Sequence[str]) -> dict[str, R]:
        """Return the records that have these ids, by id.

        Raises:
            UnreadableRegistryError: several nodes have the same id.
        """
        found: dict[str, R] = {}
        for record in await self._records(opened, type_, ids, seconds=ANSWER_SECONDS):
            if (id_ := record.ref.id) in found:
                raise UnreadableRegistryError(f"{record.ref}: {row_of.TWICE.why}")
            found[id_] = record
        return found

    async def all(self, opened: Open, type_: type[R]) -> list[R]:
        """See `Registry.all`; of two with one id, both."""
        if type_ is Setting:
            return cast("list[R]", await read_settings(opened))
        found: list[R] = []
        async for ids in self.pages(opened, type_.kind):
            found += await self._records(opened, type_, ids, seconds=LONG_SECONDS)
        return sorted(found, key=lambda record: record.ref.id)

    async def tokens_labelled(self, opened: Open, label: str) -> list[Token]:
        """See `Transaction.tokens_labelled`."""
        if not is_text(label):
            return []
        rows = await self.queries.rows(
            opened, "tokens.labelled.ids", label=label, seconds=ANSWER_SECONDS
        )
        digests = sorted({row[0] for row in rows if isinstance(row[0], str)})
        return await self._records(opened, Token, digests, seconds=ANSWER_SECONDS)

    async def existing(self, opened: Open, kind: Kind, ids: Iterable[str]) -> set[str]:
        """Return those of the ids that a record of the kind has."""
        rows = await self.rows(opened, kind, list(ids), seconds=ANSWER_SECONDS)
        return {row[0] for row in rows}

    async def ids(self, opened: Open, name: str, *, after: str) -> list[str]:
        """Return a page of ids, sorted and unique; empty at the end."""
        rows = await self.queries.rows(
            opened, f"{name}.ids", after=after, limit=PAGE, seconds=LONG_SECONDS
        )
        # A site's own query that ignores $after must not cause an endless loop.
        return sorted({id_ for (id_,) in rows if isinstance(id_, str) and id_ > after})

    async def published(
        self, opened: Open, kind: Kind, ids: Sequence[str]
    ) -> dict[str, Published | None]:
        """Return what bundles carry of these ids' records, by id; None if they carry nothing."""
        libraries: dict[str, list[Any]] = {}
        if kind is Kind.WORKSPACES:
            named = await self.queries.rows(
                opened, "workspaces.libraries", ids=list(ids), seconds=LONG_SECONDS
            )
            for id_, uids in named:
                libraries.setdefault(str(id_), []).extend(uids or [])
        found: dict[str, Published | None] = {}
        for row in await self.rows(opened, kind, ids):
            found[row[0]] = (
                row_of.TWICE
                if row[0] in found
                else row_of.published(kind, row, libraries=libraries.get(row[0], []))
            )
        return found

    async def counts(self, opened: Open) -> dict[Kind, int]:
        """See `Registry.counts`."""
        rows = await self.queries.rows(opened, "counts", seconds=LONG_SECONDS)
        found = {kind: count for kind, count in rows if isinstance(count, int)}
        return {kind: found.get(kind.value, 0) for kind in KINDS}

    async def pages(self, opened: Open, kind: Kind) -> AsyncIterator[list[str]]:
        """Yield all ids of a kind, in order."""
        after = ""
        while ids := await self.ids(opened, kind.value, after=after):
            yield ids
            after = ids[-1]

    async def _records(
        self, opened: Open, type_: type[R], ids: Sequence[str], *, seconds: float
    ) -> list[R]:
        if type_ is Setting:
            settings = await read_settings(opened)
            return cast("list[R]", [setting for setting in settings if setting.name in ids])
        rows = await self.rows(opened, type_.kind, ids, seconds=seconds)
        return [row_of.record(type_, row) for row in rows]

    async def rows(
        self, opened: Open, kind: Kind, ids: Sequence[str], *, seconds: float = LONG_SECONDS
    ) -> list[list[Any]]:
        """Return the rows of these ids in `kind`'s query."""
        # A command line may hold lone surrogates; records never do.
        valid = {id_ for id_ in ids if is_text(id_)}
        if not valid:
            return []
        rows = await self.queries.rows(opened, kind.value, ids=list(valid), seconds=seconds)
        return [row for row in rows if isinstance(row[0], str) and row[0] in valid]


def is_text(value: str) -> bool:
    """Return whether Neo4j can store a text, which it holds as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def by_kind(refs: Iterable[Ref]) -> dict[Kind, list[str]]:
    """Group the ids by kind."""
    found: dict[Kind, list[str]] = {}
    for ref in refs:
        found.setdefault(ref.kind, []).append(ref.id)
    return found
