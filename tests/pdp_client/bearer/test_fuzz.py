"""Whatever is shown: a credential comes out, or `BearerRejected`; never anything else.

`tests/pdp_client/bearer/fuzz_bearers.py` does the same for hours, guided by coverage.
"""

import json
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pdp_client.bearer.keyring import Keyring
from pdp_client.bearer.opaque import mint_opaque
from pdp_client.bearer.verifier import Credential
from pdp_client.exceptions import BearerRejected, KeyringError
from pdp_client.reasons import Reason
from tests.pdp_client.conftest import NOW, encode, without

CLAIMS = {
    "iss": "mnemosyne",
    "typ": "team",
    "sub": "team:6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a",
    "jti": "j",
    "iat": NOW - 60,
    "exp": NOW + 3600,
}
ALGORITHMS = ["EdDSA", "ES256", "RS256", "PS256", "HS256", "HS384", "HS512"]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.sampled_from([0, 1, -1, NOW, NOW + 30, NOW + 31, 2**63, 253_402_300_799, 253_402_300_800]),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)
json_texts = st.recursive(
    st.sampled_from(
        ["null", "true", "0", "-0", "1e3", "1E400", "-1e-999", "01", "NaN", "1" * 400, '""', '"\\ud800"', '"\\u0000"', "{}", "[]", str(NOW), f"{NOW}.0"]
    )
    | st.text(max_size=6).map(json.dumps),
    lambda children: (
        st.lists(children, max_size=4).map(lambda texts: f"[{','.join(texts)}]")
        | st.lists(st.tuples(st.sampled_from(["exp", "iss", "a"]), children), max_size=4).map(
            lambda members: "{" + ",".join(f'"{name}":{text}' for name, text in members) + "}"
        )
    ),
    max_leaves=6,
)  # fmt: skip
"""JSON as it may be spelt: members twice, numbers of any length, lone surrogates, what is no JSON."""


def outcome(verifier, bearer):
    """The credential, or None for a refusal; both are as they must be."""
    try:
        credential = verifier.verify(bearer)
    except BearerRejected as error:
        rejected = error
    else:
        assert isinstance(credential, Credential)
        json.dumps(credential.as_input(), allow_nan=False, ensure_ascii=False).encode()
        return credential
    assert isinstance(rejected.reason, Reason)
    assert len(rejected.message) < 150
    assert rejected.message.isprintable()
    return None


def is_opaque_or_refused(credential):
    return credential is None or credential.kind == "token"


def is_acceptable(claims):
    """The rules for a team's claims once more, as plainly as they can be said."""
    texts = [claims.get(name) for name in ("iss", "sub", "jti")]
    times = [claims.get(name) for name in ("exp", "iat")] + [claims.get("nbf", 0)]
    return (
        all(type(time) is int and 0 <= time <= 253_402_300_799 for time in times)
        and claims["exp"] > NOW - 30
        and all(time <= NOW + 30 for time in times[1:])
        and all(type(text) is str and text.isprintable() and text for text in texts)
        and claims["iss"] == "mnemosyne"
        and claims["sub"] == CLAIMS["sub"]
    )


# text


@given(st.text())
def test_arbitrary_text_is_refused_or_an_opaque_bearer(verifier, text):
    assert is_opaque_or_refused(outcome(verifier, text))


@given(st.text("ABCxyz019-_=.~+/", max_size=9000))
def test_arbitrary_bearer_text_is_refused_or_opaque(verifier, text):
    assert is_opaque_or_refused(outcome(verifier, text))


@given(st.binary(), st.binary(), st.binary())
def test_arbitrary_segments_never_verify_as_a_jwt(verifier, header, payload, signature):
    bearer = ".".join(map(encode, (header, payload, signature)))
    assert is_opaque_or_refused(outcome(verifier, bearer))


# what was a good token


@given(st.data())
def test_mutated_valid_token_never_verifies_as_a_jwt(verifier, signers, data):
    # Not ES256: of its signatures anybody can make a second one.
    signer = signers[data.draw(st.sampled_from(["EdDSA", "HS256", "RS256"]))]
    token = signer.token(CLAIMS)
    assert verifier.verify(token).kind == "jwt"
    position = data.draw(st.integers(0, len(token)))
    taken = data.draw(st.integers(0, 5))
    inserted = data.draw(st.text("ABCxyz019-_=.~+/\n\x00é", max_size=5))
    mutated = token[:position] + inserted + token[position + taken :]
    assume(mutated != token)
    assert is_opaque_or_refused(outcome(verifier, mutated))


