"""`lictor key`: what it makes is in files of the right mode, and verifies at once."""

import json
import stat

import jwt
import pytest
from support.waiting import until

from lictor.exceptions import InvalidArgumentError
from lictor.keys import KeyFolder
from pdp_client import BearerRejected, Keyring

CLAIMS = {"iss": "mnemosyne", "typ": "team", "sub": "team:6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a", "jti": "j", "iat": 1_700_000_000, "exp": 4_000_000_000}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def keys(folder):
    return KeyFolder(folder)


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "RS256", "PS256"])
def test_new_key_of_each_algorithm_verifies_by_its_public_file(alg, keys, folder):
    public = keys.new(kid="k", alg=alg)

    assert (public["alg"], "d" in public) == (alg, False)
    token = keys.sign(CLAIMS, issuer="mnemosyne", active_kids=["k"])
    assert jwt.get_unverified_header(token)["alg"] == alg
    assert keys.verifier().verify(token).kid == "k"
    (stored,) = json.loads((folder / "mnemosyne.public.jwks").read_bytes())["keys"]
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(stored)


def test_new_key_is_ed25519_by_default(keys):
    assert keys.new()["crv"] == "Ed25519"


def test_new_rsa_key_has_the_strength_of_the_others(keys):
    assert len(keys.new(alg="RS256")["n"]) == 3072 // 6


def test_private_keys_are_for_their_owner_alone(keys, folder):
    keys.new()
    keys.new(alg="ES256")
    keys.import_secret("ab" * 32, issuer="daedalus", kid="old")

    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "mnemosyne.jwks": 0o600,
        "mnemosyne.public.jwks": 0o644,
        "daedalus.jwks": 0o600,
        "daedalus.public.jwks": 0o600,
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("alg", ["HS256", "none", "ES384", ""])
def test_no_new_key_lets_a_verifier_sign(alg, keys, folder):
    with pytest.raises(InvalidArgumentError, match="EdDSA, ES256, RS256, PS256"):
        keys.new(alg=alg)
    assert not folder.exists()


@pytest.mark.parametrize("kid", ["a\nb", "k" * 257, "\x00"])
def test_invalid_kid_leaves_key_files_unchanged(kid, keys, folder):
    keys.new(kid="good")
    with pytest.raises(InvalidArgumentError, match="no usable kid"):
        keys.new(kid=kid)
    assert [key.kid for key in Keyring.from_jwks(folder / "mnemosyne.public.jwks")] == ["good"]


@pytest.mark.anyio
async def test_verifier_follows_key_file_changes(keys, folder):
    keys.new(kid="first")
    first = keys.sign(CLAIMS, issuer="mnemosyne", active_kids=["first"])
    verifier = keys.verifier()
    assert verifier.verify(first).kid == "first"

    keys.new(kid="second")
    second = keys.sign(CLAIMS, issuer="mnemosyne", active_kids=["second"])
    await until(lambda: verifier.generation == 1, "the key is there")
    assert verifier.verify(second).kid == "second"

    path = folder / "mnemosyne.public.jwks"
    left = [key for key in json.loads(path.read_bytes())["keys"] if key["kid"] != "first"]
    path.write_text(json.dumps({"keys": left}))
    await until(lambda: verifier.generation == 2, "the key is gone")
    with pytest.raises(BearerRejected, match="Unknown signing key kid='first'"):
        verifier.verify(first)
