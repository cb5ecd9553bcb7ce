"""Strict consistency and the cache, against a whole lictor, a real OPA and a real Redis."""

import asyncio
import json
import os
import signal
import time

import jwt
import pytest
from support.stack import until

from lictor import sharing
from pdp_client import Action, BearerVerifier, ConfigurationError, Issuer, Keyring, Reason
from pdp_client.opaque import digest
from pdp_client.roads import open_road
from pdp_client.shared import Shared

pytestmark = pytest.mark.anyio


class CountingRoad:
    """The real road, and how often it was taken; `open` lets questions through."""

    def __init__(self, road):
        self._road = road
        self.asked = []
        self.under_way = self.most = 0
        self.open = asyncio.Event()
        self.open.set()

    async def ask(self, rule, question):
        self.asked.append(question)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.open.wait()
            return await self._road.ask(rule, question)
        finally:
            self.under_way -= 1

    async def aclose(self):
        await self._road.aclose()


class World:
    """A lictor with a Redis, and MCP servers' PDPs on it."""

    def __init__(self, stack, server, announcer):
        self.stack = stack
        self.redis = server
        self.announcer = announcer
        self.roads = {}

    def pdp(self, **changes):
        address = self.stack.opa.settings.address
        token = (self.stack.opa.settings.folder / "client.token").read_text().strip()
        road = CountingRoad(open_road(address, token=token))
        changes.setdefault("shared", self.shared())
        pdp = self.stack.pdp(road=road, opa_url=address, **changes)
        self.roads[pdp] = road
        return pdp

    def shared(self, **changes):
        return Shared(
            self.redis.url, key_file=self.stack.settings.newest_key, **{"timeout": 5, **changes}
        )

    def asked(self, pdp):
        return len(self.roads[pdp].asked)

    async def told(self):
        """As a command does it that has written: Redis knows, and nobody has published it yet."""
        await self.announcer.announce(self.stack.registry)

    async def cached(self, pdp, bearer, **call):
        """Wait until such a call is answered from what is remembered."""

        async def hit():
            decision = await pdp.authorize(bearer, **{"tool": "search", **call})
            return decision if decision.cached else None

        return await until(hit, "a call is answered from the cache")


@pytest.fixture
async def make_world(make_stack, server):
    worlds = []

    async def make(**changes):
        stack = await make_stack(settings={"redis_url": server.url}, **changes)
        announcer = sharing.announcer(stack.settings)
        worlds.append(World(stack, server, announcer))
        await stack.user("ada")
        return worlds[-1]

    yield make
    for world in worlds:
        await world.announcer.aclose()


@pytest.fixture
async def world(make_world):
    return await make_world()


@pytest.fixture
async def held(world, monkeypatch):
    """The same, where nothing is published before the test says so."""
    publisher = world.stack.publisher
    look = publisher.look
    publish = asyncio.Event()

    async def held_look():
        if publish.is_set():
            await look()

    monkeypatch.setattr(publisher, "look", held_look)
    world.publish = publish
    world.look = look
    return world


async def a_token(world, **changes):
    bearer = await world.stack.token(**changes)
    await world.told()
    await world.stack.settle()
    return bearer


async def revoke(world, bearer):
    await world.stack.operator.revoke_token(digest(bearer))
    await world.told()


async def test_strict_never_allows_what_was_revoked_before_it_was_asked(world):
    strict = world.pdp(consistency="strict", catch_up=5)
    for _ in range(20):
        bearer = await a_token(world)
        control = await a_token(world)
        assert (await strict.authorize(bearer, tool="search")).allow
        await revoke(world, bearer)
        refused = await strict.authorize(bearer, tool="search")
        assert refused.reason is Reason.TOKEN_DEACTIVATED
        assert (await strict.authorize(control, tool="search")).allow


