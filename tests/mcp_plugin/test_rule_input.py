"""What a site's rules read about each request, and that lists and calls are decided alike."""

import json

import mcp_types
import pytest
from fastmcp import FastMCP
from fastmcp.server.middleware import Middleware
from mcp import MCPError

pytestmark = pytest.mark.anyio

# Refuses everything, and says what it saw.
TELLS = """package site

deny contains {"action": a, "code": "told", "message": json.marshal(a)} if some a in data.lictor.actions
"""
ANNOTATIONS = {"audience": ["user"], "lastModified": "2026-01-12T15:00:58Z", "priority": 0.5}
OLD = """package site

deny contains {"action": a, "code": "old", "message": "Too old."} if {
	some a in data.lictor.actions
	a.version == "1"
}
"""
DESTRUCTIVE = """package site

deny contains {"action": a, "code": "hint", "message": "No."} if {
	some a in data.lictor.actions
	a.annotations.destructiveHint
}
"""


def add_version(mcp, number):
    known = {"version": number, "tags": {f"v{number}"}}

    @mcp.tool(name="edit", **known)
    def edit(n: str = "") -> str:
        return number

    @mcp.resource("data://shelf", **known)
    def shelf() -> str:
        return number

    @mcp.prompt(name="ask", **known)
    def ask(n: str = "") -> str:
        return number


def versions():
    mcp = FastMCP("versions")
    for number in ("1", "2"):
        add_version(mcp, number)

    @mcp.resource("data://{name}", tags={"any"}, annotations=ANNOTATIONS)
    def any_shelf(name: str) -> str:
        return name

    @mcp.completion
    def complete(ref, argument, context):
        return []

    return mcp


@pytest.fixture
async def client(serve_plain, grants):
    bearer = grants.token("*")
    grants.lay()
    served = await serve_plain(versions())
    async with served.client(bearer) as client:
        yield client


async def refusal(awaitable):
    with pytest.raises(MCPError) as refused:
        await awaitable
    return json.loads(str(refused.value))


async def test_rule_input_has_name_version_tags_uri_hints_and_arguments(grants, client):
    grants.rules(TELLS, arguments=True)

    called = await client.call_tool("edit", {"n": "x"}, raise_on_error=False)
    assert json.loads(called.content[0].text) == {
        "method": "tools/call", "name": "edit", "version": "2", "tags": ["v2"],
        "arguments": {"n": "x"},
    }  # fmt: skip
    assert await refusal(client.read_resource("data://shelf", version="1")) == {
        "method": "resources/read", "name": "data://shelf", "uri": "data://shelf",
        "version": "1", "tags": ["v1"],
    }  # fmt: skip
    assert await refusal(client.read_resource("data://x")) == {
        "method": "resources/read", "name": "data://x", "uri": "data://x", "tags": ["any"],
        "annotations": ANNOTATIONS,
    }  # fmt: skip
    assert await refusal(client.get_prompt("ask", {"n": "x"}, version="1")) == {
        "method": "prompts/get", "name": "ask", "version": "1", "tags": ["v1"],
        "arguments": {"n": "x"},
    }  # fmt: skip
    ref = {"type": "ref/resource", "uri": "data://{name}"}
    argument = {"name": "name", "value": "x"}
    assert await refusal(client.complete(ref, argument, {"other": "y"})) == {
        "method": "completion/complete", "name": "data://{name}", "uri": "data://{name}",
        "tags": ["any"], "annotations": ANNOTATIONS,
        "arguments": {"name": "x", "other": "y"},
    }  # fmt: skip
    of_prompt = await refusal(client.complete({"type": "ref/prompt", "name": "ask"}, argument))
    assert (of_prompt["tags"], of_prompt["version"]) == (["v2"], "2")


async def test_rule_input_has_arguments_only_where_rules_read_them(grants, client):
    grants.rules(TELLS, arguments=False)

    assert "arguments" not in await refusal(client.get_prompt("ask", {"n": "secret"}))


async def refuses_version_1(client):
    old = await client.call_tool("edit", version="1", raise_on_error=False)
    assert old.content[0].text == "Too old."
    for refused in (
        client.read_resource("data://shelf", version="1"),
        client.get_prompt("ask", version="1"),
    ):
        with pytest.raises(MCPError, match="Too old"):
            await refused


