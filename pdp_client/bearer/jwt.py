"""Strict parsing of bearers, before any cryptography.

PyJWT's own parser is lenient by design (last duplicate key wins, padding, UTF-16, any number). A
verifier must be certain that every other parser reads the same content that it decides on.
"""

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason

MAX_BEARER_LENGTH: Final = 8 * 1024
"""Characters, which are bytes: a b64token is ASCII."""
_MAX_DEPTH: Final = 16
_MAX_INTEGER_LENGTH: Final = 20
"""Digits and sign of the longest 64-bit integer."""
_JWT_SEGMENTS: Final = 3

_B64TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_JSON_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_AS_ARRAYS: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_UNSUPPORTED_HEADERS: Final = frozenset({"b64", "crit", "jku", "jwk", "x5c", "x5u", "zip"})
"""Members that change how the rest is read, or bring a key: RFC 7515 §4.1, RFC 8725 §3.10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedJWT:
    """A well-formed JWT in compact serialisation (RFC 7515 §7.1). Its content is unverified."""

    alg: str
    kid: str | None
    claims: Mapping[str, Any] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def check_bearer(bearer: str) -> None:
    """Refuse a bearer that is not an RFC 6750 §2.1 `b64token` of at most 8 KiB.

    Raises:
        BearerRejected: `INVALID_TOKEN`.
    """
    if len(bearer) > MAX_BEARER_LENGTH or not _B64TOKEN.fullmatch(bearer):
        raise BearerRejected.because(Reason.INVALID_TOKEN)


def parse_jwt(bearer: str) -> ParsedJWT | None:
    """Parse a JWT; return None for an opaque bearer.

    A bearer of three segments whose first decodes, however leniently, to a JSON object with a
    string `alg` is a JWT, and must then be a strict one.

    Returns:
        The parts, or None for an opaque bearer.

    Raises:
        BearerRejected: `INVALID_TOKEN` for a JWT that is not well-formed.
    """
    segments = bearer.split(".")
    if len(segments) != _JWT_SEGMENTS:
        return None
    try:
        header = json_object(base64url(segments[0]))
    except ValueError:
        if not _is_sloppy_header(segments[0]):
            return None
        raise BearerRejected.because(Reason.INVALID_TOKEN) from None
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str):
        return None
    try:
        claims = json_object(base64url(segments[1]))
        signature = base64url(segments[2])
    except ValueError:
        raise BearerRejected.because(Reason.INVALID_TOKEN) from None
    if (
        not _UNSUPPORTED_HEADERS.isdisjoint(header)
        or not _is_jwt_type(header.get("typ", "JWT"))
        or ("kid" in header and not isinstance(kid, str))
    ):
        raise BearerRejected.because(Reason.INVALID_TOKEN)
    return ParsedJWT(
        alg=canonical_alg(alg),
        kid=kid,
        claims=claims,
        signing_input=bearer.rpartition(".")[0].encode("ascii"),
        signature=signature,
    )


def canonical_alg(alg: Any) -> Any:
    """Return `EdDSA` for `Ed25519`, its fully specified name (RFC 9864 §2.2); else `alg`."""
    return "EdDSA" if alg == "Ed25519" else alg


def base64url(text: str) -> bytes:
    """Decode canonical base64url without padding (RFC 7515 §2, RFC 4648 §3.5).

    Raises:
        ValueError: Another alphabet, padding, an impossible length, or trailing bits set.
    """
    decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The decoder skips unknown characters; only the canonical spelling survives the round trip.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != text.encode("ascii"):
        raise ValueError("not canonical base64url")
    return decoded


def json_object(raw: bytes) -> dict[str, Any]:
    """Read a JSON object that all parsers read alike (RFC 8725 §2.6, RFC 7493 §2).

    UTF-8 without BOM, no duplicate member, no NaN or Infinity, at most 16 levels. A number too
    large for 64 bits or a double becomes infinite, which claims must not be: a later check refuses
    it.

    Raises:
        ValueError: Anything else. Neither the error nor its context holds the text.
    """
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not _is_shallow(raw):
        raise ValueError("not a JSON object, or not a strict one")
    return value


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _bounded_integer(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_INTEGER_LENGTH else math.inf


def _no_constant(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_members,
    parse_constant=_no_constant,
    parse_int=_bounded_integer,
)


def _is_shallow(raw: bytes) -> bool:
    """Return whether valid JSON stays within the allowed levels, without walking it."""
    if raw.count(b"[") + raw.count(b"{") <= _MAX_DEPTH:
        return True
    brackets = _JSON_STRING.sub(b"", raw).translate(_AS_ARRAYS, _NO_BRACKETS)
    for _ in range(_MAX_DEPTH):
        # Containers without nested ones, and with them the innermost level.
        brackets = brackets.replace(b"[]", b"")
    return not brackets


def _is_jwt_type(typ: Any) -> bool:
    # A token of another kind, signed with the same key, must not be accepted (RFC 8725 §3.12).
    return isinstance(typ, str) and typ.lower().removeprefix("application/") == "jwt"


def _is_sloppy_header(segment: str) -> bool:
    try:
        header = json.loads(base64.urlsafe_b64decode(segment + "=="))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and isinstance(header.get("alg"), str)
