"""RFC 8725, JSON Web Token Best Current Practices: each section of 2 and 3, in its order."""

import hashlib
import hmac
import json
import socket
import zlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from jwt.algorithms import RSAAlgorithm

from pdp_client.bearer.jwt import base64url
from pdp_client.bearer.key_table import Issuer
from pdp_client.bearer.keyring import Keyring
from pdp_client.bearer.verifier import BearerVerifier
from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason
from tests.pdp_client.conftest import encode, keys_refused, oct_jwk, without

HEADER = b'{"alg":"EdDSA","kid":"k-EdDSA"}'


# 2. Threats


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_2_1_alg_none_in_any_case_is_refused(alg, signature, signer, team_claims, reason_of):
    """§2.1, §3.1: weak signatures."""
    head = signer.token(team_claims, alg=alg).rpartition(".")[0]
    assert reason_of(f"{head}.{signature}") is Reason.ALG_UNSUPPORTED


def test_2_1_a_signature_cut_off_is_refused(signer, team_claims, reason_of):
    """§2.1: the `alg` of a real key and no signature."""
    assert reason_of(signer.token(team_claims).rpartition(".")[0] + ".") is Reason.INVALID_TOKEN


@pytest.mark.parametrize("victim", ["EdDSA", "RS256", "ES256"])
@pytest.mark.parametrize("form", ["raw", "der", "pem", "jwk"])
def test_2_1_hs256_with_a_public_key_is_refused(victim, form, signers, team_claims, reason_of):
    """§2.1, and PyJWT: bytes of an Ed25519 key with `algorithms=[HS256, EdDSA]` verify a forgery."""
    public = signers[victim].key.public_key()
    subject = serialization.PublicFormat.SubjectPublicKeyInfo
    secret = {
        "raw": lambda: base64url(
            signers[victim].public_jwk().get("x") or signers[victim].public_jwk()["n"]
        ),
        "der": lambda: public.public_bytes(serialization.Encoding.DER, subject),
        "pem": lambda: public.public_bytes(serialization.Encoding.PEM, subject),
        "jwk": lambda: json.dumps(signers[victim].public_jwk()).encode(),
    }[form]()
    for alg, kid in (("HS256", f"k-{victim}"), ("HS256", "k-HS256"), (victim, f"k-{victim}")):
        header = json.dumps({"alg": alg, "kid": kid}).encode()
        signing_input = f"{encode(header)}.{encode(json.dumps(team_claims).encode())}"
        mac = hmac.new(secret, signing_input.encode(), hashlib.sha256).digest()
        expected = (
            Reason.INVALID_TOKEN if alg == victim or kid == "k-HS256" else Reason.ALG_UNSUPPORTED
        )
        assert reason_of(f"{signing_input}.{encode(mac)}") is expected


@pytest.mark.parametrize(
    ("alg", "length"), [("HS256", 31), ("HS384", 47), ("HS512", 63), ("HS256", 0)]
)
def test_2_2_a_weak_symmetric_key_is_refused(alg, length):
    """§2.2, §3.5; RFC 7518 §3.2: as long as the hash, at least."""
    jwk = oct_jwk(b"s" * length, alg=alg)
    assert alg in keys_refused(jwk)
    assert len(Keyring.from_jwks({"keys": [oct_jwk(b"s" * 64, alg=alg)]})) == 1


def test_2_3_an_encrypted_token_is_never_decrypted(verifier):
    """§2.3, §2.4: a JWE is opaque bytes, and so unknown to OPA; no composition, no leak."""
    header = encode(b'{"alg":"dir","enc":"A256GCM","kid":"k-HS256"}')
    jwe = f"{header}..{encode(bytes(12))}.{encode(b'sealed')}.{encode(bytes(16))}"
    assert verifier.verify(jwe).kind == "token"


def test_2_3_a_token_inside_a_token_is_never_unpacked(signer, team_claims, reason_of):
    """§2.3, §3.3: the inner signature counts for nothing."""
    inner = signer.token(team_claims)
    nested = signer.sign_bytes(b'{"alg":"EdDSA","kid":"k-EdDSA","cty":"JWT"}', inner.encode())
    assert reason_of(nested) is Reason.INVALID_TOKEN


