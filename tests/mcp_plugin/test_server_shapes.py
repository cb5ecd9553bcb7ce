"""Servers of other shapes: two guards in one chain, OpenAPI, MCP Apps, a misspelt public tool."""

import httpx2
import pytest
from fastmcp import FastMCP
from prometheus_client import CollectorRegistry

from mcp_plugin import AllowedLibraries, PolicyMiddleware

pytestmark = pytest.mark.anyio

API = {
    "openapi": "3.1.0",
    "info": {"title": "shelf", "version": "1"},
    "paths": {
        "/books/{id}": {
            "get": {
                "operationId": "book",
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
                ],
                "responses": {"200": {"description": "a book"}},
            }
        }
    },
}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_guarded_child_decides_again_on_its_own_name(serve_plain, plain_pdp, grants, mode):
    child = FastMCP("child")
    child.add_middleware(PolicyMiddleware(plain_pdp, registry=CollectorRegistry()))

    @child.tool
    def search(libraries: list[str] = AllowedLibraries()) -> list[str]:
        return libraries

    parent = FastMCP("parent")
    parent.mount(child, namespace="shop")
    both = grants.token("shop_search", "search", libraries=["poe"])
    outer = grants.token("shop_search", libraries=["poe"])
    grants.lay()
    served = await serve_plain(parent)
    assert await served.tools(both, mode=mode) == {"shop_search"}
    assert await served.call("shop_search", bearer=both, mode=mode) == ["poe"]
    # The child's policy knows the tool as `search`, and that was not granted.
    assert await served.tools(outer, mode=mode) == set()
    assert "permission" in await served.refusal("shop_search", bearer=outer, mode=mode)


async def test_an_openapi_server_is_guarded_and_gets_no_bearer(serve_plain, grants):
    asked = []

    def answer(request):
        asked.append(request)
        return httpx2.Response(200, json={"title": "Poe"})

    client = httpx2.AsyncClient(
        transport=httpx2.MockTransport(answer), base_url="https://api.example.org"
    )
    mcp = FastMCP.from_openapi(API, client=client)
    bearer, none = grants.token("book"), grants.token("other")
    grants.lay()
    served = await serve_plain(mcp)
    assert await served.call("book", {"id": "1"}, bearer=bearer) == {"title": "Poe"}
    assert "permission" in await served.refusal("book", {"id": "1"}, bearer=none)
    assert len(asked) == 1
    assert "authorization" not in asked[0].headers


async def test_an_apps_page_is_a_resource_that_needs_a_grant(serve_plain, grants):
    mcp = FastMCP("app")

    @mcp.resource("ui://shop/page.html", mime_type="text/html")
    def page() -> str:
        return "<p>shop</p>"

    good, none = grants.token("resources/read:ui://shop/*"), grants.token("search")
    grants.lay()
    served = await serve_plain(mcp)
    async with served.client(good) as client:
        assert [str(one.uri) for one in await client.list_resources()] == ["ui://shop/page.html"]
        assert (await client.read_resource("ui://shop/page.html"))[0].text == "<p>shop</p>"
    async with served.client(none) as client:
        assert await client.list_resources() == []


async def test_a_misspelt_public_tool_is_named_once(serve_plain, grants, caplog):
    served = await serve_plain(public_tools={"get_heath", "delete"})
    grants.lay()
    for _ in range(2):
        await served.tools()
    lines = [line for line in caplog.messages if "mcp_auth.public_tools" in line]
    assert lines == [
        "mcp_auth.public_tools 'get_heath' is not a tool of this server; did you mean 'get_health'?"
    ]
