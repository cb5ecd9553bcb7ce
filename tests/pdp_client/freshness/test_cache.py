"""What is remembered of OPA's answers, with a whole lictor, a real OPA and a real Redis."""

import asyncio
import time
from dataclasses import replace

import jwt
import pytest
from support.waiting import until

from pdp_client import Action, BearerVerifier, Issuer, Keyring, Reason
from pdp_client.bearer.opaque import digest
from pdp_client.decision import Context, Decision
from pdp_client.exceptions import OPAUnreachableError
from pdp_client.freshness.cache import DecisionCache, state_of
from pdp_client.opa.query import DecisionQuery

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_cache_answers_an_equal_call_until_something_changes(shared_deployment, consistency):
    bearer, other = await shared_deployment.publish_token(), await shared_deployment.publish_token()
    pdp = shared_deployment.pdp(cache=True, consistency=consistency)
    assert pdp.consistency == consistency
    hit = await shared_deployment.wait_until_cached(pdp, bearer)
    assert hit.allow
    asked = shared_deployment.count_queries(pdp)
    again = await pdp.authorize(bearer, tool="search")
    assert (again.allow, again.cached, shared_deployment.count_queries(pdp)) == (True, True, asked)
    assert again.decision_id != hit.decision_id
    assert again.credential.digest == hit.credential.digest
    # Another caller, another tool, other tags are other questions.
    for call in ({"bearer": other}, {"tool": "fetch"}, {"tags": ["write"]}, {"transport": "stdio"}):
        unlike = await pdp.authorize(**{"bearer": bearer, "tool": "search", **call})
        assert not unlike.cached
    assert (await pdp.authorize(bearer, tool="search")).cached


async def test_cache_of_shadow_mode_allows_nothing_outside_of_it(shared_deployment):
    bearer = await shared_deployment.publish_token(tools=["search"])
    action = Action(name="not-granted")
    pdp = shared_deployment.pdp(cache=True)
    await shared_deployment.wait_until_cached(pdp, bearer)

    async def remembered(*, shadow):
        async def hit():
            decision = await pdp.decide(bearer, action, shadow=shadow)
            return decision if decision.cached else None

        return (await until(hit, "it is answered from the cache")).runs

    assert await remembered(shadow=True) is True
    assert await remembered(shadow=False) is False
    assert await remembered(shadow=True) is True


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_cache_does_not_outlive_a_revocation(shared_deployment, consistency):
    bearer = await shared_deployment.publish_token()
    pdp = shared_deployment.pdp(cache=True, consistency=consistency)
    await shared_deployment.wait_until_cached(pdp, bearer)
    # Only the cache can answer now.
    shared_deployment.opa.kill()
    assert (await pdp.authorize(bearer, tool="search")).cached
    await shared_deployment.revoke(bearer)

    async def dropped():
        return not (await pdp.authorize(bearer, tool="search")).allow

    if consistency == "strict":
        assert await dropped(), "at once: the write had returned"
    await until(dropped, "it is not answered from the cache")
    assert (await pdp.authorize(bearer, tool="search")).reason is Reason.UNAVAILABLE


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_cache_is_never_older_than_an_earlier_response(
    shared_deployment, consistency, monkeypatch
):
    bearer, other = await shared_deployment.publish_token(), await shared_deployment.publish_token()
    shared = shared_deployment.shared()
    pdp = shared_deployment.pdp(cache=True, consistency=consistency, shared=shared)
    hit = await shared_deployment.wait_until_cached(pdp, bearer)
    late = await shared.newest.read()

    async def read():
        return late

    # Redis is behind: OPA has a revision that is not announced yet.
    monkeypatch.setattr(shared.newest, "read", read)
    monkeypatch.setattr(shared.newest, "cached", lambda: late)
    assert (await pdp.authorize(bearer, tool="search")).cached
    await shared_deployment.operator.revoke_token(digest(bearer))
    await shared_deployment.settle()
    newer = await pdp.authorize(other, tool="search")
    assert newer.revision > hit.revision
    then = await pdp.authorize(bearer, tool="search")
    assert (then.reason, then.cached) == (Reason.TOKEN_DEACTIVATED, False)