async def test_version_that_runs_is_the_version_decided(grants, client):
    grants.rules(OLD)

    assert (await client.call_tool("edit")).data == "2"
    assert (await client.read_resource("data://shelf"))[0].text == "2"
    assert (await client.get_prompt("ask")).messages[0].content.text == "2"
    await refuses_version_1(client)


class ForgetsMeta(Middleware):
    """What renames or repacks a request easily loses its `_meta`."""

    async def on_call_tool(self, context, call_next):
        message = context.message
        bare = mcp_types.CallToolRequestParams(name=message.name, arguments=message.arguments)
        return await call_next(context.copy(message=bare))

    async def on_read_resource(self, context, call_next):
        bare = mcp_types.ReadResourceRequestParams(uri=context.message.uri)
        return await call_next(context.copy(message=bare))

    async def on_get_prompt(self, context, call_next):
        bare = mcp_types.GetPromptRequestParams(name=context.message.name)
        return await call_next(context.copy(message=bare))


async def test_rule_input_keeps_a_version_that_middleware_drops(serve_plain, grants):
    bearer = grants.token("*")
    grants.lay()
    mcp = versions()
    mcp.add_middleware(ForgetsMeta())
    served = await serve_plain(mcp)
    async with served.client(bearer) as client:
        # This is what FastMCP runs behind such a middleware.
        assert (await client.call_tool("edit", version="1")).data == "1"
        grants.rules(OLD)
        await refuses_version_1(client)


async def test_list_omits_what_a_call_would_be_refused(serve_plain, grants):
    bearer = grants.token("*")
    grants.lay()
    mcp = FastMCP("hints")

    def run() -> str:
        return "ran"

    for name, destructive in (("drop", True), ("look", False)):
        mcp.tool(run, name=name, annotations={"destructiveHint": destructive})
    served = await serve_plain(mcp)
    assert await served.tools(bearer) == {"drop", "look"}

    grants.rules(DESTRUCTIVE)

    assert await served.tools(bearer) == {"look"}
    assert await served.refusal("drop", bearer=bearer) == "No."
    assert await served.call("look", bearer=bearer) == "ran"


async def test_tool_rule_ignores_other_components_of_that_name(serve_plain, grants):
    """Neither does the rule refuse the prompt, nor does the prompt's grant open the tool."""
    everything, prompts = grants.token("*"), grants.token("prompts/get:*")
    mcp = FastMCP("names")
    mcp.tool(lambda: "ran", name="delete")
    mcp.tool(lambda: "ran", name="prompts/get:delete")
    mcp.prompt(lambda: "a prompt", name="delete")
    grants.lay()
    served = await serve_plain(mcp)
    grants.rules("""package site

deny contains {"action": a.name, "code": "no", "message": "No."} if {
	some a in data.lictor.actions
	a.method == "tools/call"
	a.name == "delete"
}
""")
    for bearer in (everything, prompts):
        async with served.client(bearer) as client:
            assert [prompt.name for prompt in await client.list_prompts()] == ["delete"]
            assert await client.get_prompt("delete")
    assert await served.refusal("delete", bearer=everything) == "No."
    assert "permission" in await served.refusal("prompts/get:delete", bearer=prompts)
    assert await served.tools(prompts) == set()


async def test_list_of_each_kind_is_one_query_of_any_length(serve_plain, grants, plain_pdp):
    bearer = grants.token("*")
    grants.lay()
    mcp = FastMCP("long")
    for n in range(40):
        mcp.tool(lambda: "", name=f"tool-{n}")
        mcp.prompt(lambda: "", name=f"prompt-{n}")
        mcp.resource(f"data://{n}", name="r")(lambda: "")
        mcp.resource(f"data://{n}/{{name}}", name="t")(lambda name: "")
    served = await serve_plain(mcp)
    asked, ask = [], plain_pdp._transport.query

    async def counting(rule, sent):
        asked.append((rule, len(sent["actions"])))
        return await ask(rule, sent)

    plain_pdp._transport.query = counting
    async with served.client(bearer) as client:
        for of in ("tools", "prompts", "resources", "resource_templates"):
            assert len(await getattr(client, f"list_{of}")()) == 40
    assert asked == [("visible", 40)] * 4
