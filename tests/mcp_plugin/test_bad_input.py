"""Names and URIs that mean harm, servers that fail, and clients that go away."""

import asyncio
import logging

import pytest
from fastmcp import FastMCP
from fastmcp.server.providers import Provider
from fastmcp.tools import Tool
from mcp import MCPError
from prometheus_client import CollectorRegistry
from support.plain_opa import PlainOPA
from support.waiting import until

from mcp_plugin import AllowedLibraries, PolicyMiddleware, current_decision
from mcp_plugin.protocol.uris import is_canonical
from pdp_client import PDP, BearerVerifier, Issuer, Keyring

pytestmark = pytest.mark.anyio

LONG = "x" * 1_024
LONGER = "x" * 900_000


def named(*names):
    mcp = FastMCP("named")
    for name in names:
        mcp.tool(lambda: "ran", name=name)
    return mcp


async def said(served, tool, bearer):
    async with served.client(bearer) as client:
        return (await client.call_tool(tool, raise_on_error=False)).content[0].text


STRANGE = ["поиск", "検索", "بحث", "🔍", "a b", "e\u0301", LONG]
ALIKE = [
    "sea\u200brch", "\ufeffsearch", "search\u00a0", "ѕearch", "ｓearch", "SEARCH", "search\x00",
    "se\u00adarch", "search\n", "\u202esearch",
]  # fmt: skip


async def test_tool_with_any_name_is_granted_by_its_name(serve_plain, grants, caplog):
    bearers = {name: grants.token(name) for name in STRANGE}
    other = grants.token("search")
    grants.lay()
    served = await serve_plain(named("search", *STRANGE))
    caplog.set_level(logging.DEBUG, "mcp_plugin")
    for name, bearer in bearers.items():
        assert await said(served, name, bearer) == "ran"
        assert await served.tools(bearer) == {name}
        refused = await said(served, name, other)
        assert refused.startswith("Token does not have permission to call '")
        assert len(refused) < 120
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("mcp_plugin")]
    assert lines
    assert all(len(line) < 400 for line in lines if "header_names" not in line)


async def test_too_long_tool_name_is_refused_and_hidden(serve_plain, grants, caplog):
    bearer = grants.token("*")
    grants.lay()
    served = await serve_plain(named("search", LONGER))
    caplog.set_level(logging.DEBUG, "mcp_plugin")
    refused = await said(served, LONGER, bearer)
    assert refused.startswith("Token does not have permission to call '")
    assert len(refused) < 120
    assert await served.tools(bearer) == {"search"}
    assert await said(served, "search", bearer) == "ran"
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("mcp_plugin")]
    assert all(len(line) < 400 for line in lines if "header_names" not in line)


async def test_similar_tool_name_is_another_name(serve_plain, grants):
    bearer = grants.token("search")
    grants.lay()
    served = await serve_plain(named("search", *ALIKE))
    async with served.client(bearer) as client:
        assert {tool.name for tool in await client.list_tools()} == {"search"}
        assert not (await client.call_tool("search")).is_error
        for name in ALIKE:
            refused = await client.call_tool(name, raise_on_error=False)
            assert refused.content[0].text.startswith("Token does not have permission"), name


def shelves():
    mcp = FastMCP("shelves")

    @mcp.resource("data://{path*}", security=None)
    def shelf(path: str) -> str:
        return f"the text of {path}"

    return mcp


ROUND_ABOUT = [
    "data://open/../secret",
    "data://open/..%2Fsecret",
    "data://open/%2e%2e/secret",
    "data://open/%2E%2E%2Fsecret",
    "data://open/x%2F..%2F..%2Fsecret",
    "data://open/..\\secret",
    "data://open/..%5Csecret",
    "data://open/%252e%252e/secret",
    "data://open/./x",
    "data://open/x%00",
    "data://open/%66",
    "data://open/caf\u00e9",
    "data://open/%c3%a9",
    "data://open/%FF",
]


