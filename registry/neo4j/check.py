"""Checks of a graph: its schema, a site's own queries, each record."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lictor_common.text import is_digest
from registry.checks import validate
from registry.exceptions import InvalidRecordError, UnreadableRegistryError
from registry.interface import Fault, Finding
from registry.model import Kind, Ref
from registry.neo4j import rows as row_of
from registry.neo4j.queries import PARAMETERS
from registry.neo4j.reader import KINDS
from registry.neo4j.schema import check_registry, check_schema
from registry.neo4j.session import LONG_SECONDS
from registry.neo4j.writes import LABELS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from registry.neo4j.reader import Reader
    from registry.neo4j.session import Graph, Open

MOST = 100
"""The most faulty records of a kind that are named; the rest are counted."""

_EXAMPLES = 5
_SAMPLE: dict[str, Any] = {"after": "", "limit": 1, "ids": [], "label": ""}


async def check(graph: Graph, reader: Reader, *, fix: bool) -> list[Finding]:
    """See `Registry.check`.

    Raises:
        UnreadableRegistryError: the registry exists, but cannot be read.
    """
    findings = await check_schema(graph, fix=fix)
    findings += await check_registry(graph, fix=fix)
    unfit = [Finding(what) for what in await graph.read(lambda o: _queries(o, reader))]
    if unfit:
        return findings + unfit
    workspaces: set[str] = set()
    for kind in KINDS:
        found: list[str] = []
        count = 0
        try:
            async for what in _records(graph, reader, kind, workspaces):
                count += 1
                if count <= MOST:
                    found.append(what)
        except (
            UnreadableRegistryError
        ) as error:  # a site's own query, which other kinds do not need
            found.append(str(error))
        if count > MOST:
            found.append(f"{kind}: {count - MOST} more")
        findings += map(Finding, found)
    return findings


async def _queries(opened: Open, reader: Reader) -> list[str]:
    """Return a site's own queries that cannot be run, or that write."""
    found: list[str] = []
    for name in sorted(reader.queries.replaced):
        try:
            does = await reader.queries.explain(
                opened, name, **{key: _SAMPLE[key] for key in PARAMETERS[name]}
            )
        except UnreadableRegistryError as error:
            return [*found, str(error)]  # the error has ended the transaction
        if does != "r":
            found.append(f"{name}.cypher: does not only read")
    return found


async def _records(
    graph: Graph, reader: Reader, kind: Kind, workspaces: set[str]
) -> AsyncIterator[str]:
    """Return the problems of a kind's records; `workspaces` collects the existing workspaces."""
    for what in await graph.read(lambda opened: _nameless(opened, kind), seconds=LONG_SECONDS):
        yield what
    after = ""
    while True:
        rows = await graph.read(
            partial(_page, reader=reader, kind=kind, after=after), seconds=LONG_SECONDS
        )
        if not rows:
            break
        after = max(rows)
        for what in _wrong(kind, rows, workspaces):
            yield what
        if kind is Kind.WORKSPACES:
            workspaces |= set(rows)


async def _page(
    opened: Open, *, reader: Reader, kind: Kind, after: str
) -> dict[str, list[Sequence[Any]]]:
    """Return a page of rows, by id; empty at the end."""
    ids = await reader.ids(opened, kind.value, after=after)
    found: dict[str, list[Sequence[Any]]] = {id_: [] for id_ in ids}
    for row in await reader.rows(opened, kind, ids):
        found[row[0]].append(row)
    return found


async def _nameless(opened: Open, kind: Kind) -> list[str]:
    """Return a finding for the nodes without an id, which cannot be named as records."""
    type_ = row_of.TYPES[kind]
    label, key = LABELS[type_], type_.key
    count, examples = await opened.run(
        f"MATCH (n:{label})"
        f" WHERE CASE WHEN n.{key} IS :: STRING NOT NULL THEN n.{key} = '' ELSE true END"
        f" RETURN [count(n), collect(elementId(n))[..{_EXAMPLES}]]",
        seconds=LONG_SECONDS,
    )
    if not count:
        return []
    return [f"(:{label}): {key} is missing or no text in {count}, such as {', '.join(examples)}"]


def _wrong(kind: Kind, rows: dict[str, list[Sequence[Any]]], workspaces: set[str]) -> Iterator[str]:
    type_ = row_of.TYPES[kind]
    for id_, [first, *others] in ((i, r) for i, r in rows.items() if r):
        name = _name(Ref(kind, id_))
        shape = row_of.TWICE if others else row_of.published(kind, first)
        if isinstance(shape, Fault):
            yield f"{name}: {shape.why}"
            continue
        record = row_of.record(type_, first)
        try:
            validate(record)
        except InvalidRecordError as error:
            yield f"{name}: {str(error).removeprefix(f'{error.record}: ')}"
            continue
        if kind is Kind.LIBRARIES and first[2] not in workspaces:
            yield f"{name}: workspace_id names a workspace that does not exist"


def _name(ref: Ref) -> str:
    # The id may be a bearer stored by mistake in place of a digest.
    if ref.kind is Kind.TOKENS and not is_digest(ref.id):
        return str(ref.kind)
    return str(ref) if ref.id.isprintable() else ascii(str(ref))
