"""Responses cached for one state of the registry, and queries that are under way already.

A response is cached for one state: epoch, revision, and the revisions of both bundles of rules. The
caller says which state the registry is known to be in now; another state than before empties the
cache. Time ends a response too, but never makes one good: that is for the known state alone.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias

from cachetools import TLRUCache

from pdp_client.decision import Callers, Decision, Visible
from pdp_client.opa.query import CacheKey, Response

State: TypeAlias = tuple[int, int, str, str]
"""Epoch, revision, and the revisions of the product's and of the site's rules."""


def state_of(response: Decision | Visible | Callers) -> State | None:
    """Return the state that a response was made from; None if it does not say."""
    epoch, revision = response.epoch, response.revision
    policy, site = response.policy, response.site
    if epoch is None or revision is None or policy is None or site is None:
        return None
    return epoch, revision, policy, site


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Response]):
    response: Response
    at: float
    until: float


class DecisionCache(Generic[Response]):
    """Responses of one kind by query, for one state. For one event loop."""

    def __init__(self, *, maxsize: int, clock: Callable[[], float] = time.time) -> None:
        """Create an empty cache.

        Args:
            maxsize: responses kept. Those that time has ended go first, at each new one; then the
                one that was used longest ago.
            clock: seconds since 1970.
        """
        self._clock = clock
        self._state: State | None = None
        self._entries: TLRUCache[CacheKey, _Entry[Response]] = TLRUCache(
            maxsize, ttu=lambda _key, entry, _now: entry.until, timer=clock
        )
        self._in_flight: dict[tuple[State, CacheKey], asyncio.Future[Response]] = {}

    def get(self, state: State, key: CacheKey) -> tuple[Response, int] | None:
        """Return the cached response to a query in the registry's current state.

        Returns:
            The response, which says that it is cached, and the milliseconds since it was made; None
            where nothing is cached.
        """
        if state != self._state:
            self._entries.clear()
            self._state = state
            return None
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock()
        if not entry.at <= now:  # a clock that was set back proves nothing
            del self._entries[key]
            return None
        return entry.response, round((now - entry.at) * 1000)

    async def get_or_query(
        self, state: State, key: CacheKey, query: Callable[[], Coroutine[Any, Any, Response]]
    ) -> tuple[Response, int]:
        """Return what is cached, or query OPA, or wait for an equal query in the same state.

        Returns:
            As `get`.

        Raises:
            PDPError: as `query`; all that wait for it get the same.
            TimeoutError: likewise.
        """
        if (cached := self.get(state, key)) is not None:
            return cached
        future = self._in_flight.get((state, key))
        if future is None:
            # A task of its own: the first caller may disconnect while the others still wait.
            future = asyncio.ensure_future(query())
            self._in_flight[state, key] = future
            future.add_done_callback(lambda done: self._complete(state, key, done))
        return await asyncio.shield(future), 0

    async def aclose(self) -> None:
        """Wait for the queries under way: each has its deadline, and a caller that waits."""
        await asyncio.gather(*self._in_flight.values(), return_exceptions=True)

    def _complete(self, state: State, key: CacheKey, future: "asyncio.Future[Response]") -> None:
        del self._in_flight[state, key]
        # An error that no caller is waiting for is dropped.
        if not future.cancelled() and future.exception() is None:
            self._put(key, future.result())

    def _put(self, key: CacheKey, response: Response) -> None:
        # Only a response from exactly this state: OPA may be ahead of the known state.
        made_from = state_of(response)
        if made_from is None or made_from != self._state:
            return
        if response.valid_until is not None:
            cached = replace(response, cached=True)
            self._entries[key] = _Entry(cached, self._clock(), response.valid_until)
