import json

import pytest

from pdp_client.bearer.key_table import Issuer
from pdp_client.bearer.verifier import BearerVerifier
from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason
from tests.pdp_client.conftest import without

# exp


@pytest.mark.parametrize("ago", [-3600, 0, 29])
def test_jwt_is_valid_until_30_seconds_past_its_exp(ago, now, signer, team_claims, verifier):
    assert verifier.verify(signer.token({**team_claims, "exp": now - ago})).kind == "jwt"


@pytest.mark.parametrize("ago", [30, 31, 3600])
def test_jwt_is_expired_30_seconds_past_its_exp(ago, now, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "exp": now - ago})) is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("exp", [0, -1, -(2**63)])
def test_exp_long_ago_is_expired_too(exp, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "exp": exp})) is Reason.TOKEN_EXPIRED


def test_clock_and_the_leeway_come_from_outside(team_keys, signer, team_claims):
    moment = team_claims["exp"]
    verifier = BearerVerifier([Issuer("mnemosyne", team_keys)], leeway=0, clock=lambda: moment)
    with pytest.raises(BearerRejected, match="Token has expired"):
        verifier.verify(signer.token(team_claims))
    moment -= 1
    assert verifier.verify(signer.token(team_claims)).kind == "jwt"


# claims


@pytest.mark.parametrize("name", ["exp", "iat", "iss", "sub", "jti"])
def test_missing_required_claim_is_named(name, signer, team_claims, refusal):
    token = signer.token(without(team_claims, name))
    rejected = refusal(token)
    assert rejected.reason is Reason.CLAIM_MISSING
    assert rejected.message == f"JWT missing required claim: {name}"


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value",
    ["", None, False, [], {}, 10**400, 2**63, 253_402_300_800, 1_789_999_990.5, 1_789_999_990.0],
)
def test_time_not_whole_or_beyond_range_is_invalid(name, value, signer, team_claims, refusal):
    rejected = refusal(signer.token({**team_claims, name: value}))
    assert rejected.reason is Reason.CLAIM_INVALID
    assert rejected.message == f"Invalid JWT claim: {name} is not a time in whole seconds."


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_time_may_lie_in_the_future_by_the_leeway(name, now, signer, team_claims, verifier):
    assert verifier.verify(signer.token({**team_claims, name: now + 30})).kind == "jwt"


@pytest.mark.parametrize("iss", [None, 1, True, ["mnemosyne"], {"mnemosyne": 1}])
def test_issuer_that_is_not_a_string_is_invalid(iss, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "iss": iss})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("typ", [None, 1, True, ["team"], {"team": 1}, "team\x00", "team\n"])
def test_type_that_is_not_plain_text_is_invalid(typ, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "typ": typ})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize(
    "libs", [None, "lib-a", 1, {}, [1], ["lib-a", None], [["lib-a"]], ["a\x00"], ["\ud800"]]
)
def test_libs_that_are_no_list_of_strings_are_invalid(libs, turn_signer, turn_claims, reason_of):
    assert reason_of(turn_signer.token({**turn_claims, "libs": libs})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("value", ["\ud800", {"\udc00": 1}, ["x", {"y": "\udbff"}]])
def test_lone_surrogate_anywhere_is_invalid(value, signer, team_claims, reason_of):
    assert reason_of(signer.token({**team_claims, "x": value})) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 30])
def test_number_that_cannot_be_sent_on_is_invalid(number, signer, team_claims, reason_of):
    text = json.dumps(team_claims)[:-1] + f', "x": [{{"y": {number}}}]}}'
    token = signer.sign_bytes(b'{"alg":"EdDSA","kid":"k-EdDSA"}', text.encode())
    assert reason_of(token) is Reason.CLAIM_INVALID


@pytest.fixture
def picky(team_keys, now):
    return BearerVerifier([Issuer("mnemosyne", team_keys, audience="mcp")], clock=lambda: now)
