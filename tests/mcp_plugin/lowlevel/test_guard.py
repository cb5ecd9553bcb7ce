"""The policy before a server of the SDK's own: behind HTTP, over a real OPA."""

import asyncio
import logging

import mcp_types as types
import pytest
from mcp import MCPError
from mcp.client.session import ClientSession
from mcp.server.auth.settings import AuthSettings
from mcp.server.lowlevel import Server
from mcp.shared.memory import create_client_server_memory_streams
from prometheus_client import CollectorRegistry

from mcp_plugin import (
    PolicyGuard,
    StdioBearer,
    allowed,
    checks_libraries,
    current_decision,
    current_libraries,
)
from tests.mcp_plugin.test_metrics import samples

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "object"}
TOOLS = [
    types.Tool(name="get_health", input_schema=SCHEMA),
    types.Tool(
        name="search",
        input_schema=SCHEMA,
        annotations=types.ToolAnnotations(read_only_hint=True, title="Search"),
    ),
    types.Tool(name="delete", input_schema=SCHEMA),
    types.Tool(name="touch", input_schema=SCHEMA),
]
ALL = {tool.name for tool in TOOLS}


@checks_libraries("library")
async def touch(library):
    return library


async def run_tool(name, arguments):
    if name == "search":
        await asyncio.sleep(0)
        return ",".join(current_libraries())
    if name == "touch":
        return await touch(arguments["library"])
    if name == "get_health":
        return f"ok {current_decision().allow} {current_decision().credential}"
    return f"{name} ran; poe {allowed('poe')}"


def plain_server(*, page=None, cache_hints=None):
    """Unguarded as yet; `hidden` is a tool that it runs and does not list."""

    async def list_tools(ctx, params):
        start = int((params and params.cursor) or 0)
        size = page or len(TOOLS)
        more = start + size < len(TOOLS)
        return types.ListToolsResult(
            tools=TOOLS[start : start + size], next_cursor=str(start + size) if more else None
        )

    async def call_tool(ctx, params):
        text = await run_tool(params.name, params.arguments or {})
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

    async def list_resources(ctx, params):
        uris = ["data://open/a", "data://shut/b", "data://open/../shut/b"]
        return types.ListResourcesResult(resources=[types.Resource(name=u, uri=u) for u in uris])

    async def list_templates(ctx, params):
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(name=name, uri_template=f"data://{name}/{{x}}")
                for name in ("open", "shut")
            ]
        )

    async def read(ctx, params):
        content = types.TextResourceContents(uri=params.uri, text=f"text of {params.uri}")
        return types.ReadResourceResult(contents=[content])

    async def list_prompts(ctx, params):
        return types.ListPromptsResult(prompts=[types.Prompt(name=n) for n in ("ask", "tell")])

    async def get_prompt(ctx, params):
        said = types.TextContent(type="text", text=f"prompt {params.name}")
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=said)])

    async def complete(ctx, params):
        return types.CompleteResult(completion=types.Completion(values=["a secret"]))

    return Server(
        "plain",
        cache_hints=cache_hints,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
    )


class _App:
    """The application, as FastMCP servers make theirs."""

    def __init__(self, server):
        self.http_app = server.streamable_http_app


@pytest.fixture
async def serve_low(serve_open, plain_pdp):
    """Guard and serve; unguarded with `pdp=None`."""

    async def start(server=None, *, pdp=plain_pdp, http=None, **settings):
        server = server or plain_server()
        metrics = CollectorRegistry()
        settings.setdefault("public_tools", {"get_health"})
        if pdp is not None:
            PolicyGuard(pdp, registry=metrics, **settings).protect(server)
        served = await serve_open(
            _App(server), **{"stateless_http": True, "json_response": True, **(http or {})}
        )
        served.metrics = metrics
        return served

    return start


@pytest.fixture
def ada(grants):
    bearer = grants.token(
        "search", "resources/read:data://open/*", "prompts/get:ask", libraries=["shelley", "poe"]
    )
    grants.lay()
    return bearer


