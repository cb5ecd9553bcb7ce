import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from pdp_client.exceptions import BearerRejected
from pdp_client.keyring import Keyring
from pdp_client.opaque import mint_opaque
from pdp_client.parsing import base64url
from pdp_client.reasons import Reason
from pdp_client.verifier import BearerVerifier, Credential, Issuer


def encode(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def without(claims, *names):
    return {name: value for name, value in claims.items() if name not in names}


# What is let through


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "RS256", "PS256", "HS256", "HS384", "HS512"])
def test_a_team_jwt_of_each_algorithm_becomes_its_verified_claims(
    alg, signers, team_claims, verifier
):
    credential = verifier.verify(signers[alg].token(team_claims))
    assert credential.as_input() == {"kind": "jwt", "kid": f"k-{alg}", "claims": team_claims}
    assert json.loads(json.dumps(credential.as_input())) == credential.as_input()


def test_what_pyjwt_mints_is_accepted(signer, team_claims, verifier):
    token = jwt.encode(team_claims, signer.key, "EdDSA", headers={"kid": signer.kid})
    assert dict(verifier.verify(token).claims) == team_claims


def test_a_per_turn_jwt_verifies_so_that_its_refusal_is_on_record(
    turn_signer, turn_claims, verifier
):
    credential = verifier.verify(turn_signer.token(turn_claims))
    assert credential.is_per_turn
    assert credential.claims["libs"] == ["lib-a"]


def test_a_jwt_of_the_team_issuer_without_the_type_is_per_turn(signer, team_claims, verifier):
    assert verifier.verify(signer.token({**without(team_claims, "typ"), "sub": "u-1"})).is_per_turn
    assert verifier.verify(signer.token({**team_claims, "typ": "Team", "sub": "u-1"})).is_per_turn
    assert not verifier.verify(signer.token(team_claims)).is_per_turn


@pytest.mark.parametrize(
    "extra",
    [
        {"aud": "mcp"},
        {"aud": ["a", "b"]},
        {"name": "Ωmega 😀"},
        {"n": 2**63},
        {"x": None},
        {"libs": []},
        {"nbf": 0},
        {"exp": 2_000_000_000.5},
    ],
)
def test_claims_beyond_the_required_are_passed_on_as_they_are(extra, signer, team_claims, verifier):
    claims = {**team_claims, **extra}
    assert verifier.verify(signer.token(claims)).as_input()["claims"] == claims


def test_a_credential_shows_its_kind_and_label_and_no_more(
    signer, turn_signer, team_claims, turn_claims, verifier
):
    team = verifier.verify(signer.token({**team_claims, "note": "private"}))
    turn = verifier.verify(turn_signer.token(turn_claims))
    assert repr(team) == f"Credential(kind='jwt', label='{team_claims['sub']}')"
    assert repr(turn) == "Credential(kind='jwt', label='jwt:u-17')"


def test_a_credential_cannot_be_changed(signer, team_claims, verifier):
    credential = verifier.verify(signer.token(team_claims))
    with pytest.raises(AttributeError):
        credential.kid = "other"
    with pytest.raises(TypeError):
        credential.claims["sub"] = "team:other"
    credential.as_input()["claims"]["sub"] = "team:other"
    assert credential.claims["sub"] == team_claims["sub"]


# kid


def test_a_jwt_without_a_kid_is_key_missing(signer, team_claims, refusal):
    token = signer.token(team_claims, kid=...)
    rejected = refusal(token)
    assert rejected.reason is Reason.KEY_MISSING
    assert rejected.message == "JWT header missing kid."


@pytest.mark.parametrize(
    "kid",
    ["", "k-eddsa", " k-EdDSA", "k-EdDSA\x00", "k-EdDSA\n", "../../etc/passwd", "/dev/null", "' OR 1=1 --", '"', "{kid}", "%s", "k" * 5_000, "\ud800", "\u202e", "__class__"],
)  # fmt: skip
def test_a_kid_is_only_ever_a_name_to_look_up(kid, signer, team_claims, refusal):
    token = signer.token(team_claims, kid=kid)
    rejected = refusal(token)
    assert rejected.reason is Reason.KEY_UNKNOWN
    assert rejected.message.isprintable()
    assert len(rejected.message) < 110