async def test_strict_waits_for_an_opa_that_is_behind_and_no_longer_than_it_may(world, held):
    bearer = await world.stack.token()
    await world.look()
    await world.stack.settle()
    bounded, patient = world.pdp(), world.pdp(consistency="strict", catch_up=20, deadline=30)
    hasty = world.pdp(consistency="strict", catch_up=0.05)
    await world.told()
    await revoke(world, bearer)
    assert (await bounded.authorize(bearer, tool="search")).allow, "that is what bounded means"
    behind = await hasty.authorize(bearer, tool="search")
    assert (behind.allow, behind.reason, behind.libraries) == (False, Reason.BEHIND, ())
    assert world.asked(hasty) > 1
    shown = await hasty.visible(bearer, actions=[Action(name="search")])
    assert (shown.indices, shown.reason) == ((), Reason.BEHIND)
    waiting = asyncio.ensure_future(patient.authorize(bearer, tool="search"))
    await until(lambda: world.asked(patient) > 1, "it is asked again")
    world.publish.set()
    assert (await waiting).reason is Reason.TOKEN_DEACTIVATED


async def test_of_all_that_wait_for_an_opa_one_asks_and_another_goes_on_for_it(world, held):
    bearer = await world.stack.token()
    await world.look()
    await world.stack.settle()
    await world.told()
    await revoke(world, bearer)
    pdp = world.pdp(consistency="strict", catch_up=20, deadline=30)
    road = world.roads[pdp]
    calls = [asyncio.ensure_future(pdp.authorize(bearer, tool=f"t{n}")) for n in range(20)]

    def each_has_asked():
        names = {question["action"]["name"] for question in road.asked}
        return len(names) == len(calls) and road.under_way <= 1

    await until(each_has_asked, "each has asked once")
    road.most, asked = 0, len(road.asked)
    await until(lambda: len(road.asked) > asked + 10, "it is asked again")
    assert road.most == 1
    # Whoever asks for all hangs up.
    asking = int(road.asked[-1]["action"]["name"].removeprefix("t"))
    calls.pop(asking).cancel()
    asked = len(road.asked)
    await until(lambda: len(road.asked) > asked + 5, "another one asks")
    world.publish.set()
    for decision in await asyncio.gather(*calls):
        assert decision.reason is Reason.TOKEN_DEACTIVATED


async def test_strict_has_no_answer_without_redis(world):
    world.redis.must_be_ours()
    bearer = await a_token(world)
    strict, bounded = world.pdp(consistency="strict"), world.pdp()
    assert (await strict.authorize(bearer, tool="search")).allow
    world.redis.kill()
    for _ in range(3):
        decision = await strict.authorize(bearer, tool="search")
        assert (decision.allow, decision.reason) == (False, Reason.UNAVAILABLE)
        shown = await strict.visible(bearer, actions=[Action(name="search")])
        assert (shown.indices, shown.reason) == ((), Reason.UNAVAILABLE)
    assert (await bounded.authorize(bearer, tool="search")).allow
    world.redis.start()

    async def back():
        return (await strict.authorize(bearer, tool="search")).allow

    await until(back, "lictor serve has told the new Redis")


@pytest.mark.parametrize("lie", ["high", "forged", "gone", "garbage"])
async def test_strict_has_no_answer_where_redis_lies(world, lie):
    bearer = await a_token(world)
    strict = world.pdp(consistency="strict")
    assert (await strict.authorize(bearer, tool="search")).allow
    with world.redis.client() as client:
        raw = client.get("{lictor}:newest")
        mac, _, body = raw.partition(b" ")
        told = json.loads(body)
        told["revision"] += 1_000_000 if lie == "high" else -1
        forged = mac + b" " + json.dumps(told, separators=(",", ":")).encode()

        def lie_and_ask():
            # Before each question, since lictor serve puts it right every second.
            if lie == "gone":
                client.delete("{lictor}:newest")
            else:
                client.set("{lictor}:newest", b"garbage" if lie == "garbage" else forged)

        answers = set()
        for _ in range(5):
            lie_and_ask()
            answers.add((await strict.authorize(bearer, tool="search")).reason)
    assert answers <= {Reason.UNAVAILABLE, Reason.OK}
    assert Reason.UNAVAILABLE in answers


