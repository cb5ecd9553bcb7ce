import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pdp_client.bearer.key_table import Issuer
from pdp_client.bearer.keyring import Keyring
from pdp_client.bearer.verifier import BearerVerifier
from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason
from tests.pdp_client.conftest import without

# What is let through


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "RS256", "PS256", "HS256", "HS384", "HS512"])
def test_team_jwt_of_each_algorithm_gives_its_claims(alg, signers, team_claims, verifier):
    credential = verifier.verify(signers[alg].token(team_claims))
    assert credential.as_input() == {"kind": "jwt", "kid": f"k-{alg}", "claims": team_claims}
    assert json.loads(json.dumps(credential.as_input())) == credential.as_input()


def test_jwt_minted_by_pyjwt_is_accepted(signer, team_claims, verifier):
    token = jwt.encode(team_claims, signer.key, "EdDSA", headers={"kid": signer.kid})
    assert dict(verifier.verify(token).claims) == team_claims


def test_per_turn_jwt_verifies_so_that_it_is_recorded(turn_signer, turn_claims, verifier):
    credential = verifier.verify(turn_signer.token(turn_claims))
    assert credential.is_per_turn
    assert credential.claims["libs"] == ["lib-a"]


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
    ],
)
def test_additional_claims_are_passed_on_unchanged(extra, signer, team_claims, verifier):
    claims = {**team_claims, **extra}
    assert verifier.verify(signer.token(claims)).as_input()["claims"] == claims


def test_credential_repr_has_only_kind_and_label(
    signer, turn_signer, team_claims, turn_claims, verifier
):
    team = verifier.verify(signer.token({**team_claims, "note": "private"}))
    turn = verifier.verify(turn_signer.token(turn_claims))
    assert repr(team) == f"Credential(kind='jwt', label='{team_claims['sub']}')"
    assert repr(turn) == "Credential(kind='jwt', label='jwt:u-17')"


def test_credential_cannot_be_changed(signer, team_claims, verifier):
    credential = verifier.verify(signer.token(team_claims))
    with pytest.raises(AttributeError):
        credential.kid = "other"
    with pytest.raises(TypeError):
        credential.claims["sub"] = "team:other"
    credential.as_input()["claims"]["sub"] = "team:other"
    assert credential.claims["sub"] == team_claims["sub"]


# kid


def test_jwt_without_a_kid_is_key_missing(signer, team_claims, refusal):
    token = signer.token(team_claims, kid=...)
    rejected = refusal(token)
    assert rejected.reason is Reason.KEY_MISSING
    assert rejected.message == "JWT header missing kid."


# signature


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


def test_key_with_the_kid_of_another_keyring_is_another_key(team_claims, reason_of):
    anonymous = Ed25519PrivateKey.generate()
    token = jwt.encode(team_claims, anonymous, "EdDSA", headers={"kid": "k-EdDSA"})
    assert reason_of(token) is Reason.INVALID_TOKEN


# the order of refusal


def test_first_thing_wrong_decides(signer, turn_signer, team_claims, now, reason_of):
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
    stage(alg="none", kid="unknown")
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
def test_invalid_exp_is_reported_after_the_issuer(exp, signer, team_claims, reason_of):
    claims = without(team_claims, "exp") if exp is ... else {**team_claims, "exp": exp}
    assert reason_of(signer.token({**claims, "iss": "daedalus"})) is Reason.ISSUER_INVALID
    expected = Reason.CLAIM_MISSING if exp is ... else Reason.CLAIM_INVALID
    assert reason_of(signer.token(claims)) is expected


# configuration


def test_without_issuers_every_jwt_is_refused(signer, team_claims):
    verifier = BearerVerifier([])
    assert verifier.verify("opaque").kind == "token"
    with pytest.raises(BearerRejected) as caught:
        verifier.verify(signer.token(team_claims))
    assert caught.value.reason is Reason.KEY_UNKNOWN


def test_defaults_are_thirty_seconds_and_the_real_clock(team_keys, signer, team_claims):
    verifier = BearerVerifier([Issuer("mnemosyne", team_keys)])
    now = int(time.time())
    fresh = {**team_claims, "iat": now, "exp": now - 15}
    assert verifier.verify(signer.token(fresh)).kind == "jwt"
    with pytest.raises(BearerRejected, match="Token has expired"):
        verifier.verify(signer.token({**fresh, "exp": now - 31}))


def test_keyring_of_public_keys_alone_verifies(signers, team_claims, now):
    public = Keyring.from_jwks({"keys": [signers["EdDSA"].public_jwk()]})
    verifier = BearerVerifier([Issuer("mnemosyne", public)], clock=lambda: now)
    assert "d" not in signers["EdDSA"].public_jwk()
    assert verifier.verify(signers["EdDSA"].token(team_claims)).kind == "jwt"
