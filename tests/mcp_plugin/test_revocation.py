"""What runs when its caller's access ends is ended; other callers notice nothing."""

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from hashlib import sha256

import httpx2
import pytest
from fastmcp import Client, Context, FastMCP
from fastmcp.client.transports import StreamableHttpTransport
from mcp import MCPError
from prometheus_client import CollectorRegistry
from support.waiting import until

from mcp_plugin import BearerAuth, PolicyMiddleware
from mcp_plugin.denials import DENIAL
from mcp_plugin.http.request import Caller
from mcp_plugin.metrics import metrics
from mcp_plugin.revocation import OpenWork, Revocations
from pdp_client import PDP, Action, BearerVerifier, FileRecord
from pdp_client.exceptions import ResponseUnusableError
from tests.mcp_plugin.conftest import serving

pytestmark = pytest.mark.anyio

HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "t", "version": "1"},
}


def slow_server():  # noqa: C901 - a list of tools
    """Tools that run until they are released, and that note how they ended."""
    mcp = FastMCP("slow")
    mcp.started, mcp.ended, mcp.sent = [], [], 0
    mcp.release = asyncio.Event()

    async def work(name):
        mcp.started.append(name)
        try:
            await mcp.release.wait()
        except asyncio.CancelledError:
            mcp.ended.append(f"{name} cancelled")
            raise
        mcp.ended.append(f"{name} finished")
        return f"secret of {name}"

    @mcp.tool
    async def wait() -> str:
        return await work("wait")

    @mcp.tool(meta={"lictor": {"on_revocation": "finish"}})
    async def commit() -> str:
        return await work("commit")

    @mcp.tool
    async def chat(ctx: Context) -> str:
        mcp.started.append("chat")
        while not mcp.release.is_set():
            mcp.sent += 1
            await ctx.report_progress(mcp.sent, 1e9)
            await asyncio.sleep(0.01)
        return "done"

    @mcp.tool
    def block() -> str:
        mcp.started.append("block")
        while not mcp.release.is_set():
            time.sleep(0.01)
        return "secret of block"

    @mcp.resource("data://slow")
    async def slow() -> str:
        return await work("slow")

    @mcp.tool
    async def outer(ctx: Context) -> str:
        result = await ctx.fastmcp.call_tool("wait")
        return result.content[0].text

    return mcp


async def call_of(served, bearer, tool, mode="auto"):
    async with served.client(bearer, mode=mode) as client:
        result = await client.call_tool(tool, raise_on_error=False)
    return result.content[0].text


@pytest.fixture
async def slow(serve_plain, grants):
    served = await serve_plain(slow_server())
    served.bearer, served.other = grants.token("*", "resources/read:*"), grants.token("*")
    grants.lay()
    yield served
    served.mcp.release.set()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("tool", ["wait", "outer"])
async def test_a_running_call_is_cancelled_and_another_callers_goes_on(slow, grants, tool, mode):
    mine = asyncio.create_task(call_of(slow, slow.bearer, tool, mode))
    others = asyncio.create_task(call_of(slow, slow.other, tool, mode))
    await until(lambda: len(slow.mcp.started) == 2, "both run")
    grants.revoke(slow.bearer)
    assert await mine == "Invalid MCP token."
    assert slow.mcp.ended == ["wait cancelled"]
    slow.mcp.release.set()
    assert await others == "secret of wait"


async def test_a_tool_that_must_finish_is_not_cut_off_and_its_result_is_withheld(slow, grants):
    running = asyncio.create_task(call_of(slow, slow.bearer, "commit"))
    await until(lambda: slow.mcp.started, "it runs")
    grants.revoke(slow.bearer)
    await until(lambda: ended_of(slow), "it is known to be ended")
    assert slow.mcp.ended == []
    slow.mcp.release.set()
    assert await running == "Invalid MCP token."
    assert slow.mcp.ended == ["commit finished"]


