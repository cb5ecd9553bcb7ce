"""Replay detection across all instances: `lictor serve` remembers the first use of a jti.

Per-turn tokens are refused whatever the result. So an unavailable or slow `lictor serve` costs the
more precise reason, never a decision.
"""

import hashlib
import logging
import time
from collections.abc import Callable

from lictor_common.signed_exchange import REPLAY
from pdp_client.bearer.replay import REMEMBERED
from pdp_client.bearer.verifier import Credential
from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason
from pdp_client.shared.exceptions import ServeUnreachableError, SharedStateUnavailableError
from pdp_client.shared.http_client import ServeClient
from pdp_client.shared.warnings import RateLimitedWarning

_log = logging.getLogger(__name__)


class HTTPReplay:
    """A `pdp_client.bearer.replay.ReplayGuard` for all instances of one `lictor serve`.

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
            leeway: the verifier's, in seconds: until then the first token itself is accepted.
            clock: seconds since 1970.
        """
        self._client = client
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
        try:
            first_exp = await self._first_exp(credential, exp, now)
        except SharedStateUnavailableError as error:
            self._outages.add(error)
            return
        if exp > first_exp and now >= first_exp + self._leeway:
            raise BearerRejected.because(Reason.REPLAYED)

    async def _first_exp(self, credential: Credential, exp: float, now: float) -> float:
        # A hash, since a caller's text may have any length. No claim holds a NUL.
        named = f"{credential.claims['iss']}\0{credential.claims['jti']}"
        answer = await self._client.post(
            REPLAY,
            {
                "jti": hashlib.sha256(named.encode()).hexdigest(),
                "exp": exp,
                # Seconds from now, not a point in time: the server's clock may differ from ours.
                "remember": max(1.0, exp + REMEMBERED - now),
            },
        )
        first = answer.get("first_exp")
        if not isinstance(first, int | float) or not 0 <= first < float("inf"):
            raise ServeUnreachableError("first expiry is not a number")
        return float(first)