def test_a_kid_of_ten_thousand_characters_is_over_the_limit(signer, team_claims, reason_of):
    assert reason_of(signer.token(team_claims, kid="k" * 10_000)) is Reason.INVALID_TOKEN


# alg (RFC 8725 §2.1, §3.1, §3.2)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_alg_none_in_any_case_is_unsupported(alg, signature, signer, team_claims, reason_of):
    head = signer.token(team_claims, alg=alg).rpartition(".")[0]
    assert reason_of(f"{head}.{signature}") is Reason.ALG_UNSUPPORTED


def test_a_signature_cut_off_is_a_bad_one(signer, team_claims, reason_of):
    assert reason_of(signer.token(team_claims).rpartition(".")[0] + ".") is Reason.INVALID_TOKEN


@pytest.mark.parametrize(
    "alg", ["eddsa", "Ed25519", "HS256", "RS256", "ES256", "EdDSA ", "EdDSA\x00", "EDDSA"]
)
def test_an_alg_that_is_not_exactly_the_keys_is_unsupported(alg, signer, team_claims, refusal):
    token = signer.token(team_claims, alg=alg)
    rejected = refusal(token)
    assert rejected.reason is Reason.ALG_UNSUPPORTED
    assert rejected.message == "Unsupported JWT alg."


def test_two_algorithms_of_one_key_type_are_not_interchangeable(signers, team_claims, reason_of):
    assert reason_of(signers["PS256"].token(team_claims, kid="k-RS256")) is Reason.ALG_UNSUPPORTED
    forged = signers["PS256"].token(team_claims, kid="k-RS256", alg="RS256")
    assert reason_of(forged) is Reason.INVALID_TOKEN


@pytest.mark.parametrize("victim", ["EdDSA", "RS256", "ES256"])
@pytest.mark.parametrize("form", ["raw", "der", "pem", "jwk"])
def test_a_public_key_is_no_hmac_secret(victim, form, signers, team_claims, reason_of):
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


# signature


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "RS256", "PS256", "HS256", "HS384", "HS512"])
def test_any_changed_byte_of_a_signature_is_refused(alg, signers, team_claims, reason_of):
    head, _, signature = signers[alg].token(team_claims).rpartition(".")
    raw = bytearray(base64url(signature))
    for position in (0, len(raw) // 2, len(raw) - 1):
        changed = bytearray(raw)
        changed[position] ^= 1
        assert reason_of(f"{head}.{encode(bytes(changed))}") is Reason.INVALID_TOKEN
    for other in (raw[:-1], raw + b"\x00", bytes(len(raw)), b"\xff" * len(raw), b""):
        assert reason_of(f"{head}.{encode(bytes(other))}") is Reason.INVALID_TOKEN


def test_segments_of_two_tokens_do_not_combine(signer, team_claims, reason_of):
    first = signer.token(team_claims).split(".")
    second = signer.token({**team_claims, "jti": "jti-2"}).split(".")
    assert reason_of(f"{first[0]}.{second[1]}.{first[2]}") is Reason.INVALID_TOKEN
    assert reason_of(f"{first[0]}.{first[1]}.{second[2]}") is Reason.INVALID_TOKEN


def test_swapped_segments_never_verify(signer, team_claims, verifier, reason_of):
    head, payload, signature = signer.token(team_claims).split(".")
    assert reason_of(f"{head}.{signature}.{payload}") is Reason.INVALID_TOKEN
    assert verifier.verify(f"{payload}.{head}.{signature}").kind == "token"


def test_two_tokens_glued_together_never_verify(signer, team_claims, verifier, reason_of):
    token = signer.token(team_claims)
    for glue in (" ", ",", ", ", "\n", ";", "&"):
        assert reason_of(token + glue + token) is Reason.INVALID_TOKEN
    for glue in ("", "."):
        assert verifier.verify(token + glue + token).kind == "token"


def test_a_key_of_the_same_kid_elsewhere_is_another_key(team_claims, reason_of):
    stranger = Ed25519PrivateKey.generate()
    token = jwt.encode(team_claims, stranger, "EdDSA", headers={"kid": "k-EdDSA"})
    assert reason_of(token) is Reason.INVALID_TOKEN


# exp


@pytest.mark.parametrize("ago", [-3600, 0, 29, 29.9])
def test_a_token_is_good_until_30_seconds_past_its_exp(ago, now, signer, team_claims, verifier):
    assert verifier.verify(signer.token({**team_claims, "exp": now - ago})).kind == "jwt"


@pytest.mark.parametrize("ago", [30, 31, 3600])
def test_a_token_has_expired_30_seconds_past_its_exp(ago, now, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "exp": now - ago})) is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("exp", [0, -1, -1e300])
def test_an_exp_long_ago_is_expired_too(exp, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "exp": exp})) is Reason.TOKEN_EXPIRED


