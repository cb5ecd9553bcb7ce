"""The newest revision, read from Redis: once for each question, or watched, with a lease."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path

from redis.asyncio.connection import AbstractConnection

from pdp_client.freshness.revision import LatestRevision, MessageAuthenticator
from pdp_client.shared.connection import (
    NAMESPACE,
    TIMEOUT,
    SharedUnavailable,
    connect,
    key,
    redis_errors,
    redis_run_id,
)
from pdp_client.shared.warnings import RateLimitedWarning

LEASE = 0.25
"""Seconds after a read for which it may be taken for the newest without another; `--wait` waits for
as long where somebody caches."""

FRESH = 30.0
"""Seconds for which a value counts that nobody confirms: after a while Redis may be lying."""

CACHING = 10_000
"""Milliseconds for which a process is known to cache, from each look."""

_CLOCKS_APART = 5.0
_LOOK_EVERY = LEASE / 3

_log = logging.getLogger(__name__)


class SharedNewest:
    """The newest revision in Redis; see `pdp_client.freshness.revision.RevisionSource`.

    It never goes down: a value lower than one that was believed is refused. For one event loop.
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
        """Connect nothing yet.

        Args:
            url: of Redis or Valkey.
            key_file: holds the key of the HMACs, `newest.key` of `lictor init`.
            namespace: before every key.
            timeout: seconds for a connection, and for an answer.
            clock: seconds since 1970.

        Raises:
            ConfigurationError: the URL or the key cannot be used.
        """
        self._authenticator = MessageAuthenticator.from_file(key_file, namespace=namespace)
        # A connection of its own, one question at a time: what is known of the process behind it
        # holds for as long as it does.
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
            SharedUnavailable: Redis does not answer, has no value, or one that is forged, lower
                than another before, written for another process, or too old.
        """
        asked = time.monotonic()
        async with self._reading:
            # Whoever waited for its turn may take what was asked for after it came.
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
        self._run = redis_run_id(await connection.read_response())

    def _take(self, value: object) -> None:
        """Take a value that was read or announced; what cannot be believed is refused.

        Raises:
            SharedUnavailable: see `read`.
        """
        if value == self._raw:
            return
        newest = self._authenticator.verify(value)
        if newest is None:
            raise SharedUnavailable("no newest revision" if value is None else "a forged one")
        before = self._newest
        if before is not None and (newest.version < before.version):
            raise SharedUnavailable("a newest revision lower than one before")
        self._raw, self._newest = value, newest

    def _believed(self) -> LatestRevision:
        newest = self._newest
        if newest is None or newest.run != self._run:
            raise SharedUnavailable("a newest revision of another Redis")
        if not -_CLOCKS_APART <= self._clock() - newest.at <= FRESH:
            raise SharedUnavailable("a newest revision that nobody confirms")
        return newest

    async def _watch(self) -> None:
        """Look often, and at once when there is news, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self._look))
            group.create_task(self._forever(self._listen))

    async def _look(self) -> None:
        self._hinted.clear()
        with redis_errors():
            # First: whoever waits for the caches must know of this one.
            await self._redis.set(self._caching, "1", px=CACHING)
        began = time.monotonic()
        await self.read()
        self._until = began + LEASE
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY):
                await self._hinted.wait()

    async def _listen(self) -> None:
        with redis_errors():
            async with aclosing(self._news.pubsub(ignore_subscribe_messages=True)) as pubsub:
                # Each by itself: a cancellation that redis-py loses is found before the next wait.
                with redis_errors():
                    await pubsub.subscribe(self._value)
                while True:
                    with redis_errors():
                        message = await pubsub.get_message(timeout=1.0)
                    if message and (newest := self._authenticator.verify(message["data"])):
                        self._hear(newest)

    def _hear(self, newest: LatestRevision) -> None:
        """What is announced ends what was known; the next look says what is."""
        if self._newest is None or newest.state != self._newest.state:
            self._until = -math.inf
            self._hinted.set()

    async def _forever(self, job: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await job()
            except SharedUnavailable as error:
                self._outages.add(error)
                await asyncio.sleep(_LOOK_EVERY)
