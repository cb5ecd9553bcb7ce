"""Replay detection across all instances: Redis remembers the first use of a jti.

Per-turn tokens are refused whatever the result. So an unavailable or slow Redis costs the more
precise reason, never a decision.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any

from lictor_common.redis import NAMESPACE, Redis, key
from pdp_client.bearer.replay import REMEMBERED
from pdp_client.bearer.verifier import Credential
from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason
from pdp_client.shared.connection import TIMEOUT, redis_errors
from pdp_client.shared.exceptions import SharedStateUnavailableError
from pdp_client.shared.warnings import RateLimitedWarning

_log = logging.getLogger(__name__)


class SharedReplay:
    """A `pdp_client.bearer.replay.ReplayGuard` for all instances that share one Redis.

    The first `exp` is in a key of its own, written and read by one command: several concurrent
    first uses all get the same one. Redis 7 or Valkey.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        namespace: str = NAMESPACE,
        leeway: float = 30,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the guard; it connects on the first check.

        Args:
            redis: from `connect`; its owner closes it.
            namespace: the prefix of every key.
            leeway: the verifier's, in seconds: until then the first token itself is accepted.
            timeout: seconds for connecting and for the response, together.
            clock: seconds since 1970.
        """
        self._redis = redis
        self._namespace = namespace
        self._leeway = leeway
        self._timeout = timeout
        self._clock = clock
        self._outages = RateLimitedWarning(_log, "replay.unavailable")

    @property
    def unavailable(self) -> int:
        """How many tokens passed unchecked."""
        return self._outages.count

    async def check(self, credential: Credential) -> None:
        """Check as `ReplayGuard.check`; a token that cannot be checked passes, and is counted."""
        if not credential.is_per_turn:
            return
        exp, now = credential.claims["exp"], self._clock()
        try:
            first_exp = await self._first_exp(credential, exp, now)
        except SharedStateUnavailableError as error:
            self._outages.add(error)
            return
        if exp > first_exp and now >= first_exp + self._leeway:
            raise BearerRejected.because(Reason.REPLAYED)

    async def _first_exp(self, credential: Credential, exp: float, now: float) -> float:
        # Seconds from now, not a point in time: Redis' clock may differ from ours.
        remembered = max(1, round((exp + REMEMBERED - now) * 1000))
        with redis_errors():
            async with asyncio.timeout(self._timeout):
                first = await self._redis.set(
                    self._key(credential), repr(exp), nx=True, get=True, px=remembered
                )
        try:
            return exp if first is None else _moment(first)
        except ValueError:
            raise SharedStateUnavailableError("stored expiry is not a number") from None

    def _key(self, credential: Credential) -> str:
        # A hash, since a caller's text may have any length. No claim holds a NUL.
        named = f"{credential.claims['iss']}\0{credential.claims['jti']}"
        return key(self._namespace, f"jti:{hashlib.sha256(named.encode()).hexdigest()}")


def _moment(text: Any) -> float:
    moment = float(text)
    if not 0 <= moment < float("inf"):  # NaN neither
        raise ValueError("no time")
    return moment
