"""Use counts on their way into the registry: from MCP servers, or from decisions recorded here.

Counts are removed from their source before they are written, so a failure between the two loses
counts, and never counts twice. Several servers may do it at once.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

from bundles.exceptions import BundleError
from lictor.decision_log import DecisionLogReader
from lictor.shared.store import SharedStateStore
from lictor_common.periodic import run_periodically
from pdp_client import PDPError
from registry import Registry, RegistryError, Usage

EVERY = 5.0
"""Seconds between two transfers."""

_REDIS_SECONDS = 1.0

_Take = Callable[[], Awaitable[Mapping[str, tuple[int, float]]]]
_log = logging.getLogger(__name__)


class Usages:
    """Transfers uses of tokens into the registry.

    Attributes:
        lost: uses that were taken, and may not have been written.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        redis_url: str,
        record: Path | None,
        place: Path,
        store: SharedStateStore | None = None,
        every: float = EVERY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the transfer; it connects and reads in `run`.

        Args:
            registry: where they go.
            redis_url: where instances count. With one, `record` is left alone: the same uses may be
                in both.
            record: a file of decisions.
            place: where it is noted how far `record` was read.
            store: where instances count that share through this server. Once one has, `record` is
                left alone likewise.
            every: seconds between two transfers.
            clock: seconds since 1970.
        """
        self._registry = registry
        self._redis_url = redis_url
        self._record = record
        self._place = place
        self._store = store
        self._every = every
        self._clock = clock
        self._failing = ""
        self.lost = 0

    async def run(self) -> None:
        """Transfer use counts until cancelled; log a failure once, and retry.

        Raises:
            ConfigurationError: the URL cannot be used.
        """
        async with self._source() as take:
            await run_periodically(
                partial(self._bring, take), every=self._every, on_error=self._failed
            )

    async def _bring(self, take: _Take) -> None:
        # Remove nothing while the registry is unavailable.
        await self._registry.version()
        await self._transfer(take)
        if self._store is not None:
            await self._transfer(self._store.take_uses)
        self._failing = ""

    async def _transfer(self, take: _Take) -> None:
        while taken := await take():
            now = self._clock()
            # A clock that is ahead must not date a use into the future.
            uses = {digest: Usage(n, min(at, now)) for digest, (n, at) in taken.items()}
            self.lost += (count := sum(one.uses for one in uses.values()))
            await self._registry.record_usage(uses)
            self.lost -= count

    @asynccontextmanager
    async def _source(self) -> AsyncIterator[_Take]:
        if self._redis_url:
            # The package is needed only with Redis.
            from pdp_client.shared.connection import connect
            from pdp_client.shared.usage import take_uses

            async with aclosing(connect(self._redis_url, timeout=_REDIS_SECONDS)) as redis:
                yield partial(take_uses, redis)
        elif self._record is not None:
            recorded = DecisionLogReader(self._record, place=self._place)
            yield partial(self._take_recorded, recorded)
        else:
            yield _nothing

    async def _take_recorded(self, recorded: DecisionLogReader) -> Mapping[str, tuple[int, float]]:
        if self._store is not None and await self._store.noted_at("counting") is not None:
            return {}
        return await asyncio.to_thread(recorded.take_uses)

    def _failed(self, error: Exception) -> None:
        match error:
            case RegistryError() | PDPError() | BundleError():
                code = error.code
            case OSError():
                code = "record_unreadable"
            case _:
                _log.error("usage.failed code=fault", exc_info=error)
                return
        if code != self._failing:
            _log.warning("usage.unavailable code=%s detail=%s", code, error)
        self._failing = code


async def _nothing() -> Mapping[str, tuple[int, float]]:
    return {}