async def test_uri_does_not_lead_out_of_what_is_granted(serve_open, serve_plain, grants):
    """A request without FastMCP's client, which resolves `..` itself."""
    bearer = grants.token("resources/read:data://open/*")
    grants.lay()
    http = {"json_response": True, "stateless_http": True}

    async def read(served, uri):
        answer = await served.raw("resources/read", {"uri": uri}, bearer=bearer)
        if "error" in answer:
            return answer["error"]["message"]
        return answer["result"]["contents"][0]["text"]

    served = await serve_open(shelves(), **http)
    texts = [await read(served, uri) for uri in ROUND_ABOUT]
    assert texts[:3] == ["the text of open/../secret"] * 3
    assert sum(text.startswith("the text of") for text in texts) > 10
    served = await serve_plain(shelves(), http=http)
    for uri in ROUND_ABOUT:
        assert (await read(served, uri)).startswith("Resource not found"), uri
    assert await read(served, "data://open/x%20y") == "the text of open/x y"


async def test_uri_rule_is_not_evaded_by_another_spelling(serve_open, serve_plain, grants):
    bearer = grants.token("*")
    grants.lay()
    served = await serve_open(shelves())
    async with served.client() as client:
        assert (await client.read_resource("data://%73ecret"))[0].text == "the text of secret"
    grants.rules("""package site

deny contains {"action": a, "code": "secret", "message": "Secret."} if {
	some a in data.lictor.actions
	startswith(a.uri, "data://secret")
}
""")
    served = await serve_plain(shelves())
    async with served.client(bearer) as client:
        assert (await client.read_resource("data://public"))[0].text == "the text of public"
        for uri, why in (("data://secret/x", "Secret."), ("data://%73ecret/x", "not found")):
            with pytest.raises(MCPError, match=why):
                await client.read_resource(uri)


@pytest.mark.parametrize(
    "uri",
    ["data://x", "file:///a/b.c", "data://x/", "data://a?b=c%2Bd&e=%2C", "urn:x:y", "ui://a@b:80/c?d=e", "data://a%20b", "x+y-z.1:a",
     "data://caf%C3%A9", "data://%E6%A4%9C", "data://.../..x/y..", "data://a?b=%22"],
)  # fmt: skip
def test_uri_with_one_spelling_is_decidable(uri):
    assert is_canonical(uri)


@pytest.mark.parametrize(
    "uri",
    [*ROUND_ABOUT, "", "x", "Data://x", "1x:y", "data://a b", "data://a\n", "data://a\u200b",
     "data://a?b=..", "data://..", "data:..", "data://a%", "data://a%2", "data://a%3Fb",
     "data://a|b", "data://a%7E", "data://a%ED%A0%80", "data://a#b", "data://a?", "data://a?b=c&",
     "data://a?&b=c", "data://a?b=c&&d=e", "data://a?b=c+d", "file:///a//b.c", "data:////a",
     "data://a//"],
)  # fmt: skip
def test_uri_with_another_spelling_is_not_decidable(uri):
    assert not is_canonical(uri)


class FailingProvider(Provider):
    """Lists one tool and fails on the next."""

    async def _list_tools(self):
        return [self.make_tool(n) for n in range(2)]

    def make_tool(self, n):
        if n:
            raise RuntimeError("half-way")
        return Tool.from_function(lambda: "ran", name=f"failing-{n}")


async def test_list_that_fails_half_way_shows_only_what_is_granted(serve_plain, grants):
    bearer = grants.token("mine", "failing*")
    grants.lay()
    mcp = named("mine", "other")
    mcp.add_provider(FailingProvider())
    served = await serve_plain(mcp)

    assert await served.tools(bearer) == {"mine"}

    class Breaks(FastMCP):
        async def list_tools(self, *, run_middleware=True):
            tools = await super().list_tools(run_middleware=run_middleware)
            if not run_middleware:
                raise RuntimeError("half-way")
            return tools

    broken = Breaks("broken")
    broken.tool(lambda: "ran", name="mine")
    served = await serve_plain(broken)
    with pytest.raises(MCPError, match=r"Internal server error|half-way"):
        await served.tools(bearer)


