"""Cached lists and cached checks of a bearer, with a deployment, a real OPA and a real Redis."""

import time

import pytest
from support.waiting import until

from pdp_client import Action, BearerVerifier, Issuer, Keyring, Reason

pytestmark = pytest.mark.anyio

TOOLS = [Action(name="search", tags=("read",)), Action(name="delete"), Action(name="fetch")]


async def remembered(pdp, bearer, actions=TOOLS, **how):
    """Wait until such a list is answered from what is remembered."""

    async def hit():
        visible = await pdp.visible(bearer, actions=actions, **how)
        return visible if visible.cached else None

    return await until(hit, "a list is answered from the cache")


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_equal_list_is_cached_until_something_changes(shared_deployment, consistency):
    bearer, other = (
        await shared_deployment.publish_token(tools=["search"]),
        await shared_deployment.publish_token(),
    )
    pdp = shared_deployment.pdp(cache=True, consistency=consistency)
    assert (await remembered(pdp, bearer)).indices == (0,)
    asked = shared_deployment.count_queries(pdp)
    again = await pdp.visible(bearer, actions=TOOLS)
    assert (again.indices, again.reason, shared_deployment.count_queries(pdp)) == (
        (0,),
        Reason.OK,
        asked,
    )
    # Another caller, other actions or another order of them are other questions.
    assert (await pdp.visible(other, actions=TOOLS)).indices == (0, 1, 2)
    assert (await pdp.visible(bearer, actions=TOOLS[::-1])).indices == (2,)
    assert (await pdp.visible(bearer, actions=[Action(name="search"), *TOOLS[1:]])).indices == (0,)
    assert (await pdp.visible(bearer, actions=TOOLS, transport="stdio")).indices == (0,)
    assert shared_deployment.count_queries(pdp) == asked + 4
    await shared_deployment.revoke(bearer)

    async def ended():
        return (await pdp.visible(bearer, actions=TOOLS)).indices == ()

    if consistency == "strict":
        assert await ended(), "at once: the write had returned"
    await until(ended, "nothing shows any more")
    assert (await remembered(pdp, other)).indices == (0, 1, 2)


async def test_list_cache_separates_bad_bearers_from_other_callers(
    shared_deployment,
):
    pdp = shared_deployment.pdp(cache=True)
    assert (await remembered(pdp, None)).indices == (0, 1, 2), (
        "to anonymous callers everything is listable"
    )
    assert (await remembered(pdp, "no bearer of ours")).indices == ()
    assert (await remembered(pdp, None)).reason is Reason.MISSING_TOKEN
    bad = await remembered(pdp, "lct_nothing")
    assert (bad.indices, bad.reason) == ((), Reason.INVALID_TOKEN)


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_cached_list_does_not_outlive_a_revocation(shared_deployment, consistency):
    bearer = await shared_deployment.publish_token()
    pdp = shared_deployment.pdp(cache=True, consistency=consistency)
    await remembered(pdp, bearer)
    # Only the cache can answer now.
    shared_deployment.opa.kill()
    assert (await pdp.visible(bearer, actions=TOOLS)).cached
    await shared_deployment.revoke(bearer)

    async def dropped():
        return not (await pdp.visible(bearer, actions=TOOLS)).cached

    if consistency == "strict":
        assert await dropped(), "at once: the write had returned"
    await until(dropped, "it is not answered from the cache")
    listed = await pdp.visible(bearer, actions=TOOLS)
    assert (listed.indices, listed.reason) == ((), Reason.UNAVAILABLE)


async def test_list_cached_in_shadow_mode_is_not_used_outside_of_it(shared_deployment):
    bearer = await shared_deployment.publish_token(tools=["search"])
    pdp = shared_deployment.pdp(cache=True)
    listed = await remembered(pdp, bearer, shadow={1})
    assert (listed.indices, listed.shadowed) == ((0, 1), (1,))
    plain = await remembered(pdp, bearer)
    assert (plain.indices, plain.shadowed) == ((0,), ())


async def test_cached_list_expires_with_time(shared_deployment):
    offset = 0.0
    bearer = await shared_deployment.publish_token(expires_at=round(time.time()) + 3600)
    pdp = shared_deployment.pdp(cache=True, clock=lambda: time.time() + offset)
    hit = await remembered(pdp, bearer)
    assert hit.valid_until is not None
    offset = hit.valid_until - time.time() + 1
    assert not (await pdp.visible(bearer, actions=TOOLS)).cached


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_bearer_check_before_requests_is_cached_until_revoked(shared_deployment, consistency):
    bearer = await shared_deployment.publish_token()
    pdp = shared_deployment.pdp(cache=True, consistency=consistency)
    await remembered(pdp, bearer, actions=[])
    asked = shared_deployment.count_queries(pdp)
    for _ in range(3):
        credential, reason = await pdp.authenticate(bearer)
        assert (credential.kind, reason) == ("token", Reason.OK)
    assert shared_deployment.count_queries(pdp) == asked
    await shared_deployment.revoke(bearer)

    async def refused():
        return (await pdp.authenticate(bearer))[1] is Reason.TOKEN_DEACTIVATED

    if consistency == "strict":
        assert (await pdp.authenticate(bearer))[1] is not Reason.OK, "at once"
    await until(refused, "it is good no more")


async def test_per_turn_list_is_never_cached(shared_deployment, turn_signer, turn_claims):
    turn = Keyring.from_jwks({"keys": [turn_signer.public_jwk()]})
    pdp = shared_deployment.pdp(cache=True, verifier=BearerVerifier([Issuer("daedalus", turn)]))
    now = int(time.time())
    bearer = turn_signer.token({**turn_claims, "iat": now, "exp": now + 300})
    await remembered(pdp, None)
    for _ in range(3):
        assert not (await pdp.visible(bearer, actions=TOOLS)).cached