async def text_of(served, tool, arguments=None, bearer=None, **kwargs):
    async with served.client(bearer, **kwargs) as client:
        return (await client.call_tool(tool, arguments or {})).content[0].text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_guard_lets_through_what_is_granted(serve_low, ada, mode):
    open_, served = await serve_low(pdp=None), await serve_low()
    assert await open_.tools(mode=mode) == ALL
    async with open_.client(mode=mode) as client:
        assert (await client.get_prompt("tell")).messages

    assert await text_of(served, "search", bearer=ada, mode=mode) == "poe,shelley"
    assert await served.tools(ada, mode=mode) == {"get_health", "search"}
    reported = await served.refusal("delete", bearer=ada, mode=mode)
    assert reported == "Token does not have permission to call 'delete'."
    assert "Authentication required" in await served.refusal("search", mode=mode)
    assert await text_of(served, "get_health", mode=mode) == "ok True None"
    assert served.failures() == {"tool_not_allowed": 1, "missing_token": 1}


async def test_resources_templates_and_prompts(serve_low, ada):
    served = await serve_low()
    async with served.client(ada) as client:
        assert [str(one.uri) for one in await client.list_resources()] == ["data://open/a"]
        templates = await client.list_resource_templates()
        assert [one.uri_template for one in templates] == ["data://open/{x}"]
        assert [one.name for one in await client.list_prompts()] == ["ask"]

        assert (await client.read_resource("data://open/a"))[0].text == "text of data://open/a"
        assert (await client.read_resource("data://open/z"))[0].text == "text of data://open/z"
        assert (await client.get_prompt("ask")).messages[0].content.text == "prompt ask"

        with pytest.raises(MCPError, match="permission"):
            await client.read_resource("data://shut/b")
        with pytest.raises(MCPError, match="permission"):
            await client.get_prompt("tell")
    answer = await served.raw("resources/read", {"uri": "data://open/../shut/b"}, bearer=ada)
    assert "Unknown resource" in answer["error"]["message"]


async def test_completions_and_unknown_methods(serve_low, grants, ada):
    server = plain_server()

    async def secret(ctx, params):
        return {"secret": "told"}

    server.add_request_handler("x", types.RequestParams, secret)
    served = await serve_low(server)
    wide = grants.token("*")
    grants.lay()
    asked = {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "x", "value": "a"}}

    refused = await served.raw("completion/complete", asked, bearer=ada)
    assert "permission" in refused["error"]["message"]
    answer = await served.raw("completion/complete", asked, bearer=wide)
    assert answer["result"]["completion"]["values"] == ["a secret"]
    for method in ("tasks/get", "tools/delete", "x"):
        answer = await served.raw(method, {}, bearer=wide)
        assert answer["error"]["code"] == types.METHOD_NOT_FOUND
    answer = await served.raw("tools/call", {"name": 7}, bearer=wide)
    assert answer["error"]["code"] == types.INVALID_PARAMS


async def test_tool_that_is_not_listed_does_not_run(serve_low, grants, ada):
    wide = grants.token("*")
    grants.lay()
    served = await serve_low()
    async with served.client(wide) as client:
        with pytest.raises(MCPError, match="Unknown tool: 'hidden'"):
            await client.call_tool("hidden", {})
    # Who may not call it does not find out.
    assert "permission" in await served.refusal("hidden", bearer=ada)


async def test_guard_filters_each_page_of_a_list(serve_low, grants):
    bearer = grants.token("touch", "delete", libraries=["poe"])
    grants.lay()
    served = await serve_low(plain_server(page=1))

    assert await text_of(served, "touch", {"library": "poe"}, bearer) == "poe"
    assert await served.tools(bearer) == {"get_health", "touch", "delete"}


