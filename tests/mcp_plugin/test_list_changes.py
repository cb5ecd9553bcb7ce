"""Sessions whose lists change with the registry are told so, and no others."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from fastmcp import Client, FastMCP
from fastmcp.client.transports import StreamableHttpTransport
from support.waiting import until

pytestmark = pytest.mark.anyio


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
        await asyncio.sleep(0.3)  # the registry's state is read for the first time
        grants.change(mine, "first", "second", "prompts/get:*")
        await until(lambda: "notifications/tools/list_changed" in heard, "the client is notified")
        assert {tool.name for tool in await client.list_tools()} == {"first", "second"}
        await asyncio.sleep(0.3)
        assert heard == ["notifications/tools/list_changed"]
        assert nothing == []


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
