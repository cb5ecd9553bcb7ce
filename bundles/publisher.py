"""The publisher: what changed in the registry becomes signed bundles, in order, at once.

`base-NN` hold the registry as of some revision, cut into shards; `live` holds every record that
has changed since; the heartbeat says up to when all of that is known to be everything.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from bundles.catalogue import Catalogue
from bundles.exceptions import StoreUnusable
from bundles.fleet import Fleet, stamp_of
from bundles.records import Gate, shard_of
from bundles.rollout import Rollout
from bundles.signing import Bundle, SigningKey, sign
from bundles.store import Published, Store
from registry import Published as RecordPublished
from registry import Ref, Registry, RegistryError, Stamp

LOOK_EVERY = 1.0
HEARTBEAT_EVERY = 5.0
SMALL = 20_000
"""Records up to which one shard serves; above, there are 64."""

_SETTLED = 1.0
"""Seconds after which a connected OPA must have a change; the heartbeat demands no sooner."""

_GRACE = 180.0
"""Seconds after which `live` may drop what a new base holds, though nobody has confirmed that base:
twice the longest poll of a base and a staleness limit."""

_log = logging.getLogger(__name__)


class Publisher:
    """Publishes one registry. There must be one publisher at a time."""

    def __init__(
        self,
        registry: Registry,
        *,
        store: Store,
        catalogue: Catalogue,
        key: SigningKey,
        fleet: Fleet,
        shards: int | None = None,
        live_limit: int = 1000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Tie the parts together; nothing is read or written before `start`.

        Args:
            registry: what is published.
            store: keeps what was published over a restart.
            catalogue: serves it.
            key: signs it.
            fleet: says when a base has arrived everywhere.
            shards: 1 to 64, for a new epoch; by default by the registry's size.
            live_limit: records in `live` above which they are folded into their shards.
            clock: seconds since 1970.
        """
        self._registry = registry
        self._store = store
        self._catalogue = catalogue
        self._key = key
        self._fleet = fleet
        self._shards = shards
        self._live_limit = live_limit
        self._clock = clock
        self._lock = asyncio.Lock()
        self._policies = Rollout(store, catalogue, clock=clock)
        self._published = Published(epoch=0, since={})
        self._live = Stamp(0, -1)
        self._reached: list[tuple[float, int]] = []
        self._settled = 0
        self._synced_at = 0.0
        self._raising: dict[str, float] = {}
        self._gate = Gate()

    @property
    def problems(self) -> Mapping[Ref, str]:
        """Records that were published as `null`, or settings left out, and why."""
        return self._gate.problems

    @property
    def stamp(self) -> Stamp:
        """The state of the registry that `live` has reached."""
        return self._live

    async def start(self) -> None:
        """Go on from what was published before, or publish everything; then the heartbeat."""
        async with self._lock:
            stamp = await self._registry.stamp()
            if not self._resume(stamp):
                await self._rebuild()
        await self.look()
        if self._catalogue.get("heartbeat") is None:
            self.beat()

    async def run(self) -> None:
        """Look and beat until cancelled. What fails is logged, and tried again at the next look."""
        beaten = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.look()
                if time.monotonic() - beaten >= HEARTBEAT_EVERY:
                    beaten = time.monotonic()
                    self.beat()
            except (RegistryError, StoreUnusable) as error:
                _log.error("publisher.failed code=%s error=%s", error.code, error)

    async def look(self) -> None:
        """Publish what has changed by now; a new policy bundle too, with a heartbeat that names it.

        Raises:
            RegistryError: the registry cannot be read; nothing was published.
            StoreUnusable: a bundle could not be kept, and so is not served.
        """
        async with self._lock:
            started = self._clock()
            stamp = await self._registry.stamp()
            restored = stamp.epoch != self._published.epoch
            if restored:
                await self._rebuild()
            elif self._raise_since() or stamp != self._live:
                await self._publish_live()
            self._synced_at = started
            if self._policies.refresh() or restored:
                self.beat()

    def beat(self) -> None:
        """Publish a heartbeat that says how far everything is known to be published."""
        while self._reached and self._reached[0][0] <= self._clock() - _SETTLED:
            self._settled = max(self._settled, self._reached.pop(0)[1])
        synced_at_ns = int(self._synced_at * 1_000_000_000)
        heartbeat = {
            "epoch": self._published.epoch,
            "synced_at_ns": synced_at_ns,
            "reconciled_at_ns": synced_at_ns,
            "revision": self._settled,
            **self._policies.accepted(),
        }
        bundle = self._sign("heartbeat", f"{self._synced_at:.3f}", "heartbeat", heartbeat)
        self._catalogue.put(bundle)
        self._policies.serve()

    async def _publish_live(self) -> None:
        since = self._published.since
        delta = await self._registry.changed_since(min(since.values()))
        document: dict[str, Any] = {
            "epoch": delta.stamp.epoch,
            "revision": delta.stamp.revision,
            "since": dict(since),
            "settings": self._gate.sound(delta.settings),
        }
        count = 0
        for ref, change in delta.changes.items():
            if change.revision > since[shard_of(ref, len(since))]:
                self._gate.add(document, ref, change.record)
                count += 1
        bundle = self._sign("live", _revision(delta.stamp), "live", document)
        self._store.save(bundle)
        self._catalogue.put(bundle)
        self._live = delta.stamp
        self._reached.append((self._clock(), delta.stamp.revision))
        if count > self._live_limit and not self._raising:
            await self._fold({shard_of(ref, len(since)) for ref in delta.changes})

    async def _rebuild(self) -> None:
        """Publish every shard anew: a new epoch, or nothing to go on from."""
        async with self._registry.export_records() as export:
            records = [(ref, record) async for ref, record in export.records]
            count = self._shards or (1 if len(records) < SMALL else 64)
            since = {f"{n:02x}": export.stamp.revision for n in range(count)}
            await self._write_bases(export.stamp, set(since), count, _again(records))
        self._published = Published(export.stamp.epoch, since, since)
        self._store.save_published(self._published)
        self._raising = {}
        self._reached, self._settled = [], 0
        await self._publish_live()

    async def _fold(self, shards: set[str]) -> None:
        """Write the records that `live` has gathered into the shards that they belong to.

        `live` keeps them until every OPA runs the new shards: dropping them sooner would bring a
        revoked record back to an OPA that still has the old one.
        """
        count = len(self._published.since)
        async with self._registry.export_records() as export:
            await self._write_bases(export.stamp, shards, count, export.records)
        bases = {**self._published.bases, **dict.fromkeys(shards, export.stamp.revision)}
        self._published = Published(self._published.epoch, self._published.since, bases)
        self._store.save_published(self._published)
        self._raising = dict.fromkeys(shards, self._clock() + _GRACE)

    def _raise_since(self) -> bool:
        """Move `since` up for shards that have arrived everywhere; True when any did."""
        epoch, bases = self._published.epoch, self._published.bases
        arrived = {
            shard
            for shard, latest in self._raising.items()
            if self._clock() >= latest
            or self._fleet.all_run(
                f"base-{shard}", epoch=epoch, revision=bases[shard], within=_GRACE
            )
        }
        if arrived:
            since = {**self._published.since, **{shard: bases[shard] for shard in arrived}}
            self._published = Published(epoch, since, bases)
            self._store.save_published(self._published)
            self._raising = {s: at for s, at in self._raising.items() if s not in arrived}
        return bool(arrived)

    async def _write_bases(
        self,
        stamp: Stamp,
        shards: set[str],
        count: int,
        records: AsyncIterator[tuple[Ref, RecordPublished]],
    ) -> None:
        documents: dict[str, dict[str, Any]] = {
            shard: {"epoch": stamp.epoch, "revision": stamp.revision} for shard in shards
        }
        async for ref, record in records:
            if document := documents.get(shard_of(ref, count)):
                self._gate.add(document, ref, record)
        for shard, document in sorted(documents.items()):
            bundle = await asyncio.to_thread(
                self._sign, f"base-{shard}", _revision(stamp), f"base/{shard}", document
            )
            self._store.save(bundle)
            self._catalogue.put(bundle)

    def _resume(self, stamp: Stamp) -> bool:
        """Serve what was published before the restart, when all of it is there and fits."""
        before = self._store.published()
        if before is None or before.epoch != stamp.epoch or not before.since:
            return False
        bases = {shard: self._store.load(f"base-{shard}") for shard in before.since}
        served: dict[str, int] = {}
        for shard, base in bases.items():
            epoch, served[shard] = stamp_of(base.revision if base else "")
            # A base that is newer than noted was written just before a kill, and is as good.
            if epoch != stamp.epoch or not before.since[shard] <= served[shard] <= stamp.revision:
                return False
        live = self._store.load("live")
        reached = stamp_of(live.revision) if live else (-1, -1)
        if reached > (stamp.epoch, stamp.revision):
            return False
        if live and reached[0] == stamp.epoch:
            # What was served before is demanded as if there had been no restart.
            self._reached = [(self._store.saved_at("live"), reached[1])]
        for base in bases.values():
            if base is not None:
                self._catalogue.put(base)
        self._published = Published(before.epoch, before.since, served)
        self._raising = {
            shard: self._clock() + _GRACE
            for shard, revision in served.items()
            if revision > before.since[shard]
        }
        return True

    def _sign(self, name: str, revision: str, path: str, document: Mapping[str, Any]) -> Bundle:
        data: Any = document
        for part in reversed(["registry", *path.split("/")]):
            data = {part: data}
        return sign(
            name, revision=revision, roots=[f"registry/{path}"], key=self._key, data=data, level=1
        )


def _revision(stamp: Stamp) -> str:
    return f"{stamp.epoch}:{stamp.revision}"


async def _again(records: list[tuple[Ref, RecordPublished]]) -> AsyncIterator[Any]:
    for record in records:
        yield record