@pytest.mark.parametrize("alg", ["dir", "A256GCM", "A256KW", "RSA-OAEP", "RSA1_5", "ECDH-ES"])
def test_2_4_no_key_that_decrypts_is_accepted(alg):
    """§2.4, §2.5: neither symmetric encryption, nor RSA, nor key agreement."""
    assert "alg must be one of" in keys_refused(oct_jwk(bytes(64), alg=alg))


def test_2_5_no_key_for_key_agreement_is_accepted():
    """§2.5: insecure use of elliptic curve encryption."""
    public = X25519PrivateKey.generate().public_key().public_bytes_raw()
    jwk = {"kty": "OKP", "crv": "X25519", "kid": "k1", "alg": "EdDSA", "x": encode(public)}
    assert "kty and crv do not go with alg" in keys_refused(jwk)


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","alg":"EdDSA","kid":"k-EdDSA"}',
        b'{"alg":"EdDSA","kid":"other","kid":"k-EdDSA"}',
        b"\xef\xbb\xbf" + HEADER,
        HEADER.decode().encode("utf-16"),
        HEADER.decode().encode("utf-32-le"),
        b'{"alg":"EdDSA","kid":"k-EdDSA","x":NaN}',
        b'{"alg":"EdDSA","kid":"k-EdDSA","x":' + b"[" * 17 + b"]" * 17 + b"}",
    ],
)
def test_2_6_a_header_that_parsers_read_differently_is_refused(
    header, signer, team_claims, reason_of
):
    """§2.6: multiplicity of JSON encodings. It is a JWT, and never an opaque bearer."""
    bearer = signer.sign_bytes(header, json.dumps(team_claims).encode())
    assert reason_of(bearer) is Reason.INVALID_TOKEN


def test_2_7_token_for_another_server_is_refused(team_keys, signer, team_claims, now):
    """§2.7: substitution attacks."""
    here, there = (
        BearerVerifier([Issuer("mnemosyne", team_keys, audience=name)], clock=lambda: now)
        for name in ("here", "there")
    )
    token = signer.token({**team_claims, "aud": "there"})
    assert there.verify(token).kind == "jwt"
    with pytest.raises(BearerRejected) as caught:
        here.verify(token)
    assert caught.value.reason is Reason.AUDIENCE_INVALID


@pytest.mark.parametrize(
    "typ", ["", "dpop+jwt", "secevent+jwt", "JOSE", "team", None, 1, ["JWT"], "JWT\x00"]
)
def test_2_8_token_of_another_kind_is_refused(typ, signer, team_claims, reason_of):
    """§2.8: cross-JWT confusion; PyJWT accepts any `typ`."""
    assert reason_of(signer.token(team_claims, typ=typ)) is Reason.INVALID_TOKEN


@pytest.mark.parametrize(
    "kid",
    ["", "k-eddsa", " k-EdDSA", "k-EdDSA\x00", "k-EdDSA\n", "../../etc/passwd", "/dev/null", "' OR 1=1 --", '"', "{kid}", "%s", "k" * 5_000, "\ud800", "\u202e", "__class__"],
)  # fmt: skip
def test_2_9_kid_is_only_looked_up_by_name(kid, signer, team_claims, refusal):
    """§2.9, §3.10: a path, a quote, a NUL, a format, a very long one."""
    token = signer.token(team_claims, kid=kid)
    rejected = refusal(token)
    assert rejected.reason is Reason.KEY_UNKNOWN
    assert rejected.message.isprintable()
    assert len(rejected.message) < 110


def test_2_9_a_kid_of_ten_thousand_characters_is_over_the_limit(signer, team_claims, reason_of):
    """§2.9."""
    assert reason_of(signer.token(team_claims, kid="k" * 10_000)) is Reason.INVALID_TOKEN


