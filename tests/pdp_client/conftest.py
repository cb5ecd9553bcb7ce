"""Keys of every algorithm, a verifier at a fixed moment, a signer of exact bytes; and a deployment with a Redis."""

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.tcp_relay import TCPRelay

from lictor.server import serving
from lictor.usage import Usages
from pdp_client.bearer.key_table import Issuer
from pdp_client.bearer.keyring import Keyring
from pdp_client.bearer.verifier import BearerVerifier
from pdp_client.exceptions import BearerRejected, KeyringError
from pdp_client.shared import Shared
from pdp_client.shared.connection import connect

from .shared.counting import CountingDeployment

NOW = 1_790_000_000


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def without(claims: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if name not in names}


def oct_jwk(secret: bytes, **members: Any) -> dict[str, Any]:
    return {"kty": "oct", "kid": "k1", "alg": "HS256", "k": encode(secret), **members}


def keys_refused(*keys: Any) -> str:
    """Load a JWK set that must be refused, and hand back what is said."""
    with pytest.raises(KeyringError) as caught:
        Keyring.from_jwks({"keys": list(keys)})
    return str(caught.value)


@dataclass(frozen=True)
class Signer:
    kid: str
    alg: str
    key: Any = field(repr=False)

    def jwk(self) -> dict[str, Any]:
        algorithm = jwt.get_algorithm_by_name(self.alg)
        jwk = algorithm.to_jwk(self.key, as_dict=True)
        return {**jwk, "kid": self.kid, "alg": self.alg}

    def public_jwk(self) -> dict[str, Any]:
        if self.alg.startswith("HS"):
            return self.jwk()
        public = jwt.get_algorithm_by_name(self.alg).to_jwk(self.key.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "alg": self.alg}

    def sign_bytes(self, header: bytes, payload: bytes) -> str:
        """A JWT of exactly these bytes, whatever they are."""
        signing_input = f"{encode(header)}.{encode(payload)}"
        signature = jwt.get_algorithm_by_name(self.alg).sign(signing_input.encode(), self.key)
        return f"{signing_input}.{encode(signature)}"

    def token(self, claims: Any, **header: Any) -> str:
        """A JWT of these claims; `header` adds members, and one that is `...` takes it out."""
        members = {"alg": self.alg, "kid": self.kid, "typ": "JWT", **header}
        kept = {name: value for name, value in members.items() if value is not ...}
        return self.sign_bytes(json.dumps(kept).encode(), json.dumps(claims).encode())


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def signers():
    """One private key of each accepted algorithm; kid is `k-` and the algorithm."""
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    keys = {
        "EdDSA": Ed25519PrivateKey.generate(),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "RS256": rsa_key,
        "PS256": rsa_key,
        "HS256": bytes(range(32)),
        "HS384": bytes(range(48)),
        "HS512": bytes(range(64)),
    }
    return {alg: Signer(f"k-{alg}", alg, key) for alg, key in keys.items()}


@pytest.fixture(scope="session")
def signer(signers):
    return signers["EdDSA"]


@pytest.fixture(scope="session")
def turn_signer():
    return Signer("turn-1", "EdDSA", Ed25519PrivateKey.generate())


@pytest.fixture(scope="session")
def team_keys(signers):
    return Keyring.from_jwks({"keys": [signer.public_jwk() for signer in signers.values()]})


@pytest.fixture(scope="session")
def turn_keys(turn_signer):
    return Keyring.from_jwks({"keys": [turn_signer.public_jwk()]})


@pytest.fixture(scope="session")
def now():
    return NOW


@pytest.fixture(scope="session")
def verifier(team_keys, turn_keys):
    return BearerVerifier(
        [Issuer("mnemosyne", team_keys), Issuer("daedalus", turn_keys)],
        leeway=30,
        clock=lambda: NOW,
    )


@pytest.fixture(scope="session")
def refusal(verifier):
    """Verify what must be refused, and hand back the rejection."""

    def refuse(bearer):
        with pytest.raises(BearerRejected) as caught:
            verifier.verify(bearer)
        return caught.value

    return refuse


@pytest.fixture(scope="session")
def reason_of(refusal):
    """The reason of a refusal."""
    return lambda bearer: refusal(bearer).reason


@pytest.fixture
def team_claims():
    return {
        "iss": "mnemosyne",
        "typ": "team",
        "sub": "team:6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a",
        "jti": "jti-1",
        "iat": NOW - 60,
        "exp": NOW + 3600,
    }


@pytest.fixture
def turn_claims():
    return {
        "iss": "daedalus",
        "sub": "u-17",
        "jti": "turn-jti-1",
        "iat": NOW - 60,
        "exp": NOW + 300,
        "libs": ["lib-a"],
        "ws": "w-1",
    }


# Several instances that share their state


@pytest.fixture
def server(redis_process):
    return redis_process


@pytest.fixture
async def connected(server):
    """Clients as the product makes them: `connected()` is another instance's."""
    made = []

    def connected(**changes):
        made.append(connect(server.url, **{"timeout": 5, **changes}))
        return made[-1]

    yield connected
    for client in made:
        await client.aclose()


@pytest.fixture(params=["redis", "http"])
def through(request):
    """What instances share their state through: Redis, or `lictor serve` itself."""
    return request.param


@pytest.fixture
async def source(request, through, settings, monkeypatch):
    """The Redis, or the server behind a relay, that guards and counters share."""
    if through == "redis":
        yield request.getfixturevalue("server")
        return
    # Counts stay where the tests read them.
    monkeypatch.setattr(Usages, "run", lambda _: asyncio.Event().wait())
    async with serving(settings) as running:
        relay = TCPRelay(running.url).start()
        relay.serving = running
        yield relay
        relay.kill()


@pytest.fixture
def share_options(through, settings, tmp_path, namespace):
    """What `Shared` needs to know about `source`."""
    if through == "http":
        return {"key_file": str(settings.newest_key), "namespace": "lictor"}
    key_file = tmp_path / "newest.key"
    key_file.write_text(bytes(range(32)).hex())
    return {"key_file": str(key_file), "namespace": namespace}


@pytest.fixture
async def new_shared(source, share_options):
    """Another instance's shared state. Generous, unless the test is about being late."""
    made = []

    def new(**changes):
        made.append(Shared(source.url, **{"timeout": 5, **share_options, **changes}))
        return made[-1]

    yield new
    for shared in made:
        await shared.aclose()


@pytest.fixture
async def make_shared_deployment(make_deployment, through, request):
    """Start a deployment whose PDPs share their state, and count their queries."""

    async def make(**changes):
        redis = request.getfixturevalue("server") if through == "redis" else None
        deployment = await make_deployment(kind=CountingDeployment, redis=redis, **changes)
        await deployment.add_user("ada")
        return deployment

    return make


@pytest.fixture
async def shared_deployment(make_shared_deployment):
    return await make_shared_deployment()


@pytest.fixture
async def held(shared_deployment, monkeypatch):
    """The same, where nothing is published before the test sets `publish`."""
    publisher = shared_deployment.publisher
    sync = publisher.sync
    publish = asyncio.Event()

    async def held_sync():
        if publish.is_set():
            await sync()

    monkeypatch.setattr(publisher, "sync", held_sync)
    shared_deployment.publish = publish
    shared_deployment.sync = sync
    return shared_deployment
