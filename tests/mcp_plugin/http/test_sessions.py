"""Sessions over HTTP belong to the bearer that opened them, with and without `BearerAuth`."""

import asyncio
import json
import warnings

import httpx2
import pytest
from fastmcp import Client, Context, FastMCP
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.server.event_store import EventStore
from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import INTERNAL_ERROR, SamplingMessage, TextContent
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Mount

from mcp_plugin import BearerAuth, PolicyGuard, PolicyMiddleware
from pdp_client import ConfigurationError
from tests.mcp_plugin.conftest import serving

pytestmark = pytest.mark.anyio

HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "t", "version": "1"},
}


class Session:
    """One bearer's requests to a session."""

    def __init__(self, http, url, bearer=None, id_=None):
        self._http, self._url, self.bearer, self.id = http, url, bearer, id_

    def headers(self, **more):
        bearer = {"Authorization": f"Bearer {self.bearer}"} if self.bearer else {}
        named = {"Mcp-Session-Id": self.id} if self.id else {}
        return {"Accept": "application/json, text/event-stream", **bearer, **named, **more}

    async def post(self, method, params=None, **message):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}, **message}
        return await self._http.post(self._url, json=body, headers=self.headers())

    async def open(self):
        answer = await self.post("initialize", HELLO)
        assert answer.status_code == 200, answer.text
        self.id = answer.headers["mcp-session-id"]
        return self

    async def status(self, method, **headers):
        """The status of a GET or DELETE; a stream is left at once."""
        async with self._http.stream(
            method, self._url, headers=self.headers(**headers)
        ) as response:
            return response.status_code

    def by(self, bearer):
        return Session(self._http, self._url, bearer, self.id)


@pytest.fixture
async def http():
    async with httpx2.AsyncClient(timeout=30) as client:
        yield client


@pytest.fixture
def opened(http, grants):
    """Open a session of a server with a good bearer."""

    async def opened(served, bearer="new"):
        bearer = grants.token("*") if bearer == "new" else bearer
        grants.lay()
        return await Session(http, served.url, bearer).open()

    return opened


@pytest.fixture
def low(plain_pdp):
    """A server of the SDK's own with a guard."""

    def low(**settings):
        server = Server("low")
        guard = PolicyGuard(plain_pdp, registry=CollectorRegistry(), **settings)
        guard.protect(server)
        return server

    return low


@pytest.fixture(params=["FastMCP", "mounted in another application", "SDK"])
async def served(request, serve_plain, low):
    if request.param == "FastMCP":
        yield await serve_plain()
        return
    if request.param == "SDK":
        server = low()
        server.http_app = server.streamable_http_app
        async with serving(server) as served:
            yield served
        return
    mcp = FastMCP("inner")
    plain = await serve_plain(mcp)  # guards it

    class Outer:
        def http_app(self):
            inner = mcp.http_app()
            return Starlette(routes=[Mount("/", inner)], lifespan=inner.lifespan)

    async with serving(Outer()) as outer:
        outer.metrics = plain.metrics
        yield outer


@pytest.mark.parametrize("other", ["another", "anonymous", "unknown"])
async def test_session_without_bearer_auth_belongs_to_its_bearer(served, opened, grants, other):
    session = await opened(served)
    bearer = {"another": grants.token("*"), "anonymous": None, "unknown": "x" * 30}[other]
    grants.lay()
    anonymous = session.by(bearer)
    assert (await anonymous.post("ping")).status_code == 404
    assert await anonymous.status("GET") == 404
    assert await anonymous.status("GET", **{"Last-Event-ID": "1"}) == 404
    assert await anonymous.status("DELETE") == 404
    assert (await session.post("ping")).status_code == 200
    assert await session.status("DELETE") == 200
    assert (await session.post("ping")).status_code == 404


async def test_second_session_is_bound_as_the_first_is(served, opened):
    first, second = await opened(served), await opened(served)
    assert (await first.by(second.bearer).post("ping")).status_code == 404
    assert (await second.by(first.bearer).post("ping")).status_code == 404
    assert (await second.post("ping")).status_code == 200


async def test_anonymous_session_does_not_become_a_bearers(served, opened, grants):
    session = await opened(served, bearer=None)
    bearer = grants.token("*")
    grants.lay()
    assert (await session.post("ping")).status_code == 200
    assert (await session.by(bearer).post("ping")).status_code == 404


async def test_unbound_sessions_are_those_of_whoever_knows_the_id(serve_plain, opened, grants):
    session = await opened(await serve_plain(sessions="unbound"))
    anonymous = session.by(grants.token("*"))
    grants.lay()
    assert (await anonymous.post("ping")).status_code == 200
    assert await anonymous.status("DELETE") == 200


async def test_server_whose_sessions_cannot_be_bound_accepts_none(http, low, grants, caplog):
    for settings, status in (({}, "error"), ({"sessions": "unbound"}, "result")):
        server = low(**settings)
        manager = StreamableHTTPSessionManager(server)

        class Own:
            def __init__(self, manager):
                self._manager = manager

            def http_app(self):
                async def app(scope, receive, send):
                    if scope["type"] == "lifespan":
                        async with self._manager.run():
                            await Starlette()(scope, receive, send)
                    else:
                        await self._manager.handle_request(scope, receive, send)

                return app

        async with serving(Own(manager)) as served:
            bearer = grants.token("*")
            grants.lay()
            answer = await Session(http, served.url, bearer).post("initialize", HELLO)
            assert f'"{status}"' in answer.text
            assert (f'"code":{INTERNAL_ERROR}' in answer.text) is (status == "error")
    assert caplog.text.count("mcp_auth.sessions this server's sessions cannot be bound") == 1