async def test_cache_is_unused_while_shared_state_is_away(shared_deployment):
    shared_deployment.source.must_be_ours()
    bearer = await shared_deployment.publish_token()
    pdp = shared_deployment.pdp(cache=True, shared=shared_deployment.shared(timeout=0.1))
    await shared_deployment.wait_until_cached(pdp, bearer)
    shared_deployment.source.freeze()

    async def asks():
        return not (await pdp.authorize(bearer, tool="search")).cached

    await until(asks, "OPA is queried")
    assert (await pdp.authorize(bearer, tool="search")).allow
    shared_deployment.source.thaw()
    await shared_deployment.wait_until_cached(pdp, bearer)


async def test_cache_ends_with_new_rules(shared_deployment, opa_binary):
    from lictor.state_dir import publish_policies

    bearer = await shared_deployment.publish_token()
    pdp = shared_deployment.pdp(cache=True)
    before = await shared_deployment.wait_until_cached(pdp, bearer)
    (shared_deployment.settings.site / "no.rego").write_text(
        "package site\n\n"
        'deny contains {"action": a.name, "code": "no", "message": "No."} if some a in data.lictor.actions\n'
    )
    publish_policies(shared_deployment.settings, opa_binary)

    async def refused():
        decision = await pdp.authorize(bearer, tool="search")
        return decision if decision.cached and not decision.allow else None

    after = await until(refused, "the new rule refuses, and that is remembered")
    assert after.reasons == ("site:no", "site_rule")
    assert after.site != before.site


async def test_cache_entry_expires_with_time(shared_deployment):
    offset = 0.0
    soon = round(time.time()) + 3600
    bearer = await shared_deployment.publish_token(expires_at=soon)
    pdp = shared_deployment.pdp(cache=True, clock=lambda: time.time() + offset)
    hit = await shared_deployment.wait_until_cached(pdp, bearer)
    assert hit.valid_until <= soon
    offset = hit.valid_until - time.time() + 1
    later = await pdp.authorize(bearer, tool="search")
    assert not later.cached


async def test_cached_decision_reports_a_growing_data_age(shared_deployment):
    bearer = await shared_deployment.publish_token()
    pdp = shared_deployment.pdp(cache=True)
    first = await shared_deployment.wait_until_cached(pdp, bearer)

    async def older():
        decision = await pdp.authorize(bearer, tool="search")
        return decision.cached and decision.data_age_ms > first.data_age_ms

    await until(older, "it is older")


_CLOCK = """package site

deny contains {"action": a.name, "code": "late", "message": "Late."} if {
\tsome a in data.lictor.actions
\ttime.now_ns() < 0
}
"""

_ARGUMENTS = """package site

deny contains {"action": a.name, "code": "raven", "message": "No ravens."} if {
\tsome a in data.lictor.actions
\ta.arguments.query == "raven"
}
"""


async def test_cache_skips_rules_that_read_the_clock(make_shared_deployment):
    shared_deployment = await make_shared_deployment(site=_CLOCK)
    bearer = await shared_deployment.publish_token()
    cached = shared_deployment.pdp(cache=True)
    strict = shared_deployment.pdp(cache=True, consistency="strict")
    for pdp in (cached, strict):
        for _ in range(10):
            decision = await pdp.authorize(bearer, tool="search")
            assert (decision.allow, decision.cached) == (True, False)
        assert shared_deployment.count_queries(pdp) == 10


