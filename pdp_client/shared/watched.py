"""What both sources of the latest revision have in common: shared reads, a lease, and distrust.

A value counts only if it is authentic, recent, written for this reader, and not lower than one that
was accepted before it was requested.
"""

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from lictor_common.clocks import running_clock
from lictor_common.version import CLOCK_TOLERANCE, RegistryVersion
from pdp_client.freshness.revision import LatestRevision, RevisionAuthenticator
from pdp_client.shared.exceptions import SharedStateUnavailableError
from pdp_client.shared.warnings import RateLimitedWarning

FRESH = 30.0
"""Seconds for which an unconfirmed value counts: after that, its source may be outdated."""

_log = logging.getLogger(__name__)


class WatchedRevision(ABC):
    """A `pdp_client.freshness.revision.RevisionSource`, whichever store it reads.

    The revision never goes down. For one event loop.
    """

    error: ClassVar[type[SharedStateUnavailableError]] = SharedStateUnavailableError
    missing: ClassVar[str]
    moved_back: ClassVar[str]
    foreign: ClassVar[str]

    def __init__(
        self, authenticator: RevisionAuthenticator, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Know nothing yet.

        Args:
            authenticator: verifies what is read.
            clock: seconds since 1970.
        """
        self._authenticator = authenticator
        self._clock = clock
        self._reading = asyncio.Lock()
        self._raw: object = None
        self._newest: LatestRevision | None = None
        self._began = self._until = -math.inf
        self._watching: asyncio.Future[None] | None = None
        self._outages = RateLimitedWarning(_log, "revision.unavailable")

    @property
    def unavailable(self) -> int:
        """How often the source failed while it was watched."""
        return self._outages.count

    async def read(self) -> LatestRevision:
        """As `RevisionSource.read`.

        Raises:
            SharedStateUnavailableError: the source does not respond or has no value, or the value
                is forged, lower than an earlier one, written for another reader, or too old.
        """
        asked = running_clock()
        async with self._reading:
            # A caller that waited for its turn may use a value read after the caller arrived.
            if self._began < asked or self._newest is None:
                began = running_clock()
                await self._fetch()
                self._began = began
            return self._believed()

    def cached(self) -> LatestRevision | None:
        """As `RevisionSource.cached`."""
        return self._newest if running_clock() < self._until else None

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

    @abstractmethod
    async def _fetch(self) -> None:
        """Read the value once and accept it; raises `SharedStateUnavailableError`."""

    @abstractmethod
    async def _watch(self) -> None:
        """Keep the value and its lease up to date until cancelled."""

    @abstractmethod
    def _is_ours(self, newest: LatestRevision) -> bool:
        """Whether a value was written for this reader."""

    def _take(self, value: object, *, floor: RegistryVersion | None = None) -> None:
        """Accept a value that was read or announced, and refuse one that is not trustworthy.

        Args:
            value: as it was read.
            floor: the version that was known when the value was requested, if others may have been
                accepted since; by default the one that is known now.

        Raises:
            SharedStateUnavailableError: see `read`.
        """
        if value == self._raw:
            return
        newest = self._authenticator.verify(value)
        if newest is None:
            raise self.error(self.missing if value is None else "latest revision is forged")
        before = self._newest.version if self._newest else None
        if before is not None and newest.version < before:
            if floor is None or newest.version < floor:
                raise self.error(self.moved_back)
            return  # a response that another one has overtaken
        self._raw, self._newest = value, newest

    def _believed(self) -> LatestRevision:
        newest = self._newest
        if newest is None or not self._is_ours(newest):
            raise self.error(self.foreign)
        self._check_age(newest)
        return newest

    def _check_age(self, newest: LatestRevision) -> None:
        if not -CLOCK_TOLERANCE <= self._clock() - newest.at <= FRESH:
            raise self.error("latest revision is unconfirmed")

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, SharedStateUnavailableError):
            _log.error("revision.failed error=%s", type(error).__name__, exc_info=error)
            error = self.error(type(error).__name__)
        self._outages.add(error)
