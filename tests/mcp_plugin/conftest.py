"""A guarded FastMCP server behind real HTTP, over a real OPA."""

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import httpx2
import pytest
import uvicorn
from fastmcp import Client, Context, FastMCP
from fastmcp.client.transports import StreamableHttpTransport
from prometheus_client import CollectorRegistry
from support.plain_opa import make_dataset
from support.waiting import until

from mcp_plugin import AllowedLibraries, PolicyMiddleware, current_decision
from pdp_client import PDP, BearerVerifier, Issuer, Keyring
from pdp_client.bearer.opaque import digest, mint_opaque


def demo_server():
    """Tools of every kind, unguarded as yet."""
    mcp = FastMCP("demo")

    @mcp.tool
    def get_health() -> str:
        decision = current_decision()
        return f"ok {decision.allow} {decision.credential}"

    @mcp.tool(tags={"read"})
    async def search(query: str = "", libraries: list[str] = AllowedLibraries()) -> list[str]:
        return libraries

    @mcp.tool
    async def delete() -> str:
        return "deleted"

    @mcp.tool
    async def state(ctx: Context) -> dict:
        keys = ("mcp_user", "mcp_token", "mcp_claims", "mcp_resolved_libraries")
        values = {key: await ctx.get_state(key) for key in keys}
        return {key: repr(value) if key == "mcp_claims" else value for key, value in values.items()}

    @mcp.tool
    def crash() -> str:
        raise RuntimeError("a fault of the tool's own")

    @mcp.resource("data://secret")
    def secret() -> str:
        return "secret"

    @mcp.resource("data://{name}")
    def secrets(name: str) -> str:
        return "secret"

    @mcp.prompt
    def ask() -> str:
        return "secret"

    return mcp


class MCPEndpoint:
    """A server behind HTTP, and clients for it."""

    def __init__(self, mcp, url, metrics):
        self.mcp = mcp
        self.url = url
        self.metrics = metrics

    def client(self, bearer=None, *, mode="auto", headers=None):
        headers = headers or ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        return Client(StreamableHttpTransport(self.url, headers=headers), mode=mode)

    async def call(self, tool, arguments=None, *, bearer=None, **kwargs):
        async with self.client(bearer, **kwargs) as client:
            return (await client.call_tool(tool, arguments or {})).data

    async def raw(self, method, params=None, *, bearer=None, session=None):
        """The JSON of the answer to a message of one's own making, in the older protocol."""
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2025-06-18",
            **({"Authorization": f"Bearer {bearer}"} if bearer else {}),
            **({"Mcp-Session-Id": session} if session else {}),
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
        async with httpx2.AsyncClient(timeout=30) as http:
            response = await http.post(self.url, json=message, headers=headers)
        return response.json()

    async def refusal(self, tool, arguments=None, *, bearer=None, **kwargs):
        """The text of the in-band error that the call ends in."""
        async with self.client(bearer, **kwargs) as client:
            result = await client.call_tool(tool, arguments or {}, raise_on_error=False)
        assert result.is_error, f"{tool} ran"
        return result.content[0].text

    async def tools(self, bearer=None, **kwargs):
        async with self.client(bearer, **kwargs) as client:
            return {tool.name for tool in await client.list_tools()}

    def failures(self):
        """What `mcp_auth_failures_total` counted, by reason."""
        return {
            sample.labels["reason"]: sample.value
            for metric in self.metrics.collect()
            for sample in metric.samples
            if sample.name == "mcp_auth_failures_total"
        }


