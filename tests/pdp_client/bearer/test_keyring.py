import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from pdp_client.bearer.key_table import Issuer
from pdp_client.bearer.keyring import Keyring, load_key
from pdp_client.bearer.verifier import BearerVerifier
from pdp_client.exceptions import ConfigurationError, KeyringError
from tests.pdp_client.conftest import NOW, encode, keys_refused, oct_jwk

ALGORITHMS = ["EdDSA", "ES256", "RS256", "PS256", "HS256", "HS384", "HS512"]


@pytest.fixture
def ed_jwk(signer):
    return signer.public_jwk()


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_accepted_algorithm_verifies_with_its_own_key(alg, signers):
    signer = signers[alg]
    key = Keyring.from_jwks({"keys": [signer.public_jwk()]}).get(signer.kid)
    head, _, signature = signer.sign_bytes(b"{}", b"{}").rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    assert key.alg == alg
    assert key.verify(head.encode(), raw)
    assert not key.verify(head.encode() + b"x", raw)
    assert not key.verify(head.encode(), raw[:-1])
    assert not key.verify(head.encode(), b"")


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "RS256", "PS256"])
def test_set_with_a_private_key_is_refused(alg, signers):
    text = keys_refused(signers["HS256"].jwk(), signers[alg].jwk())
    assert text.startswith(f"kid 'k-{alg}': is a private key;")


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "RS256", "PS256"])
def test_checked_private_key_is_reduced_to_its_public_part(alg, signers):
    key = load_key(signers[alg].jwk())
    assert not hasattr(key._key, "sign")
    assert not hasattr(key._key, "private_bytes")


RSA = {"kty": "RSA", "n": "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw", "e": "AQAB"}  # fmt: skip
"""The public key of RFC 7515, appendix A.2."""

LEFT_OUT = {
    "Keycloak's key for encryption": {**RSA, "kid": "other", "alg": "RSA-OAEP", "use": "enc"},
    "Entra's key without alg": {**RSA, "kid": "other", "use": "sig"},
    "an algorithm of later": {"kty": "AKP", "kid": "other", "alg": "ML-DSA-44", "pub": "AAAA"},
    "another curve": {"kty": "EC", "crv": "P-384", "kid": "other", "alg": "ES384", "x": "AA", "y": "AA"},
    "Ed448": {"kty": "OKP", "crv": "Ed448", "kid": "other", "alg": "EdDSA", "x": "AA"},
    "X25519": {"kty": "OKP", "crv": "X25519", "kid": "other", "x": "AA"},
    "no kid": {**RSA, "alg": "RS256"},
    "an alg of another type": {**RSA, "kid": "other", "alg": ["RS256"]},
    "only for signing": {**RSA, "kid": "other", "alg": "RS256", "key_ops": ["sign"]},
}  # fmt: skip


@pytest.mark.parametrize("other", LEFT_OUT)
def test_key_that_cannot_be_used_is_left_out_and_named(other, ed_jwk):
    keyring = Keyring.from_jwks({"keys": [LEFT_OUT[other], ed_jwk]})
    assert [key.kid for key in keyring] == ["k-EdDSA"]
    (named,) = keyring.left_out
    assert named.startswith(("kid 'other': ", "key number 0 of the JWK set has no usable kid"))


def test_set_without_any_usable_key_is_refused_at_the_start():
    jwks = [jwk for jwk in LEFT_OUT.values() if "kid" in jwk]
    text = keys_refused(*({**jwk, "kid": f"k{n}"} for n, jwk in enumerate(jwks)))
    assert "kid 'k0': use or key_ops do not allow verifying; kid 'k1': alg must be one of" in text


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("header", ["EdDSA", "Ed25519"])
def test_ed25519_is_eddsa_in_keys_and_headers(name, header, signer, team_claims):
    jwk = {**signer.public_jwk(), "alg": name}
    verifier = BearerVerifier(
        [
            Issuer(
                "mnemosyne", Keyring.from_jwks({"keys": [jwk]}), algorithms=frozenset({"Ed25519"})
            )
        ],
        clock=lambda: NOW,
    )
    assert verifier.verify(signer.token(team_claims, alg=header)).kind == "jwt"