class Stalling:
    """Holds each query to OPA until `go` is set."""

    def __init__(self, pdp):
        self.asked, self.go, self.ended = asyncio.Event(), asyncio.Event(), 0
        self._query, pdp._transport.query = pdp._transport.query, self.hold_query

    async def hold_query(self, rule, sent):
        self.asked.set()
        try:
            await self.go.wait()
            return await self._query(rule, sent)
        finally:
            self.ended += 1


def counting():
    mcp = FastMCP("counting")
    mcp.ran = []

    @mcp.tool
    async def work(libraries: list[str] = AllowedLibraries()) -> list[str]:
        mcp.ran.append(libraries)
        return libraries

    return mcp


async def test_client_disconnect_during_a_decision_is_harmless(serve_plain, grants, plain_pdp):
    leaver, other = (grants.token("*", libraries=[uid]) for uid in ("lib-a", "lib-b"))
    grants.lay()
    mcp = counting()
    served = await serve_plain(mcp)
    stalling = Stalling(plain_pdp)
    call = asyncio.create_task(served.call("work", bearer=leaver))
    await stalling.asked.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    stalling.go.set()
    await until(lambda: stalling.ended, "the decision is over")

    assert await served.call("work", bearer=other) == ["lib-b"]
    assert current_decision() is None
    assert ["lib-b"] in mcp.ran
    assert all(libraries in (["lib-a"], ["lib-b"]) for libraries in mcp.ran)


async def test_lifespan_end_runs_no_call_in_flight(guard, grants, opa_binary, short_path):
    """The PDP is closed under a call that waits for its decision, and OPA goes away with it."""
    bearer = grants.token("*", libraries=["lib-a"])
    mcp = counting()
    verifier = BearerVerifier([Issuer("mnemosyne", Keyring.from_jwks({"keys": []}))])
    opa = PlainOPA(opa_binary, short_path).start()
    try:
        pdp = PDP(opa_url=opa.unix_url, verifier=verifier, deadline=10)
        served = await guard(None, mcp, pdp=pdp, http={"grace": 1})
        stalling = Stalling(pdp)
        async with served.client(bearer, mode="legacy") as client:
            call = asyncio.create_task(client.call_tool("work", raise_on_error=False))
            await stalling.asked.wait()
            await pdp.aclose()
            opa.kill()
            stalling.go.set()
            refused = [await call, await client.call_tool("work", raise_on_error=False)]
    finally:
        opa.kill()

    assert {result.content[0].text for result in refused} == {
        "The policy decision point is unavailable."
    }
    assert mcp.ran == []
    assert current_decision() is None


async def test_server_shutdown_ends_its_calls(serve_to_the_end, grants, plain_pdp):
    """A call that was allowed and is cancelled has no decision to go on with."""
    bearer = grants.token("*", libraries=["lib-a"])
    grants.lay()
    entered, seen = asyncio.Event(), []
    mcp = FastMCP("ending")

    @mcp.tool
    async def hang(libraries: list[str] = AllowedLibraries()) -> None:
        async def cleanup():
            await asyncio.sleep(0)
            seen.append(current_decision())

        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(libraries)
            mcp.left = asyncio.create_task(cleanup())

    mcp.add_middleware(PolicyMiddleware(plain_pdp, registry=CollectorRegistry()))
    async with serve_to_the_end(mcp, grace=0) as served:
        call = asyncio.create_task(served.call("hang", bearer=bearer, mode="legacy"))
        await entered.wait()
    await asyncio.gather(call, return_exceptions=True)
    await until(lambda: len(seen) == 2, "the tool and what it left are over")

    assert seen == [["lib-a"], None]
