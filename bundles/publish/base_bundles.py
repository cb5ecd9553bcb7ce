"""The base bundles that are served, one for each shard, and how far each of them has arrived."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bundles.exceptions import StoreUnusableError
from bundles.fleet.tracker import FleetTracker, version_of
from bundles.publish.scan import spool_of
from bundles.publish.shards import Header, Records, build, compact, is_packed, run_offloaded
from bundles.publish.signing import Bundle, SigningKey
from bundles.publish.store import Published, Store
from bundles.publish.target import PublishTarget
from registry import RegistryVersion

GRACE = 180.0
"""Seconds after which `live` may drop what a new base holds, though no OPA has confirmed that base:
twice the longest poll of a base and a staleness limit."""


class BaseBundles:
    """The published state of the base.

    Attributes:
        published: the epoch, and the revision of each shard.
        pending: shard to the moment from which `since` may be raised to its new base unconfirmed.
    """

    def __init__(
        self,
        store: Store,
        served_bundles: PublishTarget,
        *,
        key: SigningKey,
        fleet: FleetTracker,
        may_pack: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the bases of nothing yet; `may_pack` says whether all rules decode records."""
        self._store = store
        self._served_bundles = served_bundles
        self._key = key
        self._fleet = fleet
        self._may_pack = may_pack
        self._clock = clock
        # The shards whose base holds its records as objects, as older versions wrote them.
        self._unpacked: set[str] = set()
        self.published = Published(epoch=0, since={})
        self.pending: dict[str, float] = {}
        self.compacted = 0

    def content(self, shard: str) -> bytes:
        """The bytes of the base that is served."""
        base = self._served_bundles.get(f"base-{shard}")
        if base is None:
            raise StoreUnusableError(f"base-{shard} is not served")
        return base.content

    async def write_all(
        self,
        folder: Path,
        header: Header,
        count: int,
        *,
        on_progress: Callable[[int], None],
    ) -> dict[str, int]:
        """Write every shard anew from a scan; returns shard to revision, for `begin`."""
        since = {f"{n:02x}": header["revision"] for n in range(count)}
        for n, shard in enumerate(since):
            on_progress(n)
            base = await self._built(folder, shard, header, {})
            await asyncio.to_thread(self._store.save, base)
            self._served_bundles.put(base)
            self._note_form(shard, base)
        return since

    def begin(self, published: Published) -> None:
        """Go on from shards that are all new."""
        self._store.save_published(published)
        self.published = published
        self.pending = {}

    async def compact(self, shard: str, header: Header, changes: Records) -> None:
        """Write later changes into a shard."""
        content = self.content(shard)
        job = partial(
            compact,
            shard=shard,
            header=header,
            changes=changes,
            key=self._key,
            packed=self._may_pack(),
        )
        await self._serve(shard, await run_offloaded(len(content), job, content))

    async def rewrite(self, folder: Path, shard: str, header: Header, changes: Records) -> None:
        """Write a shard anew from a scan, and what changed after that."""
        await self._serve(shard, await self._built(folder, shard, header, changes))

    def to_pack(self) -> str | None:
        """Return a shard whose base may be written anew with packed records; None if all are."""
        shards = sorted(self._unpacked - self.pending.keys())
        return shards[0] if shards and self._may_pack() else None

    def activated(self) -> dict[str, int]:
        """Return shards whose new base every OPA has activated, with its revision, each once."""
        epoch, bases = self.published.epoch, self.published.bases
        activated = {
            shard: bases[shard]
            for shard, latest in self.pending.items()
            if self._clock() >= latest
            or self._fleet.all_run(
                f"base-{shard}", version=RegistryVersion(epoch, bases[shard]), within=GRACE
            )
        }
        if activated:
            self._note(since={**self.published.since, **activated})
            self.pending = {s: at for s, at in self.pending.items() if s not in activated}
        return activated

    def reconciled(self, at: float) -> None:
        """Remember when the newest read of everything began that is published whole."""
        self._note(reconciled_at=at)

    def resume(self) -> bool:
        """Serve what was published before a restart, when all of it is there and fits."""
        before = self._store.published()
        if before is None or not before.since:
            return False
        bases = {shard: self._store.load(f"base-{shard}") for shard in before.since}
        served: dict[str, int] = {}
        for shard, base in bases.items():
            version = version_of(base.revision if base else "")
            # A base that is newer than noted was written just before a kill, and is as good.
            if version.epoch != before.epoch or version.revision < before.since[shard]:
                return False
            served[shard] = version.revision
        for shard, base in bases.items():
            if base is not None:
                self._served_bundles.put(base)
                self._note_form(shard, base)
        self.published = replace(before, bases=served)
        self.pending = {
            shard: self._clock() + GRACE
            for shard, revision in served.items()
            if revision > before.since[shard]
        }
        return True

    async def _built(self, folder: Path, shard: str, header: Header, changes: Records) -> Bundle:
        spool = spool_of(folder, shard)
        job = partial(
            build,
            shard=shard,
            header=header,
            changes=changes,
            key=self._key,
            packed=self._may_pack(),
        )
        return await run_offloaded(spool.stat().st_size, job, spool)

    async def _serve(self, shard: str, base: Bundle) -> None:
        """Serve a new base. Its shard's `since` stays until it has arrived everywhere."""
        await asyncio.to_thread(self._store.save, base)
        self._served_bundles.put(base)
        self.compacted += 1
        self._note_form(shard, base)
        self._note(bases={**self.published.bases, shard: version_of(base.revision).revision})
        self.pending[shard] = self._clock() + GRACE

    def _note_form(self, shard: str, base: Bundle) -> None:
        if is_packed(base.content):
            self._unpacked.discard(shard)
        else:
            self._unpacked.add(shard)

    def _note(self, **changes: Any) -> None:
        noted = replace(self.published, **changes)
        self._store.save_published(noted)
        self.published = noted
