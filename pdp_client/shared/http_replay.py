"""Replay detection across all instances: `lictor serve` remembers the first use of a jti."""

import time
from collections.abc import Callable

from lictor_common.signed_exchange import REPLAY
from pdp_client.shared.exceptions import ServeUnreachableError
from pdp_client.shared.first_use import FirstUseReplay
from pdp_client.shared.http_client import ServeClient


class HTTPReplay(FirstUseReplay):
    """The guard of all instances of one `lictor serve`.

    It writes and reads the first `exp` in one step: several concurrent first uses all get the same
    one.
    """

    def __init__(
        self,
        client: ServeClient,
        *,
        leeway: float = 30,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the guard; it connects on the first check.

        Args:
            client: sends its requests; its owner closes it.
            leeway: as for `FirstUseReplay`.
            clock: likewise.
        """
        super().__init__(leeway=leeway, clock=clock)
        self._client = client

    async def _first_exp(self, jti: str, exp: float, *, remember: float) -> float:
        sent = {"jti": jti, "exp": exp, "remember": max(1.0, remember)}
        first = (await self._client.post(REPLAY, sent)).get("first_exp")
        if not isinstance(first, int | float) or not 0 <= first < float("inf"):
            raise ServeUnreachableError("first expiry is not a number")
        return float(first)