async def test_a_blocking_tools_result_is_withheld(slow, grants):
    running = asyncio.create_task(call_of(slow, slow.bearer, "block"))
    await until(lambda: slow.mcp.started, "it runs")
    grants.revoke(slow.bearer)
    await until(lambda: ended_of(slow), "it is known to be ended")
    slow.mcp.release.set()
    assert await running == "Invalid MCP token."


async def test_a_running_read_is_ended(slow, grants):
    async def read():
        async with slow.client(slow.bearer) as client:
            with pytest.raises(MCPError, match="Invalid MCP token"):
                await client.read_resource("data://slow")

    running = asyncio.create_task(read())
    await until(lambda: slow.mcp.started, "it runs")
    grants.revoke(slow.bearer)
    await running
    assert slow.mcp.ended == ["slow cancelled"]


async def test_lockdown_ends_what_runs(slow, grants):
    running = asyncio.create_task(call_of(slow, slow.bearer, "wait"))
    await until(lambda: slow.mcp.started, "it runs")
    grants.lay(lockdown=True)
    assert await running == "An operator has stopped all calls."


async def test_an_outage_ends_nothing(slow, grants):
    running = asyncio.create_task(call_of(slow, slow.bearer, "wait"))
    await until(lambda: slow.mcp.started, "it runs")
    grants.lay(staleness_limit=-1)
    await asyncio.sleep(0.3)  # several looks at the registry's state
    grants.lay()
    slow.mcp.release.set()
    assert await running == "secret of wait"


async def test_finish_lets_calls_run_to_their_end(serve_plain, grants):
    served = await serve_plain(slow_server(), on_revocation="finish")
    bearer = grants.token("*")
    grants.lay()
    running = asyncio.create_task(call_of(served, bearer, "wait"))
    await until(lambda: served.mcp.started, "it runs")
    grants.revoke(bearer)
    served.mcp.release.set()
    assert await running == "secret of wait"
    assert ended_of(served) == {}


async def test_messages_of_a_running_call_end_with_it(slow, grants):
    seen = []

    async def progress(progress, total, message):
        seen.append(progress)

    async def listen():
        async with slow.client(slow.bearer, mode="legacy") as client:
            result = await client.call_tool("chat", raise_on_error=False, progress_handler=progress)
            return result.content[0].text

    running = asyncio.create_task(listen())
    await until(lambda: len(seen) > 3, "it reports progress")
    grants.revoke(slow.bearer)
    assert await running == "Invalid MCP token."
    count = len(seen)
    await asyncio.sleep(0.1)
    assert len(seen) == count


def ended_of(served):
    return {
        (sample.labels["kind"], sample.labels["reason"]): sample.value
        for metric in served.metrics.collect()
        for sample in metric.samples
        if sample.name == "lictor_ended_total"
    }


@contextlib.asynccontextmanager
async def stream_of(served, bearer):
    """A session's standalone stream, and the session."""
    headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {bearer}"}
    async with httpx2.AsyncClient(timeout=30) as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
        opened = await http.post(served.url, json=body, headers=headers)
        headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        async with http.stream("GET", served.url, headers=headers) as stream:
            yield stream


@pytest.mark.parametrize("auth", [True, False])
async def test_a_standalone_stream_is_closed(plain_pdp, grants, auth):
    metrics = CollectorRegistry()
    policy = PolicyMiddleware(plain_pdp, registry=metrics)
    mcp = slow_server()
    if auth:
        mcp.auth = BearerAuth(policy, base_url="https://mcp.example.org")
    mcp.add_middleware(policy)
    bearer, other = grants.token("*"), grants.token("*")
    grants.lay()
    async with (
        serving(mcp, metrics, grace=1) as served,
        stream_of(served, bearer) as mine,
        stream_of(served, other) as others,
    ):
        left = asyncio.create_task(others.aread())
        grants.revoke(bearer)
        async with asyncio.timeout(10):
            assert await mine.aread() == b""
        assert ended_of(served) == {("stream", "invalid_token"): 1}
        assert not left.done()
        grants.revoke(other)
        async with asyncio.timeout(10):
            await left