@pytest.mark.parametrize("name", ["jku", "x5u"])
def test_2_9_url_in_a_token_is_never_requested(name, signer, team_claims, reason_of, monkeypatch):
    """§2.9, §3.10: server-side request forgery."""
    monkeypatch.setattr(socket, "socket", lambda *_args, **_kwargs: pytest.fail("it connected"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args: pytest.fail("it asked DNS"))
    token = signer.token(team_claims, **{name: "https://evil.example/keys"})
    assert reason_of(token) is Reason.INVALID_TOKEN


# 3. Best practices


@pytest.mark.parametrize(
    "alg", ["eddsa", "HS256", "RS256", "ES256", "EdDSA ", "EdDSA\x00", "EDDSA"]
)
def test_3_1_an_alg_that_is_not_exactly_the_keys_is_refused(alg, signer, team_claims, refusal):
    """§3.1: perform algorithm verification."""
    token = signer.token(team_claims, alg=alg)
    rejected = refusal(token)
    assert rejected.reason is Reason.ALG_UNSUPPORTED
    assert rejected.message == "Unsupported JWT alg."


def test_3_1_key_is_used_with_exactly_one_algorithm(signers, team_claims, reason_of):
    """§3.1."""
    assert reason_of(signers["PS256"].token(team_claims, kid="k-RS256")) is Reason.ALG_UNSUPPORTED
    forged = signers["PS256"].token(team_claims, kid="k-RS256", alg="RS256")
    assert reason_of(forged) is Reason.INVALID_TOKEN


@pytest.mark.parametrize(
    "alg",
    [..., None, 7, [], "", "none", "None", "eddsa", "RS384", "ES384", "HS1", "dir"],
)
def test_3_2_a_key_without_an_appropriate_algorithm_is_refused(alg, signer):
    """§3.2: use appropriate algorithms."""
    jwk = {**signer.public_jwk(), "alg": alg}
    if alg is ...:
        del jwk["alg"]
    assert "kid 'k-EdDSA': alg must be one of EdDSA" in keys_refused(jwk)


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "RS256", "PS256", "HS256", "HS384", "HS512"])
def test_3_3_any_changed_byte_of_a_signature_is_refused(alg, signers, team_claims, reason_of):
    """§3.3: validate all cryptographic operations."""
    head, _, signature = signers[alg].token(team_claims).rpartition(".")
    raw = bytearray(base64url(signature))
    for position in (0, len(raw) // 2, len(raw) - 1):
        changed = bytearray(raw)
        changed[position] ^= 1
        assert reason_of(f"{head}.{encode(bytes(changed))}") is Reason.INVALID_TOKEN
    for other in (raw[:-1], raw + b"\x00", bytes(len(raw)), b"\xff" * len(raw), b""):
        assert reason_of(f"{head}.{encode(bytes(other))}") is Reason.INVALID_TOKEN


def test_3_3_claims_are_not_looked_at_before_the_signature_holds(signer, team_claims, reason_of):
    """§3.3."""
    for claims in ({}, {**team_claims, "exp": 0}, {**team_claims, "iss": "x"}):
        head = signer.token(claims).rpartition(".")[0]
        assert reason_of(f"{head}.{encode(bytes(64))}") is Reason.INVALID_TOKEN


def test_3_4_a_point_off_the_curve_is_refused(signers):
    """§3.4: validate cryptographic inputs."""
    jwk = signers["ES256"].public_jwk()
    assert "not usable" in keys_refused({**jwk, "y": encode(bytes(32))})


def test_3_5_an_rsa_key_of_less_than_2048_bits_is_refused():
    """§3.5: keys with sufficient entropy; RFC 7518 §3.3."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    jwk = RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True)
    for alg in ("RS256", "PS256"):
        assert "too weak" in keys_refused({**jwk, "kid": "k1", "alg": alg})


def test_3_6_a_compressed_token_is_refused(signer, team_claims, reason_of):
    """§3.6: avoid compression; RFC 7516 §4.1.3. A small one could hold megabytes."""
    packed = zlib.compress(json.dumps(team_claims).encode())
    for payload in (packed, json.dumps(team_claims).encode()):
        token = signer.sign_bytes(HEADER[:-1] + b',"zip":"DEF"}', payload)
        assert reason_of(token) is Reason.INVALID_TOKEN
    assert reason_of(signer.sign_bytes(HEADER, packed)) is Reason.INVALID_TOKEN


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_3_7_a_payload_that_is_not_utf_8_is_refused(encoding, signer, team_claims, reason_of):
    """§3.7: use UTF-8; PyJWT takes UTF-16, UTF-32 and a BOM."""
    bearer = signer.sign_bytes(HEADER, json.dumps(team_claims).encode(encoding))
    assert reason_of(bearer) is Reason.INVALID_TOKEN


@pytest.mark.parametrize(
    "iss", ["daedalus", "Mnemosyne", "mnemosyne/", "", "https://mnemosyne", "mnemosyne\x00"]
)
def test_3_8_token_signed_by_another_issuers_key_is_refused(iss, signer, team_claims, reason_of):
    """§3.8: validate issuer and subject."""
    assert reason_of(signer.token({**team_claims, "iss": iss})) is Reason.ISSUER_INVALID


@pytest.mark.parametrize(
    "sub",
    [
        "6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a",
        "team:",
        "team:7f",
        "Team:6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a",
        "team:6A1F0C9E-3B52-4D7E-9C1A-2F4B8E7D6C5A",
        "team:6a1f0c9e3b524d7e9c1a2f4b8e7d6c5a",
        "team:{6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a}",
        "team:6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a ",
        " team:6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a",
        "team:6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5١",
        "team:team:6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a",
    ],
)
def test_3_8_a_teams_subject_is_a_canonical_uuid(sub, signer, team_claims, reason_of):
    """§3.8."""
    assert reason_of(signer.token({**team_claims, "sub": sub})) is Reason.INVALID_TOKEN


@pytest.fixture
def picky(team_keys, now):
    return BearerVerifier([Issuer("mnemosyne", team_keys, audience="mcp")], clock=lambda: now)


@pytest.mark.parametrize("aud", ["mcp", ["mcp"], ["other", "mcp"]])
def test_3_9_an_audience_that_is_or_contains_ours_is_accepted(aud, picky, signer, team_claims):
    """§3.9, RFC 7519 §4.1.3; a list is what PyJWT refuses with `strict_aud` only."""
    assert picky.verify(signer.token({**team_claims, "aud": aud})).kind == "jwt"


@pytest.mark.parametrize(
    "aud", [..., "", "other", "mcp2", "MCP", [], ["other"], None, 1, {"mcp": 1}, [["mcp"]]]
)
def test_3_9_any_other_audience_is_refused(aud, picky, signer, team_claims):
    """§3.9: use and validate audience."""
    claims = team_claims if aud is ... else {**team_claims, "aud": aud}
    with pytest.raises(BearerRejected) as caught:
        picky.verify(signer.token(claims))
    assert caught.value.reason is Reason.AUDIENCE_INVALID


@pytest.mark.parametrize(
    "member",
    [
        {"crit": ["b64"], "b64": True},
        {"b64": False},
        {"b64": True},
        {"zip": "DEF"},
        {"jku": "https://evil.example/keys"},
        {"jwk": {"kty": "oct", "k": "c2VjcmV0"}},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
    ],
)
def test_3_10_header_with_a_key_or_changed_meaning_is_refused(
    member, signer, team_claims, reason_of
):
    """§3.10: do not trust received claims; RFC 7515 §4.1."""
    assert reason_of(signer.token(team_claims, **member)) is Reason.INVALID_TOKEN


@pytest.mark.parametrize("typ", ["JWT", "jwt", "application/jwt", ...])
def test_3_11_typ_header_may_be_jwt(typ, signer, team_claims, verifier):
    """§3.11: explicit typing; RFC 7519 §5.1."""
    assert verifier.verify(signer.token(team_claims, typ=typ)).kind == "jwt"


def test_3_12_only_mnemosyne_issues_team_jwts(turn_signer, team_claims, reason_of):
    """§3.12: mutually exclusive rules for different kinds."""
    assert reason_of(turn_signer.token(team_claims)) is Reason.ISSUER_INVALID
    own = {**team_claims, "iss": "daedalus"}
    assert reason_of(turn_signer.token(own)) is Reason.ISSUER_INVALID


def test_3_12_jwt_of_the_team_issuer_without_typ_is_per_turn(signer, team_claims, verifier):
    """§3.12."""
    assert verifier.verify(signer.token({**without(team_claims, "typ"), "sub": "u-1"})).is_per_turn
    assert verifier.verify(signer.token({**team_claims, "typ": "Team", "sub": "u-1"})).is_per_turn
    assert not verifier.verify(signer.token(team_claims)).is_per_turn
