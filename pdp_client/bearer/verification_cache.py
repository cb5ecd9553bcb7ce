"""Bearers that have been verified before: a signature costs more than all the rest of a call.

A bearer is known by the SHA-256 of all of it, and by nothing that somebody else may know too: an
issuer and a jti are in every log, and many spellings of a token have the same.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cachetools import FIFOCache

from pdp_client.bearer.jwt import MAX_BEARER_LENGTH
from pdp_client.bearer.verifier import BearerVerifier, Credential

_MAX_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class Verified:
    """A bearer that was verified.

    Attributes:
        credential: what it proved.
        opa_input: that, as OPA is given it.
        cache_key: the same as text, by which equal ones are known.
        generation: of the keys that verified it.
        since: from when on it holds without another look, in seconds since 1970.
        until: up to when, likewise.
    """

    credential: Credential
    opa_input: Mapping[str, Any]
    cache_key: str
    generation: int
    since: float
    until: float


class VerificationCache:
    """Verifies bearers, each once for as long as neither keys nor time can change the outcome."""

    def __init__(
        self,
        verifier: BearerVerifier,
        *,
        maxsize: int = _MAX_SIZE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create an empty cache.

        Args:
            verifier: verifies.
            maxsize: bearers remembered; the one that came first goes first.
            clock: seconds since 1970.
        """
        self._verifier = verifier
        self._clock = clock
        self._known: FIFOCache[bytes, Verified] = FIFOCache(maxsize)

    def verify(self, bearer: str) -> Verified:
        """Verify a bearer; see `BearerVerifier.verify`. Refusals are not remembered.

        Raises:
            BearerRejected: whatever is wrong with it.
        """
        if len(bearer) > MAX_BEARER_LENGTH or not bearer.isascii():
            return _verified(self._verifier.verify(bearer), 0)
        digest = sha256(bearer.encode()).digest()
        # Before the verification: keys that change meanwhile make what it finds a thing of before.
        generation = self._verifier.generation
        known = self._known.get(digest)
        if (
            known is not None
            and known.generation == generation
            and known.since <= self._clock() < known.until
        ):
            return known
        self._known.pop(digest, None)
        verified = _verified(self._verifier.verify(bearer), generation)
        self._known[digest] = verified
        return verified


def _verified(credential: Credential, generation: int) -> Verified:
    shown = credential.as_input()
    claims = credential.claims
    return Verified(
        credential=credential,
        opa_input=shown,
        cache_key=json.dumps(shown, sort_keys=True, separators=(",", ":")),
        generation=generation,
        # Without the leeway: where that would matter, the verifier decides each time.
        since=max(claims.get("iat", -math.inf), claims.get("nbf", -math.inf)),
        until=claims.get("exp", math.inf),
    )