async def test_cache_key_includes_arguments_where_rules_read_them(make_shared_deployment):
    shared_deployment = await make_shared_deployment(site=_ARGUMENTS)
    bearer = await shared_deployment.publish_token()
    pdp = shared_deployment.pdp(cache=True)
    poe, raven = {"query": "poe", "n": 1}, {"query": "raven"}
    assert (await shared_deployment.wait_until_cached(pdp, bearer, arguments=poe)).allow
    refused = await pdp.authorize(bearer, tool="search", arguments=raven)
    assert (refused.allow, refused.cached) == (False, False)
    assert (await pdp.authorize(bearer, tool="search", arguments={"n": 1, "query": "poe"})).cached
    assert not (await pdp.authorize(bearer, tool="search", arguments={**poe, "n": "1"})).cached
    assert not (await shared_deployment.wait_until_cached(pdp, bearer, arguments=raven)).allow


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_cache_decides_concurrent_calls_by_their_own_arguments(
    make_shared_deployment, consistency
):
    shared_deployment = await make_shared_deployment(site=_ARGUMENTS)
    bearer = await shared_deployment.publish_token()
    reported = shared_deployment.pdp()
    await until(lambda: knows_rule(reported, bearer), "the rule is there")
    for warm in (None, {"query": "poe"}):
        pdp = shared_deployment.pdp(cache=True, consistency=consistency)
        assert (await shared_deployment.wait_until_cached(pdp, bearer, arguments=warm)).allow
        transport = shared_deployment.transports[pdp]
        for number in range(5):
            transport.open.clear()
            before = len(transport.queries)
            queries = [f"poe-{number}", "raven", f"usher-{number}", "raven", "raven"]
            calls = []
            for query in queries:
                call = pdp.authorize(bearer, tool=f"t{number}", arguments={"query": query})
                calls.append(asyncio.ensure_future(call))
                # The others come while the first query is in flight.
                await until(lambda: len(transport.queries) > before, "OPA is queried")  # noqa: B023
            transport.open.set()
            allowed = [decision.allow for decision in await asyncio.gather(*calls)]
            assert allowed == [query != "raven" for query in queries], (warm, number)


async def knows_rule(pdp, bearer):
    return not (await pdp.authorize(bearer, tool="x", arguments={"query": "raven"})).allow


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_equal_concurrent_calls_send_one_query(shared_deployment, consistency):
    bearer = await shared_deployment.publish_token()
    pdp = shared_deployment.pdp(cache=True, consistency=consistency)
    await shared_deployment.wait_until_cached(pdp, bearer)
    transport = shared_deployment.transports[pdp]
    transport.open.clear()
    before = len(transport.queries)
    calls = [
        asyncio.ensure_future(pdp.authorize(bearer, tool="other", arguments={"n": n}))
        for n in range(50)
    ]
    await until(lambda: len(transport.queries) > before, "it is sent")
    # The first caller hangs up; the others still get their response.
    calls[0].cancel()
    await asyncio.sleep(0)
    transport.open.set()
    decisions = await asyncio.gather(*calls[1:])
    assert all(one.allow for one in decisions)
    assert len(transport.queries) - before <= 2, (
        "one, or two where the state was found to be another"
    )
    assert len({one.decision_id for one in decisions}) == len(decisions)


async def test_forged_token_with_a_known_jti_is_refused_despite_the_cache(
    shared_deployment,
):
    _, good = await shared_deployment.create_team()
    await shared_deployment.announce()
    await shared_deployment.settle()
    pdp = shared_deployment.pdp(cache=True)
    assert (await shared_deployment.wait_until_cached(pdp, good)).allow
    head, _, signature = good.rpartition(".")
    claims = jwt.decode(good, options={"verify_signature": False})
    other = "A" if signature[10] != "A" else "B"
    forged = [
        f"{head}.{signature[:10]}{other}{signature[11:]}",
        jwt.encode(claims, "x" * 32, "HS256", headers={"kid": jwt.get_unverified_header(good)["kid"]}),
        good + "=",
    ]  # fmt: skip
    for bearer in forged:
        decision = await pdp.authorize(bearer, tool="search")
        assert (decision.allow, decision.cached) == (False, False)
    assert (await pdp.authorize(good, tool="search")).cached


async def test_per_turn_token_is_never_cached(shared_deployment, turn_signer, turn_claims):
    turn = Keyring.from_jwks({"keys": [turn_signer.public_jwk()]})
    verifier = BearerVerifier([Issuer("daedalus", turn)])
    pdp = shared_deployment.pdp(cache=True, verifier=verifier)
    now = int(time.time())
    bearer = turn_signer.token({**turn_claims, "iat": now, "exp": now + 300})
    await shared_deployment.wait_until_cached(pdp, None)
    for _ in range(3):
        decision = await pdp.authorize(bearer, tool="search")
        assert (decision.allow, decision.cached) == (False, False)


