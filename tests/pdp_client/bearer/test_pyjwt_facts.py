"""What PyJWT was found to refuse by itself, and what to accept: here all of it is refused.

PyJWT's parser is not used. In `test_rfc8725.py` are, by section, four more of the facts: HS256 with
the bytes of a public key (2.1), any `typ` (2.8), UTF-16 and a BOM (3.7), a list in `aud` (3.9).
"""

import json
import socket
import time

import pytest
from cryptography.hazmat.primitives import serialization

from pdp_client.bearer.jwt import base64url
from pdp_client.reasons import Reason
from tests.pdp_client.conftest import encode, keys_refused, oct_jwk, without

HEADER = b'{"alg":"EdDSA","kid":"k-EdDSA"}'


# PyJWT refuses it by itself, and is not asked


@pytest.mark.parametrize("name", ["sub", "jti"])
@pytest.mark.parametrize("value", [None, 1, True, ["x"], {"x": 1}])
def test_sub_or_jti_that_is_not_a_string_is_refused(name, value, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, name: value})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("exp", ["NaN", "Infinity", "-Infinity"])
def test_exp_of_nan_or_infinity_is_refused(exp, signer, team_claims, reason_of):
    text = json.dumps(without(team_claims, "exp"))[:-1] + f', "exp": {exp}}}'
    assert reason_of(signer.sign_bytes(HEADER, text.encode())) is Reason.INVALID_TOKEN


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_future_iat_is_refused(name, now, signer, team_claims, refusal):
    rejected = refusal(signer.token({**team_claims, name: now + 31}))
    assert rejected.reason is Reason.CLAIM_INVALID
    assert rejected.message == f"Invalid JWT claim: {name} is in the future."


@pytest.mark.parametrize("crit", [["b64"], ["exp"], [], None, "exp", [1]])
def test_crit_header_is_always_refused(crit, signer, team_claims, reason_of):
    """RFC 7515 §4.1.11: no extension is known here."""
    assert reason_of(signer.token(team_claims, crit=crit)) is Reason.INVALID_TOKEN
    assert reason_of(signer.token(team_claims, crit=crit, b64=True)) is Reason.INVALID_TOKEN


def test_non_canonical_trailing_bits_are_refused(signer, team_claims, reason_of):
    token = signer.token(team_claims)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    respelt = token[:-1] + alphabet[alphabet.index(token[-1]) + 1]
    assert base64url(token.rpartition(".")[2])
    assert reason_of(respelt) is Reason.INVALID_TOKEN


def test_whitespace_anywhere_is_refused(signer, team_claims, reason_of):
    token = signer.token(team_claims)
    for blank in ("\n", "\r\n", " ", "\t", "\u00a0"):
        for broken in (
            token + blank,
            blank + token,
            token.replace(".", "." + blank),
            token[:50] + blank + token[50:],
        ):
            assert reason_of(broken) is Reason.INVALID_TOKEN


def test_nesting_beyond_the_interpreters_stack_is_refused(signer, reason_of):
    assert reason_of(signer.sign_bytes(HEADER, b'{"x":' + b"[" * 5000)) is Reason.INVALID_TOKEN


@pytest.mark.parametrize(
    ("encoding", "form"),
    [
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
    ],
)
@pytest.mark.parametrize("alg", ["EdDSA", "RS256", "ES256"])
def test_pem_as_an_hmac_key_is_refused(alg, encoding, form, signers):
    """And DER, and OpenSSH."""
    public = signers[alg].key.public_key().public_bytes(encoding, form)
    assert "not usable" in keys_refused(oct_jwk(public))


# PyJWT accepts it


def test_duplicate_json_keys_are_refused(signer, team_claims, reason_of):
    """With PyJWT the last one wins."""
    text = json.dumps(team_claims)
    for extra in ('{"jti":"other",', '{"exp":1,', '{"x":{"a":1,"a":1},', '{"\\u006ati":"other",'):
        bearer = signer.sign_bytes(HEADER, (extra + text[1:]).encode())
        assert reason_of(bearer) is Reason.INVALID_TOKEN


@pytest.mark.parametrize("padding", ["=", "==", "===", "===="])
@pytest.mark.parametrize("segment", [0, 1, 2])
def test_padding_appended_to_a_segment_is_refused(
    padding, segment, signers, team_claims, reason_of
):
    """With PyJWT one token has many spellings."""
    for alg in ("EdDSA", "HS256", "RS256"):
        segments = signers[alg].token(team_claims).split(".")
        segments[segment] += padding
        assert reason_of(".".join(segments)) is Reason.INVALID_TOKEN


def test_token_has_one_spelling(signer, team_claims, reason_of):
    """So that what remembers a bearer by its text remembers a token: here, of Ed25519."""
    head, _, signature = signer.token(team_claims).rpartition(".")
    raw = base64url(signature)
    order = 2**252 + 27742317777372353535851937790883648493
    respelt = (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
    for other in (raw + b"\x00", b"\x00" + raw, raw[:-1], raw[:32] + respelt):
        assert reason_of(f"{head}.{encode(other)}") is Reason.INVALID_TOKEN


@pytest.mark.parametrize("digits", ["1" + "0" * 400, "1" + "0" * 5000, "1e400", "1e308", "1.7e15"])
def test_exp_of_400_digits_is_refused(digits, signer, team_claims, reason_of):
    text = json.dumps(without(team_claims, "exp"))[:-1] + f', "exp": {digits}}}'
    token = signer.sign_bytes(b'{"alg":"EdDSA","kid":"k-EdDSA"}', text.encode())
    assert reason_of(token) is Reason.CLAIM_INVALID


def test_exp_as_a_string_is_refused(signer, team_claims, reason_of):
    token = signer.token({**team_claims, "exp": str(team_claims["exp"])})
    assert reason_of(token) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("name", ["sub", "jti"])
def test_empty_sub_or_jti_is_refused(name, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, name: ""})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("name", ["sub", "jti"])
@pytest.mark.parametrize("value", ["a\x00b", "a\nb", "\x7f", "\x85", "\ud800", "a\udfff"])
def test_nul_or_a_lone_surrogate_in_sub_or_jti_is_refused(
    name, value, signer, team_claims, reason_of
):
    """And every other control character."""
    assert reason_of(signer.token({**team_claims, name: value})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("name", ["iat", "exp", "nbf"])
def test_iat_that_is_true_is_refused(name, signer, team_claims, reason_of):
    """To Python it is the integer 1."""
    assert reason_of(signer.token({**team_claims, name: True})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("unit", ["a", ".", "=", "a.", "\n", "eyJhbGciOiJub25lIn0."])
def test_token_of_megabytes_is_refused_before_anything_is_read(unit, reason_of):
    """PyJWT takes half a second for it."""
    bearer = unit * (10_000_000 // len(unit))
    start = time.process_time()
    assert reason_of(bearer) is Reason.INVALID_TOKEN
    assert time.process_time() - start < 0.25


def test_pyjwt_key_client_is_unused_and_nothing_connects(
    signers, team_claims, verifier, reason_of, monkeypatch
):
    """`PyJWKClient` blocks the event loop for up to 30 s. No kid, known or unknown, is asked for."""
    monkeypatch.setattr(socket, "socket", lambda *_args, **_kwargs: pytest.fail("it connected"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args: pytest.fail("it asked DNS"))
    for signer in signers.values():
        assert verifier.verify(signer.token(team_claims)).kind == "jwt"
        assert reason_of(signer.token(team_claims, kid="unknown")) is Reason.KEY_UNKNOWN
