"""The latest revision, read from Redis: once for each query, or watched, with a lease."""

import asyncio
import math
import re
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path

from lictor_common.clocks import running_clock
from lictor_common.periodic import run_periodically
from lictor_common.redis import NAMESPACE, AbstractConnection, key
from pdp_client.freshness.revision import LatestRevision, RevisionAuthenticator
from pdp_client.shared.connection import TIMEOUT, connect, redis_errors
from pdp_client.shared.watched import WatchedRevision

LEASE = 0.25
"""Seconds for which a value counts as the latest after it was read; `--wait` waits as long if any
instance caches."""

CACHING = 10_000
"""Milliseconds after each read for which a process counts as caching."""

_REFRESH_EVERY = LEASE / 3


class SharedNewest(WatchedRevision):
    """The latest revision in Redis; see `pdp_client.freshness.revision.RevisionSource`.

    It never goes down: a value lower than an accepted one is refused. For one event loop.
    """

    missing = "Redis has no latest revision"
    moved_back = "latest revision moved backwards; was Redis restored from a backup?"
    foreign = "latest revision was written for another Redis"

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
        super().__init__(
            RevisionAuthenticator.from_file(key_file, namespace=namespace), clock=clock
        )
        # A connection of its own, one command at a time: what is known about the process behind it
        # remains valid while it is open.
        self._redis = connect(
            url, timeout=timeout, single_connection_client=True, redis_connect_func=self._connected
        )
        self._news = connect(url, timeout=timeout)
        self._value = key(namespace, "newest")
        self._caching = key(namespace, "caching")
        self._hinted = asyncio.Event()
        self._run = ""

    async def aclose(self) -> None:
        """As `RevisionSource.aclose`."""
        await super().aclose()
        await self._redis.aclose()
        await self._news.aclose()

    async def _fetch(self) -> None:
        with redis_errors():
            value = await self._redis.get(self._value)
        self._take(value)

    def _is_ours(self, newest: LatestRevision) -> bool:
        return newest.run == self._run

    async def _connected(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        info = await connection.read_response()
        found = re.search(r"run_id:(\w+)", info.decode() if isinstance(info, bytes) else str(info))
        self._run = found[1] if found else ""

    async def _watch(self) -> None:
        """Read periodically, and at once after an announcement, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for job in (self._refresh, self._listen):
                group.create_task(
                    run_periodically(job, pause=_REFRESH_EVERY, on_error=self._failed)
                )

    async def _refresh(self) -> None:
        self._hinted.clear()
        with redis_errors():
            # First: writers that wait for caches must know that this one exists.
            await self._redis.set(self._caching, "1", px=CACHING)
        began = running_clock()
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
