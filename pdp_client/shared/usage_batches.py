"""Use counts of tokens, collected by an instance and sent in batches.

When in doubt a count is lost. A count is never added twice.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from contextlib import suppress
from itertools import islice
from typing import Final

from pdp_client.decision import Decision
from pdp_client.shared.exceptions import SharedStateUnavailableError
from pdp_client.shared.warnings import RateLimitedWarning
from pdp_client.usage import used_token

EVERY: Final = 1.0
"""Seconds between two batches."""
BATCH: Final = 1_000
"""Tokens in one batch: Redis does nothing else for a millisecond or two."""

_LAST_BATCHES: Final = 2.0
"""Seconds allowed at shutdown for sending the rest."""

_log = logging.getLogger(__name__)

Uses = dict[str, tuple[int, float]]
"""Token digest to its number of uses, and the time of the last, in seconds since 1970."""


class UsageBatches(ABC):
    """A `pdp_client.usage.UsageCounter` that sends what it has collected every second.

    While the receiver is unavailable it continues to collect. It drops a batch without an
    acknowledgement.

    Attributes:
        dropped: uses of tokens beyond `most_tokens`.
        lost: uses in batches that may not have arrived.
    """

    def __init__(self, *, most_tokens: int = 10_000, every: float = EVERY) -> None:
        """Create the counter; the first use starts a task on the event loop.

        Args:
            most_tokens: the most different tokens that are kept until they are sent.
            every: seconds between two batches.
        """
        self._most_tokens = most_tokens
        self._every = every
        self._uses: Uses = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._outages = RateLimitedWarning(_log, "usage.unavailable")
        self.dropped = self.lost = 0

    @abstractmethod
    async def _probe(self) -> None:
        """Find out whether the receiver responds; raises `SharedStateUnavailableError`."""

    @abstractmethod
    async def _send(self, batch: Uses) -> None:
        """Send a batch; raises `SharedStateUnavailableError` where its fate is unknown."""

    @property
    def unavailable(self) -> int:
        """How often the receiver was unreachable or failed."""
        return self._outages.count

    def count(self, decision: Decision, at: float) -> None:
        """Count as `UsageCounter.count`; call it on the event loop."""
        if digest := used_token(decision):
            self._keep(digest, at)
            if self._task is None and not self._closing.is_set():
                self._task = asyncio.create_task(self._hand_on(), name="lictor-usage")

    async def aclose(self) -> None:
        """Close as `UsageCounter.aclose`, within two seconds."""
        self._closing.set()
        self._most_tokens = 0
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_LAST_BATCHES)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _hand_on(self) -> None:
        last = False
        while not last:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    last = await self._closing.wait()
            await self._flush()

    async def _flush(self) -> None:
        while self._uses:
            try:
                # Counts are sent only after a response to this.
                await self._probe()
            except SharedStateUnavailableError as error:
                self._outages.add(error)
                return
            batch = {digest: self._uses.pop(digest) for digest in [*islice(self._uses, BATCH)]}
            try:
                await self._send(batch)
            except SharedStateUnavailableError as error:
                self.lost += sum(count for count, _ in batch.values())
                self._outages.add(error)
                return

    def _keep(self, digest: str, at: float) -> None:
        known = self._uses.get(digest)
        if known is not None:
            self._uses[digest] = known[0] + 1, max(known[1], at)
        elif len(self._uses) < self._most_tokens:
            self._uses[digest] = 1, at
        else:
            self.dropped += 1
