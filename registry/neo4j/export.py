"""Every record of a graph, a page at a time; the next page is read while one is used."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from registry.interface import Fault, Published
from registry.model import Kind, Ref
from registry.neo4j.reader import KINDS
from registry.neo4j.rows import TYPES
from registry.neo4j.session import LONG_SECONDS
from registry.neo4j.writes import LABELS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from registry.neo4j.reader import Reader
    from registry.neo4j.session import Graph, Open

T = TypeVar("T")

_BREATH = 200  # records after which other tasks may run: well below a millisecond
_NO_TEXT = Fault("its id is not a text")
_MOST_ODD = 1000


async def export(graph: Graph, reader: Reader) -> AsyncGenerator[tuple[Ref, Published], None]:
    """Yield every record as published, by kind and id; each page has its own transaction.

    Raises:
        RegistryUnavailableError, UnreadableRegistryError: see `store_errors`.
    """
    async with aclosing(_pages(graph, reader)) as pages, aclosing(_ahead(pages)) as ahead:
        async for page in ahead:
            for start in range(0, len(page), _BREATH):
                for row in page[start : start + _BREATH]:
                    yield row
                await asyncio.sleep(0)


async def _pages(graph: Graph, reader: Reader) -> AsyncGenerator[list[tuple[Ref, Published]], None]:
    for kind in KINDS:
        name = "libraries.published" if kind is Kind.LIBRARIES else kind.value
        after = ""
        while True:
            ids, page = await graph.read(
                partial(_page, reader=reader, name=name, kind=kind, after=after),
                seconds=LONG_SECONDS,
            )
            if not ids:
                break
            yield page
            after = ids[-1]
        yield await graph.read(partial(_odd, reader=reader, kind=kind), seconds=LONG_SECONDS)


async def _page(
    opened: Open, *, reader: Reader, name: str, kind: Kind, after: str
) -> tuple[list[str], list[tuple[Ref, Published]]]:
    ids = await reader.ids(opened, name, after=after)
    found = await reader.published(opened, kind, ids) if ids else {}
    return ids, [(Ref(kind, id_), record) for id_ in ids if (record := found.get(id_)) is not None]


async def _odd(opened: Open, *, reader: Reader, kind: Kind) -> list[tuple[Ref, Published]]:
    """Return faults for nodes whose id is not text, unless a node with that text as id exists."""
    type_ = TYPES[kind]
    key = f"n.{type_.key}"
    ids = await opened.run(
        f"MATCH (n:{LABELS[type_]}) WHERE {key} IS NOT NULL AND NOT {key} IS :: STRING"
        f" WITH toStringOrNull({key}) AS id WHERE id IS NOT NULL"
        f" WITH DISTINCT id LIMIT $limit RETURN collect(id)",
        limit=_MOST_ODD,
        seconds=LONG_SECONDS,
    )
    taken = await reader.existing(opened, kind, ids)
    return [(Ref(kind, id_), _NO_TEXT) for id_ in sorted(ids) if id_ not in taken]


async def _ahead(pages: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield the same pages, and request each while the previous one is in use."""
    following = asyncio.ensure_future(anext(pages, None))
    try:
        while (page := await following) is not None:
            following = asyncio.ensure_future(anext(pages, None))
            yield page
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