async def test_what_was_ended_is_on_record(guard, grants, plain_opa, tmp_path):
    log = tmp_path / "decisions.jsonl"
    record = FileRecord(log)
    async with PDP(
        opa_url=plain_opa.unix_url, verifier=BearerVerifier([]), record=record, deadline=10
    ) as pdp:
        served = await guard(None, slow_server(), pdp=pdp)
        bearer = grants.token("*")
        grants.lay()
        running = asyncio.create_task(call_of(served, bearer, "wait"))
        await until(lambda: served.mcp.started, "it runs")
        grants.revoke(bearer)
        await running
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    calls = [line for line in lines if line.get("action", {}).get("name") == "wait"]
    assert [(line["allow"], line["reason"]) for line in calls] == [
        (True, "ok"), (False, "invalid_token"),
    ]  # fmt: skip
    assert ended_of(served) == {("call", "invalid_token"): 1}


async def test_a_client_that_vanishes_while_its_stream_is_closed_harms_nobody(slow, grants, caplog):
    async with stream_of(slow, slow.bearer):
        grants.revoke(slow.bearer)
    await until(lambda: not slow_holders(slow), "nothing is open")
    assert "Traceback" not in caplog.text
    assert await call_and_release(slow, slow.other) == "secret of wait"


def slow_holders(served):
    policy = next(one for one in served.mcp.middleware if isinstance(one, PolicyMiddleware))
    watches = policy.enforcer.revocations._watches.values()
    return [holder for watch in watches for holder in watch.holders.values()]


async def call_and_release(served, bearer):
    running = asyncio.create_task(call_of(served, bearer, "wait"))
    await until(lambda: served.mcp.started, "it runs")
    served.mcp.release.set()
    return await running


async def test_nothing_is_left_when_nothing_runs(slow):
    assert await call_and_release(slow, slow.bearer) == "secret of wait"
    await until(lambda: not slow_holders(slow), "nothing is open")


def test_event_loops_in_several_threads_end_their_own_work(plain_opa, grants):
    """A server with three event loops, each with a PDP of its own, and one bearer."""
    bearer = grants.token("*")
    grants.lay()
    texts, started = {}, threading.Barrier(4)

    def run(number):
        async def main():
            async with PDP(
                opa_url=plain_opa.unix_url, verifier=BearerVerifier([]), deadline=10
            ) as pdp:
                mcp = slow_server()
                mcp.add_middleware(PolicyMiddleware(pdp, registry=CollectorRegistry()))
                async with serving(mcp) as served:
                    running = asyncio.create_task(call_of(served, bearer, "wait"))
                    await until(lambda: mcp.started, "it runs")
                    await asyncio.to_thread(started.wait, 30)
                    texts[number] = await running

        asyncio.run(main())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for one in threads:
        one.start()
    started.wait(30)
    grants.revoke(bearer)
    for one in threads:
        one.join(60)
    assert texts == dict.fromkeys(range(3), "Invalid MCP token.")


async def test_in_strict_no_message_follows_a_revocation_that_has_returned(
    serve_plain, plain_pdp, grants
):
    plain_pdp.consistency = "strict"  # the registry behind a plain OPA is always current
    served = await serve_plain(slow_server())
    bearer = grants.token("*")
    grants.lay()
    seen = []

    async def progress(progress, total, message):
        seen.append(progress)

    async def listen():
        async with served.client(bearer, mode="legacy") as client:
            result = await client.call_tool("chat", raise_on_error=False, progress_handler=progress)
            return result.content[0].text, result.meta[DENIAL]["reason"]

    running = asyncio.create_task(listen())
    await until(lambda: len(seen) > 3, "it reports progress")
    grants.revoke(bearer)
    sent = served.mcp.sent
    assert await running == ("Invalid MCP token.", "invalid_token")
    # One message may have been checked just before.
    assert max(seen) <= sent + 1
    assert served.mcp.sent < sent + 100


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_in_strict_a_running_read_ends_with_the_refusal(serve_plain, plain_pdp, grants, mode):
    plain_pdp.consistency = "strict"
    served = await serve_plain(slow_server())
    bearer = grants.token("resources/read:*")
    grants.lay()

    async def read():
        async with served.client(bearer, mode=mode) as client:
            with pytest.raises(MCPError, match="Invalid MCP token") as refused:
                await client.read_resource("data://slow")
            return refused.value.error.data

    running = asyncio.create_task(read())
    await until(lambda: served.mcp.started, "it runs")
    grants.revoke(bearer)
    assert (await running)[DENIAL]["reason"] == "invalid_token"


