"""One `lictor serve` among several: it follows until it has the lease, then it publishes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from bundles.cluster.fencing import FencedBundles
from bundles.cluster.follower import Follower
from bundles.cluster.index import Index
from bundles.cluster.lease import Lease, LeaseTerm
from bundles.cluster.message_bus import MessageBus
from bundles.cluster.messages import Announcement
from bundles.cluster.object_store import ObjectStore
from bundles.cluster.order import Facts, facts_of
from bundles.cluster.uploader import StoreUploader
from bundles.cluster.verify import BundleVerifier
from bundles.exceptions import BundleError, ObjectStoreUnavailableError
from bundles.fleet.tracker import version_of
from bundles.publish.policy_releases import NAMES
from bundles.publish.signing import Bundle
from bundles.publish.store import Published, Store
from bundles.publish.target import PublishTarget
from bundles.serve.served_bundles import ServedBundles
from registry import RegistryError, RegistryVersion

_CATCH_UP = 10.0
"""Seconds for the newest that the last holder wrote; without it, from what is here."""

_PAUSE = 1.0
_BASE = "base-"
_log = logging.getLogger(__name__)

Publish = Callable[[PublishTarget, LeaseTerm], Awaitable[None]]
"""Publishes into a target until cancelled."""


class LeaderLoop:
    """Follows until it holds the lease, publishes while it does, and follows again.

    Attributes:
        term: while this one publishes.
        uploader: the same.
        follower: the follower, and what it has seen; also of before the term.
        error: why the last term ended by an error.
    """

    def __init__(
        self,
        *,
        lease: Lease,
        object_store: ObjectStore,
        bus: MessageBus,
        served_bundles: ServedBundles,
        store: Store,
        verifier: BundleVerifier,
        publish: Publish,
        in_touch: Callable[[], bool] = lambda: True,
    ) -> None:
        """Create the loop; it connects to nothing before `run`.

        Args:
            lease: decides which server publishes.
            object_store: where it is written to, and followed from.
            bus: announces what is published.
            served_bundles: what this server serves.
            store: what a publisher here goes on from; brought up to date before each term.
            verifier: says what may be served.
            publish: makes a publisher on the target that it is given, and runs it. That
                target refuses bundles once the term is over.
            in_touch: see `Follower`.
        """
        self._lease = lease
        self._object_store = object_store
        self._bus = bus
        self._served_bundles = served_bundles
        self._store = store
        self._verifier = verifier
        self._publish = publish
        self._in_touch = in_touch
        self.follower = self._new_follower()
        self.term: LeaseTerm | None = None
        self.uploader: StoreUploader | None = None
        self.error = ""

    @property
    def version(self) -> RegistryVersion:
        """The state of the registry that is served here; below every other when nothing is."""
        live = self._served_bundles.get("live")
        return version_of(live.revision if live else "")

    def request_sync(self) -> None:
        """Have the follower sync now: something was published."""
        self.follower.request_sync()

    async def run(self) -> None:
        """Follow and lead until cancelled."""
        while True:
            following = asyncio.ensure_future(self.follower.run())
            try:
                async with self._lease.term(floor=self._fence) as term:
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                    await self._lead(term)
            finally:
                following.cancel()
            self.follower = self._new_follower()
            if self.error:
                # Another server may be able to publish.
                await asyncio.sleep(_PAUSE)

    def _new_follower(self) -> Follower:
        return Follower(
            self._object_store,
            self._served_bundles,
            verifier=self._verifier,
            in_touch=self._in_touch,
        )

    async def _fence(self) -> int:
        return self.follower.index.fence

    async def _lead(self, term: LeaseTerm) -> None:
        try:
            async with asyncio.timeout(_CATCH_UP):
                await self.follower.sync()
        except (ObjectStoreUnavailableError, TimeoutError) as error:
            _log.error("leader.behind error=%s", error)
        uploader = StoreUploader(self._object_store, term, announce=self._announce)
        self.term, self.uploader, self.error = term, uploader, ""
        try:
            await asyncio.to_thread(adopt, self._served_bundles, self._store, self.follower.index)
            fenced = FencedBundles(self._served_bundles, term, on_put=uploader.enqueue)
            await _first(self._publish(fenced, term), uploader.run(), term.lost())
        except (BundleError, RegistryError) as error:
            self.error = f"{error.code}: {error}"
            _log.error("leader.stepped_down code=%s error=%s", error.code, error)
        finally:
            self.term = self.uploader = None

    async def _announce(self, index: Index) -> None:
        live = index.bundles.get("live")
        version = version_of(live.revision if live else "")
        await self._bus.announce(
            Announcement(index.fence, index.sequence, version.epoch, version.revision)
        )


def adopt(served_bundles: ServedBundles, store: Store, index: Index) -> bool:
    """Have a publisher go on from what the last holder wrote, and not from what was here.

    Args:
        served_bundles: what was followed.
        store: what the publisher will read.
        index: when each bundle was written.

    Returns:
        False if the store holds a newer state, or lacks a complete one to continue from.

    Raises:
        StoreUnusableError: it cannot be written.
    """
    facts: dict[str, Facts] = {
        name: facts_of(bundle)
        for name in served_bundles.names()
        if (bundle := served_bundles.get(name)) and name in index.bundles
    }
    for name in facts.keys() & NAMES:
        # A policy that was rolled out here since is not undone.
        if store.saved_at(name) < index.bundles[name].at:
            _keep(store, facts[name].bundle)
    live, heartbeat = facts.get("live"), facts.get("heartbeat")
    if live is None or not all(f"{_BASE}{shard}" in facts for shard in live.since):
        return False
    here = store.load("live")
    if here is not None and version_of(here.revision) > live.version:
        return False
    bases = {shard: facts[f"{_BASE}{shard}"] for shard in live.since}
    for one in (*bases.values(), live):
        _keep(store, one.bundle)
    before = store.published() or Published(live.version.epoch, live.since)
    store.save_published(
        replace(
            before,
            epoch=live.version.epoch,
            since=dict(live.since),
            bases={shard: base.version.revision for shard, base in bases.items()},
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