@asynccontextmanager
async def serving(mcp, metrics=None, *, grace=20, **http):
    # With a limit, so that a test which fails while a call runs ends nevertheless.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = mcp.http_app(**http)
        settings = {"log_level": "warning", "ws": "none", "timeout_graceful_shutdown": grace}
        server = uvicorn.Server(uvicorn.Config(app, **settings))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started or task.done(), "uvicorn listens")
        try:
            yield MCPEndpoint(mcp, f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", metrics)
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def guard():
    """Guard and serve a server for a deployment; `http` are arguments of FastMCP's `http_app`."""
    async with AsyncExitStack() as exit_:

        async def start(deployment, mcp=None, *, pdp=None, http=None, **settings):
            mcp = mcp or demo_server()
            metrics = CollectorRegistry()
            settings.setdefault("public_tools", {"get_health"})
            mcp.add_middleware(
                PolicyMiddleware(pdp or deployment.pdp(), registry=metrics, **settings)
            )
            return await exit_.enter_async_context(serving(mcp, metrics, **(http or {})))

        yield start


def has_deployment(request):
    """Whether a test uses a registry, and not only tokens in a plain OPA, which starts once for all tests."""
    return not {"deployment", "make_deployment"}.isdisjoint(request.fixturenames)


@pytest.fixture
def serve(request, guard):
    """Guard and serve a server: over the test's deployment, or else over a plain OPA."""
    if has_deployment(request):
        return partial(guard, request.getfixturevalue("deployment"))
    request.getfixturevalue("grants")
    return partial(guard, None, pdp=request.getfixturevalue("plain_pdp"))


@pytest.fixture
def ada(request):
    """A token for everything, with two libraries."""
    if has_deployment(request):
        return request.getfixturevalue("ada_in_the_registry")
    grants = request.getfixturevalue("grants")
    bearer = grants.token("*", libraries=["lib-a", "lib-b"], bearer=mint_opaque())
    grants.lay()
    return bearer


@pytest.fixture
async def ada_in_the_registry(deployment):
    await deployment.add_user("ada", name="Ada")
    for uid in ("lib-a", "lib-b"):
        await deployment.add_library(uid, "w")
    bearer = await deployment.create_token("ada", tools=["*"], libraries=["lib-b", "lib-a"])
    await deployment.settle()
    return bearer


@pytest.fixture
def lock_down(deployment):
    """Stop everything, and wait until OPA knows."""

    async def lock_down():
        await deployment.operator.lockdown(on=True)
        await deployment.publisher.sync()
        pdp = deployment.pdp()

        async def locked():
            return (await pdp.authorize(None, tool="x")).reason == "lockdown"

        await until(locked, "OPA knows of the lockdown")

    return lock_down


class Grants:
    """Tokens in a plain OPA, without a registry; each test makes its own dataset."""

    def __init__(self, opa):
        self._opa = opa
        self._tokens = {}
        self._revision = 42
        self.site = {}
        self.lay()

    def token(self, *tools, libraries=(), number=None, bearer=None):
        """A new bearer with these patterns; in force after `lay`."""
        number = len(self._tokens) if number is None else number
        bearer = bearer or f"bearer-{number}-{'x' * 16}"
        self._tokens[digest(bearer)] = {
            "label": f"lct_…{len(self._tokens)}", "user": "ada", "active": True,
            "expires_at": None, "libraries": list(libraries), "tools": list(tools),
        }  # fmt: skip
        return bearer

    def lay(self, **settings):
        """Put all of it into OPA; with other settings, as the registry's next revision."""
        self._revision += bool(settings)
        settings = {"staleness_limit": 3600, "listable": {"anonymous": ["*"]}, **settings}
        registry = {
            "base": {"00": {"tokens": self._tokens}},
            "live": {"settings": settings, "revision": self._revision},
        }
        laid = make_dataset({"registry": registry, "site": self.site})
        if self._opa.has_site_rules:
            del laid["site"]["deny"], laid["site"]["hidden"]
        self._opa.set_dataset(laid)

    def revoke(self, bearer):
        del self._tokens[digest(bearer)]
        self._revision += 1
        self.lay()

    def change(self, bearer, *tools):
        """Give a token other patterns, in the registry's next revision."""
        self._tokens[digest(bearer)]["tools"] = list(tools)
        self._revision += 1
        self.lay()

    def rules(self, rego, **manifest):
        """Rules of the site's, until the test is over."""
        self._opa.has_site_rules = True
        self.site = {"manifest": manifest}
        self.lay()
        self._opa.put_policy("site.rego", rego)


@pytest.fixture
def grants(plain_opa):
    plain_opa.has_site_rules = False
    yield Grants(plain_opa)
    if plain_opa.has_site_rules:
        plain_opa.request("DELETE", "/v1/policies/site.rego")


@pytest.fixture
async def plain_pdp(plain_opa, grants):
    verifier = BearerVerifier([Issuer("mnemosyne", Keyring.from_jwks({"keys": []}))])
    async with PDP(opa_url=plain_opa.unix_url, verifier=verifier, deadline=10) as pdp:
        yield pdp


@pytest.fixture
async def serve_plain(grants, plain_pdp, guard):
    """Guard and serve a server over a plain OPA; tokens come from `grants`."""
    return partial(guard, None, pdp=plain_pdp)


@pytest.fixture
async def serve_open():
    """Serve an unguarded server, to show what a bypass would give."""
    async with AsyncExitStack() as exit_:

        async def start(mcp, **http):
            return await exit_.enter_async_context(serving(mcp, **http))

        yield start


@pytest.fixture
def serve_to_the_end():
    """Serve for as long as a block of the test's runs."""
    return serving
