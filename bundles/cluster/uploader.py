"""Writes the publisher's bundles into the store, as fast as the store accepts them, in order.

The publisher never waits: of each bundle only the newest is kept until it is its turn. A revocation
does not wait for bases that it does not need.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from bundles.cluster.fencing import LeaseHolder
from bundles.cluster.index import KIND, NAME, Index, decode_index
from bundles.cluster.object_store import ObjectChangedError, ObjectStore
from bundles.cluster.order import EDGE, Facts, VisibleBundles, facts_of
from bundles.exceptions import (
    LeaseLostError,
    ObjectRefusedError,
    ObjectStoreUnavailableError,
    RedisUnavailableError,
)
from bundles.publish.signing import Bundle, etag_of

REPAIR_EVERY = 10.0
"""Seconds after which a bundle that a former holder overwrote is written again."""

LATE = 10.0
"""Seconds after which a bundle that still waits is a problem."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_TRIES = 4
_ENDING = ".tar.gz"

_log = logging.getLogger(__name__)

Announce = Callable[[Index], Awaitable[None]]


class StoreUploader:
    """Keeps a store equal to the bundles of one holder.

    Attributes:
        error: the last failure; empty if the last write succeeded.
    """

    def __init__(
        self,
        object_store: ObjectStore,
        holder: LeaseHolder | None = None,
        *,
        announce: Announce | None = None,
        repair_every: float = REPAIR_EVERY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the uploader; it writes nothing before `run`.

        Args:
            object_store: the store.
            holder: the lease holder; None with a single `lictor serve`.
            announce: called with each new index. A `LeaseLostError` from it ends the upload.
            repair_every: seconds between checks of the store.
            clock: seconds since 1970.
        """
        self._object_store = object_store
        self._holder = holder
        self._announce = announce
        self._repair_every = repair_every
        self._clock = clock
        self._queue: dict[str, tuple[Bundle, float]] = {}
        self._news: list[asyncio.Event] = []
        self._visible = VisibleBundles()
        self._etags: dict[str, str] = {}
        self._index, self._unwritten = Index(), False
        self.error = ""

    def enqueue(self, bundle: Bundle) -> None:
        """Queue a bundle, in place of an older queued one of that name."""
        since = self._queue.get(bundle.name, (bundle, self._clock()))[1]
        self._queue[bundle.name] = (bundle, since)
        self._wake()

    @property
    def waiting(self) -> dict[str, float]:
        """The names that are not written yet, and for how many seconds they have waited."""
        now = self._clock()
        return {name: now - since for name, (_, since) in sorted(self._queue.items())}

    def problems(self) -> list[str]:
        """The problems of the store, one per line."""
        late = [
            f"{name} has waited for {seconds:.0f} s"
            for name, seconds in self.waiting.items()
            if seconds > LATE
        ]
        return [*([self.error] if self.error else []), *late]

    async def run(self) -> None:
        """Write until cancelled; retry failures with growing delays.

        Raises:
            LeaseLostError: another holder may publish, or has.
        """
        await self._insist(self._begin)
        try:
            async with asyncio.TaskGroup() as lanes:
                lanes.create_task(self._lane(self._edge))
                lanes.create_task(self._lane(self._base))
                lanes.create_task(self._lane(self._list))
                lanes.create_task(self._repair())
        except ExceptionGroup as failed:
            lost, others = failed.split(LeaseLostError)
            if lost is None or others is not None:
                raise
            raise LeaseLostError(str(lost.exceptions[0])) from None

    async def _begin(self) -> bool:
        """Take over the store: from now on it refuses an older holder's index."""
        await asyncio.to_thread(self._object_store.sweep)
        self._etags = dict(await self._object_store.etags())
        await self._take_index()
        self._unwritten = True
        return await self._list()

    async def _take_index(self) -> None:
        found = await self._object_store.get(NAME)
        index = (found and decode_index(found.content)) or Index()
        fence = index.fence if self._holder is None else self._holder.fence
        if index.fence > fence:
            raise LeaseLostError(
                f"a holder with fence {index.fence} has published, ours is {fence}"
            )
        self._etags[NAME] = found.etag if found else ""
        # An index that is lost or malformed is made anew; followers read its bundles, not its past.
        sequence = max(index.sequence, self._index.sequence)
        self._index = Index(fence, sequence, self._index.bundles or index.bundles)

    async def _edge(self) -> bool:
        """Write each small bundle that waits and may come now."""
        written = False
        for name in EDGE:
            facts = await self._next(name)
            if facts and not self._visible.missing_for(facts):
                await self._write(facts)
                written = True
        return written

    async def _base(self) -> bool:
        """Write one base; such that `live` waits for come first."""
        names = [name for name in self._queue if name not in EDGE]
        if not names:
            return False
        live = await self._next("live")
        needed = self._visible.missing_for(live) if live else ""
        facts = await self._next(needed if needed in names else names[0])
        if facts:
            await self._write(facts)
        return True

    async def _next(self, name: str) -> Facts | None:
        """The bundle that is queued under a name; an invalid one is dropped from the queue."""
        if name not in self._queue:
            return None
        bundle = self._queue[name][0]
        try:
            # In a thread: `live` may hold a thousand records or more.
            return await asyncio.to_thread(facts_of, bundle)
        except ObjectRefusedError as error:
            self.error = str(error)
            _log.error("store.upload_failed code=%s error=%s", error.code, error)
            if self._queue.get(name, (None,))[0] is bundle:
                del self._queue[name]
            return None

    async def _list(self) -> bool:
        """Write the index, and say so."""
        if not self._unwritten:
            return False
        self._unwritten = False
        index = self._index
        try:
            await self._put(NAME, index.encode(), kind=KIND)
            if self._announce:
                await self._announce(index)
        except RedisUnavailableError as error:
            # A following server checks by itself every second.
            self.error = str(error)
        except BaseException:
            self._unwritten = True
            raise
        return True

    async def _write(self, facts: Facts) -> None:
        bundle, key = facts.bundle, _key(facts.bundle.name)
        entry = self._index.bundles.get(bundle.name)
        there = entry is not None and entry.etag == self._etags.get(key)
        if entry is None or not there or entry.sha256 != bundle.etag:
            etag = await self._put(key, bundle.content)
            self._index = self._index.with_bundle(bundle, etag, at=self._clock())
            self._unwritten = True
        self._visible.add(facts)
        newest = self._queue.pop(bundle.name)[0]
        if newest is not bundle:
            self._queue[bundle.name] = (newest, self._clock())
        self._wake()

    def _wake(self) -> None:
        for news in self._news:
            news.set()

    async def _put(self, name: str, content: bytes, *, kind: str = "") -> str:
        """Replace what we know is there; where something else is, find out whose it is."""
        for _ in range(_TRIES):
            if self._holder is not None:
                self._holder.check()
            try:
                etag = await self._object_store.put(
                    name, content, replaces=self._etags.get(name, ""), kind=kind
                )
            except ObjectChangedError:
                found = await self._object_store.get(name)
                self._etags[name] = found.etag if found else ""
                if found and etag_of(found.content) == etag_of(content):
                    return found.etag  # our own; the response was lost
                await self._take_index()
                continue
            self._etags[name] = etag
            self.error = ""
            return etag
        raise ObjectStoreUnavailableError(f"{name}: another process writes it too")

    async def _repair(self) -> None:
        """Rewrite what another process overwrote; or leave it, if that was a later holder."""
        while True:
            await asyncio.sleep(self._repair_every)
            before = dict(self._etags)
            try:
                there = await self._object_store.etags()
                # As it should be, or written since.
                odd = [k for k, e in before.items() if there.get(k) != e == self._etags[k]]
                if odd:
                    await self._take_index()
            except ObjectStoreUnavailableError as error:
                self.error = str(error)
                continue
            for key in odd:
                _log.warning("store.repaired key=%s", key)
                visible = self._visible.facts.get(key.removesuffix(_ENDING))
                if visible:
                    self._etags[key] = there.get(key, "")
                    self._queue.setdefault(visible.bundle.name, (visible.bundle, self._clock()))
                self._unwritten = self._unwritten or key == NAME
            self._wake()

    async def _lane(self, step: Callable[[], Awaitable[bool]]) -> None:
        news = asyncio.Event()
        self._news.append(news)
        while True:
            news.clear()
            if not await self._insist(step):
                await news.wait()

    async def _insist(self, step: Callable[[], Awaitable[bool]]) -> bool:
        """Do a step, again and again if it must be."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return await step()
            except ObjectStoreUnavailableError as error:
                self.error = str(error)
                _log.warning("store.upload_failed code=%s error=%s", error.code, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            if self._holder is not None:
                self._holder.check()


def _key(name: str) -> str:
    return f"{name}{_ENDING}"
