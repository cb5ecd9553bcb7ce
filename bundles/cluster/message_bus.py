"""Messages between `lictor serve` processes: sync now, this is published, that OPA runs it.

A message is only a hint; what counts lies in keys, and is read at each hint and once a second,
since messages get lost. A trusted value carries an HMAC under a key that only the serve processes
have. An attacker who can write to Redis can make them sync, and no more.
"""

import asyncio
import hashlib
import logging
import math
from collections.abc import Callable
from contextlib import aclosing

from bundles.cluster.messages import Announcement, BusAuthenticator, Report
from bundles.cluster.redis_connection import redis_errors
from bundles.exceptions import LeaseLostError, RedisUnavailableError
from lictor_common.clocks import running_clock
from lictor_common.periodic import FaultLog, run_periodically
from lictor_common.redis import NAMESPACE, Redis
from lictor_common.redis import key as redis_key

POLL_EVERY = 1.0
KEPT = 3600.0
"""Seconds after which a report is forgotten."""

MOST_REPORTS = 10_000
_LARGEST_REPORT = 1 << 18
_AT_ONCE = 256
_PAUSE = 0.2

_log = logging.getLogger(__name__)

# A higher fence than the writer's: refused. A lower one, or none: Redis has lost its memory.
_ANNOUNCE = """
local fence = tonumber(redis.call('GET', KEYS[1]) or '0')
if fence > tonumber(ARGV[1]) then return 0 end
if fence < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('PUBLISH', KEYS[3], 'published')
return 1
"""
# By time, in microseconds, so that a reader asks for what came after the last that it has seen.
_REPORT = """
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] and tonumber(last[2]) >= now then now = tonumber(last[2]) + 1 end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2] * 1000))
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[2])
while redis.call('ZCARD', KEYS[1]) > tonumber(ARGV[3]) do redis.call('ZPOPMIN', KEYS[1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PUBLISH', KEYS[3], 'report')
return 1
"""


