"""Everything but tools: resources, prompts, completions, and what the protocol says of itself."""

import asyncio

import httpx2
import mcp_types
import pytest
from fastmcp import FastMCP
from mcp import MCPError
from mcp.shared.exceptions import MCPDeprecationWarning

from mcp_plugin import AllowedLibraries, current_decision
from mcp_plugin.integrity import FASTMCP_HOOKED
from mcp_plugin.protocol.actions import of_message
from mcp_plugin.protocol.methods import EXEMPT, LISTS

pytestmark = pytest.mark.anyio
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])
MISSING = "Authentication required"
ASK = {"type": "ref/prompt", "name": "ask"}
NAMED = {"type": "ref/resource", "uri": "data://{name}"}


def library():
    mcp = FastMCP("library")

    @mcp.tool
    def search() -> str:
        return "found"

    @mcp.resource("data://open")
    def open_shelf(libraries: list[str] = AllowedLibraries()) -> str:
        return " ".join(libraries)

    @mcp.resource("data://shut", tags={"shut"})
    def shut_shelf() -> str:
        return "shut"

    @mcp.resource("data://{name}")
    def shelf(name: str, libraries: list[str] = AllowedLibraries()) -> str:
        return f"{name}: {' '.join(libraries)}"

    @mcp.prompt
    def ask(topic: str = "", libraries: list[str] = AllowedLibraries()) -> str:
        return f"Ask {' '.join(libraries)} about {topic}"

    @mcp.prompt(name="search")
    def of_the_tool_s_name() -> str:
        return "a prompt"

    @mcp.completion
    def complete(ref, argument, context):
        return list(current_decision().libraries)

    return mcp


async def listed(client):
    return (
        {str(resource.uri) for resource in await client.list_resources()},
        {template.uri_template for template in await client.list_resource_templates()},
        {prompt.name for prompt in await client.list_prompts()},
    )


async def read(client, uri):
    return (await client.read_resource(uri))[0].text


async def got(client, name):
    return (await client.get_prompt(name)).messages[0].content.text


@MODES
async def test_caller_lists_and_reads_what_was_granted(serve_plain, grants, mode):
    everything = grants.token("*", libraries=["lib-a"])
    some = grants.token("resources/read:data://o*", "prompts/get:ask", libraries=["lib-b"])
    grants.lay()
    served = await serve_plain(library())

    async with served.client(everything, mode=mode) as client:
        assert await listed(client) == (
            {"data://open", "data://shut"}, {"data://{name}"}, {"ask", "search"}
        )  # fmt: skip
        assert await read(client, "data://open") == "lib-a"
        assert await read(client, "data://shut") == "shut"
        assert await read(client, "data://any") == "any: lib-a"
        assert await got(client, "ask") == "Ask lib-a about "
        assert (await client.complete(ASK, {"name": "topic", "value": ""})).values == ["lib-a"]
        assert (await client.complete(NAMED, {"name": "name", "value": ""})).values == ["lib-a"]
    async with served.client(some, mode=mode) as client:
        assert await listed(client) == ({"data://open"}, set(), {"ask"})
        assert await read(client, "data://open") == "lib-b"
        assert await read(client, "data://other") == "other: lib-b"
        assert await got(client, "ask") == "Ask lib-b about "
        for refused in (
            client.read_resource("data://shut"),
            client.get_prompt("search"),
            client.complete(ASK, {"name": "topic", "value": ""}),
            client.complete(NAMED, {"name": "name", "value": ""}),
        ):
            with pytest.raises(MCPError, match="Token does not have permission to call '"):
                await refused
    assert served.failures() == {"tool_not_allowed": 4}


@MODES
async def test_tool_pattern_grants_no_other_kind(serve_plain, grants, mode):
    patterns = ("search", "*s*", "**", "[a-z]*", "tools/call:search")
    bearers = [grants.token(pattern) for pattern in patterns]
    grants.lay()
    served = await serve_plain(library())
    for bearer in bearers:
        async with served.client(bearer, mode=mode) as client:
            assert await listed(client) == (set(), set(), set())
            for refused in (client.get_prompt("search"), client.read_resource("data://open")):
                with pytest.raises(MCPError, match="permission"):
                    await refused


