"""Signing keys of issuers, as JWK sets in files, and the team JWTs minted with them.

An issuer has two files: `<issuer>.jwks` with the private keys (mode 0600, for minting) and
`<issuer>.public.jwks`, which is all that an MCP server gets. A symmetric key that was taken over is
in both: a holder that verifies with it can also mint, which is why new keys are EdDSA.
"""

import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.utils import base64url_encode

from lictor.exceptions import InvalidArgumentError, KeyFileUnusableError, NoSigningKeyError
from pdp_client import BearerVerifier, Issuer, KeyringError, KeyringFile
from pdp_client.bearer.keyring import load_key

TEAM_ISSUER = "mnemosyne"
YEARS = 5 * 365 * 24 * 3600
"""Seconds until the `exp` of a new team JWT."""

_PUBLIC = ".public.jwks"


def _rsa_key() -> rsa.RSAPrivateKey:
    # As strong as the others (NIST SP 800-57): a team's JWT lives for years.
    return rsa.generate_private_key(public_exponent=65537, key_size=3072)


_GENERATORS: Mapping[str, Callable[[], Any]] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": partial(ec.generate_private_key, ec.SECP256R1()),
    "RS256": _rsa_key,
    "PS256": _rsa_key,
}
"""The algorithms of new keys: none with which a verifier could sign."""


