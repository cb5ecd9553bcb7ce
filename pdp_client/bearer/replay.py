"""Replay detection: a jti that its issuer used before, on a token that outlives the first.

A per-turn JWT is valid until its `exp`. The same (`iss`, `jti`) with a later `exp`, once the first
has expired, extends a turn. Team JWTs are bound to their team's `active_jti` instead.
"""

import heapq
import time
from collections.abc import Callable
from typing import Final, Protocol

from pdp_client.bearer.verifier import Credential
from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason

REMEMBERED: Final = 3600
"""Seconds past its `exp` for which a jti is remembered."""


class ReplayGuard(Protocol):
    """A memory of the jtis seen, of one process, or of all of them through Redis."""

    async def check(self, credential: Credential) -> None:
        """Remember a credential that has just been verified, or refuse it as a replay.

        Any credential other than a per-turn JWT passes unchecked.

        Raises:
            BearerRejected: `REPLAYED`.
        """


class ReplayMemory:
    """A `ReplayGuard` for one process and one event loop, of bounded size.

    When it is full, the jti that expires first is forgotten early.
    """

    def __init__(
        self,
        *,
        leeway: float = 30,
        max_entries: int = 65_536,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create an empty memory.

        Args:
            leeway: The verifier's, in seconds: until then the first token itself is accepted.
            max_entries: The most jtis remembered.
            clock: Seconds since 1970.
        """
        self._leeway = leeway
        self._max_entries = max_entries
        self._clock = clock
        self._first_exp: dict[tuple[str, str], float] = {}
        self._due: list[tuple[float, tuple[str, str]]] = []

    async def check(self, credential: Credential) -> None:
        """As `ReplayGuard.check`."""
        if not credential.is_per_turn:
            return
        now = self._clock()
        self._forget(now)
        claims = credential.claims
        key = (claims["iss"], claims["jti"])
        first_exp = self._first_exp.get(key)
        if first_exp is None:
            self._remember(key, claims["exp"])
        elif claims["exp"] > first_exp and now >= first_exp + self._leeway:
            raise BearerRejected.because(Reason.REPLAYED)

    def _remember(self, key: tuple[str, str], exp: float) -> None:
        self._first_exp[key] = exp
        heapq.heappush(self._due, (exp + REMEMBERED, key))
        if len(self._due) > self._max_entries:
            del self._first_exp[heapq.heappop(self._due)[1]]

    def _forget(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            del self._first_exp[heapq.heappop(self._due)[1]]
