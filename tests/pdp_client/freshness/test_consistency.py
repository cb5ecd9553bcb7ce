"""Strict consistency, with a deployment, a real OPA, and a real Redis or the server itself."""

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from support.waiting import until

from pdp_client import Action, ConfigurationError, Reason
from pdp_client.shared import Shared

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("rounds", [4, pytest.param(20, marks=pytest.mark.system)])
async def test_strict_never_allows_a_call_made_after_a_revocation(shared_deployment, rounds):
    strict = shared_deployment.pdp(consistency="strict", catch_up=5)
    for _ in range(rounds):
        bearer = await shared_deployment.publish_token()
        control = await shared_deployment.publish_token()
        assert (await strict.authorize(bearer, tool="search")).allow
        await shared_deployment.revoke(bearer)
        refused = await strict.authorize(bearer, tool="search")
        assert refused.reason is Reason.TOKEN_DEACTIVATED
        assert (await strict.authorize(control, tool="search")).allow


async def test_strict_waits_for_a_lagging_opa_up_to_its_limit(shared_deployment, held):
    bearer = await shared_deployment.create_token()
    await shared_deployment.sync()
    await shared_deployment.settle()
    bounded, patient = (
        shared_deployment.pdp(),
        shared_deployment.pdp(consistency="strict", catch_up=20, deadline=30),
    )
    hasty = shared_deployment.pdp(consistency="strict", catch_up=0.05)
    await shared_deployment.announce()
    await shared_deployment.revoke(bearer)
    assert (await bounded.authorize(bearer, tool="search")).allow, "that is what bounded means"
    behind = await hasty.authorize(bearer, tool="search")
    assert (behind.allow, behind.reason, behind.libraries) == (False, Reason.BEHIND, ())
    assert shared_deployment.count_queries(hasty) > 1
    listed = await hasty.visible(bearer, actions=[Action(name="search")])
    assert (listed.indices, listed.reason) == ((), Reason.BEHIND)
    waiting = asyncio.ensure_future(patient.authorize(bearer, tool="search"))
    await until(lambda: shared_deployment.count_queries(patient) > 1, "it is sent again")
    shared_deployment.publish.set()
    assert (await waiting).reason is Reason.TOKEN_DEACTIVATED


async def test_strict_waiters_send_one_query_and_hand_over(shared_deployment, held):
    bearer = await shared_deployment.create_token()
    await shared_deployment.sync()
    await shared_deployment.settle()
    await shared_deployment.announce()
    await shared_deployment.revoke(bearer)
    pdp = shared_deployment.pdp(consistency="strict", catch_up=20, deadline=30)
    transport = shared_deployment.transports[pdp]
    calls = [asyncio.ensure_future(pdp.authorize(bearer, tool=f"t{n}")) for n in range(20)]

    def each_was_answered():
        # A first response that is still to come would be counted beside the one query for all.
        return len({query["action"]["name"] for query in transport.answered}) == len(calls)

    await until(each_was_answered, "each has sent a query, and got a response")
    transport.most, asked = 0, len(transport.queries)
    await until(lambda: len(transport.queries) > asked + 10, "it is sent again")
    assert transport.most == 1
    # The caller that queries for all hangs up.
    calling = int(transport.queries[-1]["action"]["name"].removeprefix("t"))
    calls.pop(calling).cancel()
    asked = len(transport.queries)
    await until(lambda: len(transport.queries) > asked + 5, "another caller queries")
    shared_deployment.publish.set()
    for decision in await asyncio.gather(*calls):
        assert decision.reason is Reason.TOKEN_DEACTIVATED


async def test_strict_has_no_answer_without_shared_state(shared_deployment):
    shared_deployment.source.must_be_ours()
    bearer = await shared_deployment.publish_token()
    strict, bounded = shared_deployment.pdp(consistency="strict"), shared_deployment.pdp()
    assert (await strict.authorize(bearer, tool="search")).allow
    shared_deployment.source.kill()
    for _ in range(3):
        decision = await strict.authorize(bearer, tool="search")
        assert (decision.allow, decision.reason) == (False, Reason.UNAVAILABLE)
        listed = await strict.visible(bearer, actions=[Action(name="search")])
        assert (listed.indices, listed.reason) == ((), Reason.UNAVAILABLE)
    assert (await bounded.authorize(bearer, tool="search")).allow
    shared_deployment.source.start()

    async def back():
        return (await strict.authorize(bearer, tool="search")).allow

    await until(back, "the revision can be read again")


