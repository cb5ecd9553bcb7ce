import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp_client.bearer.jwt import MAX_BEARER_LENGTH, base64url, json_object, parse_jwt
from pdp_client.reasons import Reason
from tests.pdp_client.conftest import encode

HEADER = b'{"alg":"EdDSA","kid":"k-EdDSA"}'


@pytest.mark.parametrize(
    "bearer",
    [
        "",
        " ",
        "a b",
        "a\nb",
        "a\n",
        "\na",
        "a\r\n",
        "a\x00",
        "a,b",
        "a=b",
        "=",
        "ä",
        "a\u2028",
        "\ud800",
        "a\tb",
        'a"b',
        "{}",
    ],
)
def test_bearer_that_is_not_a_b64token_is_refused(bearer, reason_of):
    assert reason_of(bearer) is Reason.INVALID_TOKEN


def test_bearer_is_8_kib_at_most(verifier, reason_of):
    assert verifier.verify("a" * MAX_BEARER_LENGTH).kind == "token"
    assert reason_of("a" * (MAX_BEARER_LENGTH + 1)) is Reason.INVALID_TOKEN


def test_signed_jwt_over_8_kib_is_refused(signer, team_claims, reason_of):
    token = signer.token({**team_claims, "pad": "x" * MAX_BEARER_LENGTH})
    assert reason_of(token) is Reason.INVALID_TOKEN


@pytest.mark.parametrize("unit", ["a", ".", "=", "a=", "a.", "_~"])
def test_bearer_within_the_limit_parses_quickly(unit, verifier):
    bearer = (unit * MAX_BEARER_LENGTH)[: MAX_BEARER_LENGTH - 1] + "\n"
    start = time.process_time()
    with pytest.raises(Exception, match="Invalid MCP token"):
        verifier.verify(bearer)
    assert time.process_time() - start < 0.25


def test_three_segments_with_a_string_alg_are_a_jwt(signer):
    parsed = parse_jwt(signer.sign_bytes(HEADER, b'{"sub":"s"}'))
    assert (parsed.alg, parsed.kid, parsed.claims) == ("EdDSA", "k-EdDSA", {"sub": "s"})


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"x",
        b"[]",
        b'"alg"',
        b"{}",
        b'{"kid":"k"}',
        b'{"alg":1}',
        b'{"alg":null}',
        b'{"alg":["none"]}',
        b"[" * 3000,
        b"\xff",
    ],
)
def test_three_segments_whose_first_is_anything_else_are_opaque(header, signer, verifier):
    bearer = signer.sign_bytes(header, b"{}")
    assert parse_jwt(bearer) is None
    if header:
        assert verifier.verify(bearer).kind == "token"


def test_more_or_fewer_segments_than_three_are_opaque(signer, team_claims, verifier):
    token = signer.token(team_claims)
    for bearer in (
        f"{token}.{token}",
        f"{token}.",
        f".{token}",
        token.rpartition(".")[0],
        f"{token}{token}",
    ):
        assert verifier.verify(bearer).kind == "token"


@pytest.mark.parametrize("kid", [None, 1, True, ["k-EdDSA"], {"k-EdDSA": 1}])
def test_kid_that_is_not_a_string_is_malformed(kid, signer, team_claims, reason_of):
    assert reason_of(signer.token(team_claims, kid=kid)) is Reason.INVALID_TOKEN


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b'"x"', b"1", b"{", b"{}{}", b'{"a":1}x', b"{'a':1}", b'{"a":"\n"}', b'{"a":"\x00"}', b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":01}', b'{"a":1,}'],
)  # fmt: skip
def test_payload_that_is_not_a_strict_json_object_is_refused(payload, signer, reason_of):
    assert reason_of(signer.sign_bytes(HEADER, payload)) is Reason.INVALID_TOKEN


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_is_bounded_at_sixteen_levels(opening, signer, team_claims, verifier, reason_of):
    closing = {"[": "]", '{"a":': "}"}[opening]

    def nested(levels):
        text = (
            json.dumps(team_claims)[:-1] + ',"x":' + opening * levels + "1" + closing * levels + "}"
        )
        return signer.sign_bytes(HEADER, text.encode())

    assert verifier.verify(nested(15)).kind == "jwt"
    assert reason_of(nested(16)) is Reason.INVALID_TOKEN
    assert reason_of(nested(900)) is Reason.INVALID_TOKEN


TRICKY = ["[", "]]", '"[', '\\"]', "\\", "{[" * 20, "é[", "\u2028{"]
wrappings = st.lists(
    st.sampled_from(
        [
            *(lambda value, text=text: [text, value, text] for text in TRICKY),
            *(lambda value, text=text: {text: [], "a": value, "b": text} for text in TRICKY),
        ]
    ),
    min_size=10,
    max_size=22,
)


def depth(value):
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return 0
    return 1 + max(map(depth, value), default=0)


@given(wrappings, st.booleans())
def test_nesting_depth_ignores_brackets_in_strings(wrappings, ascii_only):
    value = 1
    for wrap in wrappings:
        value = wrap(value)
    value = {"a": value}
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    if depth(value) <= 16:
        assert json_object(raw) == value
    else:
        with pytest.raises(ValueError, match="not a strict one"):
            json_object(raw)


def test_number_beyond_64_bits_is_read_as_infinite():
    assert json_object(b'{"a":18446744073709551615,"b":-9223372036854775808}') == {
        "a": 2**64 - 1,
        "b": -(2**63),
    }
    for text in (b"1" * 21, b"1" * 5000, b"1e400"):
        assert json_object(b'{"a":' + text + b"}") == {"a": float("inf")}


@pytest.mark.parametrize(
    "text", ["QQ==", "QQ=", "QR", "Q", "QUJDR", "+_8", "/w", "Q Q", "QQ\n", "ä", "Q.Q"]
)
def test_base64url_has_one_spelling(text):
    with pytest.raises(ValueError):
        base64url(text)


@pytest.mark.parametrize(
    ("text", "raw"),
    [("", b""), ("QQ", b"A"), ("QUI", b"AB"), ("QUJD", b"ABC"), ("-_8", b"\xfb\xff")],
)
def test_canonical_base64url_is_decoded(text, raw):
    assert base64url(text) == raw


def test_standard_alphabet_does_not_verify(signers, team_claims, reason_of):
    head, _, signature = signers["HS512"].token({**team_claims, "pad": "????>>>>"}).rpartition(".")
    respelt = signature.replace("-", "+").replace("_", "/")
    for bearer in (f"{head}.{respelt}~", f"{head}.{signature}~", f"{head}.+{signature}"):
        assert reason_of(bearer) is Reason.INVALID_TOKEN


def test_jwt_repr_and_errors_hide_its_parts(signer, team_claims, verifier):
    token = signer.token(team_claims)
    assert "jti-1" not in repr(parse_jwt(token))
    with pytest.raises(Exception, match="Invalid MCP token") as caught:
        verifier.verify(token[:-4] + "AAAA")
    assert str(caught.value) == "Invalid MCP token."


@pytest.mark.parametrize("length", range(1, 4))
def test_canonical_base64url_of_every_last_byte_is_decoded(length):
    for last in range(256):
        raw = bytes(length - 1) + bytes([last])
        assert base64url(encode(raw)) == raw
