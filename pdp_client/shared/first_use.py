"""Replay detection across instances: the first use of a jti decides, wherever it is remembered.

Per-turn tokens are refused whatever the result. So an unavailable or slow place costs the more
precise reason, never a decision.
"""

import hashlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from pdp_client.bearer.replay import REMEMBERED
from pdp_client.bearer.verifier import Credential
from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason
from pdp_client.shared.exceptions import SharedStateUnavailableError
from pdp_client.shared.warnings import RateLimitedWarning

_log = logging.getLogger(__name__)


class FirstUseReplay(ABC):
    """A `pdp_client.bearer.replay.ReplayGuard` over the first use of each jti by any instance."""

    def __init__(self, *, leeway: float = 30, clock: Callable[[], float] = time.time) -> None:
        """Create the guard.

        Args:
            leeway: the verifier's, in seconds: until then the first token itself is accepted.
            clock: seconds since 1970.
        """
        self._leeway = leeway
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
        # A hash, since a caller's text may have any length. No claim holds a NUL.
        named = f"{credential.claims['iss']}\0{credential.claims['jti']}"
        jti = hashlib.sha256(named.encode()).hexdigest()
        try:
            # Seconds from now, not a point in time: the other clock may differ from ours.
            first_exp = await self._first_exp(jti, exp, remember=exp + REMEMBERED - now)
        except SharedStateUnavailableError as error:
            self._outages.add(error)
            return
        if exp > first_exp and now >= first_exp + self._leeway:
            raise BearerRejected.because(Reason.REPLAYED)

    @abstractmethod
    async def _first_exp(self, jti: str, exp: float, *, remember: float) -> float:
        """Return the expiry of the first use, which is this one if there was none, in one step.

        Args:
            jti: SHA-256 of issuer and jti, in hexadecimal.
            exp: the expiry of this use, in seconds since 1970.
            remember: how long to remember it, in seconds.

        Raises:
            SharedStateUnavailableError: it is not known.
        """
