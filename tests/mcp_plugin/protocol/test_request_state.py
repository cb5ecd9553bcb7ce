"""A call of several requests goes on for the caller who began it, and for no other."""

import json

import httpx2
import pytest
from fastmcp import Context, FastMCP
from mcp_types import InputRequiredResult

from mcp_plugin import AllowedLibraries

pytestmark = pytest.mark.anyio

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


def server():
    mcp = FastMCP("rounds")

    @mcp.tool
    async def export(ctx: Context, libraries: list[str] = AllowedLibraries()):
        if ctx.request_state is None:
            return InputRequiredResult(request_state=json.dumps(libraries))
        return f"exported {ctx.request_state}"

    return mcp


async def call(served, bearer, state=None):
    params = {"_meta": META, "name": "export", "arguments": {}}
    if state:
        params["requestState"] = state
    headers = {
        "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call", "Mcp-Name": "export", "Authorization": f"Bearer {bearer}",
    }  # fmt: skip
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with httpx2.AsyncClient(timeout=30) as http:
        return (await http.post(served.url, json=message, headers=headers)).json()


async def test_request_state_of_one_caller_is_refused_for_another(serve_plain, grants):
    ada, bob = grants.token("*", libraries=["poe"]), grants.token("*", libraries=["darwin"])
    grants.lay()
    served = await serve_plain(server(), http={"json_response": True, "stateless_http": True})
    # What is bound is bound from the very first request on.
    state = (await call(served, ada))["result"]["requestState"]

    assert "error" in await call(served, bob, state)
    assert "error" in await call(served, "no-bearer-of-ours", state)
    again = await call(served, ada, state)
    assert again["result"]["content"][0]["text"] == 'exported ["poe"]'