@MODES
async def test_anonymous_caller_gets_no_resource_by_default(serve_plain, grants, mode):
    served = await serve_plain(library())
    for bearer, said in ((None, MISSING), ("garbage", "Invalid MCP token")):
        async with served.client(bearer, mode=mode) as client:
            assert await listed(client) == (set(), set(), set())
            for refused in (
                client.read_resource("data://open"),
                client.get_prompt("ask"),
                client.complete(ASK, {"name": "topic", "value": ""}),
            ):
                with pytest.raises(MCPError, match=said):
                    await refused
    grants.lay(listable={"anonymous": ["prompts/get:a*", "resources/read:*"]})
    async with served.client(mode=mode) as client:
        displayed = ({"data://open", "data://shut"}, {"data://{name}"}, {"ask"})
        assert await listed(client) == displayed
        assert await client.list_tools() == []


async def test_anonymous_reads_without_required_auth_have_no_libraries(serve_plain, grants):
    served = await serve_plain(library(), require_auth=False)
    async with served.client("garbage") as client:
        assert await read(client, "data://shut") == "shut"
        assert await got(client, "search") == "a prompt"
        for refused in (client.read_resource("data://open"), client.get_prompt("ask")):
            with pytest.raises(MCPError, match="needs the libraries"):
                await refused


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("completion/complete", {"ref": ASK, "argument": {"name": "topic", "value": ""}}),
        ("resources/subscribe", {"uri": "data://open"}),
        ("resources/unsubscribe", {"uri": "data://open"}),
        ("subscriptions/listen", {"notifications": {"toolsListChanged": True}}),
        ("subscriptions/listen", {"notifications": {}}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["data://open"]}}),
    ],
)
async def test_other_method_is_decided_before_the_server_handles_it(
    serve_plain, grants, method, params
):
    everything, nothing = grants.token("*"), grants.token()
    grants.lay()
    served = await serve_plain(library(), http={"json_response": True, "stateless_http": True})

    async def error(bearer):
        return (await served.raw(method, params, bearer=bearer)).get("error", {}).get("message", "")

    assert await error(None) == "Authentication required. Provide a Bearer token."
    assert "permission" not in await error(everything)
    assert (await error(nothing)).startswith("Token does not have permission to call")


async def test_subscription_to_several_needs_a_grant_for_each(serve_plain, grants):
    bearer = grants.token("resources/subscribe:data://open", "subscriptions/listen:tools*")
    grants.lay()
    served = await serve_plain(library(), http={"json_response": True, "stateless_http": True})

    async def error(**notifications):
        params = {"notifications": notifications}
        answer = await served.raw("subscriptions/listen", params, bearer=bearer)
        return answer["error"]["message"]

    # FastMCP itself does not serve this method; that is what it says to whom the policy lets pass.
    unserved = await error(toolsListChanged=True, resourceSubscriptions=["data://open"])
    assert "permission" not in unserved
    for more in (
        {"resourceSubscriptions": ["data://open", "data://shut"]},
        {"resourceSubscriptions": ["data://open"] * 65},
        {"promptsListChanged": True},
        {"taskIds": ["t"]},
    ):
        assert "permission" in await error(**{"toolsListChanged": True, **more})


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("completion/complete", mcp_types.INVALID_PARAMS),
        ("logging/setLevel", mcp_types.INVALID_PARAMS),
        ("resources/subscribe", mcp_types.INVALID_PARAMS),
        # The version of the protocol that is spoken here does not have it.
        ("subscriptions/listen", mcp_types.METHOD_NOT_FOUND),
    ],
)
async def test_unreadable_parameters_are_refused(serve_plain, grants, method, code):
    bearer = grants.token("*")
    grants.lay()
    served = await serve_plain(library(), http={"json_response": True, "stateless_http": True})

    answer = await served.raw(method, {"level": 3, "uri": 3, "ref": ASK["name"]}, bearer=bearer)

    assert answer["error"]["code"] == code


@MODES
async def test_protocol_s_own_messages_pass(serve_plain, grants, mode):
    bearer = grants.token()
    grants.lay()
    served = await serve_plain()
    async with served.client(mode=mode) as client:
        if mode == "legacy":
            assert await client.ping()
            with pytest.warns(MCPDeprecationWarning):
                await client.set_logging_level("debug")
        assert (await client.call_tool("get_health")).data
    if mode == "legacy":
        async with served.client(bearer, mode=mode) as client:
            with pytest.warns(MCPDeprecationWarning):
                await client.set_logging_level("debug")