async def test_sdks_event_store_is_refused_with_a_guard(low):
    with pytest.raises(ConfigurationError, match="any session's events"):
        low().streamable_http_app(event_store=EventStore())
    assert low(sessions="unbound").streamable_http_app(event_store=EventStore())


def calling():
    """A public tool that asks its caller something of any size while it runs."""
    mcp = FastMCP("asking")

    @mcp.tool
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Which?", response_type=str)
        return f"{len(answer.data)} characters"

    return mcp


@pytest.mark.parametrize("size", [3, 100_000])
@pytest.mark.parametrize("auth", [True, False])
@pytest.mark.parametrize("required", [True, False])
async def test_anonymous_client_answers_an_elicitation(plain_pdp, size, auth, required):
    policy = PolicyMiddleware(
        plain_pdp, public_tools={"ask"}, require_auth=required, registry=CollectorRegistry()
    )
    mcp = calling()
    if auth:
        mcp.auth = BearerAuth(policy, base_url="https://mcp.example.org")
    mcp.add_middleware(policy)

    async def answer(message, response_type, params, context):
        return response_type(value="x" * size)

    async with (
        serving(mcp) as served,
        asyncio.timeout(30),
        Client(
            StreamableHttpTransport(served.url), mode="legacy", elicitation_handler=answer
        ) as client,
    ):
        result = await client.call_tool("ask")
    assert result.data == f"{size} characters"


async def test_reply_needs_a_session(http, plain_pdp):
    policy = PolicyMiddleware(plain_pdp, public_tools={"ask"}, registry=CollectorRegistry())
    mcp = calling()
    mcp.auth = BearerAuth(policy, base_url="https://mcp.example.org")
    mcp.add_middleware(policy)
    async with serving(mcp) as served:
        for reply in (
            {"result": {}},
            {"error": {"code": 1, "message": "no"}},
            {"result": {}, "method": "tools/call", "params": {"name": "other"}},
            {"resul": {}},
        ):
            body = {"jsonrpc": "2.0", "id": 1, **reply}
            headers = {"Accept": "application/json, text/event-stream"}
            answer = await http.post(served.url, json=body, headers=headers)
            assert answer.status_code == 401, json.dumps(reply)


@pytest.mark.parametrize("auth", [True, False])
async def test_anonymous_sessions_leave_room_for_others(http, plain_pdp, grants, auth, monkeypatch):
    monkeypatch.setattr("mcp_plugin.http.sessions.MAX_ANONYMOUS", 3)
    policy = PolicyMiddleware(plain_pdp, public_tools={"ask"}, registry=CollectorRegistry())
    mcp = calling()
    if auth:
        mcp.auth = BearerAuth(policy, base_url="https://mcp.example.org")
    mcp.add_middleware(policy)
    bearer = grants.token("*")
    grants.lay()
    async with serving(mcp) as served:
        opened = [await Session(http, served.url).open() for _ in range(3)]
        refused = await Session(http, served.url).post("initialize", HELLO)
        assert (refused.status_code, refused.json()) == (503, {
            "jsonrpc": "2.0", "id": None,
            "error": {"code": INTERNAL_ERROR, "message": "Too many open sessions"},
        })  # fmt: skip
        assert await Session(http, served.url, bearer).open()
        assert (await opened[0].post("ping")).status_code == 200
        assert await opened[0].status("DELETE") == 200
        assert await Session(http, served.url).open()


@pytest.mark.parametrize("kind", ["sampling", "roots", "refused"])
async def test_an_anonymous_client_answers_other_requests_of_the_server(plain_pdp, kind):
    policy = PolicyMiddleware(plain_pdp, public_tools={"ask"}, registry=CollectorRegistry())
    mcp = FastMCP("asking", auth=BearerAuth(policy, base_url="https://mcp.example.org"))
    mcp.add_middleware(policy)

    @mcp.tool
    async def ask(ctx: Context) -> str:
        # FastMCP 4 has neither; the SDK still has both.
        if kind == "roots":
            return str((await ctx.session.list_roots()).roots[0].uri)
        said = SamplingMessage(role="user", content=TextContent(type="text", text="Say it"))
        try:
            answer = await ctx.session.create_message([said], max_tokens=9)
        except MCPError as error:
            return str(error)
        return answer.content.text

    async def sample(messages, params, context):
        if kind == "refused":
            raise ValueError("no")
        return "something"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newest protocol has deprecated both
        async with (
            serving(mcp) as served,
            asyncio.timeout(30),
            Client(
                StreamableHttpTransport(served.url), mode="legacy", sampling_handler=sample,
                roots=["file:///home"],
            ) as client,
        ):  # fmt: skip
            text = (await client.call_tool("ask")).data
    assert (
        text
        in {
            "sampling": ["something"],
            "roots": ["file:///home"],
            "refused": ["no"],
        }[kind]
    )
