"""The TypeScript SDK's clients with a guarded server over HTTP, in either protocol era."""

import asyncio

import pytest
from fastmcp.server.event_store import EventStore
from support.waiting import until

from .conftest import GRANTED, OLDER
from .server import NAMES, RULES, bookshop
from .typescript import SDKError

pytestmark = [
    pytest.mark.anyio,
    # Sampling is deprecated since 2026-07-28.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

older_clients = pytest.mark.parametrize("client_name", OLDER, indirect=True)

NOT_ALLOWED = {
    "reason": "tool_not_allowed", "class": "authorisation", "retry": "no",
    "needed": "a grant from the server's operator",
}  # fmt: skip
OPEN = {"uri": "data://open"}
COMPLETION = {
    "ref": {"type": "ref/prompt", "name": "ask"},
    "argument": {"name": "topic", "value": "po"},
}


async def test_client_lists_and_uses_what_its_caller_was_granted(connect, serve, ada):
    client = await connect(await serve(), ada)
    tools = await client.names("listTools", "tools")
    assert tools >= {"get_health", "list_books", "report", "survey"}
    assert "delete_book" not in tools
    resources = await client.names("listResources", "resources", "uri")
    assert "data://open" in resources
    assert "data://closed" not in resources
    assert await client.names("listResourceTemplates", "resourceTemplates", "uriTemplate") == {
        "data://shelf/{name}"
    }
    assert await client.names("listPrompts", "prompts") == {"ask"}
    result = await client.tool("list_books")
    assert result["structuredContent"] == {"result": ["poe", "shelley"]}
    assert (await client.call("readResource", OPEN))["contents"][0]["text"] == "open data"
    shelf = await client.call("readResource", {"uri": "data://shelf/poe"})
    assert shelf["contents"][0]["text"] == "shelf poe"
    prompt = await client.call("getPrompt", {"name": "ask", "arguments": {"topic": "x"}})
    assert prompt["messages"][0]["content"]["text"] == "Tell me of x."
    completed = await client.call("complete", COMPLETION)
    assert completed["completion"]["values"] == ["poe", "poetry"]
    assert client.heard == []


async def test_refusals_say_why_and_leave_the_session_usable(connect, serve, ada):
    mcp = bookshop()
    client = await connect(await serve(mcp), ada)
    text, denial = await client.refusal("delete_book", title="x")
    assert text == "Token does not have permission to call 'delete_book'."
    assert denial == NOT_ALLOWED
    assert (await client.refusal("no_such_tool"))[1] == NOT_ALLOWED
    for method, params in (
        ("readResource", {"uri": "data://closed"}),
        ("getPrompt", {"name": "order", "arguments": {"topic": "x"}}),
        ("complete", {**COMPLETION, "ref": {"type": "ref/prompt", "name": "order"}}),
    ):
        with pytest.raises(SDKError, match="does not have permission") as refused:
            await client.call(method, params)
        assert refused.value.data == {"lictor/denial": NOT_ALLOWED}
    assert await client.text("get_health") == "ok"
    assert mcp.ran == []
    # A 401 or 403 would make the SDK discard its bearer or request another scope.
    assert not {one["status"] for one in await client.exchanges()} & {401, 403}


@older_clients
@pytest.mark.parametrize("anonymous", [False, True])
async def test_log_level_is_set_right_after_connecting(connect, serve, ada, anonymous):
    client = await connect(await serve(), None if anonymous else ada)
    assert await client.call("setLoggingLevel", "debug") == {}
    assert await client.call("ping") == {}
    assert await client.text("get_health") == "ok"


async def test_anonymous_client_uses_public_tools_alone(connect, serve, grants):
    client = await connect(await serve())
    assert "get_health" in await client.names("listTools", "tools")
    assert await client.text("get_health") == "ok"
    with pytest.raises(SDKError) as refused:
        await client.tool("list_books")
    assert refused.value.status == 401
    assert await client.text("get_health") == "ok"


async def test_missing_bearer_is_401_with_metadata_that_the_sdk_finds(make_client, serve, grants):
    url = await serve(public_tools=set(), list_without_token=False)
    base = url.removesuffix("/mcp")
    metadata = f"{base}/.well-known/oauth-protected-resource/mcp"
    client = make_client()
    with pytest.raises(SDKError) as refused:
        await client.connect(url)
    assert refused.value.status == 401
    (exchange,) = await client.exchanges()
    assert exchange["challenge"] == f'Bearer resource_metadata="{metadata}"'
    discovered = await make_client().discover(url)
    assert discovered["resource"] == url
    assert discovered["authorization_servers"] == [base]


async def test_oauth_client_without_bearer_looks_for_its_issuer(make_client, serve, grants):
    url = await serve(public_tools=set(), list_without_token=False)
    client = make_client()
    with pytest.raises(SDKError, match="registration"):
        await client.connect(url, oauth=True)
    paths = [(one["path"], one["status"]) for one in await client.exchanges()]
    assert paths[:2] == [("/mcp", 401), ("/.well-known/oauth-protected-resource/mcp", 200)]
    assert ("/.well-known/oauth-authorization-server", 404) in paths


async def test_oauth_client_with_bearer_is_served_and_never_sees_403(connect, serve, ada):
    client = await connect(await serve(), ada, oauth=True)
    assert (await client.tool("list_books"))["structuredContent"]["result"] == ["poe", "shelley"]
    assert (await client.refusal("delete_book"))[1] == NOT_ALLOWED
    assert not {one["status"] for one in await client.exchanges()} & {401, 403}


@pytest.mark.parametrize("auth", [True, False])
async def test_bad_bearer_is_refused_whatever_is_public(make_client, serve, grants, auth):
    client = make_client()
    url = await serve(auth=auth)
    if auth:
        with pytest.raises(SDKError) as refused:
            await client.connect(url, bearer="unknown" * 6)
        assert refused.value.status == 401
        (exchange,) = await client.exchanges()
        assert exchange["challenge"].startswith('Bearer error="invalid_token"')
        return
    await client.connect(url, bearer="unknown" * 6)
    text, denial = await client.refusal("list_books")
    assert (text, denial["reason"]) == ("Invalid MCP token.", "invalid_token")


async def test_bearer_with_blanks_after_it_is_accepted(connect, serve, ada):
    client = await connect(await serve(), f"{ada}  ")
    assert (await client.tool("list_books"))["structuredContent"]["result"] == ["poe", "shelley"]


@pytest.mark.parametrize(
    "http", [{"json_response": True}, {"stateless_http": True}], ids=["json", "stateless"]
)
async def test_other_kinds_of_response_serve_and_refuse_alike(connect, serve, ada, http):
    client = await connect(await serve(http=http), ada)
    assert (await client.tool("list_books"))["structuredContent"]["result"] == ["poe", "shelley"]
    assert (await client.refusal("delete_book"))[1] == NOT_ALLOWED
    assert client.heard == []


CALLERS = {
    "bearer": {},
    "public tool": {"public_tools": {"survey", "think", "survey_in_rounds"}},
    "no bearer required": {"require_auth": False},
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("auth", [True, False])
async def test_client_answers_what_a_tool_asks(  # noqa: PLR0917 - fixtures
    connect, serve, ada, client_name, caller, auth
):
    """With 100,000 characters, which is more than a buffer holds."""
    url = await serve(auth=auth, **CALLERS[caller])
    answer = "x" * 100_000
    client = await connect(url, ada if caller == "bearer" else None, answer=answer)
    if client_name in OLDER:
        assert await client.text("survey") == "100000 characters"
        assert await client.text("think") == "100000 characters"
        assert client.heard == [{"asked": "elicitation"}, {"asked": "sampling"}]
    else:
        assert await client.text("survey_in_rounds") == "100000 characters, asked"
        assert client.heard == [{"asked": "elicitation"}]


@older_clients
@pytest.mark.parametrize("auth", [True, False])
async def test_session_belongs_to_the_client_that_opened_it(  # noqa: PLR0917 - fixtures
    connect, make_client, serve, grants, ada, auth
):
    url = await serve(auth=auth)
    other = grants.token("*")
    grants.lay()
    mine = await connect(url, ada)
    await until_streaming(mine)
    for bearer in (other, None):
        stranger = make_client()
        await stranger.connect(url, bearer=bearer, session=mine.session, version=mine.version)
        with pytest.raises(SDKError) as refused:
            await stranger.tool("get_health")
        assert refused.value.status == 404
        with pytest.raises(SDKError):
            await stranger.terminate()
    assert await mine.text("get_health") == "ok"
    again = make_client()
    await again.connect(url, bearer=ada, session=mine.session, version=mine.version)
    assert await again.text("get_health") == "ok"
    await mine.terminate()
    last = (await mine.exchanges())[-1]
    assert (last["method"], last["status"]) == ("DELETE", 200)
    with pytest.raises(SDKError) as gone:
        await again.tool("get_health")
    assert gone.value.status == 404


async def until_streaming(client):
    async def opened():
        return any(
            one["method"] == "GET" and one.get("status") == 200 for one in await client.exchanges()
        )

    await until(opened, "the client's stream is open")


@older_clients
@pytest.mark.parametrize("auth", [True, False])
async def test_client_resumes_a_call_whose_stream_was_closed(connect, serve, ada, auth):
    mcp = bookshop()
    url = await serve(mcp, auth=auth, http={"event_store": EventStore(), "retry_interval": 10})
    client = await connect(url, ada)
    call = asyncio.create_task(client.text("reconnect"))

    async def resumed():
        return [one for one in await client.exchanges() if one["resumedFrom"]]

    await until(resumed, "the client comes back")
    mcp.finish.set()
    assert await call == "resumed"
    assert {one["status"] for one in await resumed()} == {200}


@pytest.mark.parametrize("consistency", ["bounded", "strict"])
async def test_revocation_ends_a_running_call_and_refuses_the_next(  # noqa: PLR0917 - fixtures
    connect, serve, grants, ada, client_name, plain_pdp, consistency
):
    plain_pdp.consistency = consistency  # the registry behind a plain OPA is always current
    client = await connect(await serve(), ada)
    call = asyncio.create_task(client.call("callTool", {"name": "narrate"}, progress=True))
    await until(lambda: len(client.heard_of("progress")) > 3, "it reports progress")
    grants.revoke(ada)
    result = await call
    assert (result["isError"], result["content"][0]["text"]) == (True, "Invalid MCP token.")
    assert result["_meta"]["lictor/denial"]["reason"] == "invalid_token"
    with pytest.raises(SDKError) as refused:
        await client.tool("list_books")
    assert refused.value.status == 401


@older_clients
async def test_revocation_closes_the_stream_of_a_session(connect, serve, grants, ada):
    client = await connect(await serve(), ada)
    await until_streaming(client)
    assert client.heard == []
    grants.revoke(ada)
    # The SDK notices that the stream was closed, opens it again, and is refused.
    await until(lambda: client.heard_of("failed"), "the stream is closed")
    gets = [one["status"] for one in await client.exchanges() if one["method"] == "GET"]
    assert gets[:2] == [200, 401]


@older_clients
async def test_client_is_notified_of_its_changed_tools_alone(connect, serve, grants):
    mine, other = grants.token("list_*"), grants.token("list_*")
    grants.lay()
    url = await serve()
    client, quiet = await connect(url, mine), await connect(url, other)
    for one in (client, quiet):
        await until_streaming(one)
        assert "report" not in await one.names("listTools", "tools")

    def notified():
        # Each is a new revision of the registry, in case the server has not read the first one yet.
        grants.change(mine, "list_*", "report")
        return client.heard

    await until(notified, "the client is notified")
    assert client.heard == [{"changed": "tools"}]
    assert "report" in await client.names("listTools", "tools")
    assert quiet.heard == []


async def test_rule_refuses_an_argument_in_every_spelling(connect, serve, grants):
    bearer = grants.token(*GRANTED)
    grants.rules(RULES, arguments=True)
    mcp = bookshop()
    client = await connect(await serve(mcp), bearer)
    await client.call("listTools")
    for options in ({"maxRows": 1000}, {"maxRows": 1000, "max_rows": 1}):
        text, denial = await client.refusal("report", options=options)
        assert (text, denial["rules"]) == ("Too many rows.", ["rows"])
    for arguments in (
        {"options": {"max_rows": 1000}}, {"options": {"maxRows": "1000"}}, {"limit": "1000"},
        {"limit": 1e3}, {"limit": True}, {"maxRows": 1000},
    ):  # fmt: skip
        await client.refusal("report", **arguments)
    assert mcp.ran == []
    assert await client.text("report", options={"maxRows": 10}, limit=5) == "reported"


@pytest.mark.parametrize("region", ["eu-west-1", "zürich ×"])
async def test_argument_in_a_header_too_reaches_the_tool(connect, serve, ada, client_name, region):
    client = await connect(await serve(), ada)
    await client.call("listTools")
    assert await client.text("list_shops", region=region) == f"shops in {region}"
    sent = (await client.exchanges())[-1]["region"]
    assert (sent is not None) == (client_name not in OLDER)


async def test_resources_with_unusual_names_are_listed_and_read(connect, serve, ada):
    client = await connect(await serve(), ada)
    listed = (await client.call("listResources"))["resources"]
    assert {one["name"] for one in listed} >= set(NAMES)
    texts = set()
    for one in listed:
        (content,) = (await client.call("readResource", {"uri": one["uri"]}))["contents"]
        texts.add(content["text"])
    assert texts == {"open data", "text of a query", *(f"text of {name}" for name in NAMES)}