async def test_streams_of_unbound_sessions_are_closed_too(serve_plain, grants):
    served = await serve_plain(slow_server(), sessions="unbound")
    bearer = grants.token("*")
    grants.lay()
    async with stream_of(served, bearer) as stream:
        grants.revoke(bearer)
        async with asyncio.timeout(10):
            assert await stream.aread() == b""
    assert ended_of(served) == {("stream", "invalid_token"): 1}


async def test_a_call_that_waits_for_its_client_is_ended(serve_plain, grants):
    mcp = FastMCP("asking")
    asked, answered = asyncio.Event(), asyncio.Event()

    @mcp.tool
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Which?", response_type=str)
        return f"secret for {answer.data}"

    async def answer(message, response_type, params, context):
        asked.set()
        await answered.wait()
        return response_type(value="x")

    bearer = grants.token("*")
    grants.lay()
    served = await serve_plain(mcp)
    transport = StreamableHttpTransport(served.url, headers={"Authorization": f"Bearer {bearer}"})
    async with Client(transport, mode="legacy", elicitation_handler=answer) as client:
        running = asyncio.create_task(client.call_tool("ask", raise_on_error=False))
        await asyncio.wait_for(asked.wait(), 20)
        grants.revoke(bearer)
        result = await running
        answered.set()
    assert result.content[0].text == "Invalid MCP token."


async def test_a_decision_of_an_older_state_is_checked_again(plain_pdp, grants, revocations):
    """A call decided before a revocation, and opened after the check that the revocation caused."""
    bearer = grants.token("*")
    grants.lay()
    decision = await plain_pdp.authorize(bearer, tool="wait")
    caller, ended = Caller(bearer, "http"), asyncio.Event()
    first = OpenWork("call", Action(name="first"), lambda: None)
    late = OpenWork("call", Action(name="late"), ended.set)
    with revocations.opened(caller, first, decision=decision):
        grants.revoke(bearer)
        await until(lambda: first.reason, "the check has been made")
        with revocations.opened(caller, late, decision=decision):
            async with asyncio.timeout(5):
                await ended.wait()


async def test_optional_authentication_ends_what_a_revoked_bearer_runs(serve_plain, grants):
    served = await serve_plain(slow_server(), require_auth=False)
    bearer = grants.token("*")
    grants.lay()
    running = asyncio.create_task(call_of(served, bearer, "wait"))
    await until(lambda: served.mcp.started, "it runs")
    grants.revoke(bearer)
    assert await running == "Invalid MCP token."
    assert served.mcp.ended == ["wait cancelled"]


async def test_optional_authentication_lets_a_bad_bearers_call_go_on(serve_plain, grants):
    """It was never more than an anonymous caller's, so nothing has ended."""
    served = await serve_plain(slow_server(), require_auth=False)
    good = grants.token("*")
    grants.lay()
    async with stream_of(served, good) as stream:
        bad = asyncio.create_task(call_of(served, "never-a-token-of-anybody", "wait"))
        await until(lambda: served.mcp.started, "it runs")
        grants.revoke(good)
        try:
            async with asyncio.timeout(10):
                assert await stream.aread() == b""
        finally:
            served.mcp.release.set()
        assert await bad == "secret of wait"