async def test_a_late_redis_is_no_answer_within_the_deadline(world):
    world.redis.must_be_ours()
    bearer = await a_token(world)
    strict = world.pdp(consistency="strict", shared=world.shared(timeout=0.05))
    assert (await strict.authorize(bearer, tool="search")).allow
    world.redis.freeze()
    assert (await strict.authorize(bearer, tool="search")).reason is Reason.UNAVAILABLE
    world.redis.thaw()


async def test_strict_and_the_cache_need_what_is_shared(world):
    for wrong in ({"consistency": "strict"}, {"cache": True}, {"consistency": "eventual"}):
        with pytest.raises(ConfigurationError):
            world.pdp(shared=None, **wrong)


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_an_equal_call_is_answered_without_opa_until_something_changes(world, consistency):
    bearer, other = await a_token(world), await a_token(world)
    pdp = world.pdp(cache=True, consistency=consistency)
    hit = await world.cached(pdp, bearer)
    assert hit.allow
    asked = world.asked(pdp)
    again = await pdp.authorize(bearer, tool="search")
    assert (again.allow, again.cached, world.asked(pdp)) == (True, True, asked)
    assert again.decision_id != hit.decision_id
    assert again.credential.digest == hit.credential.digest
    # Another caller, another tool, other tags are other questions.
    for call in ({"bearer": other}, {"tool": "fetch"}, {"tags": ["write"]}, {"transport": "stdio"}):
        unlike = await pdp.authorize(**{"bearer": bearer, "tool": "search", **call})
        assert not unlike.cached
    assert (await pdp.authorize(bearer, tool="search")).cached


async def test_what_is_remembered_in_shadow_mode_opens_nothing_outside_of_it(world):
    bearer = await a_token(world, tools=["search"])
    action = Action(name="not-granted")
    pdp = world.pdp(cache=True)
    await world.cached(pdp, bearer)

    async def remembered(*, shadow):
        async def hit():
            decision = await pdp.decide(bearer, action, shadow=shadow)
            return decision if decision.cached else None

        return (await until(hit, "it is answered from the cache")).runs

    assert await remembered(shadow=True) is True
    assert await remembered(shadow=False) is False
    assert await remembered(shadow=True) is True


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_what_is_remembered_does_not_outlive_a_revocation(world, consistency):
    bearer = await a_token(world)
    pdp = world.pdp(cache=True, consistency=consistency)
    await world.cached(pdp, bearer)
    # Nobody can answer any more but the cache.
    world.stack.opa.kill()
    assert (await pdp.authorize(bearer, tool="search")).cached
    await revoke(world, bearer)

    async def dropped():
        return not (await pdp.authorize(bearer, tool="search")).allow

    if consistency == "strict":
        assert await dropped(), "at once: the write had returned"
    await until(dropped, "it is not answered from the cache")
    assert (await pdp.authorize(bearer, tool="search")).reason is Reason.UNAVAILABLE


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_nothing_remembered_is_older_than_an_answer_before(world, consistency, monkeypatch):
    bearer, other = await a_token(world), await a_token(world)
    shared = world.shared()
    pdp = world.pdp(cache=True, consistency=consistency, shared=shared)
    hit = await world.cached(pdp, bearer)
    late = await shared.newest.read()

    async def read():
        return late

    # Redis is told late: OPA has a revision of which it says nothing yet.
    monkeypatch.setattr(shared.newest, "read", read)
    monkeypatch.setattr(shared.newest, "known", lambda: late)
    assert (await pdp.authorize(bearer, tool="search")).cached
    await world.stack.operator.revoke_token(digest(bearer))
    await world.stack.settle()
    newer = await pdp.authorize(other, tool="search")
    assert newer.revision > hit.revision
    then = await pdp.authorize(bearer, tool="search")
    assert (then.reason, then.cached) == (Reason.TOKEN_DEACTIVATED, False)


