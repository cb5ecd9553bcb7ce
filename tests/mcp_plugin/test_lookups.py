"""A call looks its tool up once, and runs the tool that was decided on."""

import asyncio

import pytest
from fastmcp import FastMCP
from fastmcp.server.middleware import Middleware
from fastmcp.server.providers import LocalProvider

from mcp_plugin.lookups import FoundTool, handed_over

pytestmark = pytest.mark.anyio


class CountingProvider(LocalProvider):
    """Counts how often a tool is looked up."""

    def __init__(self):
        super().__init__()
        self.looked_up = []

    async def _get_tool(self, name, version=None):
        self.looked_up.append(name)
        return await super()._get_tool(name, version)


class Passes(Middleware):
    """Does nothing, inside the policy."""


def counting_server():
    provider = CountingProvider()
    mcp = FastMCP("shop", providers=[provider])

    @provider.tool
    def look() -> str:
        return "looked"

    @provider.tool
    async def look_twice() -> str:
        await mcp.call_tool("look")
        return "twice"

    return mcp, provider


async def call(served, bearer, name):
    async with served.client(bearer) as client:
        result = await client.call_tool(name, {}, raise_on_error=False)
        return result.content[0].text


async def test_call_looks_its_tool_up_once(serve_plain, grants):
    bearer = grants.token("look*")
    grants.lay()
    mcp, provider = counting_server()
    served = await serve_plain(mcp)

    assert await call(served, bearer, "look") == "looked"
    assert provider.looked_up == ["look"]
    assert await call(served, bearer, "look") == "looked"
    assert provider.looked_up == ["look", "look"]


async def test_nested_call_looks_its_own_tool_up(serve_plain, grants):
    bearer = grants.token("look*")
    grants.lay()
    mcp, provider = counting_server()
    served = await serve_plain(mcp)

    assert await call(served, bearer, "look_twice") == "twice"
    assert provider.looked_up == ["look_twice", "look"]


async def test_middleware_inside_the_policy_brings_a_second_lookup(serve_plain, grants):
    bearer = grants.token("look*")
    grants.lay()
    mcp, provider = counting_server()
    served = await serve_plain(mcp)
    mcp.add_middleware(Passes())

    await call(served, bearer, "look")  # the chain is put in order
    provider.looked_up.clear()
    assert await call(served, bearer, "look") == "looked"
    assert provider.looked_up == ["look", "look"]


async def test_found_tool_goes_to_the_first_equal_lookup_alone():
    mcp, provider = counting_server()
    tool = await mcp.get_tool("look")
    other, _ = counting_server()
    copied = tool.model_copy()
    with handed_over(FoundTool(mcp, "look", None, copied)):
        await other.get_tool("look")
        assert (await mcp.get_tool("look_twice")).name == "look_twice"
        assert await mcp.get_tool("look") is copied
        assert await mcp.get_tool("look") is tool
    provider.looked_up.clear()
    assert await mcp.get_tool("look") is tool
    assert provider.looked_up == ["look"]


async def test_task_that_outlives_the_call_looks_tools_up_itself():
    mcp, _ = counting_server()
    tool = await mcp.get_tool("look")
    is_over = asyncio.Event()

    async def later():
        await is_over.wait()
        return await mcp.get_tool("look")

    with handed_over(FoundTool(mcp, "look", None, tool.model_copy())):
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
    is_over.set()
    assert await task is tool