async def test_many_credentials_are_checked_with_few_queries(
    plain_pdp, grants, monkeypatch, revocations, revoke_and_settle
):
    bearers = [grants.token("*") for _ in range(250)]
    grants.lay()
    async with open_for(revocations, bearers) as open_work:
        await revoke_and_settle(bearers[7], open_work[7])
        sent = count_queries(plain_pdp, monkeypatch)
        await revoke_and_settle(bearers[120], open_work[120])
    assert [n for n, one in enumerate(open_work) if one.reason] == [7, 120]
    assert sent["callers"] == 10


async def test_credential_that_spoils_a_query_keeps_no_other_open(
    plain_pdp, grants, monkeypatch, revocations
):
    bearers = [grants.token("*") for _ in range(60)]
    grants.lay()
    spoiling, query = sha256(bearers[3].encode()).hexdigest(), plain_pdp._transport.query

    async def spoilt(entrypoint, document):
        if spoiling in json.dumps(document):
            raise ResponseUnusableError("HTTP 500")
        return await query(entrypoint, document)

    monkeypatch.setattr(plain_pdp._transport, "query", spoilt)
    async with open_for(revocations, bearers) as open_work:
        for revoked in (4, 50):
            grants.revoke(bearers[revoked])
            await until(lambda one=open_work[revoked]: one.reason, "it is ended")
    assert [n for n, one in enumerate(open_work) if one.reason] == [4, 50]


async def test_rules_of_an_earlier_version_check_one_by_one(
    plain_pdp, grants, monkeypatch, revocations, revoke_and_settle
):
    """OPA refuses the entrypoint that checks many at once."""
    query = plain_pdp._transport.query

    async def without_callers(entrypoint, document):
        return await query("unknown" if entrypoint == "callers" else entrypoint, document)

    plain_pdp._transport._heads["unknown"] = plain_pdp._transport._heads["callers"].replace(
        b"lictor/callers", b"lictor/unknown"
    )
    monkeypatch.setattr(plain_pdp._transport, "query", without_callers)
    bearers = [grants.token("*") for _ in range(20)]
    grants.lay()
    async with open_for(revocations, bearers) as open_work:
        await revoke_and_settle(bearers[7], open_work[7])
    assert [n for n, one in enumerate(open_work) if one.reason] == [7]


@pytest.fixture
def revocations(plain_pdp):
    counted = metrics(CollectorRegistry())
    return Revocations(plain_pdp, counted, requires_auth=True, on_revocation="end")


@pytest.fixture
def revoke_and_settle(plain_pdp, grants, revocations):
    """Revoke a bearer, and wait until its work is ended and all others have been checked."""

    async def revoke(bearer, work):
        grants.revoke(bearer)
        await until(lambda: work.reason, "it is ended")
        state = await plain_pdp.registry_state()
        (watch,) = revocations._watches.values()
        await until(lambda: all(one.state == state for one in watch.holders.values()), "checked")

    return revoke


@contextlib.asynccontextmanager
async def open_for(revocations, bearers):
    """Something open for each bearer."""
    with contextlib.ExitStack() as exit_:
        work = [OpenWork("stream", Action(name=str(n)), lambda: None) for n in range(len(bearers))]
        for bearer, one in zip(bearers, work, strict=True):
            exit_.enter_context(revocations.opened(Caller(bearer, "http"), one))
        yield work


def count_queries(pdp, monkeypatch):
    sent, query = Counter(), pdp._transport.query

    async def counting(entrypoint, document):
        sent[entrypoint] += 1
        return await query(entrypoint, document)

    monkeypatch.setattr(pdp._transport, "query", counting)
    return sent


async def test_finish_leaves_streams_open(serve_plain, grants):
    served = await serve_plain(slow_server(), on_revocation="finish")
    bearer = grants.token("*")
    grants.lay()
    async with stream_of(served, bearer) as stream:
        reading = asyncio.create_task(stream.aread())
        await until(lambda: slow_holders(served), "the stream is watched")
        (holder,) = slow_holders(served)
        grants.revoke(bearer)
        await until(lambda: holder.state and holder.state[1] > 42, "the revocation is known")
        assert not reading.done()
        reading.cancel()
    assert ended_of(served) == {}
