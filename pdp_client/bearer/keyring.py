"""The verification keys for bearers: a JWK set (RFC 7517), each kid with one algorithm.

The algorithm is the key's, never the token's (RFC 8725 §3.1), and the key is a typed object, so a
public key can never serve as an HMAC secret.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import jwt
from jwt.algorithms import Algorithm

from pdp_client.bearer.jwt import base64url, canonical_alg, json_object
from pdp_client.exceptions import KeyringError
from pdp_client.reasons import quote

_KEY_TYPES: Final[Mapping[str, tuple[str, str | None]]] = {
    "EdDSA": ("OKP", "Ed25519"),
    "ES256": ("EC", "P-256"),
    "HS256": ("oct", None),
    "HS384": ("oct", None),
    "HS512": ("oct", None),
    "PS256": ("RSA", None),
    "RS256": ("RSA", None),
}
"""The `kty` and `crv` that each accepted `alg` goes with (RFC 7518 §3.1, RFC 8037 §3.1)."""

_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
"""Members of private RSA, EC and OKP keys (RFC 7518 §6.2.2, §6.3.2; RFC 8037 §2)."""

_MATERIAL: Final = ("k", "x", "y", "n", "e", "d", "p", "q", "dp", "dq", "qi")
_MAX_KID_LENGTH: Final = 256
_MOST_NAMED: Final = 8
_MAX_FILE_LENGTH: Final = 1024 * 1024
"""Bytes: about two thousand keys. A longer file is not meant to be a JWK set."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VerificationKey:
    """One key and the one algorithm it verifies."""

    kid: str
    alg: str
    _algorithm: Algorithm = field(repr=False)
    _key: Any = field(repr=False)

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Return whether this key signed `<header>.<payload>` (RFC 7515 §5.2)."""
        return self._algorithm.verify(signing_input, self._key, signature)


class Keyring:
    """Verification keys by kid; immutable. Iterating gives the keys, `len` their number.

    Attributes:
        left_out: keys of the set that cannot be used here, as texts that name the kid and why.
    """

    __slots__ = ("_keys", "left_out")

    def __init__(self, keys: Iterable[VerificationKey], *, left_out: Iterable[str] = ()) -> None:
        """Create a keyring.

        Args:
            keys: the keys.
            left_out: see the class.

        Raises:
            KeyringError: Two keys have the same kid.
        """
        self.left_out = tuple(left_out)
        self._keys: dict[str, VerificationKey] = {}
        for key in keys:
            if key.kid in self._keys:
                raise KeyringError(f"kid {quote(key.kid)} stands twice in the JWK set")
            self._keys[key.kid] = key

    @classmethod
    def from_jwks(cls, source: str | os.PathLike[str] | Mapping[str, Any]) -> Self:
        """Read a JWK set (RFC 7517 §5), from a file or already parsed.

        A key can be used if it has a `kid`, its `use` and `key_ops` allow verifying, and its `alg`
        is EdDSA or Ed25519 (RFC 9864), ES256, RS256, PS256 (2048 bits or more), HS256, HS384 or
        HS512 (a secret no shorter than the hash). Keys that cannot be used, such as those for
        encryption or without `alg`, are left out (RFC 7517 §5). An empty set gives a keyring
        without kids.

        Raises:
            KeyringError: The file cannot be read or is not strict JSON; a kid stands twice; a key
                is private; a key is unfit for the algorithm that it names; or no key of several
                can be used. The message names the kid, never the material.
        """
        if not isinstance(source, Mapping):
            path = Path(source)
            return cls(parse_jwks(read_jwks(path), path))
        keyring = cls.from_set(source)
        if keyring.left_out and not len(keyring):
            raise KeyringError("; ".join(keyring.left_out[:_MOST_NAMED]))
        return keyring

    @classmethod
    def from_set(cls, jwks: Mapping[str, Any]) -> Self:
        """Read a parsed JWK set as `from_jwks` does; perhaps no key of it can be used.

        Raises:
            KeyringError: as `from_jwks`.
        """
        keys = jwks.get("keys")
        if not isinstance(keys, list):
            raise KeyringError('a JWK set is an object with a list "keys" (RFC 7517 §5)')
        _check_set(keys)
        found = [_load(jwk, position) for position, jwk in enumerate(keys)]
        usable = (one for one in found if isinstance(one, VerificationKey))
        return cls(usable, left_out=(one for one in found if isinstance(one, str)))

    def get(self, kid: str) -> VerificationKey | None:
        """Return the key of a kid, compared exactly; None if it is unknown."""
        return self._keys.get(kid)

    def __iter__(self) -> Iterator[VerificationKey]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._keys)!r})"


def read_jwks(path: Path) -> bytes:
    """Return the content of a file that may be a JWK set.

    Raises:
        KeyringError: The file cannot be read, or is longer than 1 MiB.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_LENGTH + 1)
    except OSError as error:
        raise KeyringError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > _MAX_FILE_LENGTH:
        raise KeyringError(f"{path}: is longer than 1 MiB")
    return raw


