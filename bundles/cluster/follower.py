"""A `lictor serve` without the lease: it serves what the leader has uploaded, and signs nothing."""

import asyncio
import logging
import time
from collections.abc import Callable

from bundles.cluster.index import NAME, Index, decode_index
from bundles.cluster.object_store import ObjectStore, StoredObject
from bundles.cluster.order import EDGE, Facts, VisibleBundles, facts_of
from bundles.cluster.verify import BundleVerifier
from bundles.exceptions import ObjectRefusedError, ObjectStoreUnavailableError
from bundles.publish.signing import etag_of
from bundles.serve.served_bundles import ServedBundles

SYNC_EVERY = 1.0
_AT_ONCE = 4

_log = logging.getLogger(__name__)


class Follower:
    """Keeps the served bundles equal to those in the object store.

    Attributes:
        index: the newest list that was read.
        synced_at: when the served bundles were last known to be equal to it, in seconds since 1970.
        error: why the store cannot be read; empty when it can.
        refused: bundle to why what lies in the store was not taken.
    """

    def __init__(
        self,
        object_store: ObjectStore,
        served_bundles: ServedBundles,
        *,
        verifier: BundleVerifier,
        sync_every: float = SYNC_EVERY,
        in_touch: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the follower; it reads nothing before `run` or `sync`.

        Args:
            object_store: the store.
            served_bundles: what is served.
            verifier: says what may be served.
            sync_every: seconds between reads of the store when no message requests one.
            in_touch: whether the other servers receive the reports of the OPAs served here. A
                server that is cut off must not keep its OPAs fresh: no other would wait for them.
            clock: seconds since 1970.
        """
        self._object_store = object_store
        self._served_bundles = served_bundles
        self._verifier = verifier
        self._sync_every = sync_every
        self._in_touch = in_touch
        self._clock = clock
        self._sync_requested, self._sync_lock = asyncio.Event(), asyncio.Lock()
        self._visible = VisibleBundles()
        for name in served_bundles.names():
            if bundle := served_bundles.get(name):
                self._visible.add(facts_of(bundle))
        # By name, the ETag of what was read last, and the SHA-256 of its content.
        self._known: dict[str, tuple[str, str]] = {}
        self.index = Index()
        self.synced_at = 0.0
        self.error = ""
        self.refused: dict[str, str] = {}

    def request_sync(self) -> None:
        """Request a sync now: something was published."""
        self._sync_requested.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self._sync_requested.clear()
            try:
                if self._in_touch():
                    await self.sync()
            except ObjectStoreUnavailableError as error:
                _log.warning("follower.failed code=%s error=%s", error.code, error)
            except Exception:  # noqa: BLE001 - whatever it is: the heartbeat grows old, and OPA denies
                _log.exception("follower.failed code=fault")
            try:
                async with asyncio.timeout(self._sync_every):
                    await self._sync_requested.wait()
            except TimeoutError:
                continue

    async def sync(self) -> None:
        """Serve what is new in the store.

        Raises:
            ObjectStoreUnavailableError: the store cannot be read; what was taken before is served
                on.
        """
        async with self._sync_lock:
            try:
                await self._sync()
            except ObjectStoreUnavailableError as error:
                self.error = str(error)
                raise
            self.error = ""

    async def _sync(self) -> None:
        await self._read_index()
        wanted = [name for name in self.index.bundles if not self._serves(name)]
        waits = asyncio.Semaphore(_AT_ONCE)

        async def fetch(name: str) -> None:
            async with waits:
                await self._take(name)

        bases = (fetch(name) for name in wanted if name not in EDGE)
        for failed in await asyncio.gather(*bases, return_exceptions=True):
            if failed is not None:
                raise failed
        for name in EDGE:
            if name in wanted:
                await self._take(name)
        if all(self._serves(name) for name in self.index.bundles):
            self.synced_at = self._clock()

    async def _read_index(self) -> None:
        # A directory's ETag is made of inode, time and size: two writes within a tick of the clock
        # may share one. Its index is small and near.
        known, _ = self._known.get(NAME, ("", ""))
        unless = known if self._object_store.conditional else ""
        found = await self._object_store.get(NAME, unless=unless)
        if found is None:
            return
        self._known[NAME] = found.etag, ""
        index = decode_index(found.content)
        if index is None:
            self._refuse(NAME, ObjectRefusedError(f"{NAME}: no index"))
            return
        self.refused.pop(NAME, None)
        self.index = index

    def _serves(self, name: str) -> bool:
        bundle = self._served_bundles.get(name)
        return bundle is not None and bundle.etag == self.index.bundles[name].sha256

    async def _take(self, name: str) -> None:
        """Serve what lies under a name, unless a reader would go back, or cannot use it yet."""
        etag, content = self._known.get(name, ("", ""))
        # What the index wants is not what was read last: the ETag must not stand for it.
        unless = etag if content == self.index.bundles[name].sha256 else ""
        found = await self._object_store.get(f"{name}.tar.gz", unless=unless)
        if found is None:
            return  # unchanged, or missing
        try:
            facts = await asyncio.to_thread(self._checked, name, found)
        except ObjectRefusedError as error:
            self._known[name] = found.etag, etag_of(found.content)
            self._refuse(name, error)
            return
        if missing := self._visible.missing_for(facts):
            self._refuse(name, ObjectRefusedError(f"{name}: waits for another {missing}"))
            return
        self._known[name] = found.etag, etag_of(found.content)
        self.refused.pop(name, None)
        self._visible.add(facts)
        self._served_bundles.put(facts.bundle)

    def _checked(self, name: str, found: StoredObject) -> Facts:
        facts = facts_of(self._verifier.bundle(name, found.content))
        if self._visible.is_newer_than(facts, now=self._clock()):
            raise ObjectRefusedError(f"{name}: older than what is served")
        return facts

    def _refuse(self, name: str, error: ObjectRefusedError) -> None:
        if self.refused.get(name) != str(error):
            _log.warning("follower.refused code=%s error=%s", error.code, error)
        self.refused[name] = str(error)
