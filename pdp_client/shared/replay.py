"""Replay detection across all instances: Redis remembers the first use of a jti."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from lictor_common.redis import NAMESPACE, Redis, key
from pdp_client.shared.connection import TIMEOUT, redis_errors
from pdp_client.shared.exceptions import SharedStateUnavailableError
from pdp_client.shared.first_use import FirstUseReplay


class SharedReplay(FirstUseReplay):
    """The guard of all instances that share one Redis.

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
            leeway: as for `FirstUseReplay`.
            timeout: seconds for connecting and for the response, together.
            clock: as for `FirstUseReplay`.
        """
        super().__init__(leeway=leeway, clock=clock)
        self._redis = redis
        self._namespace = namespace
        self._timeout = timeout

    async def _first_exp(self, jti: str, exp: float, *, remember: float) -> float:
        name, milliseconds = key(self._namespace, f"jti:{jti}"), max(1, round(remember * 1000))
        with redis_errors():
            async with asyncio.timeout(self._timeout):
                first = await self._redis.set(name, repr(exp), nx=True, get=True, px=milliseconds)
        try:
            return exp if first is None else _moment(first)
        except ValueError:
            raise SharedStateUnavailableError("stored expiry is not a number") from None


def _moment(text: Any) -> float:
    moment = float(text)
    if not 0 <= moment < float("inf"):  # NaN neither
        raise ValueError("no time")
    return moment
