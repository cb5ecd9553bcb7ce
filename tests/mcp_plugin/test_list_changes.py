"""Sessions whose lists change with the registry are told so, and no others."""

import asyncio
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastmcp import Client, FastMCP
from fastmcp.client.transports import StreamableHttpTransport
from support.waiting import until

pytestmark = pytest.mark.anyio

HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "t", "version": "1"},
}


def shop():
    mcp = FastMCP("shop")

    @mcp.tool
    def first() -> str:
        return "first"

    @mcp.tool
    def second() -> str:
        return "second"

    @mcp.prompt
    def ask() -> str:
        return "a prompt"

    return mcp


@asynccontextmanager
async def session(served, bearer):
    """A client of the older protocol, and the methods of the notifications that it gets."""
    heard = []

    async def hear(message):
        method = getattr(message, "method", None) or getattr(message.root, "method", None)
        heard.append(method)

    transport = StreamableHttpTransport(served.url, headers={"Authorization": f"Bearer {bearer}"})
    async with Client(transport, mode="legacy", message_handler=hear) as client:
        yield client, heard


@pytest.mark.parametrize("on_revocation", ["end", "finish"])
async def test_only_sessions_whose_lists_changed_are_told(serve_plain, grants, on_revocation):
    mine, other = grants.token("first", "prompts/get:*"), grants.token("first")
    grants.lay()
    served = await serve_plain(shop(), on_revocation=on_revocation)
    async with session(served, mine) as (client, heard), session(served, other) as (quiet, nothing):
        assert [tool.name for tool in await client.list_tools()] == ["first"]
        assert [prompt.name for prompt in await client.list_prompts()] == ["ask"]
        await quiet.list_tools()
        grants.change(mine, "first", "second", "prompts/get:*")
        await until(lambda: "notifications/tools/list_changed" in heard, "the client is notified")
        assert {tool.name for tool in await client.list_tools()} == {"first", "second"}
        await asyncio.sleep(0.3)
        assert heard == ["notifications/tools/list_changed"]
        assert nothing == []


async def test_a_change_before_the_stream_is_open_is_told_when_it_is(serve_plain, grants):
    bearer = grants.token("first")
    grants.lay()
    served = await serve_plain(shop())
    headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {bearer}"}
    async with httpx2.AsyncClient(timeout=30) as http:

        async def post(id_, method, params):
            body = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
            response = await http.post(served.url, json=body, headers=headers)
            response.raise_for_status()
            return response

        opened = await post(1, "initialize", HELLO)
        headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        await post(2, "tools/list", {})
        grants.change(bearer, "first", "second")
        async with http.stream("GET", served.url, headers=headers) as stream:
            async for line in stream.aiter_lines():
                if "notifications/" in line:
                    break
    assert "notifications/tools/list_changed" in line


async def test_a_session_that_never_listed_is_told_nothing(serve_plain, grants):
    bearer = grants.token("first")
    grants.lay()
    served = await serve_plain(shop())
    async with session(served, bearer) as (client, heard):
        await client.ping()
        await asyncio.sleep(0.3)
        grants.change(bearer, "first", "second")
        await asyncio.sleep(0.5)
        assert heard == []
