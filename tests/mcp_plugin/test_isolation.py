"""Many callers at once: none ever sees another's libraries."""

import asyncio
import threading

import httpx2
import pytest
from fastmcp import Context, FastMCP

from mcp_plugin import AllowedLibraries, current_decision
from pdp_client import PDP, BearerVerifier, Issuer, Keyring

pytestmark = pytest.mark.anyio

CALLERS = 24


@pytest.fixture
async def callers(deployment):
    """Bearers, each with one library that is its alone."""
    await deployment.add_user("ada")
    bearers = {}
    for n in range(CALLERS):
        await deployment.add_library(f"lib-{n:02}", "w")
        bearers[f"lib-{n:02}"] = await deployment.create_token("ada", libraries=[f"lib-{n:02}"])
    await deployment.settle()
    return bearers


def meeting_server():
    """Tools that answer only when every caller is inside."""
    mcp = FastMCP("meeting")
    inside, threads = asyncio.Barrier(CALLERS), threading.Barrier(CALLERS, timeout=20)

    @mcp.tool
    async def meet(ctx: Context, libraries: list[str] = AllowedLibraries()) -> dict:
        await inside.wait()
        nested = await ctx.fastmcp.call_tool("inner")
        state = await ctx.get_state("mcp_resolved_libraries")
        return {
            "own": libraries,
            "state": state,
            "decision": list(current_decision().libraries),
            "nested": nested.structured_content,
        }

    @mcp.tool
    def meet_in_threads(libraries: list[str] = AllowedLibraries()) -> dict:
        threads.wait()
        return {"own": libraries, "decision": list(current_decision().libraries)}

    @mcp.tool
    async def inner(ctx: Context, libraries: list[str] = AllowedLibraries()) -> dict:
        await inside.wait()
        return {"own": libraries, "state": await ctx.get_state("mcp_resolved_libraries")}

    return mcp


