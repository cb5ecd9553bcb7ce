"""Everything but tools: closed, in words a client understands."""

import asyncio

import pytest
from mcp import MCPError
from mcp.shared.exceptions import MCPDeprecationWarning

pytestmark = pytest.mark.anyio
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])


@MODES
async def test_resources_and_prompts_are_neither_listed_nor_read(serve, ada, mode):
    served = await serve()
    async with served.client(ada, mode=mode) as client:
        assert await client.list_resources() == []
        assert await client.list_resource_templates() == []
        assert await client.list_prompts() == []
        for read in (
            client.read_resource("data://secret"),
            client.read_resource("data://any"),
            client.get_prompt("ask"),
            client.complete({"type": "ref/prompt", "name": "ask"}, {"name": "a", "value": "b"}),
        ):
            with pytest.raises(MCPError, match="This server guards tools only"):
                await read
        assert await client.call_tool("delete")


@MODES
async def test_the_protocol_s_own_messages_pass(serve, mode):
    served = await serve()
    async with served.client(mode=mode) as client:
        if mode == "legacy":
            assert await client.ping()
            with pytest.warns(MCPDeprecationWarning):
                await client.set_logging_level("debug")
        assert (await client.call_tool("get_health")).data


@pytest.mark.parametrize(
    "method", ["tasks/get", "subscriptions/listen", "x/y", "x\ny", "tools/Call"]
)
async def test_a_method_nobody_knows_is_refused_by_the_middleware(serve, method):
    import httpx2

    served = await serve(http={"json_response": True, "stateless_http": True})
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}
    async with httpx2.AsyncClient() as http:
        response = await http.post(
            served.url,
            json=message,
            headers={
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": "2025-06-18",
            },
        )

    assert response.json()["error"]["message"].startswith("This server guards tools only")


async def test_resources_are_closed_to_what_asks_without_reading(serve):
    from fastmcp.exceptions import AuthorizationError

    served = await serve()

    with pytest.raises(AuthorizationError):
        await served.mcp._check_resource_access("data://secret")


def test_the_table_of_methods_names_all_of_the_protocol_s_on_purpose():
    """A method that a new FastMCP dispatches by itself has to be looked at."""
    from fastmcp.server.low_level import _INTERIOR_METHODS

    from mcp_plugin.middleware import _EMPTY_LISTS, _PASSED

    refused = {"resources/read", "prompts/get"}
    assert _INTERIOR_METHODS - refused == (_PASSED | _EMPTY_LISTS) - {
        "initialize",
        "logging/setLevel",
        "ping",
        "server/discover",
    }


async def test_a_client_that_goes_away_leaves_no_decision_behind(serve, ada):
    from mcp_plugin import current_decision

    served = await serve()
    entered = asyncio.Event()

    @served.mcp.tool
    async def hang() -> str:
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(served.call("hang", bearer=ada))
    await entered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert current_decision() is None
    assert await served.call("search", bearer=ada) == ["lib-a", "lib-b"]