class MessageBus:
    """One process's end of it.

    Attributes:
        dropped: reports that were too large, or one instance too many.
        error: why Redis cannot be reached; empty when it can.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        key: bytes,
        namespace: str = NAMESPACE,
        faults: FaultLog | None = None,
    ) -> None:
        """Create the bus; it connects to Redis at the first command.

        Args:
            redis: from `connect`.
            key: from `bus_key`.
            namespace: before every key.
            faults: counts unexpected errors.
        """
        self._redis = redis
        self._faults = faults or FaultLog()
        self._authenticator = BusAuthenticator(key, namespace)
        self._fence, self._published, self._news, self._reports, self._wakes = (
            redis_key(namespace, name)
            for name in ("fence", "published", "news", "reports", "wakes")
        )
        self._announce = redis.register_script(_ANNOUNCE)
        self._report = redis.register_script(_REPORT)
        self._queue: dict[str, Report] = {}
        self._queued, self._hinted = asyncio.Event(), asyncio.Event()
        self._seen = 0
        self._heard: dict[str, float] = {}
        self._polled_at = -math.inf
        self.dropped = 0
        self.error = ""

    @property
    def silent_for(self) -> float:
        """Seconds since the last complete read of all messages; infinite before the first."""
        return running_clock() - self._polled_at

    @property
    def rejected(self) -> int:
        """Number of values that were not written with the key."""
        return self._authenticator.rejected

    async def request_sync(self) -> None:
        """Have the publishing server sync with the registry now.

        Raises:
            RedisUnavailableError: the message was not sent.
        """
        with redis_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.incr(self._wakes)
                pipeline.publish(self._news, "wake")
                await pipeline.execute()

    async def announce(self, announcement: Announcement) -> None:
        """Announce to all servers what was published last.

        Raises:
            LeaseLostError: another server has a higher fence.
            RedisUnavailableError: the message was not sent.
        """
        value = self._authenticator.sign(announcement)
        with redis_errors():
            done = await self._announce(
                keys=[self._fence, self._published, self._news], args=[announcement.fence, value]
            )
        if not done:
            raise LeaseLostError(f"Redis knows a higher fence than {announcement.fence}")

    async def published(self) -> Announcement | None:
        """Return the latest announcement; None if it is missing or not trusted.

        Raises:
            RedisUnavailableError: it cannot be read.
        """
        with redis_errors():
            return self._authenticator.verify(Announcement, await self._redis.get(self._published))

    def enqueue(self, report: Report) -> None:
        """Send an OPA's report to all servers; at once, or as soon as Redis can be reached."""
        full = report.id not in self._queue and len(self._queue) >= MOST_REPORTS
        if full:
            self.dropped += 1
            return
        self._queue[report.id] = report
        self._queued.set()

    async def send(self, report: Report) -> None:
        """Send an OPA's report to all servers now.

        Raises:
            RedisUnavailableError: the message was not sent.
        """
        value = self._authenticator.sign(report)
        if len(value) > _LARGEST_REPORT:
            self.dropped += 1
            return
        member = hashlib.sha256(report.id.encode()).hexdigest()
        with redis_errors():
            await self._report(
                keys=[self._reports, self._key_of(member), self._news],
                args=[member, int(KEPT * 1000), MOST_REPORTS, value],
            )

    async def run(
        self,
        *,
        woken: Callable[[], object] = lambda: None,
        announced: Callable[[Announcement], object] = lambda _: None,
        reported: Callable[[Report, float], object] = lambda *_: None,
    ) -> None:
        """Send and receive until cancelled.

        Args:
            woken: called when a process has written the registry.
            announced: called with each new announcement.
            reported: called with each report, also with this process's own, oldest first; and how
                many seconds ago Redis was given it, by its own clock.
        """

        async def poll() -> None:
            await self._poll(woken, announced, reported)

        async with asyncio.TaskGroup() as group:
            for job in (self._drain, self._listen, poll):
                group.create_task(run_periodically(job, pause=_PAUSE, on_error=self._failed))

    async def _drain(self) -> None:
        if not self._queue:
            await self._queued.wait()
        self._queued.clear()
        while self._queue:
            id_, report = next(iter(self._queue.items()))
            await self.send(report)
            if self._queue.get(id_) is report:
                del self._queue[id_]

    async def _listen(self) -> None:
        with redis_errors():
            async with aclosing(self._redis.pubsub(ignore_subscribe_messages=True)) as pubsub:
                # Each by itself: a cancellation that redis-py loses is found before the next wait.
                with redis_errors():
                    await pubsub.subscribe(self._news)
                while True:
                    with redis_errors():
                        message = await pubsub.get_message(timeout=POLL_EVERY)
                    if message:
                        self._hinted.set()

    async def _poll(
        self,
        woken: Callable[[], object],
        announced: Callable[[Announcement], object],
        reported: Callable[[Report, float], object],
    ) -> None:
        wakes = published = None
        while True:
            with redis_errors():
                async with self._redis.pipeline(transaction=False) as pipeline:
                    pipeline.mget(self._wakes, self._published)
                    pipeline.zrange(
                        self._reports, self._seen + 1, "+inf", byscore=True, withscores=True,
                        offset=0, num=_AT_ONCE,
                    )  # fmt: skip
                    pipeline.time()
                    (wakes_now, published_now), members, now = await pipeline.execute()
                values = members and await self._redis.mget(
                    [
                        self._key_of(member.decode("ascii", errors="replace"))
                        for member, _ in members
                    ]
                )
            self.error = ""
            if wakes_now != wakes:
                wakes = wakes_now
                woken()
            if published_now != published:
                published = published_now
                if announcement := self._authenticator.verify(Announcement, published_now):
                    announced(announcement)
            for (_, score), value in zip(members, values, strict=True):
                self._seen = int(score)
                if (report := self._authenticator.verify(Report, value)) and self._is_news(report):
                    reported(report, max(0.0, now[0] + (now[1] - score) / 1_000_000))
            if len(members) < _AT_ONCE:
                self._polled_at = running_clock()
                await self._hint()

    async def _hint(self) -> None:
        try:
            async with asyncio.timeout(POLL_EVERY):
                await self._hinted.wait()
        except TimeoutError:
            return
        self._hinted.clear()

    def _is_news(self, report: Report) -> bool:
        """Whether the report is newer than the last one; an attacker may write an old one again."""
        if report.at < self._heard.get(report.id, 0.0):
            return False
        self._heard.pop(report.id, None)
        self._heard[report.id] = report.at
        if len(self._heard) > MOST_REPORTS:
            del self._heard[next(iter(self._heard))]
        return True

    def _key_of(self, member: str) -> str:
        return f"{self._reports}:{member}"

    def _failed(self, error: Exception) -> None:
        if isinstance(error, RedisUnavailableError):
            self.error = str(error)
        else:
            self.error = f"fault: {type(error).__name__}"
            self._faults.add("message_bus", error)