async def test_guard_list_and_call_give_site_rules_the_same_input(serve_low, grants):
    bearer = grants.token("*", libraries=["poe"])
    grants.rules(
        """package site

import data.lictor

deny contains {"action": action, "code": "reads", "message": "No reading."} if {
	some action in lictor.actions
	action.annotations.readOnlyHint
}

deny contains {"action": action, "code": "sealed", "message": "Sealed."} if {
	some action in lictor.actions
	"sealed" in action.tags
}
"""
    )
    served = await serve_low(tags={"delete": {"sealed"}, "data://shut/b": ["sealed"]})

    assert await served.tools(bearer) == {"get_health", "touch"}
    assert await served.refusal("search", bearer=bearer) == "No reading."
    assert await served.refusal("delete", bearer=bearer) == "Sealed."
    async with served.client(bearer) as client:
        assert "data://shut/b" not in {str(one.uri) for one in await client.list_resources()}
        with pytest.raises(MCPError, match="Sealed"):
            await client.read_resource("data://shut/b")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_guard_template_tags_apply_to_its_resources(serve_low, grants, mode):
    bearer = grants.token("*")
    grants.rules(
        """package site

deny contains {"action": action, "code": "sealed", "message": "Sealed."} if {
	some action in data.lictor.actions
	"sealed" in action.tags
}
"""
    )
    served = await serve_low(tags={"data://shut/{x}": ["sealed"], "ask": ["sealed"]})
    shut = types.ResourceTemplateReference(uri="data://shut/{x}")
    async with served.client(bearer, mode=mode) as client:
        listed = {one.uri_template for one in await client.list_resource_templates()}
        assert listed == {"data://open/{x}"}
        assert (await client.read_resource("data://open/c"))[0].text == "text of data://open/c"
        for asked in (
            client.read_resource("data://shut/c"),
            client.complete(shut, {"name": "x", "value": ""}),
            client.complete(types.PromptReference(name="ask"), {"name": "x", "value": ""}),
        ):
            with pytest.raises(MCPError, match="Sealed"):
                await asked
    refused = await served.raw("resources/subscribe", {"uri": "data://shut/c"}, bearer=bearer)
    assert refused["error"]["message"] == "Sealed."


async def test_guard_template_resource_has_one_uri(serve_low, grants):
    bearer = grants.token("*")
    grants.lay()
    served = await serve_low()

    async def read(uri):
        answer = await served.raw("resources/read", {"uri": uri}, bearer=bearer)
        return answer.get("error", {}).get("message") or answer["result"]["contents"][0]["text"]

    for uri in ("data://open/a%2Cb", "data://shut/b", "data://open/%20"):
        assert await read(uri) == f"text of {uri}"
    for end in ("a,b", "c?x=1", "c?", "c#d", "c/", "c/d"):
        assert "Unknown resource" in await read(f"data://open/{end}"), end
    assert "Unknown resource" in await read("elsewhere://x")


async def test_library_that_is_not_the_callers_is_refused_in_band(serve_low, grants):
    bearer = grants.token("*", libraries=["poe"])
    grants.lay()
    served = await serve_low()

    assert await text_of(served, "touch", {"library": "poe"}, bearer) == "poe"
    reported = await served.refusal("touch", {"library": "darwin"}, bearer=bearer)
    assert reported == "No such library."
    assert await text_of(served, "delete", bearer=bearer) == "delete ran; poe True"


async def test_guard_gives_concurrent_callers_their_own_libraries(serve_low, grants):
    bearers = {n: grants.token("*", libraries=[f"lib-{n}"]) for n in range(20)}
    grants.lay()
    served = await serve_low()

    async def calls(n):
        async with served.client(bearers[n]) as client:
            results = await asyncio.gather(*(client.call_tool("search", {}) for _ in range(10)))
        return {result.content[0].text for result in results}

    assert await asyncio.gather(*map(calls, bearers)) == [{f"lib-{n}"} for n in bearers]


async def test_guard_refuses_middleware_added_after_it(serve_low, grants, caplog):
    bearer = grants.token("search")
    grants.lay()
    server = plain_server()

    async def rename(ctx, call_next):
        if ctx.method == "tools/call":
            ctx.params = {**ctx.params, "name": "delete"}
        return await call_next(ctx)

    served = await serve_low(server)
    server.middleware.append(rename)

    answer = await served.raw("tools/call", {"name": "search"}, bearer=bearer)
    assert "unavailable" in answer["error"]["message"]
    assert "added after the policy" in caplog.text
    server.middleware.remove(rename)
    server.middleware.insert(0, rename)
    answer = await served.raw("tools/call", {"name": "search"}, bearer=bearer)
    assert "to call 'delete'" in answer["result"]["content"][0]["text"]