def parse_jwks(raw: bytes, path: Path, *, at_start: bool = True) -> Keyring:
    """Parse the content of a file into a keyring.

    Args:
        raw: the content.
        path: the file.
        at_start: whether a set of which no key can be used is an error. Later it may be that all
            keys in use were withdrawn.

    Raises:
        KeyringError: As `Keyring.from_jwks`; names the file.
    """
    try:
        jwks = json_object(raw)
        return Keyring.from_jwks(jwks) if at_start else Keyring.from_set(jwks)
    except (KeyringError, ValueError) as error:
        raise KeyringError(f"{path}: {error}") from None


def load_key(jwk: Mapping[str, Any]) -> VerificationKey:
    """Check one key, which may be private; the result holds only its public part.

    Raises:
        KeyringError: it cannot be used.
    """
    found = _load(jwk, 0)
    if isinstance(found, str):
        raise KeyringError(found)
    return found


def _check_set(keys: Sequence[Any]) -> None:
    """Refuse a set that must be a mistake."""
    kids = set()
    for position, jwk in enumerate(keys):
        if not isinstance(jwk, Mapping):
            raise KeyringError(f"key number {position} of the JWK set is not an object")
        if not isinstance(jwk.get("kty"), str):
            raise KeyringError(f"key number {position} of the JWK set has no kty (RFC 7517 §4.1)")
        kid = jwk.get("kid")
        if isinstance(kid, str):
            if kid in kids:
                raise KeyringError(f"kid {quote(kid)} stands twice in the JWK set")
            kids.add(kid)
        if _is_private(jwk):
            named = f"kid {quote(kid)}" if isinstance(kid, str) else f"key number {position}"
            raise KeyringError(
                f"{named}: is a private key; a verifier's set holds public keys only. Replace it, "
                "and consider the key exposed"
            )


def _load(jwk: Mapping[str, Any], position: int) -> VerificationKey | str:
    """Return a key; or the text that says why it is left out.

    Raises:
        KeyringError: the key is not what it says.
    """
    kid = jwk.get("kid")
    if not (isinstance(kid, str) and 0 < len(kid) <= _MAX_KID_LENGTH and kid.isprintable()):
        return f"key number {position} of the JWK set has no usable kid"
    if not _may_verify(jwk):
        return f"kid {quote(kid)}: use or key_ops do not allow verifying"
    kind = jwk.get("kty"), jwk.get("crv")
    alg = canonical_alg(jwk.get("alg"))
    if not isinstance(alg, str) or alg not in _KEY_TYPES:
        return f"kid {quote(kid)}: alg must be one of {', '.join(_KEY_TYPES)}"
    if kind != _KEY_TYPES[alg]:
        problem = f"kid {quote(kid)}: kty and crv do not go with alg {alg}"
        if alg == "EdDSA" and kind == ("OKP", "Ed448"):
            return problem  # a good key, of a curve that is not supported
        raise KeyringError(problem)
    algorithm = jwt.get_algorithm_by_name(alg)
    key = _build(jwk, algorithm)
    if key is None:
        raise KeyringError(f"kid {quote(kid)}: its key is not usable with {alg}")
    if algorithm.check_key_length(key) is not None:
        raise KeyringError(f"kid {quote(kid)}: its key is too weak for {alg}")
    return VerificationKey(kid=kid, alg=alg, _algorithm=algorithm, _key=key)


def _may_verify(jwk: Mapping[str, Any]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    fitting = ("verify", "sign") if _is_private(jwk) else ("verify",)
    return (
        jwk.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and any(operation in fitting for operation in operations)
    )


def _build(jwk: Mapping[str, Any], algorithm: Algorithm) -> Any:
    # Catch any error of the libraries. Errors of PyJWT may quote the JWK: none of them leaves this
    # function, not even as a context.
    try:
        for name in _MATERIAL:
            if name in jwk:
                base64url(jwk[name])
        # prepare_key refuses PEM, DER and JWK text that was stored as an HMAC secret.
        key = algorithm.prepare_key(algorithm.from_jwk(dict(jwk)))
        return key.public_key() if _is_private(jwk) else key
    except Exception:  # noqa: BLE001 - see above
        return None


def _is_private(jwk: Mapping[str, Any]) -> bool:
    # A symmetric key is entirely in `k`; there, `d` is just an unknown member.
    return jwk.get("kty") != "oct" and not _PRIVATE.isdisjoint(jwk)
