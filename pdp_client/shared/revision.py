"""The latest revision, read from Redis: once for each query, or watched, with a lease."""

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path

from lictor_common.periodic import run_periodically
from lictor_common.redis import NAMESPACE, AbstractConnection, key
from lictor_common.version import CLOCK_TOLERANCE
from pdp_client.freshness.revision import LatestRevision, RevisionAuthenticator
from pdp_client.shared.connection import TIMEOUT, SharedStateUnavailableError, connect, redis_errors
from pdp_client.shared.warnings import RateLimitedWarning

LEASE = 0.25
"""Seconds for which a value counts as the latest after it was read; `--wait` waits as long if any
instance caches."""

FRESH = 30.0
"""Seconds for which an unconfirmed value counts: after that, Redis may be outdated."""

CACHING = 10_000
"""Milliseconds after each read for which a process counts as caching."""

_REFRESH_EVERY = LEASE / 3

_log = logging.getLogger(__name__)


class SharedNewest:
    """The latest revision in Redis; see `pdp_client.freshness.revision.RevisionSource`.

    It never goes down: a value lower than an accepted one is refused. For one event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        key_file: str | Path,
        namespace: str = NAMESPACE,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the client; it connects on the first read.

        Args:
            url: the URL of Redis or Valkey.
            key_file: holds the key of the HMACs, `newest.key` of `lictor init`.
            namespace: the prefix of every key.
            timeout: seconds for a connection, and for a response.
            clock: seconds since 1970.

        Raises:
            ConfigurationError: the URL or the key cannot be used.
        """
        self._authenticator = RevisionAuthenticator.from_file(key_file, namespace=namespace)
        # A connection of its own, one command at a time: what is known about the process behind it
        # remains valid while it is open.
        self._redis = connect(
            url, timeout=timeout, single_connection_client=True, redis_connect_func=self._connected
        )
        self._news = connect(url, timeout=timeout)
        self._value = key(namespace, "newest")
        self._caching = key(namespace, "caching")
        self._clock = clock
        self._reading, self._hinted = asyncio.Lock(), asyncio.Event()
        self._run = ""
        self._raw: object = None
        self._newest: LatestRevision | None = None
        self._began = self._until = -math.inf
        self._watching: asyncio.Future[None] | None = None
        self._outages = RateLimitedWarning(_log, "revision.unavailable")

    async def read(self) -> LatestRevision:
        """As `RevisionSource.read`.

        Raises:
            SharedStateUnavailableError: Redis does not respond or has no value, or the value is
                forged, lower than an earlier one, written for another process, or too old.
        """
        asked = time.monotonic()
        async with self._reading:
            # A caller that waited for its turn may use a value read after the caller arrived.
            if self._began < asked or self._newest is None:
                began = time.monotonic()
                with redis_errors():
                    value = await self._redis.get(self._value)
                self._take(value)
                self._began = began
            return self._believed()

    def cached(self) -> LatestRevision | None:
        """As `RevisionSource.cached`."""
        return self._newest if time.monotonic() < self._until else None

    def start_watching(self) -> None:
        """As `RevisionSource.start_watching`."""
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())

    async def aclose(self) -> None:
        """As `RevisionSource.aclose`."""
        self._until = -math.inf
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._redis.aclose()
        await self._news.aclose()

    async def _connected(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        info = await connection.read_response()
        found = re.search(r"run_id:(\w+)", info.decode() if isinstance(info, bytes) else str(info))
        self._run = found[1] if found else ""

    def _take(self, value: object) -> None:
        """Accept a value that was read or announced, and refuse one that is not trustworthy.

        Raises:
            SharedStateUnavailableError: see `read`.
        """
        if value == self._raw:
            return
        newest = self._authenticator.verify(value)
        if newest is None:
            raise SharedStateUnavailableError(
                "Redis has no latest revision" if value is None else "latest revision is forged"
            )
        before = self._newest
        if before is not None and (newest.version < before.version):
            raise SharedStateUnavailableError(
                "latest revision moved backwards; was Redis restored from a backup?"
            )
        self._raw, self._newest = value, newest

    def _believed(self) -> LatestRevision:
        newest = self._newest
        if newest is None or newest.run != self._run:
            raise SharedStateUnavailableError("latest revision was written for another Redis")
        if not -CLOCK_TOLERANCE <= self._clock() - newest.at <= FRESH:
            raise SharedStateUnavailableError("latest revision is unconfirmed")
        return newest

    async def _watch(self) -> None:
        """Read periodically, and at once after an announcement, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for job in (self._refresh, self._listen):
                group.create_task(
                    run_periodically(job, pause=_REFRESH_EVERY, on_error=self._failed)
                )

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, SharedStateUnavailableError):
            _log.error("revision.failed error=%s", type(error).__name__, exc_info=error)
            error = SharedStateUnavailableError(type(error).__name__)
        self._outages.add(error)

    async def _refresh(self) -> None:
        self._hinted.clear()
        with redis_errors():
            # First: writers that wait for caches must know that this one exists.
            await self._redis.set(self._caching, "1", px=CACHING)
        began = time.monotonic()
        await self.read()
        self._until = began + LEASE
        with suppress(TimeoutError):
            async with asyncio.timeout(_REFRESH_EVERY):
                await self._hinted.wait()

    async def _listen(self) -> None:
        with redis_errors():
            async with aclosing(self._news.pubsub(ignore_subscribe_messages=True)) as pubsub:
                # One at a time: a cancellation that redis-py loses is noticed before the next wait.
                with redis_errors():
                    await pubsub.subscribe(self._value)
                while True:
                    with redis_errors():
                        message = await pubsub.get_message(timeout=1.0)
                    if message and (newest := self._authenticator.verify(message["data"])):
                        self._hear(newest)

    def _hear(self, newest: LatestRevision) -> None:
        """Invalidate the known value on an announcement; the next read sets it again."""
        if self._newest is None or newest.state != self._newest.state:
            self._until = -math.inf
            self._hinted.set()