@given(st.lists(st.integers(0, 8), min_size=3, max_size=3), st.sampled_from([".", "", "..", " "]))
def test_segments_verify_only_in_their_original_combination(verifier, signers, picked, glue):
    tokens = [
        signers[alg].token({**CLAIMS, "jti": jti})
        for alg, jti in (("EdDSA", "a"), ("EdDSA", "b"), ("HS256", "a"))
    ]
    segments = ".".join(tokens).split(".")
    bearer = glue.join(segments[number] for number in picked)
    credential = outcome(verifier, bearer)
    assert is_opaque_or_refused(credential) == (bearer not in tokens)


@given(st.integers(0, 52), st.characters())
def test_mutated_token_is_refused_or_unknown(verifier, position, character):
    token = mint_opaque(lambda bits: 12345)
    mutated = token[:position] + character + token[position + 1 :]
    assume(mutated != token)
    credential = outcome(verifier, mutated)
    assert credential is None or not mutated.startswith("lct_")


# signed, so that what comes after the signature is reached


@given(
    st.dictionaries(st.sampled_from([*CLAIMS, "nbf"]), json_values),
    st.sets(st.sampled_from(list(CLAIMS))),
)
def test_signed_claims_are_accepted_exactly_by_the_rules(verifier, signer, changes, dropped):
    claims = {**without(CLAIMS, *dropped), **changes}
    credential = outcome(verifier, signer.token(claims))
    if claims.get("typ") == "team":
        # Beyond control characters, `isprintable` refuses what may stand in a jti.
        assume(not isinstance(claims.get("jti"), str) or claims["jti"].isprintable())
        assert (credential is not None) == is_acceptable(claims)
    if credential is not None:
        assert dict(credential.claims) == claims


@given(st.dictionaries(st.sampled_from(["aud", "libs", "ws", "x", ""]), json_values))
def test_signed_claims_of_other_names_pass_or_are_refused(verifier, signer, others):
    claims = {**CLAIMS, **others}
    credential = outcome(verifier, signer.token(claims))
    assert credential is None or dict(credential.claims) == claims


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "cty", "x5t"]), json_values))
def test_header_of_any_kind_never_crashes(verifier, signer, header):
    outcome(verifier, signer.token(CLAIMS, **header))


@given(json_texts, st.sampled_from(ALGORITHMS))
def test_signed_json_is_read_unambiguously_or_refused(verifier, signers, text, alg):
    signer = signers[alg]
    header = json.dumps({"alg": alg, "kid": signer.kid}).encode()
    payload = f'{json.dumps(CLAIMS)[:-1]},"x":{text}}}'
    credential = outcome(verifier, signer.sign_bytes(header, payload.encode()))
    if credential is not None:
        pairs = json.loads(payload, object_pairs_hook=list)
        assert len(dict(pairs)) == len(pairs)
        assert json.loads(payload) == credential.claims


@given(json_texts, st.binary(max_size=8), st.binary(max_size=8))
def test_signed_header_of_any_spelling_never_crashes(verifier, signer, text, before, after):
    for header in (f'{{"alg":"EdDSA","kid":"k-EdDSA","x":{text}}}', f'{{"alg":{text}}}', text):
        raw = before + header.encode() + after
        outcome(verifier, signer.sign_bytes(raw, json.dumps(CLAIMS).encode()))


# beside the bearer


@given(
    st.sampled_from(ALGORITHMS),
    st.dictionaries(
        st.sampled_from(["kty", "crv", "kid", "alg", "use", "key_ops", "k", "x", "y", "n", "e", "d"]),
        json_values | st.binary(max_size=66).map(encode),
    ),
    st.booleans(),
)  # fmt: skip
def test_jwk_of_any_kind_is_a_key_or_a_keyring_error(signers, alg, changes, private):
    jwk = signers[alg].jwk() if private else signers[alg].public_jwk()
    try:
        (key,) = Keyring.from_jwks({"keys": [{**jwk, **changes}]})
    except KeyringError as error:
        refused = error
    else:
        assert key.verify(b"x", b"") is False
        return
    assert len(str(refused)) < 150


@given(json_texts | st.binary())
def test_key_file_of_any_content_loads_or_is_a_keyring_error(tmp_path_factory, content):
    raw = content if isinstance(content, bytes) else f'{{"keys":{content}}}'.encode()
    path = tmp_path_factory.getbasetemp() / "any.jwks"
    path.write_bytes(raw)
    try:
        keyring = Keyring.from_jwks(path)
    except KeyringError:
        return
    assert [key.kid for key in keyring] == [key["kid"] for key in json.loads(raw)["keys"]]


def test_fuzz_model_accepts_a_good_token_and_refuses_a_bad_one():
    assert is_acceptable(CLAIMS)
    for name in ("exp", "iat", "iss", "sub", "jti"):
        assert not is_acceptable(without(CLAIMS, name))
        assert not is_acceptable({**CLAIMS, name: math.nan})


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_fuzz_input_without_mutations_is_accepted(alg, signers, verifier):
    assert outcome(verifier, signers[alg].token(CLAIMS)).kind == "jwt"
