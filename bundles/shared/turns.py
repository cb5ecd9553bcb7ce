"""One `lictor serve` among several: it follows until it has the lease, then it publishes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from bundles.catalogue import Catalogue
from bundles.exceptions import ArtefactsUnavailable, BundleError
from bundles.fleet import stamp_of
from bundles.rollout import NAMES
from bundles.shared.artefacts import Artefacts
from bundles.shared.bus import Bus
from bundles.shared.guarded import Guarded
from bundles.shared.index import Index
from bundles.shared.lease import Lease, Term
from bundles.shared.mirror import Mirror
from bundles.shared.order import Facts, facts_of
from bundles.shared.replica import Replica
from bundles.shared.sealed import Announcement
from bundles.shared.verify import Verifier
from bundles.signing import Bundle
from bundles.store import Published, Store
from registry import RegistryError, Stamp

_CATCH_UP = 10.0
"""Seconds for the newest that the last holder wrote; without it, from what is here."""

_PAUSE = 1.0
_BASE = "base-"
_log = logging.getLogger(__name__)

Publish = Callable[[Catalogue, Term], Awaitable[None]]
"""Publishes on a catalogue until cancelled."""


class Turns:
    """Follows and publishes, by turns.

    Attributes:
        term: while this one publishes.
        mirror: the same.
        replica: the follower, and what it has seen; also of before the term.
        error: why the last term ended by an error.
    """

    def __init__(
        self,
        *,
        lease: Lease,
        artefacts: Artefacts,
        bus: Bus,
        catalogue: Catalogue,
        store: Store,
        verifier: Verifier,
        publish: Publish,
        in_touch: Callable[[], bool] = lambda: True,
    ) -> None:
        """Tie the parts together; nothing is asked of anybody before `run`.

        Args:
            lease: says who publishes.
            artefacts: where it is written to, and followed from.
            bus: told of what is published.
            catalogue: what this server serves.
            store: what a publisher here goes on from; brought up to date before each term.
            verifier: says what may be served.
            publish: makes a publisher on the catalogue that it is given, and runs it. That
                catalogue refuses what is put into it once the term is over.
            in_touch: see `Replica`.
        """
        self._lease = lease
        self._artefacts = artefacts
        self._bus = bus
        self._catalogue = catalogue
        self._store = store
        self._verifier = verifier
        self._publish = publish
        self._in_touch = in_touch
        self.replica = self._new_replica()
        self.term: Term | None = None
        self.mirror: Mirror | None = None
        self.error = ""

    @property
    def stamp(self) -> Stamp:
        """The state of the registry that is served here; below every other when nothing is."""
        live = self._catalogue.get("live")
        return stamp_of(live.revision if live else "")

    def tell(self) -> None:
        """Have a follower look now: something was published."""
        self.replica.tell()

    async def run(self) -> None:
        """Take turns until cancelled."""
        while True:
            following = asyncio.ensure_future(self.replica.run())
            try:
                async with self._lease.term(floor=self._fence) as term:
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                    await self._turn(term)
            finally:
                following.cancel()
            self.replica = self._new_replica()
            if self.error:
                # Somebody else may be able to.
                await asyncio.sleep(_PAUSE)

    def _new_replica(self) -> Replica:
        return Replica(
            self._artefacts,
            self._catalogue,
            verifier=self._verifier,
            in_touch=self._in_touch,
        )

    async def _fence(self) -> int:
        return self.replica.index.fence

    async def _turn(self, term: Term) -> None:
        try:
            async with asyncio.timeout(_CATCH_UP):
                await self.replica.look()
        except (ArtefactsUnavailable, TimeoutError) as error:
            _log.error("turns.behind error=%s", error)
        mirror = Mirror(self._artefacts, term, announce=self._announce)
        self.term, self.mirror, self.error = term, mirror, ""
        try:
            await asyncio.to_thread(adopt, self._catalogue, self._store, self.replica.index)
            guarded = Guarded(self._catalogue, term, told=mirror.offer)
            await _first(self._publish(guarded, term), mirror.run(), term.lost())
        except (BundleError, RegistryError) as error:
            self.error = f"{error.code}: {error}"
            _log.error("turns.over code=%s error=%s", error.code, error)
        finally:
            self.term = self.mirror = None

    async def _announce(self, index: Index) -> None:
        live = index.bundles.get("live")
        stamp = stamp_of(live.revision if live else "")
        await self._bus.announce(
            Announcement(index.fence, index.sequence, stamp.epoch, stamp.revision)
        )


def adopt(catalogue: Catalogue, store: Store, index: Index) -> bool:
    """Have a publisher go on from what the last holder wrote, and not from what was here.

    Args:
        catalogue: what was followed.
        store: where the publisher will look.
        index: when each bundle was written.

    Returns:
        False where the store holds the newer state, or there is no whole one to go on from.

    Raises:
        StoreUnusable: it cannot be written.
    """
    facts: dict[str, Facts] = {
        name: facts_of(bundle)
        for name in catalogue.names()
        if (bundle := catalogue.get(name)) and name in index.bundles
    }
    for name in facts.keys() & NAMES:
        # A policy that was rolled out here since is not undone.
        if store.saved_at(name) < index.bundles[name].at:
            _keep(store, facts[name].bundle)
    live, heartbeat = facts.get("live"), facts.get("heartbeat")
    if live is None or not all(f"{_BASE}{shard}" in facts for shard in live.since):
        return False
    here = store.load("live")
    if here is not None and stamp_of(here.revision) > live.stamp:
        return False
    bases = {shard: facts[f"{_BASE}{shard}"] for shard in live.since}
    for one in (*bases.values(), live):
        _keep(store, one.bundle)
    before = store.published() or Published(live.stamp.epoch, live.since)
    store.save_published(
        replace(
            before,
            epoch=live.stamp.epoch,
            since=dict(live.since),
            bases={shard: base.stamp.revision for shard, base in bases.items()},
            reconciled_at=heartbeat.reconciled_at if heartbeat else before.reconciled_at,
        )
    )
    return True


def _keep(store: Store, bundle: Bundle) -> None:
    path = store.path(bundle.name)
    if not path.exists() or path.read_bytes() != bundle.content:
        store.save(bundle)


async def _first(*parts: Awaitable[None]) -> None:
    """Run all until the first one ends, with its error if it has one."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