async def test_nothing_is_remembered_while_redis_is_away(world):
    world.redis.must_be_ours()
    bearer = await a_token(world)
    pdp = world.pdp(cache=True, shared=world.shared(timeout=0.1))
    await world.cached(pdp, bearer)
    world.redis.freeze()

    async def asks():
        return not (await pdp.authorize(bearer, tool="search")).cached

    await until(asks, "OPA is asked")
    assert (await pdp.authorize(bearer, tool="search")).allow
    world.redis.thaw()
    await world.cached(pdp, bearer)


async def test_new_rules_end_what_was_remembered(world, opa_binary):
    from lictor.state import publish_policies

    bearer = await a_token(world)
    pdp = world.pdp(cache=True)
    before = await world.cached(pdp, bearer)
    (world.stack.settings.site / "no.rego").write_text(
        "package site\n\n"
        'deny contains {"action": a.name, "code": "no", "message": "No."} if some a in data.lictor.actions\n'
    )
    publish_policies(world.stack.settings, opa_binary)

    async def refused():
        decision = await pdp.authorize(bearer, tool="search")
        return decision if decision.cached and not decision.allow else None

    after = await until(refused, "the new rule refuses, and that is remembered")
    assert after.reasons == ("site:no", "site_rule")
    assert after.site != before.site


async def test_time_ends_what_is_remembered(world):
    offset = 0.0
    soon = round(time.time()) + 3600
    bearer = await a_token(world, expires_at=soon)
    pdp = world.pdp(cache=True, clock=lambda: time.time() + offset)
    hit = await world.cached(pdp, bearer)
    assert hit.valid_until <= soon
    offset = hit.valid_until - time.time() + 1
    later = await pdp.authorize(bearer, tool="search")
    assert not later.cached


async def test_the_age_of_remembered_data_grows(world):
    bearer = await a_token(world)
    pdp = world.pdp(cache=True)
    first = await world.cached(pdp, bearer)

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


async def test_a_rule_that_reads_the_clock_is_asked_each_time(make_world):
    world = await make_world(site=_CLOCK)
    bearer = await a_token(world)
    cached = world.pdp(cache=True)
    strict = world.pdp(cache=True, consistency="strict")
    for pdp in (cached, strict):
        for _ in range(10):
            decision = await pdp.authorize(bearer, tool="search")
            assert (decision.allow, decision.cached) == (True, False)
        assert world.asked(pdp) == 10


async def test_where_rules_read_arguments_each_set_of_them_is_a_question(make_world):
    world = await make_world(site=_ARGUMENTS)
    bearer = await a_token(world)
    pdp = world.pdp(cache=True)
    poe, raven = {"query": "poe", "n": 1}, {"query": "raven"}
    assert (await world.cached(pdp, bearer, arguments=poe)).allow
    refused = await pdp.authorize(bearer, tool="search", arguments=raven)
    assert (refused.allow, refused.cached) == (False, False)
    assert (await pdp.authorize(bearer, tool="search", arguments={"n": 1, "query": "poe"})).cached
    assert not (await pdp.authorize(bearer, tool="search", arguments={**poe, "n": "1"})).cached
    assert not (await world.cached(pdp, bearer, arguments=raven)).allow


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_equal_questions_are_asked_once(world, consistency):
    bearer = await a_token(world)
    pdp = world.pdp(cache=True, consistency=consistency)
    await world.cached(pdp, bearer)
    road = world.roads[pdp]
    road.open.clear()
    before = len(road.asked)
    calls = [
        asyncio.ensure_future(pdp.authorize(bearer, tool="other", arguments={"n": n}))
        for n in range(50)
    ]
    await until(lambda: len(road.asked) > before, "it is asked")
    # Who asked first hangs up; the others still get their answer.
    calls[0].cancel()
    await asyncio.sleep(0)
    road.open.set()
    decisions = await asyncio.gather(*calls[1:])
    assert all(one.allow for one in decisions)
    assert len(road.asked) - before <= 2, "one, or two where the state was found to be another"
    assert len({one.decision_id for one in decisions}) == len(decisions)


