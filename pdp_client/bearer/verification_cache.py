"""Cache of verified bearers: a signature costs more than the whole rest of a call.

A bearer is identified by the SHA-256 of all of it, and by nothing that others may know too: an
issuer and a jti are in every log, and many spellings of a token share them.
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
    """A verified bearer.

    Attributes:
        credential: the credential that it proved.
        opa_input: the credential as sent to OPA.
        cache_key: the same as text; equal credentials have the same.
        generation: the generation of the keys that verified it.
        since: when it becomes valid without verifying again, in seconds since 1970.
        until: when that ends, likewise.
    """

    credential: Credential
    opa_input: Mapping[str, Any]
    cache_key: str
    generation: int
    since: float
    until: float


class VerificationCache:
    """A cache that verifies each bearer once, until keys or time could change the outcome."""

    def __init__(
        self,
        verifier: BearerVerifier,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create an empty cache.

        Args:
            verifier: verifies bearers.
            clock: seconds since 1970.
        """
        self._verifier = verifier
        self._clock = clock
        self._known: FIFOCache[bytes, Verified] = FIFOCache(_MAX_SIZE)

    def verify(self, bearer: str) -> Verified:
        """Verify a bearer; see `BearerVerifier.verify`. Refusals are not remembered.

        Raises:
            BearerRejected: the bearer is refused.
        """
        if len(bearer) > MAX_BEARER_LENGTH or not bearer.isascii():
            return _verified(self._verifier.verify(bearer), 0)
        digest = sha256(bearer.encode()).digest()
        # Before the verification: if the keys change meanwhile, its result is already outdated.
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
        # Without the leeway: within it, the verifier decides each time.
        since=max(claims.get("iat", -math.inf), claims.get("nbf", -math.inf)),
        until=claims.get("exp", math.inf),
    )