def test_keyring_is_read_from_a_file(tmp_path, ed_jwk):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [ed_jwk]}))
    for source in (path, str(path)):
        keyring = Keyring.from_jwks(source)
        assert [key.kid for key in keyring] == ["k-EdDSA"]
        assert len(keyring) == 1


def test_kid_is_compared_exactly(team_keys):
    assert team_keys.get("k-EdDSA") is not None
    assert team_keys.get("K-EDDSA") is None
    assert team_keys.get("k-EdDSA ") is None


def test_set_of_no_keys_knows_no_kid():
    assert Keyring.from_jwks({"keys": []}).get("k1") is None


def test_members_that_are_not_known_are_ignored(ed_jwk):
    assert len(Keyring.from_jwks({"keys": [{**ed_jwk, "x-note": 1}], "version": 3})) == 1
    symmetric = oct_jwk(bytes(32), d="")
    assert len(Keyring.from_jwks({"keys": [symmetric]})) == 1
    assert "do not allow verifying" in keys_refused({**symmetric, "key_ops": ["sign"]})


def test_file_that_cannot_be_read_is_refused_by_name(tmp_path):
    with pytest.raises(KeyringError, match=r"gone\.json: cannot be read: No such file"):
        Keyring.from_jwks(tmp_path / "gone.json")
    with pytest.raises(KeyringError, match="cannot be read"):
        Keyring.from_jwks(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\xfe garbage \x80",
        b"-----BEGIN PUBLIC KEY-----",
        b"[]",
        b'"keys"',
        b"{}",
        b'{"keys": {}}',
        b'{"keys": null}',
        b'{"keys": []} trailing',
        b'{"keys": [], "keys": []}',
        b'{"keys": [{"kid": "a", "kid": "b"}]}',
        b'{"keys": [NaN]}',
        b'\xef\xbb\xbf{"keys": []}',
        '{"keys": []}'.encode("utf-16"),
        b"[" * 100_000,
    ],
)
def test_file_of_garbage_is_refused(content, tmp_path):
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(KeyringError):
        Keyring.from_jwks(path)


@pytest.mark.parametrize("key", [None, 1, "k1", [], [["kid", "k1"]]])
def test_key_that_is_not_an_object_is_refused_by_its_index(key, ed_jwk):
    assert "key number 1" in keys_refused(ed_jwk, key)


@pytest.mark.parametrize("kid", [..., None, "", 7, ["k1"], "a\nb", "a\x00", "\ud800", "k" * 257])
def test_key_without_a_usable_kid_is_refused_by_its_index(kid, ed_jwk):
    jwk = {**ed_jwk, "kid": kid}
    if kid is ...:
        del jwk["kid"]
    assert keys_refused(jwk) == "key number 0 of the JWK set has no usable kid"


def test_duplicate_kids_are_refused(signers):
    first, second = signers["EdDSA"].public_jwk(), signers["ES256"].public_jwk()
    assert "'k-EdDSA' stands twice" in keys_refused(first, {**second, "kid": "k-EdDSA"})


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "RS256", "HS512"])
@pytest.mark.parametrize("other", ALGORITHMS)
def test_alg_that_does_not_go_with_the_key_is_refused(alg, other, signers):
    jwk = {**signers[alg].public_jwk(), "alg": other}
    if signers[other].public_jwk()["kty"] == jwk["kty"]:
        assert len(Keyring.from_jwks({"keys": [jwk]})) == 1
    else:
        assert f"'k-{alg}': kty and crv do not go with alg {other}" in keys_refused(jwk)


def test_curve_must_be_that_of_the_algorithm():
    p384 = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
    ed448 = OKPAlgorithm.to_jwk(Ed448PrivateKey.generate().public_key(), as_dict=True)
    assert "kty and crv" in keys_refused({**p384, "kid": "k1", "alg": "ES256"})
    assert "kty and crv" in keys_refused({**ed448, "kid": "k1", "alg": "EdDSA"})
    assert "has no kty" in keys_refused({"kid": "k1", "alg": "EdDSA"})


@pytest.mark.parametrize("members", [{"use": "enc"}, {"use": None}, {"key_ops": ["sign"]}, {"key_ops": []},
                                     {"key_ops": "verify"}, {"key_ops": [["verify"]]}, {"key_ops": None}])  # fmt: skip
