"""A bearer that is verified from the cache is the one that was verified, and is still valid."""

import json

import pytest

from pdp_client.bearer.key_table import Issuer
from pdp_client.bearer.keyring_file import KeyringFile
from pdp_client.bearer.opaque import mint_opaque
from pdp_client.bearer.verification_cache import VerificationCache
from pdp_client.bearer.verifier import BearerVerifier
from pdp_client.exceptions import BearerRejected
from pdp_client.reasons import Reason
from tests.pdp_client.conftest import NOW

LEEWAY = 30


class Moment:
    """A clock that stands still until it is set."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def moment():
    return Moment()


@pytest.fixture
def cache(team_keys, turn_keys, moment):
    issuers = [Issuer("mnemosyne", team_keys), Issuer("daedalus", turn_keys)]
    return VerificationCache(BearerVerifier(issuers, leeway=LEEWAY, clock=moment), clock=moment)


def refused(cache, bearer):
    with pytest.raises(BearerRejected) as caught:
        cache.verify(bearer)
    return caught.value.reason


def test_cached_bearers_are_kept_apart(cache, signer, turn_signer, team_claims, turn_claims):
    bearers = [
        signer.token(team_claims),
        signer.token({**team_claims, "jti": "jti-2"}),
        turn_signer.token(turn_claims),
        mint_opaque(),
        mint_opaque(),
    ]

    first = [cache.verify(bearer).credential for bearer in bearers]
    again = [cache.verify(bearer).credential for bearer in bearers]

    assert [one.as_input() for one in again] == [one.as_input() for one in first]
    assert len({json.dumps(one.as_input()) for one in again}) == len(bearers)


def test_bearer_is_verified_once_while_nothing_changes(cache, signer, team_claims, moment):
    bearer = signer.token(team_claims)
    verified = cache.verify(bearer)

    moment.now = team_claims["exp"] - 1

    assert cache.verify(bearer) is verified


def test_cache_key_is_the_credential_as_text(cache, signer, team_claims):
    verified = cache.verify(signer.token(team_claims))

    assert verified.opa_input == verified.credential.as_input()
    assert json.loads(verified.cache_key) == verified.opa_input
    # Equal credentials of two bearers share what is cached for them.
    reordered = signer.token(dict(reversed(team_claims.items())))
    assert cache.verify(reordered).cache_key == verified.cache_key


def test_cached_bearer_is_refused_after_its_exp(cache, signer, team_claims, moment):
    bearer = signer.token(team_claims)
    cache.verify(bearer)

    moment.now = team_claims["exp"] + LEEWAY - 1
    assert cache.verify(bearer).credential.claims == team_claims

    moment.now += 1
    assert refused(cache, bearer) is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_cached_bearer_is_refused_before_it_is_valid(name, cache, signer, team_claims, moment):
    claims = {**team_claims, "iat": NOW - 7200, "nbf": NOW - 7200, name: NOW - 10}
    bearer = signer.token(claims)
    cache.verify(bearer)

    # As when a clock that was ahead is set back.
    moment.now = NOW - 3600

    assert refused(cache, bearer) is Reason.CLAIM_INVALID


def test_cached_bearer_ends_with_its_key(signer, team_claims, moment, tmp_path):
    path = tmp_path / "keys.jwks"
    path.write_text(json.dumps({"keys": [signer.public_jwk()]}))
    issuers = [Issuer("mnemosyne", KeyringFile(path))]
    cache = VerificationCache(BearerVerifier(issuers, check_every=0, clock=moment), clock=moment)
    bearer = signer.token(team_claims)
    cache.verify(bearer)

    path.write_text(json.dumps({"keys": []}))

    assert refused(cache, bearer) is Reason.KEY_UNKNOWN


def test_bearer_of_a_key_added_later_is_accepted(signer, team_claims, moment, tmp_path):
    path = tmp_path / "keys.jwks"
    path.write_text(json.dumps({"keys": []}))
    issuers = [Issuer("mnemosyne", KeyringFile(path))]
    cache = VerificationCache(BearerVerifier(issuers, check_every=0, clock=moment), clock=moment)
    bearer = signer.token(team_claims)
    assert refused(cache, bearer) is Reason.KEY_UNKNOWN

    path.write_text(json.dumps({"keys": [signer.public_jwk()]}))

    assert cache.verify(bearer) is cache.verify(bearer)


def test_opaque_bearer_is_never_too_old_for_the_cache(cache, moment):
    bearer = mint_opaque()
    verified = cache.verify(bearer)

    moment.now = NOW + 10**9

    assert cache.verify(bearer) is verified


@pytest.mark.parametrize("bearer", ["a" * (8 * 1024 + 1), "é", "\ud800", "", "a b"])
def test_bearer_that_is_not_a_b64token_is_refused_unread(bearer, cache):
    assert refused(cache, bearer) is Reason.INVALID_TOKEN
    assert refused(cache, bearer) is Reason.INVALID_TOKEN


def test_longest_bearer_is_cached(cache):
    bearer = "a" * (8 * 1024)
    assert cache.verify(bearer) is cache.verify(bearer)
