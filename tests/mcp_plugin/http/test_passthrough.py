"""A proxied server does not get the caller's bearer, unless its operator says so."""

import pytest
from fastmcp import Context, FastMCP
from fastmcp.server import create_proxy
from fastmcp.server.dependencies import get_http_headers
from fastmcp.server.providers import AggregateProvider, Provider
from fastmcp.tools import Tool

from mcp_plugin import PolicyMiddleware
from tests.mcp_plugin.conftest import serving

pytestmark = pytest.mark.anyio


class Watch:
    """ASGI middleware that keeps the headers of all requests."""

    seen: list

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            Watch.seen.append(dict(scope["headers"]))
        await self._app(scope, receive, send)


@pytest.fixture
async def upstream():
    """A third party's server, which records what it receives."""
    from starlette.middleware import Middleware

    Watch.seen = []
    mcp = FastMCP("upstream")

    @mcp.tool
    def far() -> str:
        return "far away"

    @mcp.resource("data://far")
    def data() -> str:
        return "far data"

    async with serving(mcp, middleware=[Middleware(Watch)]) as served:
        yield served


def front(upstream, shape):
    if shape == "config":
        return create_proxy({"mcpServers": {"one": {"url": upstream.url}}})
    proxy = create_proxy(upstream.url)
    if shape == "proxy":
        return proxy
    if shape == "proxy of a proxy":
        return create_proxy(FastMCP("middle", providers=[proxy.providers[-1]]))
    outer = FastMCP("outer")
    if shape == "aggregate":
        outer.add_provider(AggregateProvider([proxy.providers[-1]]))
        return outer
    if shape == "nested":
        middle = FastMCP("middle")
        middle.mount(proxy)
        outer.mount(middle)
        return outer
    outer.mount(proxy)

    @outer.tool
    async def near(ctx: Context) -> str:
        """Call another tool of this server, which is decided on the same bearer."""
        headers = get_http_headers(include={"authorization"})
        result = await ctx.fastmcp.call_tool("far")
        return f"{result.content[0].text}, {'authorization' in headers}"

    return outer


@pytest.mark.parametrize("kind", ["proxy legacy", "proxy auto", "mounted legacy", "mounted auto"])
async def test_a_proxied_server_gets_no_bearer(upstream, serve_plain, grants, kind, caplog):
    shape, mode = kind.split()
    caplog.set_level("INFO", "mcp_plugin")
    bearer = grants.token("*", "resources/read:*")
    grants.lay()
    served = await serve_plain(front(upstream, shape))
    async with served.client(bearer, mode=mode, headers={"Authorization": f"Bearer {bearer}", "X-Own": "kept"}) as client:  # fmt: skip
        assert "far" in {tool.name for tool in await client.list_tools()}
        assert (await client.call_tool("far")).data == "far away"
        assert (await client.read_resource("data://far"))[0].text == "far data"
        if shape == "mounted":
            assert (await client.call_tool("near")).data == "far away, False"
    assert Watch.seen
    assert not [headers for headers in Watch.seen if b"authorization" in headers]
    assert any(headers.get(b"x-own") == b"kept" for headers in Watch.seen)
    assert caplog.text.count("mcp_auth.passthrough") == 1
    assert await served.refusal("far", bearer="unknown" * 6) == "Invalid MCP token."


@pytest.mark.parametrize("shape", ["config", "proxy of a proxy", "aggregate", "nested"])
async def test_other_shapes_of_proxies_send_no_bearer(upstream, serve_plain, grants, shape):
    bearer = grants.token("*", "resources/read:*")
    grants.lay()
    served = await serve_plain(front(upstream, shape))
    async with served.client(bearer) as client:
        assert (await client.call_tool("far")).data == "far away"
        assert (await client.read_resource("data://far"))[0].text == "far data"
    assert Watch.seen
    assert not [headers for headers in Watch.seen if b"authorization" in headers]


@pytest.mark.parametrize("is_changed", [False, True])
async def test_component_taken_from_a_proxy_sends_no_bearer(
    upstream, serve_plain, grants, is_changed
):
    bearer = grants.token("*", "resources/read:*")
    grants.lay()
    proxy = create_proxy(upstream.url)
    mcp = FastMCP("own")
    tool = await proxy.get_tool("far")
    mcp.add_tool(Tool.from_tool(tool, name="far") if is_changed else tool)
    mcp.add_resource(await proxy.get_resource("data://far"))
    Watch.seen.clear()
    served = await serve_plain(mcp)
    async with served.client(bearer) as client:
        assert (await client.call_tool("far")).data == "far away"
        assert (await client.read_resource("data://far"))[0].text == "far data"
    assert Watch.seen
    assert not [headers for headers in Watch.seen if b"authorization" in headers]


async def test_a_bearer_is_sent_on_where_the_server_says_so(upstream, serve_plain, grants):
    bearer = grants.token("*")
    grants.lay()
    served = await serve_plain(front(upstream, "proxy"), forward_bearer=True)
    assert await served.call("far", bearer=bearer) == "far away"
    assert any(h.get(b"authorization") == f"Bearer {bearer}".encode() for h in Watch.seen)


async def test_provider_of_unknown_type_may_send_a_bearer_and_gets_none(serve_plain, grants):
    def bearer_seen() -> bool:
        return "authorization" in get_http_headers(include={"authorization"})

    class UnknownProvider(Provider):
        async def _list_tools(self):
            return [Tool.from_function(bearer_seen)]

    bearer = grants.token("*")
    grants.lay()
    served = await serve_plain(FastMCP("own", providers=[UnknownProvider()]))
    assert await served.call("bearer_seen", bearer=bearer) is False
    forwarding = await serve_plain(
        FastMCP("own", providers=[UnknownProvider()]), forward_bearer=True
    )
    assert await forwarding.call("bearer_seen", bearer=bearer) is True


async def test_a_server_without_proxies_keeps_its_requests_as_they_are(serve_plain, grants):
    mcp = FastMCP("plain")

    @mcp.tool
    def headers() -> bool:
        return "authorization" in get_http_headers(include={"authorization"})

    bearer = grants.token("*")
    grants.lay()
    served = await serve_plain(mcp)
    assert await served.call("headers", bearer=bearer) is True
    assert isinstance(mcp.middleware[-1], PolicyMiddleware)
