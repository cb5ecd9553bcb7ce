"""Use counts of tokens, collected by each instance and summed in Redis until they are read out.

They are hints for people: any writer of Redis can change them, and when in doubt a count is lost. A
count is never added twice.
"""

import asyncio
import logging
import math
import secrets
from contextlib import suppress
from itertools import islice
from typing import Final

from lictor_common.redis import NAMESPACE, Redis, key
from lictor_common.text import is_digest
from pdp_client.decision import Decision
from pdp_client.shared.connection import SharedStateUnavailableError, redis_errors
from pdp_client.shared.warnings import RateLimitedWarning
from pdp_client.usage import used_token

EVERY: Final = 1.0
"""Seconds between two batches."""
BATCH: Final = 1_000
"""Tokens in one batch: Redis does nothing else for a millisecond or two."""

_LAST_BATCHES: Final = 2.0
"""Seconds allowed at shutdown for sending the rest."""
_MOST: Final = 2**53
"""The highest number that Redis' scripts can count to."""

_log = logging.getLogger(__name__)

Uses = dict[str, tuple[int, float]]
"""Token digest to its number of uses, and the time of the last, in seconds since 1970."""

# redis-py sends a command again when the connection is lost meanwhile; the batch's id is why that
# adds nothing twice.
_ADD = """
if not redis.call('SET', KEYS[3], '1', 'NX', 'EX', 60) then return 0 end
for i = 1, #ARGV, 3 do
  redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
  local last = tonumber(redis.call('HGET', KEYS[2], ARGV[i]))
  if not last or last < tonumber(ARGV[i + 2]) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 2])
  end
end
return 1
"""
# A key that is not a hash would make all later commands fail.
_TAKE = """
for i = 1, 2 do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', KEYS[i]) end
end
local taken = {}
for _, digest in ipairs(redis.call('HRANDFIELD', KEYS[1], ARGV[1])) do
  table.insert(taken, digest)
  table.insert(taken, redis.call('HGET', KEYS[1], digest))
  table.insert(taken, redis.call('HGET', KEYS[2], digest) or '')
  redis.call('HDEL', KEYS[1], digest)
  redis.call('HDEL', KEYS[2], digest)
end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) end
return taken
"""


class SharedUsage:
    """A `pdp_client.usage.UsageCounter` that sends what it has collected every second.

    While Redis is unavailable it continues to collect. It drops a batch without an acknowledgement.

    Attributes:
        dropped: uses of tokens beyond `most_tokens`.
        lost: uses in batches that may not have arrived.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        namespace: str = NAMESPACE,
        most_tokens: int = 10_000,
        every: float = EVERY,
    ) -> None:
        """Create the counter; the first use starts a task on the event loop.

        Args:
            redis: from `connect`; its owner closes it, after `aclose`.
            namespace: the prefix of every key.
            most_tokens: the most different tokens that are kept until they are sent.
            every: seconds between two batches.
        """
        self._redis = redis
        self._namespace = namespace
        self._most_tokens = most_tokens
        self._every = every
        self._add = redis.register_script(_ADD)
        self._uses: Uses = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._outages = RateLimitedWarning(_log, "usage.unavailable")
        self.dropped = self.lost = 0

    @property
    def unavailable(self) -> int:
        """How often Redis was unreachable or failed."""
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
                # Counts are sent only after a response to this command.
                with redis_errors():
                    await self._redis.ping()
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

    async def _send(self, batch: Uses) -> None:
        names = [*_names(self._namespace), key(self._namespace, f"usage:{secrets.token_hex(16)}")]
        values = [one for digest, (count, at) in batch.items() for one in (digest, count, repr(at))]
        with redis_errors():
            await self._add(keys=names, args=values)

    def _keep(self, digest: str, at: float) -> None:
        known = self._uses.get(digest)
        if known is not None:
            self._uses[digest] = known[0] + 1, max(known[1], at)
        elif len(self._uses) < self._most_tokens:
            self._uses[digest] = 1, at
        else:
            self.dropped += 1


async def take_uses(redis: Redis, *, namespace: str = NAMESPACE, most: int = BATCH) -> Uses:
    """Remove uses from Redis and return them; they are gone even if the response is lost.

    Args:
        redis: from `connect`.
        namespace: the namespace of the counters.
        most: the most tokens at a time.

    Returns:
        The uses that could be parsed.

    Raises:
        SharedStateUnavailableError: Redis failed, or the outcome is unknown.
    """
    with redis_errors():
        found = await redis.register_script(_TAKE)(keys=_names(namespace), args=[most])
    rows = zip(found[::3], found[1::3], found[2::3], strict=True)
    return dict(filter(None, (_row(*row) for row in rows)))


def _names(namespace: str) -> list[str]:
    return [key(namespace, "usage:count"), key(namespace, "usage:last")]


def _row(digest: bytes, count: bytes, last: bytes) -> tuple[str, tuple[int, float]] | None:
    """Parse what Redis holds about one token; return None for a foreign value."""
    try:
        name, number, at = digest.decode("ascii"), int(count), float(last)
    except ValueError:
        return None
    believable = 0 < number < _MOST and 0 <= at < math.inf and is_digest(name)
    return (name, (number, at)) if believable else None
