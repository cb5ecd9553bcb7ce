"""Parameters that are in headers too: compared for permitted callers, and hidden from all others."""

from typing import Annotated

import httpx2
import mcp_types
import pytest
from fastmcp import FastMCP
from mcp.server.lowlevel import Server
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, Field

from mcp_plugin import BearerAuth, PolicyGuard, PolicyMiddleware

pytestmark = pytest.mark.anyio

Region = Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]
WRONG = [None, "eu-west-2", "=?base64?x?="]


class Place(BaseModel):
    """A parameter that FastMCP describes by a reference."""

    region: Region


def fast_server(**settings):
    mcp = FastMCP("regions", **settings)

    @mcp.tool
    def query(region: Region) -> str:
        return f"ran in {region}"

    @mcp.tool
    def nested(place: Place) -> str:
        return f"ran in {place.region}"

    @mcp.tool
    async def outer(region: str) -> str:
        result = await mcp.call_tool("query", {"region": f"{region}-b"})
        return result.content[0].text

    return mcp


def low_server():
    """Of the SDK alone, which gets the schema from a hook of its own."""
    schema = {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    }

    async def list_tools(ctx, params):
        return mcp_types.ListToolsResult(tools=[mcp_types.Tool(name="query", input_schema=schema)])

    async def call_tool(ctx, params):
        text = f"ran in {params.arguments['region']}"
        return mcp_types.CallToolResult(content=[mcp_types.TextContent(type="text", text=text)])

    return Server(
        "regions",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema={"query": schema}.get,
    )


class _App:
    """The application, as FastMCP servers make theirs."""

    def __init__(self, server):
        self.http_app = server.streamable_http_app


@pytest.fixture(params=["FastMCP", "the SDK alone"])
async def regions(request, serve_plain, serve_open, plain_pdp):
    """Guard and serve, by either library."""

    async def start(**settings):
        if request.param == "FastMCP":
            return await serve_plain(fast_server(), **settings)
        server = low_server()
        PolicyGuard(plain_pdp, registry=CollectorRegistry(), **settings).protect(server)
        return await serve_open(_App(server))

    return start


async def call(served, bearer, region, *, tool="query", arguments=None):
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool,
        **({"Authorization": f"Bearer {bearer}"} if bearer else {}),
        **({"Mcp-Param-Region": region} if region else {}),
    }  # fmt: skip
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments or {"region": "us-east-1"}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with httpx2.AsyncClient(timeout=30) as http:
        return await http.post(served.url, json=body, headers=headers)


def refused(answer):
    """Whether the headers were what it was refused for, as the protocol wants it."""
    if answer.status_code == 200:
        return False
    assert answer.status_code == 400, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert "Mcp-Param-Region" in answer.json()["error"]["message"]
    return True


@pytest.mark.parametrize("header", WRONG)
async def test_param_headers_are_compared_for_permitted_callers(regions, grants, header):
    may, may_not = grants.token("query"), grants.token("search")
    grants.lay()
    served = await regions()

    answer = await call(served, may, "us-east-1")
    assert not refused(answer), answer.text
    assert "ran in us-east-1" in answer.text
    assert refused(await call(served, may, header))
    answer = await call(served, may_not, header)
    assert answer.status_code == 200
    assert "permission" in answer.text
    assert "Region" not in answer.text


async def test_param_headers_are_compared_for_a_public_tool(regions, grants):
    grants.lay()
    served = await regions(public_tools={"query"})

    assert "ran in us-east-1" in (await call(served, None, "us-east-1")).text
    assert refused(await call(served, None, "eu-west-2"))


@pytest.mark.parametrize("seen", [True, False])
async def test_param_headers_are_compared_as_clients_see_the_tool(serve_plain, grants, seen):
    may = grants.token("nested")
    grants.lay()
    served = await serve_plain(fast_server(dereference_schemas=seen))
    of = {"tool": "nested", "arguments": {"place": {"region": "us-east-1"}}}

    assert refused(await call(served, may, "eu-west-2", **of)) is seen
    # A client that sees a reference finds no such parameter there, and sends no header.
    assert refused(await call(served, may, None, **of)) is seen


async def test_param_headers_are_hidden_from_unauthenticated_callers(serve_open, grants, plain_pdp):
    may_not = grants.token("search")
    grants.lay()
    policy = PolicyMiddleware(plain_pdp, registry=CollectorRegistry())
    mcp = fast_server(auth=BearerAuth(policy, base_url="http://127.0.0.1"))
    mcp.add_middleware(policy)
    served = await serve_open(mcp)

    answer = await call(served, may_not, "eu-west-2")

    assert answer.status_code == 200
    assert "permission" in answer.text
    assert "Region" not in answer.text


async def test_call_inside_a_call_is_compared_with_no_headers(serve_plain, grants):
    may = grants.token("outer", "query")
    grants.lay()
    served = await serve_plain(fast_server())

    answer = await call(served, may, None, tool="outer")

    assert "ran in us-east-1-b" in answer.text