def test_the_clock_and_the_leeway_come_from_outside(team_keys, signer, team_claims):
    moment = team_claims["exp"]
    verifier = BearerVerifier([Issuer("mnemosyne", team_keys)], leeway=0, clock=lambda: moment)
    with pytest.raises(BearerRejected, match="Token has expired"):
        verifier.verify(signer.token(team_claims))
    moment -= 1
    assert verifier.verify(signer.token(team_claims)).kind == "jwt"


# issuer (RFC 8725 §3.8)


@pytest.mark.parametrize(
    "iss", ["daedalus", "Mnemosyne", "mnemosyne/", "", "https://mnemosyne", "mnemosyne\x00"]
)
def test_a_kid_speaks_only_for_its_own_issuer(iss, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "iss": iss})) is Reason.ISSUER_INVALID


def test_only_mnemosyne_issues_team_jwts(turn_signer, team_claims, reason_of):
    assert reason_of(turn_signer.token(team_claims)) is Reason.ISSUER_INVALID
    own = {**team_claims, "iss": "daedalus"}
    assert reason_of(turn_signer.token(own)) is Reason.ISSUER_INVALID


# claims


@pytest.mark.parametrize("name", ["exp", "iat", "iss", "sub", "jti"])
def test_each_required_claim_is_named_when_it_is_missing(name, signer, team_claims, refusal):
    token = signer.token(without(team_claims, name))
    rejected = refusal(token)
    assert rejected.reason is Reason.CLAIM_MISSING
    assert rejected.message == f"JWT missing required claim: {name}"


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value", ["1790000100", "", None, True, False, [], {}, 10**400, 2**63, 253_402_300_800]
)
def test_a_time_that_is_no_time_is_invalid(name, value, signer, team_claims, refusal):
    rejected = refusal(signer.token({**team_claims, name: value}))
    assert rejected.reason is Reason.CLAIM_INVALID
    assert rejected.message == f"Invalid JWT claim: {name} is not a time in seconds."


@pytest.mark.parametrize("digits", ["1" + "0" * 400, "1" + "0" * 5000, "1e400", "1e308", "1.7e15"])
def test_an_exp_beyond_all_time_is_invalid_however_it_is_spelt(
    digits, signer, team_claims, reason_of
):
    text = json.dumps(without(team_claims, "exp"))[:-1] + f', "exp": {digits}}}'
    token = signer.sign_bytes(b'{"alg":"EdDSA","kid":"k-EdDSA"}', text.encode())
    assert reason_of(token) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_a_time_may_lie_in_the_future_by_the_leeway(name, now, signer, team_claims, verifier):
    assert verifier.verify(signer.token({**team_claims, name: now + 30})).kind == "jwt"


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_a_time_in_the_future_is_invalid_beyond_the_leeway(name, now, signer, team_claims, refusal):
    rejected = refusal(signer.token({**team_claims, name: now + 31}))
    assert rejected.reason is Reason.CLAIM_INVALID
    assert rejected.message == f"Invalid JWT claim: {name} is in the future."