async def post(http, url, method, params, *, bearer, session=None, id_=None):
    headers = {"Authorization": f"Bearer {bearer}", "Accept": "application/json, text/event-stream"}
    if session:
        headers |= {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-06-18"}
    message = {"jsonrpc": "2.0", "id": id_ or bearer[-8:], "method": method, "params": params}
    response = await http.post(url, json=message, headers=headers)
    assert response.status_code == 200, response.text
    return response


async def test_callers_who_share_a_session_are_kept_apart(serve, callers):
    served = await serve(meeting_server(), http={"json_response": True}, sessions="unbound")
    async with httpx2.AsyncClient(timeout=30) as http:
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        opened = await post(http, served.url, "initialize", hello, bearer="anyone-at-all")
        session = opened.headers["mcp-session-id"]

        async def call(bearer):
            params = {"name": "meet", "arguments": {}}
            answer = await post(
                http, served.url, "tools/call", params, bearer=bearer, session=session
            )
            return answer.json()["result"]["structuredContent"]

        answers = await asyncio.gather(*(call(bearer) for bearer in callers.values()))

    for library, answer in zip(callers, answers, strict=True):
        own = [library]
        nested = {"own": own, "state": own}
        assert answer == {"own": own, "state": own, "decision": own, "nested": nested}


@pytest.mark.parametrize("tool", ["meet", "meet_in_threads"])
async def test_callers_with_their_own_sessions_are_kept_apart(serve, callers, tool):
    served = await serve(meeting_server())

    answers = await asyncio.gather(
        *(served.call(tool, bearer=bearer) for bearer in callers.values())
    )

    for library, answer in zip(callers, answers, strict=True):
        assert answer["own"] == answer["decision"] == [library]


async def test_nested_call_keeps_the_outer_decision(serve, callers):
    mcp = FastMCP("nested")

    @mcp.tool
    async def open_to_all(ctx: Context) -> dict:
        return {
            "state": await ctx.get_state("mcp_resolved_libraries"),
            "credential": current_decision().credential,
        }

    @mcp.tool
    async def outer(ctx: Context) -> dict:
        await ctx.fastmcp.call_tool("open_to_all")
        results = await asyncio.gather(
            ctx.fastmcp.call_tool("open_to_all"), ctx.fastmcp.call_tool("open_to_all")
        )
        return {
            "nested": [result.structured_content for result in results],
            "state": await ctx.get_state("mcp_resolved_libraries"),
            "decision": list(current_decision().libraries),
        }

    served = await serve(mcp, public_tools={"open_to_all"})

    answer = await served.call("outer", bearer=callers["lib-07"])

    no_state = {"state": None, "credential": None}
    own = ["lib-07"]
    assert answer == {"nested": [no_state, no_state], "state": own, "decision": own}


async def test_call_within_a_call_is_decided_by_itself(serve, deployment, callers):
    mcp = FastMCP("nested")

    @mcp.tool
    async def outer(ctx: Context) -> str:
        return str((await ctx.fastmcp.call_tool("forbidden")).structured_content)

    @mcp.tool
    async def forbidden() -> str:
        return "reached"

    served = await serve(mcp)
    bearer = await deployment.create_token("ada", tools=["outer"])
    await deployment.settle()

    assert "permission to call 'forbidden'" in await served.refusal("outer", bearer=bearer)


async def test_tool_refuses_to_run_without_the_middleware():
    from fastmcp import Client

    async with Client(meeting_server()) as client:
        result = await client.call_tool("inner", raise_on_error=False)

    assert "needs the libraries" in result.content[0].text


async def test_tool_of_a_mounted_server_has_the_parent_s_decision(serve, callers):
    parent = FastMCP("parent")
    child = FastMCP("child")

    @child.tool
    def search(libraries: list[str] = AllowedLibraries()) -> list[str]:
        return libraries

    parent.mount(child, namespace="ns")
    served = await serve(parent)

    assert await served.call("ns_search", bearer=callers["lib-03"]) == ["lib-03"]


MANY = 1000
SESSIONS = 8


def crowded_server():
    """Tools of four kinds; those that can wait do, until all such calls are inside."""
    mcp = FastMCP("crowded")
    barrier = asyncio.Barrier(MANY * 3 // 4)

    async def all_inside():
        # Who is refused never comes.
        async with asyncio.timeout(90):
            await barrier.wait()

    def seen(libraries):
        return {"own": libraries, "decision": list(current_decision().libraries)}

    @mcp.tool
    async def alone(libraries: list[str] = AllowedLibraries()) -> dict:
        await all_inside()
        return seen(libraries)

    @mcp.tool
    async def nested(ctx: Context, libraries: list[str] = AllowedLibraries()) -> dict:
        await all_inside()
        within = (await ctx.fastmcp.call_tool("inner")).structured_content
        state = await ctx.get_state("mcp_resolved_libraries")
        return {**seen(libraries), "within": within["own"], "state": state}

    @mcp.tool
    async def gathered(ctx: Context, libraries: list[str] = AllowedLibraries()) -> dict:
        await all_inside()
        call, read = ctx.fastmcp.call_tool("inner"), ctx.fastmcp.read_resource("data://inner")
        called, was_read = await asyncio.gather(call, read)
        within = called.structured_content["own"] + was_read.contents[0].content.split()
        return {**seen(libraries), "within": within}

    @mcp.tool
    def threaded(libraries: list[str] = AllowedLibraries()) -> dict:
        return seen(libraries)

    @mcp.tool
    async def inner(libraries: list[str] = AllowedLibraries()) -> dict:
        return seen(libraries)

    @mcp.resource("data://inner")
    def of_inner(libraries: list[str] = AllowedLibraries()) -> str:
        return " ".join(libraries)

    return mcp


@pytest.mark.system
async def test_thousand_callers_on_shared_sessions_are_kept_apart(grants, guard, plain_opa):
    bearers = [grants.token("*", libraries=[f"lib-{n}"]) for n in range(MANY)]
    grants.lay()
    verifier = BearerVerifier([Issuer("mnemosyne", Keyring.from_jwks({"keys": []}))])
    kinds = ["alone", "nested", "gathered", "threaded"]
    limits = httpx2.Limits(max_connections=None)
    async with (
        PDP(opa_url=plain_opa.unix_url, verifier=verifier, deadline=120) as pdp,
        httpx2.AsyncClient(timeout=120, limits=limits) as http,
    ):
        served = await guard(
            None, crowded_server(), pdp=pdp, http={"json_response": True}, sessions="unbound"
        )
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        opened = [
            await post(http, served.url, "initialize", hello, bearer="anyone-at-all")
            for _ in range(SESSIONS)
        ]
        sessions = [answer.headers["mcp-session-id"] for answer in opened]

        async def call(n):
            answer = await post(
                http, served.url, "tools/call", {"name": kinds[n % 4], "arguments": {}},
                bearer=bearers[n], session=sessions[n // 4 % SESSIONS], id_=n,
            )  # fmt: skip
            return answer.json()["result"]["structuredContent"]

        answers = await asyncio.gather(*map(call, range(MANY)))

    for n, answer in enumerate(answers):
        own = [f"lib-{n}"]
        expected = {"own": own, "decision": own}
        if kinds[n % 4] == "nested":
            expected |= {"within": own, "state": own}
        if kinds[n % 4] == "gathered":
            expected |= {"within": own + own}
        assert answer == expected
