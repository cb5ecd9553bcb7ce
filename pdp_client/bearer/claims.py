"""The rules for a JWT's claims, once its signature holds (RFC 7519 §4.1, RFC 8725 §3.8-3.11)."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason

TEAM_ISSUER: Final = "mnemosyne"
"""The only issuer of team JWTs."""

_REQUIRED: Final = ("exp", "iat", "iss", "sub", "jti")
_LAST_MOMENT: Final = 253_402_300_799
"""The end of the year 9999 (RFC 3339), in seconds since 1970."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TEAM_SUBJECT: Final = re.compile(r"team:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STRICT_JSON: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def is_team(claims: Mapping[str, Any]) -> bool:
    """Return whether the claims are those of a team JWT; all others are per-turn."""
    return bool(claims.get("typ") == "team")


def check_expiry(claims: Mapping[str, Any], *, now: float, leeway: float) -> None:
    """Refuse an expired token. `check_claims` refuses an `exp` that is not a time.

    Args:
        claims: Verified claims.
        now: Seconds since 1970.
        leeway: Seconds that clocks may differ.

    Raises:
        BearerRejected: `TOKEN_EXPIRED`.
    """
    exp = claims.get("exp")
    if _is_integer(exp) and now >= exp + leeway:
        raise BearerRejected.because(Reason.TOKEN_EXPIRED)


def check_issuer(claims: Mapping[str, Any], issuer: str) -> None:
    """Refuse a token whose issuer is not the owner of its key, or may not issue it (RFC 8725 §3.8).

    Raises:
        BearerRejected: `ISSUER_INVALID`.
    """
    iss = claims.get("iss")
    if isinstance(iss, str) and (iss != issuer or (is_team(claims) and iss != TEAM_ISSUER)):
        raise BearerRejected.because(Reason.ISSUER_INVALID)


def check_claims(
    claims: Mapping[str, Any], *, audience: str | None, now: float, leeway: float
) -> None:
    """Refuse claims that are missing, of the wrong type, from the future or for another audience.

    Args:
        claims: Verified claims.
        audience: What `aud` must name, or None to leave `aud` alone.
        now: Seconds since 1970.
        leeway: Seconds that clocks may differ.

    Raises:
        BearerRejected: `CLAIM_MISSING`, `CLAIM_INVALID`, `AUDIENCE_INVALID`, or `INVALID_TOKEN`
            for a team's `sub` that is not `team:` and a canonical UUID.
    """
    for name in _REQUIRED:
        if name not in claims:
            raise BearerRejected.because(Reason.CLAIM_MISSING, claim=name)
    _check_times(claims, latest=now + leeway)
    _check_texts(claims)
    if not _is_json(claims):
        raise _invalid("a number is too large or a text is not Unicode")
    if audience is not None:
        _check_audience(claims.get("aud"), audience)
    if is_team(claims) and not _TEAM_SUBJECT.fullmatch(claims["sub"]):
        raise BearerRejected.because(Reason.INVALID_TOKEN)


def _check_times(claims: Mapping[str, Any], *, latest: float) -> None:
    for name in ("exp", "iat", "nbf"):
        value = claims.get(name, 0)
        if not _is_integer(value) or not 0 <= value <= _LAST_MOMENT:
            raise _invalid(f"{name} is not a time in whole seconds")
        if name != "exp" and value > latest:
            raise _invalid(f"{name} is in the future")


def _is_integer(value: Any) -> TypeGuard[int]:
    # The exact type: `true` is an int to isinstance, and a NumericDate to PyJWT. RFC 7519 §2 allows
    # fractions; every reader interprets an integer as the same moment.
    return type(value) is int


def _check_texts(claims: Mapping[str, Any]) -> None:
    for name in ("iss", "sub", "jti"):
        if not claims[name] or not _is_text(claims[name]):
            raise _invalid(f"{name} is empty or not plain text")
    if not _is_text(claims.get("typ", "")):
        raise _invalid("typ is not plain text")
    libs = claims.get("libs", [])
    if not isinstance(libs, list) or not all(_is_text(lib) for lib in libs):
        raise _invalid("libs is not a list of strings")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not _CONTROL.search(value)


def _is_json(claims: Mapping[str, Any]) -> bool:
    # A lone surrogate or an infinite number cannot be sent to OPA, which would read another value.
    try:
        _STRICT_JSON.encode(claims).encode("utf-8")
    except ValueError:
        return False
    return True


def _check_audience(aud: Any, audience: str) -> None:
    if aud != audience and not (isinstance(aud, list) and audience in aud):
        raise BearerRejected.because(Reason.AUDIENCE_INVALID)


def _invalid(problem: str) -> BearerRejected:
    return BearerRejected.because(Reason.CLAIM_INVALID, problem=problem)