async def test_closed_pdp_answers_waiting_calls(shared_deployment):
    bearer = await shared_deployment.publish_token()
    pdp = shared_deployment.pdp(cache=True)
    await shared_deployment.wait_until_cached(pdp, bearer)
    transport = shared_deployment.transports[pdp]
    transport.open.clear()
    waiting = asyncio.ensure_future(pdp.authorize(bearer, tool="other"))
    await until(lambda: transport.queries[-1]["action"]["name"] == "other", "it is sent")
    closing = asyncio.ensure_future(pdp.aclose())
    await asyncio.sleep(0)
    transport.open.set()
    await closing
    assert (await waiting).reason in {Reason.OK, Reason.UNAVAILABLE}


LIMITED = """package site

deny contains {"action": a, "code": "large", "message": "Too large."} if {
	some a in data.lictor.actions
	a.name == "transfer"
	a.arguments.amount > 100
}
"""


async def test_decision_without_arguments_is_not_reused_for_others(
    make_shared_deployment, monkeypatch
):
    # Another tool makes the PDP forget that rules read this one's arguments.
    monkeypatch.setattr("pdp_client.evaluator._MOST_GUESSES", 1)
    deployment = await make_shared_deployment(site=LIMITED)
    bearer = await deployment.publish_token()
    pdp = deployment.pdp(cache=True)
    await deployment.wait_until_cached(pdp, bearer)

    for amount, allow in ((1, True), (500, False), (1, True), (501, False)):
        decision = await pdp.decide(bearer, Action(name="transfer", arguments={"amount": amount}))
        assert decision.allow is allow, amount
        assert (await pdp.authorize(bearer, tool="search")).allow


STATE = (1, 5, "p", "s")


def response(until):
    return Decision(
        allow=True, reason=Reason.OK, reasons=("ok",), message="", epoch=1, revision=5,
        policy="p", site="s", valid_until=until,
    )  # fmt: skip


def query(name="search", **arguments):
    return DecisionQuery(
        credential={"kind": "anonymous"},
        action=Action(name=name, arguments=arguments),
        context=Context(server="x"),
        with_arguments=True,
    )


def test_keys_of_the_cache_are_of_one_size_and_tell_questions_apart():
    others = [
        query(), query("other"), query(q=1), query(q="1"), query("x" * 900_000), query(q="x" * 900_000),
        replace(query(), context=Context(server="y")),
        replace(query(), context=Context(server="x", transport="http")),
        replace(query(), context=Context(server="x", shadow=True)),
    ]  # fmt: skip
    keys = {one.cache_key(who) for one in others for who in ("ada", "eve")}
    assert len(keys) == 2 * len(others)
    assert {len(key) for key in keys} == {32}
    assert query(q=1).cache_key("ada") == query(q=1).cache_key("ada")


@pytest.mark.parametrize("part", ["epoch", "revision", "policy", "site"])
def test_response_without_a_part_of_its_state_has_none(part):
    assert state_of(response(2000.0)) == STATE
    assert state_of(replace(response(2000.0), **{part: None})) is None


async def test_closing_the_cache_waits_for_queries_that_fail():
    cache, release, ended = DecisionCache(maxsize=10), asyncio.Event(), []

    async def fail():
        await release.wait()
        ended.append(True)
        raise OPAUnreachableError("down")

    waiting = asyncio.ensure_future(cache.get_or_query(STATE, b"key", fail))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(cache.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    release.set()

    await closing

    assert ended
    with pytest.raises(OPAUnreachableError):
        await waiting


async def test_cache_drops_what_has_expired_without_being_asked_for_it():
    now = [1000.0]
    cache = DecisionCache(maxsize=1000, clock=lambda: now[0])

    async def put(number, until):
        async def answer():
            return response(until)

        await cache.get_or_query(STATE, f"{number}".encode(), answer)
        await asyncio.sleep(0)

    cache.get(STATE, b"none")
    for number in range(100):
        await put(number, 1010.0)
    assert len(cache._entries) == 100
    now[0] = 1011.0
    await put("late", 1020.0)
    assert len(cache._entries) == 1
    for number in range(2000):
        await put(number, 1020.0)
    assert len(cache._entries) == 1000