@pytest.mark.parametrize("name", ["sub", "jti"])
@pytest.mark.parametrize(
    "value",
    ["", None, 1, True, ["x"], {"x": 1}, "a\x00b", "a\nb", "\x7f", "\x85", "\ud800", "a\udfff"],
)
def test_an_identifier_that_is_empty_or_no_plain_text_is_invalid(
    name, value, signer, team_claims, reason_of
):
    assert reason_of(signer.token({**team_claims, name: value})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("iss", [None, 1, True, ["mnemosyne"], {"mnemosyne": 1}])
def test_an_issuer_that_is_no_string_is_invalid(iss, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "iss": iss})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("typ", [None, 1, True, ["team"], {"team": 1}, "team\x00", "team\n"])
def test_a_type_that_is_no_plain_text_is_invalid(typ, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "typ": typ})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize(
    "libs", [None, "lib-a", 1, {}, [1], ["lib-a", None], [["lib-a"]], ["a\x00"], ["\ud800"]]
)
def test_libs_that_are_no_list_of_strings_are_invalid(libs, turn_signer, turn_claims, reason_of):
    assert reason_of(turn_signer.token({**turn_claims, "libs": libs})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("value", ["\ud800", {"\udc00": 1}, ["x", {"y": "\udbff"}]])
def test_a_lone_surrogate_anywhere_is_invalid(value, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "x": value})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 30])
def test_a_number_that_cannot_be_sent_on_is_invalid(number, signer, team_claims, reason_of):
    text = json.dumps(team_claims)[:-1] + f', "x": [{{"y": {number}}}]}}'
    token = signer.sign_bytes(b'{"alg":"EdDSA","kid":"k-EdDSA"}', text.encode())
    assert reason_of(token) is Reason.CLAIM_INVALID


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
def test_a_teams_subject_is_a_canonical_uuid(sub, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "sub": sub})) is Reason.INVALID_TOKEN


# audience (RFC 8725 §3.9)


@pytest.fixture
def picky(team_keys, now):
    return BearerVerifier([Issuer("mnemosyne", team_keys, audience="mcp")], clock=lambda: now)


@pytest.mark.parametrize("aud", ["mcp", ["mcp"], ["other", "mcp"]])
def test_an_audience_that_is_or_contains_ours_is_accepted(aud, picky, signer, team_claims):
    assert picky.verify(signer.token({**team_claims, "aud": aud})).kind == "jwt"


@pytest.mark.parametrize(
    "aud", [..., "", "other", "mcp2", "MCP", [], ["other"], None, 1, {"mcp": 1}, [["mcp"]]]
)
def test_any_other_audience_is_refused(aud, picky, signer, team_claims):
    claims = team_claims if aud is ... else {**team_claims, "aud": aud}
    with pytest.raises(BearerRejected) as caught:
        picky.verify(signer.token(claims))
    assert caught.value.reason is Reason.AUDIENCE_INVALID


# the order of refusal


def test_the_first_thing_wrong_decides(signer, turn_signer, team_claims, now, reason_of):
    """Wrong in everything, then put right one by one."""
    claims = {**team_claims, "iss": "daedalus", "exp": now - 99, "iat": now + 99}
    del claims["jti"]
    bad = {"alg": "none", "kid": ..., "crit": ["x"]}
    stages = []

    def stage(**header):
        head = signer.token(claims, **header).rpartition(".")[0]
        stages.append(reason_of(f"{head}.AAAA"))

    stage(**bad)
    stage(alg="none", kid=...)
    stage(alg="none", kid="stranger")
    stage(alg="none")
    stage()
    for repair in ({}, {"exp": now + 99}, {"iss": "mnemosyne"}, {"jti": "j"}):
        claims |= repair
        stages.append(reason_of(signer.token(claims)))
    assert stages == [
        "invalid_token", "key_missing", "key_unknown", "alg_unsupported", "invalid_token",
        "token_expired", "issuer_invalid", "claim_missing", "claim_invalid",
    ]  # fmt: skip


@pytest.mark.parametrize("exp", [..., "soon", None, 10**400])
def test_an_exp_that_is_none_waits_for_the_claims_turn(exp, signer, team_claims, reason_of):
    claims = without(team_claims, "exp") if exp is ... else {**team_claims, "exp": exp}
    assert reason_of(signer.token({**claims, "iss": "daedalus"})) is Reason.ISSUER_INVALID
    expected = Reason.CLAIM_MISSING if exp is ... else Reason.CLAIM_INVALID
    assert reason_of(signer.token(claims)) is expected


def test_claims_are_not_looked_at_before_the_signature_holds(signer, team_claims, reason_of):
    for claims in ({}, {**team_claims, "exp": 0}, {**team_claims, "iss": "x"}):
        head = signer.token(claims).rpartition(".")[0]
        assert reason_of(f"{head}.{encode(bytes(64))}") is Reason.INVALID_TOKEN


# configuration


def test_without_issuers_every_jwt_is_refused(signer, team_claims):
    verifier = BearerVerifier([])
    assert verifier.verify("opaque").kind == "token"
    with pytest.raises(BearerRejected) as caught:
        verifier.verify(signer.token(team_claims))
    assert caught.value.reason is Reason.KEY_UNKNOWN


