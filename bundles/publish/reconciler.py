"""The reconciling read: what others wrote into the store, found and published like any change.

A write through `lictor` is in the registry's log. Other programs that write into the graph
do not leave a trace there. So the reconciler reads everything periodically, compares it with what
is published, and publishes the differences as a revision of their own.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundles.publish.publisher import Publisher
from bundles.publish.scan import Scan, spool_of
from bundles.publish.shards import compare, run_offloaded
from bundles.publish.store import Store
from registry import Kind, Ref, Registry

SHARE = 0.2
"""The share of the published records of a kind that a pass may remove without consent."""

_PASSES_IN_LIMIT = 5
_REST = 4.0
"""Seconds of rest for each of reading: a pass takes a fifth of one CPU at most."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One reconciling read.

    Attributes:
        began_at: when it began, in seconds since 1970.
        seconds: how long it took.
        records: how many records it read.
        differed: how many differed from what was published.
        held: kind to how many would be removed and how many are published, where that is too many.
    """

    began_at: float
    seconds: float
    records: int
    differed: int
    held: Mapping[Kind, tuple[int, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [
            f"{removed} of {published} {kind}" for kind, (removed, published) in self.held.items()
        ]
        return (
            f"a reconciling read found {' and '.join(parts)} gone from the store, and is held; "
            "if that is meant, run: lictor registry accept"
        )


class Reconciler:
    """Reads everything, again and again, and publishes what it finds."""

    def __init__(
        self,
        publisher: Publisher,
        registry: Registry,
        store: Store,
        *,
        share: float = SHARE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the reconciler.

        Args:
            publisher: publishes what is found.
            registry: what is read.
            store: has room for a spool.
            share: above this share of removals of one kind, between 0 and 1, a pass is held.
            clock: seconds since 1970.
        """
        self._publisher = publisher
        self._registry = registry
        self._store = store
        self._share = share
        self._clock = clock
        self._running = asyncio.Lock()
        self.latest: Pass | None = None

    @property
    def held(self) -> str:
        """Why changes of others are held; empty while none are."""
        return str(self.latest) if self.latest and self.latest.held else ""

    @property
    def every(self) -> float:
        """Seconds between the beginnings of two passes."""
        limit = self._publisher.live.settings.get("reconcile_limit")
        return limit / _PASSES_IN_LIMIT if isinstance(limit, int | float) else 60.0

    async def due(self) -> None:
        """Make a pass if the newest is old enough."""
        newest = max(
            self._publisher.bases.published.reconciled_at,
            self.latest.began_at if self.latest else 0.0,
        )
        if not 0 <= self._clock() - newest < self.every:
            await self.run()

    async def run(self, *, accept: bool = False) -> Pass:
        """Make one pass.

        Args:
            accept: publish what it finds, however much it removes.

        Raises:
            RegistryError: the registry cannot be read; nothing of it was published.
            BundleError: what was found could not be published.
        """
        async with self._running:
            began_at, began = self._clock(), time.monotonic()
            shards = list(self._publisher.bases.published.since)
            total = sum((await self._registry.counts()).values())
            # A pass that is late, or was requested, starts at once.
            reconciled_at = self._publisher.bases.published.reconciled_at
            late = began_at - reconciled_at > 2 * self.every
            with self._store.spool() as folder:
                read = await self._publisher.reader.read(
                    folder, shards=len(shards), total=total, rest=0.0 if late or accept else _REST
                )
                await self._publisher.sync()
                if read.version.epoch != self._publisher.version.epoch:
                    # A new epoch was published from a scan of its own meanwhile.
                    return self._done(began_at, began, read, [], {})
                refs, held, damaged = await self._compared(folder, read, shards)
                for problem in damaged.values():
                    _log.error("reconciler.base_damaged %s", problem)
                if held and not accept:
                    made = self._done(began_at, began, read, refs, held)
                    _log.error("reconciler.held %s", made)
                    return made
                await self._publisher.publish_external(
                    folder, read, refs, began_at=began_at, damaged=damaged
                )
            return self._done(began_at, began, read, refs, {})

    async def _compared(
        self, folder: Path, read: Scan, shards: list[str]
    ) -> tuple[list[Ref], dict[Kind, tuple[int, int]], dict[Ref, str]]:
        """The records that differ, the kinds of which too many would go, and what is damaged."""
        live, bases = self._publisher.live, self._publisher.bases
        refs: list[Ref] = [
            Ref(Kind.SETTINGS, name)
            for name in live.settings.keys() | read.settings.keys()
            if live.settings.get(name) != read.settings.get(name)
        ]
        gone: set[Ref] = set()
        damaged: dict[Ref, str] = {}
        published = Counter[Kind]()
        for shard in shards:
            # What was written through lictor after the scan is published already.
            newer = live.of_shard(shard, after=read.version.revision)
            content, changes = bases.content(shard), live.of_shard(shard)
            size = len(content) + spool_of(folder, shard).stat().st_size
            found = await run_offloaded(
                size, compare, content, spool_of(folder, shard), shard, changes
            )
            refs += [ref for ref in found.refs if ref not in newer]
            gone |= {ref for ref in found.gone if ref not in newer}
            damaged |= found.damaged
            published += found.published
        held = {
            kind: (count, published[kind])
            for kind, count in sorted(Counter(ref.kind for ref in gone).items())
            if count > self._share * published[kind]
        }
        # What takes something away comes first: `live` may not hold all of them.
        return sorted(refs, key=lambda ref: (ref not in gone, ref)), held, damaged

    def _done(
        self, began_at: float, began: float, read: Scan, refs: list[Ref], held: Mapping[Kind, Any]
    ) -> Pass:
        self.latest = Pass(
            began_at=began_at,
            seconds=time.monotonic() - began,
            records=read.records,
            differed=len(refs),
            held=held,
        )
        return self.latest