class KeyFolder:
    """The keys of every issuer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new(
        self,
        *,
        issuer: str = TEAM_ISSUER,
        kid: str | None = None,
        alg: str = "EdDSA",
    ) -> dict[str, Any]:
        """Make a key for an issuer and return its public JWK (RFC 7517 §4).

        Raises:
            InvalidArgumentError: the kid is taken or invalid, the issuer's name is not a file name,
                or the algorithm is not EdDSA, ES256, RS256 or PS256.
            KeyFileUnusableError: the files cannot be read or written.
        """
        if alg not in _GENERATORS:
            raise InvalidArgumentError(f"new keys are made for {', '.join(_GENERATORS)} only")
        algorithm = jwt.get_algorithm_by_name(alg)
        private = _GENERATORS[alg]()
        named = {"kid": kid or f"{issuer}-{secrets.token_hex(4)}", "alg": alg, "use": "sig"}
        public = {**algorithm.to_jwk(private.public_key(), as_dict=True), **named}
        whole = {**algorithm.to_jwk(private, as_dict=True), **named}
        _check(public)
        self._add(issuer, private=whole, public=public)
        return public

    def import_secret(self, secret_hex: str, *, issuer: str, kid: str, alg: str = "HS256") -> str:
        """Take over a symmetric secret, given as hex, and return its algorithm.

        Raises:
            InvalidArgumentError: the secret is not hex, or too short (RFC 7518, section 3.2).
            KeyFileUnusableError: the files cannot be read or written.
        """
        try:
            secret = bytes.fromhex(secret_hex.strip())
        except ValueError:
            raise InvalidArgumentError("the secret is not hexadecimal text") from None
        encoded = base64url_encode(secret).decode()
        jwk = {"kty": "oct", "k": encoded, "kid": kid, "alg": alg, "use": "sig"}
        _check(jwk)
        self._add(issuer, private=jwk, public=jwk)
        return alg

    def verifier(self) -> BearerVerifier:
        """A verifier that accepts every issuer that has keys here, and follows what they become.

        An issuer that comes later is for the next verifier.

        Raises:
            ConfigurationError: a file is not a JWK set, or a kid is in two of them.
        """
        issuers = [
            Issuer(path.name.removesuffix(_PUBLIC), KeyringFile(path))
            for path in sorted(self._folder.glob(f"*{_PUBLIC}"))
        ]
        return BearerVerifier(issuers)

    def require_signing_key(self, active_kids: Iterable[str]) -> None:
        """Make sure that `mint_team` can sign.

        Raises:
            NoSigningKeyError: none of the active keys of the team issuer is here.
            KeyFileUnusableError: the file cannot be read.
        """
        self._newest(TEAM_ISSUER, active_kids)

    def mint_team(
        self,
        team_id: str,
        *,
        jti: str,
        active_kids: Iterable[str],
        lifetime: float = YEARS,
        clock: Callable[[], float] = time.time,
    ) -> str:
        """Sign a team's JWT with the newest key that the registry holds active.

        Raises:
            NoSigningKeyError: the registry holds none active.
            KeyFileUnusableError: the file cannot be read.
        """
        now = int(clock())
        claims = {
            "iss": TEAM_ISSUER,
            "typ": "team",
            "sub": f"team:{team_id}",
            "jti": jti,
            "iat": now,
            "exp": now + int(lifetime),
        }
        return self.sign(claims, issuer=TEAM_ISSUER, active_kids=active_kids)

    def sign(self, claims: Mapping[str, Any], *, issuer: str, active_kids: Iterable[str]) -> str:
        """Sign a JWT with the issuer's newest key that the registry holds active.

        Raises:
            NoSigningKeyError: the registry holds none active.
            KeyFileUnusableError: the file cannot be read.
        """
        newest = self._newest(issuer, active_kids)
        headers = {"kid": newest["kid"]}
        return jwt.encode(dict(claims), jwt.PyJWK(newest), algorithm=newest["alg"], headers=headers)

    def _newest(self, issuer: str, active_kids: Iterable[str]) -> dict[str, Any]:
        active = set(active_kids)
        usable = [
            key
            for key in self._read(issuer, ".jwks")
            # A secret that was taken over verifies what is out there; it signs nothing new.
            if key.get("kid") in active and key.get("kty") != "oct"
        ]
        if not usable:
            raise NoSigningKeyError(f"no active key of {issuer} is here; make one: lictor key new")
        return usable[-1]

    def _add(self, issuer: str, *, private: dict[str, Any], public: dict[str, Any]) -> None:
        if not issuer or not all(c.isalnum() or c in "-_" for c in issuer):
            raise InvalidArgumentError("an issuer's name here has letters, digits, - and _ only")
        for path in self._folder.glob("*.jwks"):
            stem = path.name.removesuffix(_PUBLIC).removesuffix(".jwks")
            if any(key.get("kid") == private["kid"] for key in self._read(stem, _PUBLIC)):
                raise InvalidArgumentError(f"kid {private['kid']!r} is taken")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write(issuer, ".jwks", [*self._read(issuer, ".jwks"), private], mode=0o600)
        # A symmetric secret is as secret in the public file.
        mode = 0o600 if private is public else 0o644
        self._write(issuer, _PUBLIC, [*self._read(issuer, _PUBLIC), public], mode=mode)

    def _read(self, issuer: str, ending: str) -> list[dict[str, Any]]:
        path = self._folder / f"{issuer}{ending}"
        try:
            keys = json.loads(path.read_bytes())["keys"]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KeyFileUnusableError(f"{path}: no JWK set ({type(error).__name__})") from None
        if not isinstance(keys, list):
            raise KeyFileUnusableError(f"{path}: no JWK set")
        return keys

    def _write(self, issuer: str, ending: str, keys: list[dict[str, Any]], *, mode: int) -> None:
        path = self._folder / f"{issuer}{ending}"
        try:
            if path.exists():
                mode &= path.stat().st_mode
            with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as file:
                json.dump({"keys": keys}, file, indent=1)
            os.chmod(file.name, mode)  # noqa: PTH101 - a name, not a path, is what there is
            Path(file.name).replace(path)
        except OSError as error:
            raise KeyFileUnusableError(f"{path}: {error.strerror}") from None


def _check(jwk: dict[str, Any]) -> None:
    """Make sure that a verifier will take a key: one that is unfit would spoil the whole file.

    Raises:
        InvalidArgumentError: it will not.
    """
    try:
        load_key(jwk)
    except KeyringError as error:
        raise InvalidArgumentError(str(error)) from None
