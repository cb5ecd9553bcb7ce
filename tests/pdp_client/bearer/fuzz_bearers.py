"""Coverage-guided fuzzing of bearers: `python tests/pdp_client/bearer/fuzz_bearers.py -runs=100000 [CORPUS]`.

Needs atheris, which is not among the packages for development (Linux on x86 only):
`.venv/bin/uv pip install atheris`. All flags are libFuzzer's; `-max_total_time=600` runs ten
minutes. It ends at the first bearer that raises anything but `BearerRejected`, verifies without
having been signed, or takes longer than a second.

The first byte says how the rest is read: as a bearer, or as a header and a payload with a NUL in
between, signed with a key of one kind or another. So what lies behind the signature is reached.
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pdp_client", "json", "jwt"]):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from jwt import get_algorithm_by_name
    from jwt.utils import base64url_encode

    from pdp_client import BearerRejected, BearerVerifier, Issuer, Keyring

NOW = 1_790_000_000
CLAIMS = {
    "iss": "mnemosyne",
    "typ": "team",
    "sub": "team:6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a",
    "jti": "j",
    "iat": NOW,
    "exp": NOW + 60,
}
# Fixed, so that a corpus stays good from run to run.
KEYS = {"EdDSA": Ed25519PrivateKey.from_private_bytes(bytes(32)), "HS256": bytes(range(32))}


def jwk(alg):
    algorithm = get_algorithm_by_name(alg)
    key = KEYS[alg] if alg == "HS256" else KEYS[alg].public_key()
    return {**algorithm.to_jwk(key, as_dict=True), "kid": alg, "alg": alg}


VERIFIER = BearerVerifier(
    [Issuer("mnemosyne", Keyring.from_jwks({"keys": [jwk(alg) for alg in KEYS]}))],
    clock=lambda: NOW,
)


def signed(alg, header, payload):
    parts = b".".join((base64url_encode(header), base64url_encode(payload)))
    signature = get_algorithm_by_name(alg).sign(parts, KEYS[alg])
    return b".".join((parts, base64url_encode(signature))).decode()


def one(data):
    kind, rest = data[:1], data[1:]
    alg = {b"E": "EdDSA", b"H": "HS256"}.get(kind)
    if alg:
        header, _, payload = rest.partition(b"\0")
        bearer = signed(alg, header, payload)
    else:
        bearer = rest.decode("utf-8", "surrogateescape")
    try:
        credential = VERIFIER.verify(bearer)
    except BearerRejected:
        return
    json.dumps(credential.as_input(), allow_nan=False, ensure_ascii=False).encode()
    if credential.kind == "jwt" and not alg:
        raise AssertionError("an unsigned bearer verified")


def seeds(folder):
    """What is good, for libFuzzer to begin with."""
    for alg in KEYS:
        header = json.dumps({"alg": alg, "kid": alg, "typ": "JWT"}).encode()
        payload = json.dumps(CLAIMS).encode()
        assert VERIFIER.verify(signed(alg, header, payload)).kind == "jwt"
        (folder / alg).write_bytes(alg[:1].encode() + header + b"\0" + payload)
    (folder / "opaque").write_bytes(b"-lct_" + b"0" * 49)


def main():
    with tempfile.TemporaryDirectory() as folder:
        seeds(Path(folder))
        atheris.Setup([sys.argv[0], "-timeout=1", "-max_len=9000", *sys.argv[1:], folder], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