async def test_guard_denies_a_revoked_token_and_any_call_without_opa(serve_low, deployment):
    await deployment.add_user("ada")
    await deployment.add_library("lib-a", "w")
    bearer = await deployment.create_token("ada", tools=["*"], libraries=["lib-a"])
    await deployment.settle()
    served = await serve_low(pdp=deployment.pdp())
    assert await text_of(served, "search", bearer=bearer) == "lib-a"

    await deployment.operator.disable_user("ada")
    await deployment.settle()
    assert await served.refusal("search", bearer=bearer) == "User account is disabled."
    deployment.opa.kill()
    assert "unavailable" in await served.refusal("search", bearer=bearer)
    assert await served.tools(bearer) == {"get_health"}
    assert await text_of(served, "get_health") == "ok True None"


async def test_shadow_mode_and_callers_without_a_good_bearer(serve_low, ada):
    watched = await serve_low(shadow={"delete"})
    assert await text_of(watched, "delete", bearer=ada) == "delete ran; poe True"
    assert samples(watched.metrics, "lictor_shadowed_total", "reason") == {("tool_not_allowed",): 1}
    lenient = await serve_low(require_auth=False)
    assert "needs the libraries" in await lenient.refusal("search")
    assert "needs the libraries" in await lenient.refusal("search", bearer="garbage")


async def test_guard_results_are_never_marked_shareable(serve_low, ada):
    from mcp.server.caching import CacheHint

    hints = {"tools/list": CacheHint(ttl_ms=60_000, scope="public")}
    served = await serve_low(plain_server(cache_hints=hints))
    async with served.client(ada) as client:
        page = await client.list_tools_mcp()
    assert page.cache_scope == "private"
    assert page.ttl_ms == 60_000


async def test_sdk_auth_answers_401_through_the_guard(serve_low, ada):
    import httpx2

    server, url = plain_server(), "http://127.0.0.1:1/mcp"
    guards = []

    class Verifier:
        async def verify_token(self, token):
            return await guards[0].verify_token(token)

    settings = AuthSettings(issuer_url=url, resource_server_url=url, validate_token_resource=False)
    served = await serve_low(server, http={"auth": settings, "token_verifier": Verifier()})
    guards.append(server.middleware[-1]._policy)

    async with httpx2.AsyncClient() as http:
        for headers in ({}, {"Authorization": "Bearer garbage"}):
            answer = await http.post(served.url, json={}, headers=headers)
            assert answer.status_code == 401
            assert "resource_metadata" in answer.headers["WWW-Authenticate"]
    assert await text_of(served, "search", bearer=ada) == "poe,shelley"


async def test_over_a_stream_the_caller_is_whom_the_operator_names(plain_pdp, grants, ada):
    async def reported(stdio):
        server = plain_server()
        registry = CollectorRegistry()
        PolicyGuard(plain_pdp, stdio=stdio, registry=registry).protect(server)
        async with create_client_server_memory_streams() as (client, streams):
            options = server.create_initialization_options()
            task = asyncio.create_task(server.run(*streams, options))
            async with ClientSession(*client) as session:
                await session.initialize()
                result = await session.call_tool("search", {})
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return result.content[0].text

    assert "Authentication required" in await reported(None)
    assert await reported(StdioBearer(lambda: ada)) == "poe,shelley"


async def test_no_bearer_and_no_argument_is_logged(serve_low, ada, caplog):
    caplog.set_level(logging.DEBUG)
    served = await serve_low()
    await served.refusal("touch", {"library": "a-secret-value"}, bearer=ada)
    own = "\n".join(
        r.getMessage() for r in caplog.records if r.name.startswith(("mcp_plugin", "pdp"))
    )
    assert "mcp_auth.denied tool='touch'" in own
    assert ada not in own
    assert "a-secret-value" not in own