def test_key_that_is_not_for_verifying_is_refused(members, ed_jwk):
    assert "do not allow verifying" in keys_refused({**ed_jwk, **members})


def test_key_that_is_for_verifying_is_taken(signer):
    for members in ({"use": "sig"}, {"key_ops": ["verify"]}):
        assert len(Keyring.from_jwks({"keys": [{**signer.public_jwk(), **members}]})) == 1
    assert load_key({**signer.jwk(), "key_ops": ["sign"]}).kid == signer.kid


@pytest.mark.parametrize(
    "x", ["", "AAAA", "!" * 43, "A" * 44, "A" * 42 + "B", None, 5, "A" * 43 + "=", "A" * 42 + "\n"]
)
def test_non_canonical_or_wrong_length_material_is_refused(x, ed_jwk):
    assert "not usable" in keys_refused({**ed_jwk, "x": x})


@pytest.mark.parametrize("alg", ["EdDSA", "ES256"])
def test_private_part_of_another_key_is_refused(alg, signers):
    with pytest.raises(KeyringError, match="not usable"):
        load_key({**signers[alg].jwk(), "d": encode(bytes(range(32)))})


def test_single_bad_key_refuses_the_whole_set(ed_jwk):
    assert "'k1'" in keys_refused(ed_jwk, oct_jwk(b"short"))


def test_no_error_and_no_repr_shows_the_material(tmp_path):
    secret = encode(b"a very secret secret")
    errors = []
    for jwk in (
        {"kty": "oct", "kid": "k1", "alg": "HS256", "k": secret},
        {"kty": "oct", "kid": "k1", "alg": "HS999", "k": secret},
        {"kty": "oct", "kid": "k1", "alg": "HS256", "k": secret + "!"},
        {"kty": "oct", "kid": "k1", "alg": "HS256", "k": {secret: secret}},
        {"kty": "RSA", "kid": "k1", "alg": "RS256", "n": secret, "e": secret, "d": secret},
        {"kty": "OKP", "crv": "Ed25519", "kid": "k1", "alg": "EdDSA", "x": secret, "d": secret},
    ):
        with pytest.raises(KeyringError) as caught:
            Keyring.from_jwks({"keys": [jwk]})
        errors.append(caught.value)
    path = tmp_path / "keys.json"
    path.write_text('{"keys": [{"k": "' + secret)
    with pytest.raises(KeyringError) as caught:
        Keyring.from_jwks(path)
    errors.append(caught.value)
    for error in errors:
        assert secret not in str(error)
        assert error.__cause__ is None
        assert secret not in repr(getattr(error.__context__, "__dict__", ""))

    keyring = Keyring.from_jwks({"keys": [oct_jwk(b"s" * 32)]})
    listed = repr(keyring) + repr(list(keyring))
    assert "k1" in listed
    assert "sss" not in listed
    assert encode(b"s" * 32) not in listed


def test_kid_in_an_error_is_bounded_and_escaped():
    text = keys_refused(oct_jwk(b"short", kid="k" * 200))
    assert len(text) < 150
    assert keys_refused(oct_jwk(b"short", kid="it's")).startswith("kid 'it's': ")


def test_kid_in_two_keyrings_is_a_configuration_error(team_keys, signer):
    other = Keyring.from_jwks({"keys": [signer.public_jwk()]})
    with pytest.raises(
        ConfigurationError, match="'k-EdDSA' is in the keyrings of mnemosyne and daedalus"
    ):
        BearerVerifier([Issuer("mnemosyne", team_keys), Issuer("daedalus", other)])
    with pytest.raises(ConfigurationError):
        BearerVerifier([Issuer("mnemosyne", team_keys), Issuer("mnemosyne", team_keys)])


@pytest.mark.parametrize("length", [1, 256])
def test_kid_of_one_to_256_characters_is_usable(length):
    jwk = oct_jwk(bytes(32), kid="k" * length)
    assert Keyring.from_jwks({"keys": [jwk]}).get("k" * length) is not None


def test_eddsa_key_of_another_type_is_refused_beside_good_keys(signer):
    wrong = {"kty": "EC", "crv": "P-256", "kid": "wrong", "alg": "EdDSA"}
    assert "kid 'wrong': kty and crv do not go with alg EdDSA" in keys_refused(
        signer.public_jwk(), wrong
    )
