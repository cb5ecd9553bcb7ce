"""The latest revision, read from `lictor serve`: once for each query, or watched by long poll.

Each poll says which state this instance knows, so it is the acknowledgement that `--wait` counts.
"""

import asyncio
import math
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from lictor_common.clocks import running_clock
from lictor_common.periodic import run_periodically
from lictor_common.signed_exchange import LEASE, NEWEST
from pdp_client.freshness.revision import LatestRevision, RevisionAuthenticator
from pdp_client.shared.exceptions import ServeUnreachableError, SharedStateUnavailableError
from pdp_client.shared.http_client import ServeClient
from pdp_client.shared.watched import WatchedRevision

WAIT = 4.0
"""Seconds after which `lictor serve` answers a poll without news."""

_PAUSE = 0.25
_GRACE = 1.0
"""Seconds that a response to a poll may be late."""


class HTTPNewest(WatchedRevision):
    """The latest revision of the registry behind a `lictor serve`; see `RevisionSource`.

    It never goes down: a value lower than an accepted one is refused. For one event loop.
    """

    error = ServeUnreachableError
    missing = "lictor serve has no latest revision"
    moved_back = "latest revision moved backwards; does the URL name another lictor serve?"
    foreign = "latest revision responds to another request"

    def __init__(
        self,
        client: ServeClient,
        authenticator: RevisionAuthenticator,
        *,
        wait: float = WAIT,
        lease: float = LEASE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the source; it connects on the first read.

        Args:
            client: sends its requests; its owner closes it, after `aclose`.
            authenticator: verifies the revision.
            wait: seconds for which a poll waits for news: less than proxies wait for a response.
            lease: seconds for which a value counts after it was requested; `LEASE` at most.
            clock: seconds since 1970.
        """
        super().__init__(authenticator, clock=clock)
        self._client = client
        self._wait = wait
        self._lease = lease
        self._instance = f"{_host()}:{os.getpid()}:{secrets.token_hex(4)}"

    async def aclose(self) -> None:
        """As `RevisionSource.aclose`; tells `lictor serve` that this instance caches no more."""
        watched = self._watching is not None
        await super().aclose()
        if watched:
            with suppress(SharedStateUnavailableError):
                await self._client.post_raw(NEWEST, {"instance": self._instance, "leaves": True})

    def cached(self) -> LatestRevision | None:
        """As `RevisionSource.cached`."""
        newest = super().cached()
        if newest is not None:
            try:
                self._check_age(newest)
            except SharedStateUnavailableError:
                # This process, or its machine, has stood still for longer than its clock knows.
                return None
        return newest

    async def _fetch(self) -> None:
        await self._request(wait=0.0, lease=0.0)

    async def _watch(self) -> None:
        await run_periodically(self._poll, pause=_PAUSE, on_error=self._failed)

    async def _poll(self) -> None:
        began, before = running_clock(), self._newest
        try:
            await self._request(wait=self._wait, lease=self._lease)
            is_news = self._newest is None or before is None or self._newest.state != before.state
            if not is_news and running_clock() - began < self._wait / 2:
                # A server that is about to stop no longer waits for news.
                await asyncio.sleep(_PAUSE)
        except SharedStateUnavailableError:
            # A proxy that cuts long responses is not an outage: a request without a wait decides.
            try:
                await self._request(wait=0.0, lease=self._lease)
            except BaseException:
                self._until = -math.inf
                raise

    async def _request(self, *, wait: float, lease: float) -> None:
        began, known = running_clock(), self._newest
        content = {
            "instance": self._instance,
            "known": known and [known.epoch, known.revision, known.policy, known.site],
            "wait": wait,
            "lease": lease,
        }
        nonce, value = await self._client.post_raw(
            NEWEST, content, wait=wait + _GRACE if wait else 0.0
        )
        newest = self._authenticator.verify(value)
        if newest is None:
            raise self.error("latest revision is forged")
        if newest.run != nonce:
            raise self.error(self.foreign)
        self._check_age(newest)
        self._take(value, floor=known.version if known else None)
        if lease:
            self._until = max(self._until, began + lease)

    def _is_ours(self, newest: LatestRevision) -> bool:
        del newest  # every accepted one has its request's nonce
        return True


def _host() -> str:
    name = "".join(
        char for char in socket.gethostname() if (char.isascii() and char.isalnum()) or char in "-."
    )
    return name[:64] or "host"
