"""The caches of MCP servers that poll this server, and the state of the registry that each knows.

A cache may answer from the state that it knows until its lease ends: a set time after its last
poll. So a change holds in all of them once each has polled with it, or its lease is over.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from lictor_common.clocks import running_clock
from lictor_common.signed_exchange import LEASE
from registry import RegistryVersion

_MOST_CACHES = 10_000


@dataclass(slots=True)
class _Cache:
    known: RegistryVersion
    until: float


class CacheTracker:
    """The caches that hold a lease."""

    def __init__(
        self,
        *,
        notify: Callable[[], None] = lambda: None,
        forgot: bool = False,
        clock: Callable[[], float] = running_clock,
    ) -> None:
        """Start without a cache.

        Args:
            notify: called when a cache has polled with a newer state than before.
            forgot: there may be caches that polled an earlier process.
            clock: seconds that never go back.
        """
        self._notify = notify
        self._clock = clock
        self._caches: dict[str, _Cache] = {}
        self._forgot_until = clock() + LEASE if forgot else -math.inf

    def record(self, id_: str, known: RegistryVersion, *, lease: float) -> bool:
        """Note a poll, before it is answered.

        Args:
            id_: the cache.
            known: the state that it knows: it answers from no older one.
            lease: seconds for which it may answer from what it is given now, `LEASE` at most.

        Returns:
            False if there are too many caches; it must not be given a lease.
        """
        now = self._clock()
        cache = self._caches.get(id_)
        if cache is None:
            if len(self._caches) >= _MOST_CACHES:
                self._drop_ended(now)
            if len(self._caches) >= _MOST_CACHES:
                return False
            cache = self._caches[id_] = _Cache(known, now)
        # What a cache knows never goes down; a poll may arrive after a later one.
        has_news = known > cache.known
        cache.known = max(cache.known, known)
        cache.until = max(cache.until, now + lease)
        if has_news:
            self._notify()
        return True

    def remove(self, id_: str) -> None:
        """Forget a cache that has ended."""
        if self._caches.pop(id_, None):
            self._notify()

    def knowing(self, version: RegistryVersion) -> list[str]:
        """Return the caches with a lease that know a state, or a later one, sorted."""
        return sorted(id_ for id_, one in self._leased() if one.known >= version)

    def lacking(self, version: RegistryVersion) -> list[str]:
        """Return the caches that may still answer from an older state, sorted."""
        unknown = ["of an earlier lictor serve"] if self._clock() < self._forgot_until else []
        return unknown + sorted(id_ for id_, one in self._leased() if one.known < version)

    def seconds_until_known(self, version: RegistryVersion) -> float:
        """Return how long the longest lease of these may still last; 0 if there is none."""
        ends = [one.until for _, one in self._leased() if one.known < version]
        return max(0.0, max([self._forgot_until, *ends]) - self._clock())

    def _leased(self) -> list[tuple[str, _Cache]]:
        self._drop_ended(self._clock())
        return list(self._caches.items())

    def _drop_ended(self, now: float) -> None:
        self._caches = {id_: one for id_, one in self._caches.items() if one.until >= now}