def test_the_defaults_are_thirty_seconds_and_the_real_clock(team_keys, signer, team_claims):
    verifier = BearerVerifier([Issuer("mnemosyne", team_keys)])
    now = time.time()
    fresh = {**team_claims, "iat": now, "exp": now - 15}
    assert verifier.verify(signer.token(fresh)).kind == "jwt"
    with pytest.raises(BearerRejected, match="Token has expired"):
        verifier.verify(signer.token({**fresh, "exp": now - 31}))


# anything at all


def outcome(verifier, bearer):
    """Whatever is shown, a credential comes out or a BearerRejected does."""
    try:
        credential = verifier.verify(bearer)
    except BearerRejected as error:
        credential, rejected = None, error
    if credential is None:
        assert isinstance(rejected.reason, Reason)
        assert len(rejected.message) < 150
        return None
    assert isinstance(credential, Credential)
    json.dumps(credential.as_input(), allow_nan=False, ensure_ascii=False).encode()
    return credential


@given(st.text())
def test_arbitrary_text_is_refused_or_an_opaque_bearer(verifier, text):
    credential = outcome(verifier, text)
    assert credential is None or credential.kind == "token"


@given(st.binary(), st.binary(), st.binary())
def test_arbitrary_segments_never_verify_as_a_jwt(verifier, header, payload, signature):
    credential = outcome(verifier, ".".join(map(encode, (header, payload, signature))))
    assert credential is None or credential.kind == "token"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["exp", "iat", "nbf", "iss", "sub", "jti", "typ", "aud", "libs", "ws", "x"]
        ),
        json_values,
    ),
    st.sets(st.sampled_from(["exp", "iat", "iss", "sub", "jti", "typ"])),
)
def test_signed_claims_of_any_kind_verify_cleanly_or_are_refused(
    verifier, signer, changes, dropped
):
    claims = {
        "iss": "mnemosyne",
        "typ": "team",
        "sub": "team:6a1f0c9e-3b52-4d7e-9c1a-2f4b8e7d6c5a",
        "jti": "j",
        "iat": 1_789_999_000,
        "exp": 1_790_009_000,
    }
    credential = outcome(verifier, signer.token({**without(claims, *dropped), **changes}))
    if credential is not None:
        assert credential.claims["iss"] == "mnemosyne"
        assert isinstance(credential.claims["jti"], str)
        assert credential.claims["jti"]


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "cty", "x5t"]), json_values))
def test_a_header_of_any_kind_never_crashes(verifier, signer, header):
    outcome(verifier, signer.token({"sub": "x"}, **header))


@given(st.data())
def test_a_mutated_valid_token_never_verifies_as_a_jwt(verifier, signers, data):
    signer = signers[data.draw(st.sampled_from(["EdDSA", "HS256", "ES256"]))]
    token = signer.token(
        {
            "iss": "mnemosyne",
            "sub": "s",
            "jti": "j",
            "iat": 1_789_999_000,
            "exp": 1_790_009_000,
        }
    )
    assert verifier.verify(token).kind == "jwt"
    position = data.draw(st.integers(0, len(token)))
    taken = data.draw(st.integers(0, 5))
    inserted = data.draw(st.text("ABCxyz019-_=.~+/\n\x00é", max_size=5))
    mutated = token[:position] + inserted + token[position + taken :]
    assume(mutated != token)
    credential = outcome(verifier, mutated)
    assert credential is None or credential.kind == "token"


@given(st.integers(0, 52), st.characters())
def test_a_mutated_opaque_token_of_ours_is_refused_or_no_longer_ours(verifier, position, character):
    token = mint_opaque(lambda bits: 12345)
    mutated = token[:position] + character + token[position + 1 :]
    assume(mutated != token)
    credential = outcome(verifier, mutated)
    assert credential is None or not mutated.startswith("lct_")


def test_a_keyring_read_from_its_public_keys_alone_verifies(signers, team_claims, now):
    public = Keyring.from_jwks({"keys": [signers["EdDSA"].public_jwk()]})
    verifier = BearerVerifier([Issuer("mnemosyne", public)], clock=lambda: now)
    assert "d" not in signers["EdDSA"].public_jwk()
    assert verifier.verify(signers["EdDSA"].token(team_claims)).kind == "jwt"
