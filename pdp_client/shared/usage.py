"""Use counts of tokens, collected by each instance and summed in Redis until they are read out.

They are hints for people: any writer of Redis can change them, and when in doubt a count is lost. A
count is never added twice.
"""

import math
import secrets
from typing import Final

from lictor_common.redis import NAMESPACE, Redis, key
from lictor_common.text import is_digest
from pdp_client.shared.connection import redis_errors
from pdp_client.shared.usage_batches import BATCH, EVERY, UsageBatches, Uses

_MOST: Final = 2**53
"""The highest number that Redis' scripts can count to."""

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


class SharedUsage(UsageBatches):
    """A `pdp_client.usage.UsageCounter` that adds to the counts in Redis every second."""

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
        super().__init__(most_tokens=most_tokens, every=every)
        self._redis = redis
        self._namespace = namespace
        self._add = redis.register_script(_ADD)

    async def _probe(self) -> None:
        with redis_errors():
            await self._redis.ping()

    async def _send(self, batch: Uses) -> None:
        names = [*_names(self._namespace), key(self._namespace, f"usage:{secrets.token_hex(16)}")]
        values = [one for digest, (count, at) in batch.items() for one in (digest, count, repr(at))]
        with redis_errors():
            await self._add(keys=names, args=values)


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