@pytest.mark.parametrize("through", ["redis"], indirect=True)
@pytest.mark.parametrize("lie", ["high", "forged", "gone", "garbage"])
async def test_strict_has_no_answer_where_redis_lies(shared_deployment, lie):
    bearer = await shared_deployment.publish_token()
    strict = shared_deployment.pdp(consistency="strict")
    assert (await strict.authorize(bearer, tool="search")).allow
    with shared_deployment.redis.client() as client:
        raw = client.get("{lictor}:newest")
        mac, _, body = raw.partition(b" ")
        reported = json.loads(body)
        reported["revision"] += 1_000_000 if lie == "high" else -1
        forged = mac + b" " + json.dumps(reported, separators=(",", ":")).encode()

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


async def test_late_shared_state_gives_no_decision_within_the_deadline(shared_deployment):
    shared_deployment.source.must_be_ours()
    bearer = await shared_deployment.publish_token()
    strict = shared_deployment.pdp(
        consistency="strict", shared=shared_deployment.shared(timeout=0.05)
    )
    assert (await strict.authorize(bearer, tool="search")).allow
    shared_deployment.source.freeze()
    assert (await strict.authorize(bearer, tool="search")).reason is Reason.UNAVAILABLE
    shared_deployment.source.thaw()


async def test_strict_and_cache_require_shared_state(shared_deployment):
    for wrong in ({"consistency": "strict"}, {"cache": True}, {"consistency": "eventual"}):
        with pytest.raises(ConfigurationError):
            shared_deployment.pdp(shared=None, **wrong)


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_half_open_opa_socket_never_yields_a_stale_response(shared_deployment, consistency):
    """OPA's host accepts the query without a response; the response arrives when no caller waits any more."""
    bearer, other = (
        await shared_deployment.publish_token(),
        await shared_deployment.publish_token(tools=["nothing"]),
    )
    pdp = shared_deployment.pdp(consistency=consistency, deadline=0.2)

    async def answers():
        return (await pdp.authorize(bearer, tool="search")).allow

    await until(answers, "OPA answers")
    opa = shared_deployment.opa.process
    opa.send_signal(signal.SIGSTOP)
    await asyncio.to_thread(os.waitid, os.P_PID, opa.pid, os.WSTOPPED | os.WNOWAIT)
    for _ in range(3):
        decision = await pdp.authorize(bearer, tool="search")
        assert (decision.allow, decision.reason) == (False, Reason.UNAVAILABLE)
    opa.send_signal(signal.SIGCONT)
    for _ in range(20):
        # The allow for the query above must not be the response to this one.
        assert not (await pdp.authorize(other, tool="search")).allow
    await until(answers, "OPA answers again")


async def test_connection_lost_after_any_request_never_misleads(shared_deployment):
    bearer = await shared_deployment.publish_token()
    key = shared_deployment.settings.newest_key
    for requests in range(8):
        async with broken_after(requests, shared_deployment.source.url) as url:
            for changes in ({"consistency": "strict"}, {"cache": True}, {}):
                pdp = shared_deployment.pdp(shared=Shared(url, key_file=key), **changes)
                reasons = {(await pdp.authorize(bearer, tool="search")).reason for _ in range(8)}
                assert reasons <= {Reason.OK, Reason.UNAVAILABLE}, (requests, changes)
                if "consistency" not in changes:
                    assert reasons == {Reason.OK}, (
                        requests,
                        "without shared state, bounded goes on",
                    )
                await pdp.aclose()


@asynccontextmanager
async def broken_after(requests, url):
    """The URL of a Redis or a server whose every connection breaks after so many requests."""
    parts = urlsplit(url)

    async def forward(reader, writer):
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", parts.port)

        async def back():
            while data := await from_redis.read(65536):
                writer.write(data)

        answering = asyncio.ensure_future(back())
        try:
            for _ in range(requests):
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

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        yield parts._replace(netloc=f"127.0.0.1:{port}").geturl()