async def test_a_forged_token_with_a_known_jti_is_refused_after_the_real_one_was_cached(world):
    _, good = await world.stack.team()
    await world.told()
    await world.stack.settle()
    pdp = world.pdp(cache=True)
    assert (await world.cached(pdp, good)).allow
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


async def test_a_per_turn_token_is_never_remembered(world, turn_signer, turn_claims):
    turn = Keyring.from_jwks({"keys": [turn_signer.public_jwk()]})
    verifier = BearerVerifier([Issuer("daedalus", turn)])
    pdp = world.pdp(cache=True, verifier=verifier)
    now = int(time.time())
    bearer = turn_signer.token({**turn_claims, "iat": now, "exp": now + 300})
    await world.cached(pdp, None)
    for _ in range(3):
        decision = await pdp.authorize(bearer, tool="search")
        assert (decision.allow, decision.cached) == (False, False)


async def test_a_pdp_that_is_closed_answers_who_still_waits(world):
    bearer = await a_token(world)
    pdp = world.pdp(cache=True)
    await world.cached(pdp, bearer)
    road = world.roads[pdp]
    road.open.clear()
    waiting = asyncio.ensure_future(pdp.authorize(bearer, tool="other"))
    await until(lambda: road.asked[-1]["action"]["name"] == "other", "it is asked")
    closing = asyncio.ensure_future(pdp.aclose())
    await asyncio.sleep(0)
    road.open.set()
    await closing
    assert (await waiting).reason in {Reason.OK, Reason.UNAVAILABLE}


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_a_half_open_socket_to_opa_is_no_answer_and_no_later_one_either(world, consistency):
    """OPA's host takes what is sent, and nobody answers; when it does, nobody waits any more."""
    bearer, other = await a_token(world), await a_token(world, tools=["nothing"])
    pdp = world.pdp(consistency=consistency, deadline=0.2)

    async def answers():
        return (await pdp.authorize(bearer, tool="search")).allow

    await until(answers, "OPA answers")
    opa = world.stack.opa.process
    opa.send_signal(signal.SIGSTOP)
    await asyncio.to_thread(os.waitid, os.P_PID, opa.pid, os.WSTOPPED | os.WNOWAIT)
    for _ in range(3):
        decision = await pdp.authorize(bearer, tool="search")
        assert (decision.allow, decision.reason) == (False, Reason.UNAVAILABLE)
    opa.send_signal(signal.SIGCONT)
    for _ in range(20):
        # The allow that was asked for above must not come back for this one.
        assert not (await pdp.authorize(other, tool="search")).allow
    await until(answers, "OPA answers again")


@pytest.mark.parametrize("questions", range(8))
async def test_redis_may_die_in_any_question(world, questions):
    """Over a way that breaks after so many questions, again and again."""
    bearer = await a_token(world)
    port = int(world.redis.url.rpartition(":")[2].partition("/")[0])

    async def forward(reader, writer):
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", port)

        async def back():
            while data := await from_redis.read(65536):
                writer.write(data)

        answering = asyncio.ensure_future(back())
        try:
            for _ in range(questions):
                if not (data := await reader.read(65536)):
                    break
                to_redis.write(data)
            await reader.read(65536)
        except ConnectionError:
            pass  # a client that closes with an answer unread resets the connection
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            for one in (to_redis, writer):
                one.close()

    listener = await asyncio.start_server(forward, "127.0.0.1", 0)
    way = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"
    async with listener:
        key = world.stack.settings.newest_key
        for changes in ({"consistency": "strict"}, {"cache": True}, {}):
            pdp = world.pdp(shared=Shared(way, key_file=key), **changes)
            reasons = {(await pdp.authorize(bearer, tool="search")).reason for _ in range(8)}
            assert reasons <= {Reason.OK, Reason.UNAVAILABLE}
            if "consistency" not in changes:
                assert reasons == {Reason.OK}, "without Redis, bounded goes on"
            await pdp.aclose()