@pytest.mark.parametrize("method", ["tasks/get", "x/y", "x\ny", "tools/Call", ""])
async def test_unknown_method_is_refused_by_the_middleware(serve_plain, grants, method):
    bearer = grants.token("*", "x/y:*")
    grants.lay()
    served = await serve_plain(http={"json_response": True, "stateless_http": True})

    answer = await served.raw(method, bearer=bearer)

    assert answer["error"]["code"] == mcp_types.METHOD_NOT_FOUND
    assert answer["error"]["message"].startswith("This server does not offer '")


async def test_unknown_notification_reaches_no_handler(serve_plain, grants):
    mcp, heard = FastMCP("quiet"), []

    async def hear(ctx, params):
        heard.append(params)

    for name in ("notifications/roots/list_changed", "notifications/x"):
        mcp._mcp_server.add_notification_handler(name, mcp_types.NotificationParams, hear)
    served = await serve_plain(mcp, http={"json_response": True, "stateless_http": True})
    async with httpx2.AsyncClient() as http:
        for name in ("notifications/x", "notifications/roots/list_changed"):
            message = {"jsonrpc": "2.0", "method": name}
            headers = {"Accept": "application/json, text/event-stream"}
            await http.post(served.url, json=message, headers=headers)

    assert len(heard) == 1


async def test_resource_access_check_gets_the_same_decision(serve_plain, grants):
    from fastmcp import Client
    from fastmcp.exceptions import AuthorizationError

    served = await serve_plain(library())
    for uri in ("data://open", "data://none/such"):
        with pytest.raises(AuthorizationError, match=MISSING):
            await served.mcp._check_resource_access(uri)

    @served.mcp.tool
    async def may(uri: str) -> bool:
        try:
            await served.mcp._check_resource_access(uri)
        except AuthorizationError:
            return False
        return True

    bearer = grants.token("may", "resources/read:data://o*")
    grants.lay()
    assert [
        await served.call("may", {"uri": uri}, bearer=bearer)
        for uri in ("data://open", "data://shut", "data://o/../shut", "x://nothing")
    ] == [True, False, False, False]
    async with Client(served.mcp) as client:
        assert (await client.call_tool("may", {"uri": "x"}, raise_on_error=False)).is_error


def test_method_table_covers_the_whole_protocol():
    """A method that a new FastMCP or a new protocol dispatches by itself must be added to the table."""
    from fastmcp.server.low_level import _INTERIOR_METHODS
    from mcp_types.methods import SPEC_CLIENT_METHODS

    from mcp_plugin.protocol.actions import _READERS

    assert FASTMCP_HOOKED | LISTS == _INTERIOR_METHODS
    assert FASTMCP_HOOKED | LISTS | EXEMPT | set(_READERS) == set(SPEC_CLIENT_METHODS)


async def test_disconnected_client_leaves_no_decision(serve_plain, grants):
    bearer = grants.token("*", libraries=["lib-a"])
    grants.lay()
    served = await serve_plain()
    entered = asyncio.Event()

    @served.mcp.tool
    async def hang() -> str:
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(served.call("hang", bearer=bearer))
    await entered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert current_decision() is None
    assert await served.call("search", bearer=bearer) == ["lib-a"]


def test_listening_is_decided_by_the_names_of_what_is_listened_to():
    def listening(**notifications):
        found = of_message("subscriptions/listen", {"notifications": notifications})
        return [(one.method, one.name, one.uri) for one in found]

    listen, subscribe = "subscriptions/listen", "resources/subscribe"
    uris = [f"data://{number}" for number in range(65)]
    assert listening() == [(listen, "", None)]
    assert listening(toolsListChanged=True) == [(listen, "toolsListChanged", None)]
    assert listening(resourceSubscriptions=uris[:64]) == [
        (subscribe, uri, uri) for uri in uris[:64]
    ]
    assert listening(resourceSubscriptions=uris) == [(listen, "resourceSubscriptions", None)]
