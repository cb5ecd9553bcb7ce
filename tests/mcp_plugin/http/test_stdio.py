"""A server over stdio, as a process of its own: who calls, and how that is set."""

import os
import sys

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from prometheus_client import CollectorRegistry

from mcp_plugin import CallDenied, PolicyMiddleware, StdioBearer
from mcp_plugin.http.request import Caller
from mcp_plugin.http.stdio import NO_IDENTITY
from pdp_client import Action, ConfigurationError

SERVER = """
import os, sys
from fastmcp import FastMCP
from mcp_plugin import AllowedLibraries, PolicyMiddleware, StdioBearer
from pdp_client import PDP, BearerVerifier, Issuer, Keyring

kind, where = os.environ["KIND"], os.environ["WHERE"]
stdio = {"off": lambda: None, "file": lambda: StdioBearer.from_file(where),
         "environment": lambda: StdioBearer.from_environment(where)}[kind]()
verifier = BearerVerifier([Issuer("mnemosyne", Keyring.from_jwks({"keys": []}))])
mcp = FastMCP("demo")
mcp.add_middleware(
    PolicyMiddleware(PDP(opa_url=os.environ["OPA"], verifier=verifier, deadline=10), stdio=stdio)
)

@mcp.tool
def search(libraries: list[str] = AllowedLibraries()) -> list[str]:
    return libraries

@mcp.tool
def environment() -> list[str]:
    return sorted(os.environ)

@mcp.tool
def forbidden() -> str:
    return "ran"

mcp.run("stdio", show_banner=False)
"""


@pytest.fixture
def started(tmp_path, plain_opa, grants):
    """A client of a server whose callers are identified in this way."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)

    def started(kind, where="", **environment):
        given = {"OPA": plain_opa.unix_url, "KIND": kind, "WHERE": str(where), **environment}
        transport = StdioTransport(
            sys.executable, [str(script)], env=given, log_file=tmp_path / "log", keep_alive=False
        )
        return Client(transport)

    return started


@pytest.fixture
def ada(grants):
    bearer = grants.token("search", "environment", libraries=["poe"])
    grants.lay()
    return bearer


@pytest.fixture
def private(tmp_path, ada):
    path = tmp_path / "bearer"
    path.touch(0o600)
    path.write_text(f"{ada}\n")
    return path


async def refusal(client, tool="search"):
    result = await client.call_tool(tool, {}, raise_on_error=False)
    assert result.is_error
    return result.content[0].text


@pytest.mark.anyio
async def test_stdio_callers_are_anonymous_without_an_identity(started, ada):
    async with started("off", LICTOR_BEARER=ada) as client:
        text = await refusal(client)
    assert text.startswith("Callers over stdio have no identity here; the server's operator can")


@pytest.mark.anyio
async def test_stdio_bearer_from_the_environment_is_used_and_removed(started, ada):
    async with started("environment", "ADA", ADA=ada) as client:
        assert (await client.call_tool("search")).data == ["poe"]
        assert "permission" in await refusal(client, "forbidden")
        assert {tool.name for tool in await client.list_tools()} == {"search", "environment"}
        left = (await client.call_tool("environment")).data
        assert "KIND" in left
        assert "ADA" not in left


@pytest.mark.anyio
async def test_stdio_bearer_file_is_reread_only_while_private(started, grants, private, ada):
    bob = grants.token("search", libraries=["shelley"])
    grants.lay()
    async with started("file", private) as client:
        assert (await client.call_tool("search")).data == ["poe"]
        private.chmod(0o640)
        assert await refusal(client) == "Invalid MCP token."
        private.chmod(0o600)
        private.write_text(bob)
        assert (await client.call_tool("search")).data == ["shelley"]
        grants.revoke(bob)
        assert await refusal(client) == "Invalid MCP token."
    log = (private.parent / "log").read_text()
    assert "others may read or write it" in log
    assert ada not in log
    assert bob not in log


@pytest.mark.anyio
async def test_stdio_identity_does_not_extend_to_http_callers(guard, plain_pdp, private):
    """A server over HTTP whose setting was meant for stdio."""
    served = await guard(None, pdp=plain_pdp, stdio=StdioBearer.from_file(private))

    assert "Authentication required" in await served.refusal("search")
    async with Client(served.mcp) as inside:
        assert "Authentication required" in await refusal(inside)


def test_stdio_bearer_file_that_is_public_or_empty_is_refused(private, tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    empty = tmp_path / "empty"
    empty.touch(0o600)
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe", empty):
        with pytest.raises(ConfigurationError, match=str(path)):
            StdioBearer.from_file(path)
    for mode in (0o604, 0o620, 0o640, 0o606):
        private.chmod(mode)
        with pytest.raises(ConfigurationError, match="wants mode 0600"):
            StdioBearer.from_file(private)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_variable_that_is_not_set_is_refused_at_once(monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("ADA", value)
    with pytest.raises(ConfigurationError, match="ADA"):
        StdioBearer.from_environment("ADA")


@pytest.mark.anyio
async def test_refusal_without_an_identity_says_where_one_comes_from(plain_pdp, grants):
    grants.lay()
    enforcer = PolicyMiddleware(plain_pdp, registry=CollectorRegistry()).enforcer
    with pytest.raises(CallDenied) as denied:
        await enforcer.enforce(Caller(None, "stdio"), Action(name="search"))
    assert str(denied.value) == NO_IDENTITY
