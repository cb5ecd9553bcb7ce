"""Uses of tokens: two properties of their nodes, which do not make revisions."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from registry.model import MOST_USES, Usage
from registry.neo4j.errors import store_errors
from registry.neo4j.metadata import take_write_lock
from registry.neo4j.reader import PAGE, is_text
from registry.neo4j.session import LONG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from registry.neo4j.queries import Queries
    from registry.neo4j.session import Graph, Open

# Other programs may have written any value there.
_ADD = """
UNWIND $rows AS row
MATCH (n:Token {digest: row[0]})
WITH n, row,
  CASE WHEN n.uses IS :: INTEGER NOT NULL THEN n.uses ELSE 0 END AS uses,
  CASE WHEN n.last_used_at IS :: FLOAT NOT NULL THEN n.last_used_at ELSE 0.0 END AS last
SET
  n.uses = CASE WHEN uses < $most THEN uses + row[1] ELSE uses END,
  n.last_used_at = CASE WHEN row[2] > last THEN row[2] ELSE last END
"""


async def add(graph: Graph, uses: Mapping[str, Usage]) -> None:
    """See `Registry.record_usage`."""
    rows = [[digest, one.uses, one.last_used_at] for digest, one in uses.items()]
    # Two concurrent additions would both start from the old value. And if two transactions lock the
    # same nodes in different orders, Neo4j aborts one: that must never be a revocation.
    opened, _ = await graph.begin(take_write_lock)
    try:
        with store_errors(graph.place):
            await opened.run(_ADD, rows=rows, most=MOST_USES, seconds=LONG_SECONDS)
            await opened.commit()
    finally:
        await opened.end()


async def read(opened: Open, queries: Queries, digests: Iterable[str]) -> dict[str, Usage]:
    """See `Registry.usage`; invalid counts and times are omitted."""
    found: dict[str, Usage] = {}
    asked = filter(is_text, digests)
    while page := list(islice(asked, PAGE)):
        rows = await queries.rows(opened, "tokens.usage", ids=page, seconds=LONG_SECONDS)
        for digest, uses, last in rows:
            if type(uses) is int and isinstance(last, float):
                found[digest] = Usage(uses, last)
    return found
