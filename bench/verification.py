"""What strictness costs: `python -m bench.verification [--rounds N] [--json]`.

`BearerVerifier.verify`, its strict parse included, against bare PyJWT: `jwt.decode` with the same
token, a prepared key, the same issuer, leeway and required claims. Each round measures both, one
right after the other, each first in every second round; what is reported is the median of the
rounds' ratios, with the interval that holds it with 95 % confidence (binomial, of order
statistics). At the median a shared, noisy machine cancels out.

Then bearers of 8 KiB that take as long as any, against an ordinary one that verifies.
"""

import argparse
import json
import platform
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.paired import paired, summary
from pdp_client import BearerRejected, BearerVerifier, Issuer, Keyring
from pdp_client.bearer.jwt import MAX_BEARER_LENGTH

LIMIT = 1.3
"""Times bare PyJWT that HS256 and EdDSA may take."""


class Compared:
    """One algorithm: the same token through both."""

    def __init__(self, alg, key):
        algorithm = jwt.get_algorithm_by_name(alg)
        public = key if alg == "HS256" else key.public_key()
        jwk = {**algorithm.to_jwk(public, as_dict=True), "kid": "bench", "alg": alg}
        self.verifier = BearerVerifier([Issuer("mnemosyne", Keyring.from_jwks({"keys": [jwk]}))])
        self.claims = {
            "iss": "mnemosyne",
            "typ": "team",
            "sub": "team:6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a",
            "jti": "5b1e9a7c4d3f4a6e8c2b1d0f9e8a7b6c",
            "iat": int(time.time()),
            "exp": int(time.time()) + 3600,
        }
        self.bearer = jwt.encode(self.claims, key, alg, headers={"kid": "bench"})
        self._alg = alg
        self._jwk = jwt.PyJWK(jwk)

    def ours(self):
        self.verifier.verify(self.bearer)

    def bare(self):
        jwt.decode(
            self.bearer,
            self._jwk,
            algorithms=[self._alg],
            issuer="mnemosyne",
            leeway=30,
            options={"require": ["exp", "iat", "iss", "sub", "jti"], "verify_aud": False},
        )


def longest():
    """Bearers of up to 8 KiB without a valid signature, by what is tedious about them."""

    def segment(text):
        return jwt.utils.base64url_encode(text.encode()).decode()

    def filled(before, unit, after=""):
        """A header, and a payload made of as many units as fit; each is read to its end."""
        head = segment('{"alg":"EdDSA","kid":"bench"}')
        room = (MAX_BEARER_LENGTH - len(head) - 88) * 3 // 4 - len(before + after)
        units = unit * (room // len(unit))
        return f"{head}.{segment(before + units.rstrip(',') + after)}.{'A' * 86}"

    members = ",".join(f'"{number:x}":0' for number in range(2000))[:5900].rpartition(",")[0]
    return {
        "one long text": filled('{"a":"', "x", '"}'),
        "escapes": filled('{"a":"', "\\u0041", '"}'),
        "one long number": filled('{"a":', "1", "}"),
        "one long fraction": filled('{"a":0.', "1", "}"),
        "many numbers": filled('{"a":[', "1,", "]}"),
        "many empty arrays": filled('{"a":[', "[],", "]}"),
        "many empty objects": filled('{"a":[', "{},", "]}"),
        "many objects": filled('{"a":[', '{"":0},', "]}"),
        "many members": filled("{" + members, " ", "}"),
        "deep arrays": filled('{"a":', "[", ""),
        "sixteen levels": filled('{"a":[', "[" * 14 + "]" * 14 + ",", "]}"),
        "a long header": f"{segment(filled('', 'x'))}.e30.{'A' * 86}"[:MAX_BEARER_LENGTH],
        "no JWT": "a" * MAX_BEARER_LENGTH,
        "dots": "a." * (MAX_BEARER_LENGTH // 2),
    }


def measure(rounds):
    keys = {
        "HS256": bytes(range(32)),
        "EdDSA": Ed25519PrivateKey.generate(),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    }
    compared = {alg: Compared(alg, key) for alg, key in keys.items()}
    algorithms = {alg: summary(paired(one.ours, one.bare, rounds)) for alg, one in compared.items()}
    ordinary = compared["EdDSA"]
    bearers = {}
    for what, bearer in longest().items():
        assert len(bearer) <= MAX_BEARER_LENGTH, what

        def refused(bearer=bearer):
            try:
                ordinary.verifier.verify(bearer)
            except BearerRejected:
                return

        bearers[what] = summary(paired(refused, ordinary.ours, max(rounds // 10, 20)))
    return {"against PyJWT": algorithms, "8 KiB against an EdDSA token": bearers}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps(results))
        return
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"PyJWT {jwt.__version__}; medians, in microseconds; limit {LIMIT} for HS256 and EdDSA\n"
    )
    for title, rows in results.items():
        print(f"{title:32}{'n':>7}{'ours':>10}{'other':>10}{'ratio':>8}   95 % of the median")
        for what, one in rows.items():
            missed = title == "against PyJWT" and what in ("HS256", "EdDSA") and one["high"] > LIMIT
            print(
                f"{what:32}{one['n']:>7}{one['ours_us']:>10}{one['other_us']:>10}"
                f"{one['ratio']:>8}   {one['low']}-{one['high']}{'  MISSED' if missed else ''}"
            )
        print()


if __name__ == "__main__":
    main()
