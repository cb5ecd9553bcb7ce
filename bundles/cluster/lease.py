"""One publisher at a time: a lease in Redis, with a number that rises each time it is given.

Redis lets the lease go after `ttl`; its holder gives it up by its own clock before that, so that a
process that was frozen finds out by itself that its time is over. What a frozen process had already
begun to send is refused by that number, the fence, where it arrives.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from bundles.cluster.redis_connection import redis_errors
from bundles.exceptions import LeaseLostError, RedisUnavailableError
from lictor_common.clocks import running_clock
from lictor_common.redis import NAMESPACE, Redis, key

TTL = 6.0
"""Seconds for which the lease is given; renewed at a third of it."""

_USED = 0.9
"""The part of it that the holder uses: clocks do not run equally fast."""

_log = logging.getLogger(__name__)

# Returns the fence, or 0. A server that may have forgotten a lease (it is another process than the
# one that gave the last) gives none until every possible holder has given it up. An owner is a
# process and a number: a lost response does not block the process, and a late request does not
# affect a later term of the same process.
_ACQUIRE = """
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local holder = redis.call('GET', KEYS[1])
if holder and string.sub(holder, 1, 32) ~= string.sub(ARGV[1], 1, 32) then return 0 end
if redis.call('GET', KEYS[3]) ~= run then
  redis.call('SET', KEYS[3], run)
  redis.call('SET', KEYS[4], '1', 'PX', ARGV[2])
end
if redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
local fence = redis.call('INCR', KEYS[2])
if fence <= tonumber(ARGV[3]) then
  fence = tonumber(ARGV[3]) + 1
  redis.call('SET', KEYS[2], string.format('%.0f', fence))
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return fence
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class LeaseTerm:
    """One term of the lease. Once lost, it stays lost.

    Attributes:
        fence: higher than that of every term before.
        owner: its name in Redis.
    """

    def __init__(self, fence: int, *, owner: str, until: float, clock: Callable[[], float]) -> None:
        self.fence = fence
        self.owner = owner
        self._until = until
        self._clock = clock
        self._over = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether the lease is held at this moment, by this process's own clock."""
        if self._clock() >= self._until:
            self._over.set()
        return not self._over.is_set()

    def check(self) -> None:
        """Raise an error if the lease is lost.

        Raises:
            LeaseLostError: it is over.
        """
        if not self.held:
            raise LeaseLostError(
                "the lease on publishing is over; another lictor serve may have it"
            )

    def end(self) -> None:
        """End the term: another server holds the lease, or the work is done."""
        self._over.set()

    def extend(self, until: float) -> None:
        """Extend the term to a later moment; do nothing if it is lost."""
        if self.held:
            self._until = until

    async def lost(self) -> None:
        """Wait until the term is over."""
        while self.held:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._until - self._clock())):
                    await self._over.wait()


class Lease:
    """The right to publish; each Redis has one."""

    def __init__(
        self,
        redis: Redis,
        *,
        ttl: float = TTL,
        namespace: str = NAMESPACE,
        clock: Callable[[], float] = running_clock,
    ) -> None:
        """Create the lease; it connects on the first attempt.

        Args:
            redis: from `connect`, its timeout below a third of `ttl`.
            ttl: seconds; the same for all servers that compete for this lease.
            namespace: before every key.
            clock: seconds that never go back.
        """
        self._ttl = ttl
        self._clock = clock
        self._process = secrets.token_hex(16)
        self._tries = 0
        self._keys = [key(namespace, name) for name in ("lease", "fence", "run", "forgotten")]
        self._acquire = redis.register_script(_ACQUIRE)
        self._renew = redis.register_script(_RENEW)
        self._release = redis.register_script(_RELEASE)
        self.error = ""

    async def acquire(self, *, floor: int = 0) -> LeaseTerm | None:
        """Try once to get the lease.

        Args:
            floor: the highest fence that was seen elsewhere; the new one is above it, even where
                Redis has lost its memory.

        Returns:
            The term, to be renewed; or None while another server holds it, or may.

        Raises:
            RedisUnavailableError: the result is unknown.
        """
        asked_at = self._clock()
        self._tries += 1
        owner = f"{self._process}:{self._tries}"
        fence = await self._run_script(self._acquire, self._keys, owner, floor)
        if not fence:
            return None
        return LeaseTerm(fence, owner=owner, until=asked_at + self._ttl * _USED, clock=self._clock)

    async def renew(self, term: LeaseTerm) -> None:
        """Extend the term; end it if another server holds the lease.

        Raises:
            RedisUnavailableError: the result is unknown; the term goes on until its time is over.
        """
        asked_at = self._clock()
        if await self._run_script(self._renew, self._keys[:1], term.owner):
            term.extend(asked_at + self._ttl * _USED)
        else:
            term.end()

    async def release(self, term: LeaseTerm) -> None:
        """Release the lease, so that the next holder need not wait for its end."""
        term.end()
        with suppress(RedisUnavailableError):
            await self._run_script(self._release, self._keys[:1], term.owner)

    @asynccontextmanager
    async def term(self, *, floor: Callable[[], Awaitable[int]]) -> AsyncIterator[LeaseTerm]:
        """Wait for the lease, hold it as long as possible, and release it at the end.

        Args:
            floor: called before each attempt; see `acquire`.
        """
        while (term := await self._try(floor)) is None:  # noqa: ASYNC110 - Redis sends no event
            await asyncio.sleep(self._ttl / 6)
        _log.info("lease.acquired fence=%d", term.fence)
        renewing = asyncio.ensure_future(self._keep(term))
        try:
            yield term
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await self.release(term)
            _log.info("lease.over fence=%d", term.fence)

    async def _try(self, floor: Callable[[], Awaitable[int]]) -> LeaseTerm | None:
        try:
            term = await self.acquire(floor=await floor())
        except RedisUnavailableError as error:
            self.error = str(error)
            return None
        self.error = ""
        return term

    async def _keep(self, term: LeaseTerm) -> None:
        pause = self._ttl / 3
        while term.held:
            await asyncio.sleep(pause)
            try:
                await self.renew(term)
                self.error, pause = "", self._ttl / 3
            except RedisUnavailableError as error:
                self.error, pause = str(error), self._ttl / 20

    async def _run_script(self, script: Any, names: list[str], owner: str, *arguments: int) -> int:
        """Run a script under its own deadline: connecting and querying may each take a while."""
        values = [owner, int(self._ttl * 1000), *arguments]
        with redis_errors():
            async with asyncio.timeout(self._ttl / 3):
                return int(await script(keys=names, args=values))
