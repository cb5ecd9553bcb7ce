"""Verification: from a bearer to a verified credential, without a query.

The only I/O is a check of the key files, once a second. Revocation is not decided here: OPA may
still deny a verified credential.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from lictor_common.text import token_label
from pdp_client.bearer import opaque
from pdp_client.bearer.claims import check_claims, check_expiry, check_issuer, is_team
from pdp_client.bearer.jwt import check_bearer, parse_jwt
from pdp_client.bearer.key_table import CHECK_EVERY, Issuer, KeyTable
from pdp_client.exceptions import BearerRejected, ConfigurationError
from pdp_client.reasons import Reason, quote


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credential:
    """The credential that a bearer proved; it does not hold the bearer.

    Attributes:
        kind: `token` for an opaque bearer, `jwt` for a verified JWT.
        digest: A token's SHA-256, 64 lowercase hex digits; empty for a JWT.
        kid: The key that signed a JWT; empty for a token.
        claims: A JWT's verified claims, valid JSON throughout, read-only; empty for a token.
    """

    kind: Literal["token", "jwt"]
    digest: str = ""
    kid: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_per_turn(self) -> bool:
        """Whether this is a JWT other than a team's."""
        return self.kind == "jwt" and not is_team(self.claims)

    @property
    def label(self) -> str:
        """Its name in logs: `lct_…` and 8 digits of the digest, `team:<uuid>`, or `jwt:<sub>`."""
        if self.kind == "token":
            return token_label(self.digest)
        return f"jwt:{self.claims['sub']}" if self.is_per_turn else str(self.claims["sub"])

    def as_input(self) -> dict[str, Any]:
        """Return the `credential` of the query to OPA, ready for `json.dumps`."""
        if self.kind == "token":
            return {"kind": "token", "digest": self.digest}
        return {"kind": "jwt", "kid": self.kid, "claims": dict(self.claims)}

    def __repr__(self) -> str:
        return f"Credential(kind={self.kind!r}, label={quote(self.label)})"


class BearerVerifier:
    """A verifier of the given issuers' bearers; safe to share between tasks and threads."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        leeway: float = 30,
        check_every: float = CHECK_EVERY,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind every kid to its one issuer.

        Args:
            issuers: The accepted issuers; without any, every JWT is refused.
            leeway: Seconds that clocks may differ, for `exp`, `iat` and `nbf`.
            check_every: Seconds between two checks of key files, made when a bearer is verified: a
                changed `KeyringFile` takes effect as a whole, or, if it is unfit, not at all.
            clock: Seconds since 1970.
            monotonic: Seconds since any moment, to count `check_every`.

        Raises:
            ConfigurationError: Two issuers share a kid, or an issuer allows the algorithm of none
                of its keys.
        """
        self._leeway = leeway
        self._clock = clock
        self._bindings = KeyTable(issuers, check_every=check_every, monotonic=monotonic)

    @property
    def generation(self) -> int:
        """How often the keys have changed; reading it checks their files if that is due.

        A bearer that verified in an earlier generation may not verify now. To cache results, read
        this *before* `verify`, and store the result under that number.
        """
        return self._bindings.current()[0]

    @property
    def problems(self) -> tuple[ConfigurationError, ...]:
        """Why the last check did not put key files into effect.

        Their last valid content stays in effect. Messages name only the kid of a key.
        """
        return self._bindings.problems

    def verify(self, bearer: str) -> Credential:
        """Verify a bearer, as it stood after `Bearer ` in the header.

        The first fault determines the reason, in this order: size and shape, kid, alg, signature,
        `exp`, issuer, claims. A `lct_` bearer is refused if its checksum fails; OPA decides whether
        it is known. `replay.ReplayGuard` checks for replay.

        Raises:
            BearerRejected: The bearer is refused; no other error is ever raised.
        """
        check_bearer(bearer)
        parsed = parse_jwt(bearer)
        if parsed is None:
            if bearer.startswith(opaque.PREFIX) and not opaque.is_intact(bearer):
                raise BearerRejected.because(Reason.INVALID_TOKEN)
            return Credential(kind="token", digest=opaque.digest(bearer))

        if parsed.kid is None:
            raise BearerRejected.because(Reason.KEY_MISSING)
        bound = self._bindings.current()[1].get(parsed.kid)
        if bound is None:
            raise BearerRejected.because(Reason.KEY_UNKNOWN, kid=parsed.kid)
        issuer, key = bound
        if parsed.alg != key.alg:
            raise BearerRejected.because(Reason.ALG_UNSUPPORTED)
        # PyJWT's algorithm object, not jwt.decode: that would parse leniently what has just been
        # parsed strictly, and take longer over it than over an HMAC.
        if not key.verify(parsed.signing_input, parsed.signature):
            raise BearerRejected.because(Reason.INVALID_TOKEN)

        now = self._clock()
        check_expiry(parsed.claims, now=now, leeway=self._leeway)
        check_issuer(parsed.claims, issuer.name)
        check_claims(parsed.claims, audience=issuer.audience, now=now, leeway=self._leeway)
        return Credential(kind="jwt", kid=key.kid, claims=MappingProxyType(parsed.claims))
