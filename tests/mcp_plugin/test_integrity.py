"""Bypasses of the policy: each works on an unguarded server, and not on a guarded one."""

import asyncio

import pytest
from fastmcp import Context, FastMCP
from fastmcp.exceptions import FastMCPError
from fastmcp.experimental.transforms.code_mode import CodeMode
from fastmcp.server import create_proxy
from fastmcp.server.dependencies import get_http_headers
from fastmcp.server.extensions import ServerExtension
from fastmcp.server.middleware import Middleware
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from fastmcp.server.middleware.logging import LoggingMiddleware
from fastmcp.server.middleware.tool_injection import ToolInjectionMiddleware
from fastmcp.server.providers import AggregateProvider, FastMCPProvider
from fastmcp.server.transforms import PromptsAsTools, ResourcesAsTools
from fastmcp.server.transforms.search import RegexSearchTransform
from fastmcp.tools import Tool, ToolResult
from mcp import MCPError
from prometheus_client import CollectorRegistry

from mcp_plugin import AllowedLibraries, PolicyMiddleware, current_decision

pytestmark = pytest.mark.anyio

UNAVAILABLE = "The policy decision point is unavailable."
EACH_WAY = pytest.mark.parametrize(
    ("mode", "stateless"), [("auto", False), ("legacy", False), ("legacy", True)]
)


class RecordingServer:
    """A server with something to get at, which knows what was got."""

    def __init__(self, name="shop"):
        self.got = []
        self.mcp = mcp = FastMCP(name)

        @mcp.tool
        def look() -> str:
            self.got.append("look")
            return "looked"

        @mcp.tool
        def delete(what: str = "all") -> str:
            self.got.append("delete")
            return f"deleted {what}"

        @mcp.resource("data://open")
        def open_shelf() -> str:
            self.got.append("open")
            return "open"

        @mcp.resource("data://secret")
        def secret() -> str:
            self.got.append("secret")
            return "secret"

        @mcp.prompt
        def plain() -> str:
            self.got.append("plain")
            return "plain"

        @mcp.prompt
        def hidden() -> str:
            self.got.append("hidden")
            return "hidden"

    def taken(self):
        got, self.got = self.got, []
        return set(got)


MODEST = ("look", "resources/read:data://open", "prompts/get:plain")


@pytest.fixture
async def modest(grants):
    """A bearer that may look, and no more."""
    bearer = grants.token(*MODEST)
    grants.lay()
    return bearer


async def text(client, tool, arguments=None):
    result = await client.call_tool(tool, arguments or {}, raise_on_error=False)
    return result.content[0].text


@EACH_WAY
async def test_unlisted_component_cannot_be_requested(
    serve_open, serve_plain, modest, mode, stateless
):
    shop = RecordingServer()
    http = {"stateless_http": stateless}

    async def all_of_it(served):
        async with served.client(modest, mode=mode) as client:
            await text(client, "delete")
            for asked in (client.read_resource("data://secret"), client.get_prompt("hidden")):
                await asyncio.gather(asked, return_exceptions=True)
            await text(client, "look")
        return shop.taken()

    assert await all_of_it(await serve_open(shop.mcp, **http)) == {
        "delete", "secret", "hidden", "look"
    }  # fmt: skip
    assert await all_of_it(await serve_plain(shop.mcp, http=http)) == {"look"}


class Renames(Middleware):
    """Puts another name into each request; `in_place` changes the message itself.

    `again`: only after the request has run, as a fallback does.
    """

    def __init__(self, *, in_place=False, again=False):
        self._in_place = in_place
        self._again = again

    def _with(self, context, **changes):
        if not self._in_place:
            return context.copy(message=context.message.model_copy(update=changes))
        for name, value in changes.items():
            setattr(context.message, name, value)
        return context

    async def _run(self, context, call_next, **changes):
        if self._again:
            await call_next(context)
        return await call_next(self._with(context, **changes))

    async def on_call_tool(self, context, call_next):
        return await self._run(context, call_next, name="delete")

    async def on_read_resource(self, context, call_next):
        return await self._run(context, call_next, uri="data://secret")

    async def on_get_prompt(self, context, call_next):
        return await self._run(context, call_next, name="hidden")


async def ask_modestly(client):
    said = [await text(client, "look")]
    for asked in (client.read_resource("data://open"), client.get_prompt("plain")):
        try:
            said.append(str(await asked))
        except MCPError as error:
            said.append(str(error))
    return said


@EACH_WAY
async def test_inner_middleware_cannot_rename_a_decided_call(
    serve_open, plain_pdp, modest, mode, stateless
):
    in_place = stateless
    shop = RecordingServer()
    shop.mcp.add_middleware(Renames(in_place=in_place))
    open_ = await serve_open(shop.mcp)
    async with open_.client(modest, mode=mode) as client:
        await ask_modestly(client)
    assert shop.taken() == {"delete", "secret", "hidden"}

    policy = PolicyMiddleware(plain_pdp, registry=CollectorRegistry())
    shop.mcp.middleware.insert(0, policy)
    served = await serve_open(shop.mcp, stateless_http=stateless)
    async with served.client(modest, mode=mode) as client:
        assert await ask_modestly(client) == [UNAVAILABLE] * 3
    assert shop.taken() == set()


@pytest.mark.parametrize("in_place", [False, True])
async def test_inner_middleware_cannot_rename_a_call_later(serve_open, plain_pdp, modest, in_place):
    shop = RecordingServer()
    shop.mcp.add_middleware(Renames(in_place=in_place, again=True))
    shop.mcp.middleware.insert(0, PolicyMiddleware(plain_pdp, registry=CollectorRegistry()))
    served = await serve_open(shop.mcp)
    async with served.client(modest) as client:
        await ask_modestly(client)
        shop.taken()
        assert await ask_modestly(client) == [UNAVAILABLE] * 3
    assert not shop.taken() & {"delete", "secret", "hidden"}


READS_ARGUMENTS = """package site

deny contains {"action": a.name, "code": "all", "message": "Not all."} if {
	some a in data.lictor.actions
	a.arguments.what == "all"
}
"""


class ChangesArguments(Middleware):
    async def on_call_tool(self, context, call_next):
        message = context.message.model_copy(update={"arguments": {"what": "all"}})
        return await call_next(context.copy(message=message))


@pytest.mark.parametrize("read", [True, False])
async def test_inner_middleware_cannot_change_arguments_that_a_rule_reads(
    serve_open, plain_pdp, grants, read
):
    shop = RecordingServer()
    shop.mcp.add_middleware(PolicyMiddleware(plain_pdp, registry=CollectorRegistry()))
    shop.mcp.add_middleware(ChangesArguments())
    bearer = grants.token("delete")
    grants.rules(READS_ARGUMENTS, arguments=read)
    served = await serve_open(shop.mcp)
    async with served.client(bearer) as client:
        await client.list_tools()
        said = await text(client, "delete", {"what": "one"})
    assert said == (UNAVAILABLE if read else "deleted all")
    assert shop.taken() == (set() if read else {"delete"})


async def test_middleware_outside_the_policy_is_seen_through(serve_plain, modest):
    shop = RecordingServer()
    shop.mcp.add_middleware(Renames())
    served = await serve_plain(shop.mcp)
    async with served.client(modest) as client:
        for said in await ask_modestly(client):
            assert "does not have permission" in said
    assert shop.taken() == set()


async def test_inner_middleware_is_reported_at_the_first_request(
    serve_open, plain_pdp, modest, caplog
):
    shop = RecordingServer()
    shop.mcp.add_middleware(PolicyMiddleware(plain_pdp, registry=CollectorRegistry()))
    shop.mcp.add_middleware(LoggingMiddleware())
    served = await serve_open(shop.mcp, json_response=True, stateless_http=True)
    call = {"name": "look", "arguments": {}}

    # The chain of this very request could not be sealed any more.
    first = await served.raw("tools/call", call, bearer=modest)
    assert first["result"]["content"][0]["text"] == UNAVAILABLE
    assert shop.taken() == set()
    second = await served.raw("tools/call", call, bearer=modest)
    assert second["result"]["content"][0]["text"] == "looked"
    reported = [record.getMessage() for record in caplog.records if "order" in record.getMessage()]
    assert reported == ["mcp_auth.order sealed, as these are inside the policy: LoggingMiddleware"]


async def test_tool_may_list_with_middleware_inside_the_policy(serve_open, plain_pdp, modest):
    shop = RecordingServer()

    @shop.mcp.tool(name="look")
    async def names(ctx: Context) -> str:
        return ", ".join(sorted(tool.name for tool in await ctx.fastmcp.list_tools()))

    shop.mcp.add_middleware(PolicyMiddleware(plain_pdp, registry=CollectorRegistry()))
    shop.mcp.add_middleware(LoggingMiddleware())
    served = await serve_open(shop.mcp)
    async with served.client(modest) as client:
        await client.list_tools()
        assert await text(client, "look") == "look"


class AnswersItself(Middleware):
    def __init__(self):
        self.kept = {}

    async def on_call_tool(self, context, call_next):
        if context.message.name not in self.kept:
            self.kept[context.message.name] = await call_next(context)
        return self.kept[context.message.name]


def notifier():
    mcp = FastMCP("notifier")

    @mcp.tool
    def whose() -> str:
        return get_http_headers(include={"authorization"})["authorization"]

    return mcp


async def test_response_for_one_caller_is_not_served_to_another(serve_open, grants, plain_pdp):
    ada, bob = grants.token("*"), grants.token("*")
    grants.lay()
    mcp = notifier()
    mcp.add_middleware(AnswersItself())
    served = await serve_open(mcp)
    assert await served.call("whose", bearer=ada) == await served.call("whose", bearer=bob)

    mcp = notifier()
    mcp.add_middleware(PolicyMiddleware(plain_pdp, registry=CollectorRegistry()))
    mcp.add_middleware(AnswersItself())
    served = await serve_open(mcp)
    assert ada in await served.call("whose", bearer=ada)
    assert await served.refusal("whose", bearer=bob) == UNAVAILABLE


@pytest.mark.parametrize("where", ["outside", "inside", "mounted", "aggregated"])
async def test_response_cache_is_refused_wherever_it_stands(
    serve_open, grants, plain_pdp, where, caplog
):
    ada, bob = grants.token("*"), grants.token("*")
    grants.lay()
    mcp = notifier()
    mcp.add_middleware(ResponseCachingMiddleware())
    served = await serve_open(mcp)
    assert await served.call("whose", bearer=ada) == await served.call("whose", bearer=bob)

    policy = PolicyMiddleware(plain_pdp, registry=CollectorRegistry())
    mcp = notifier()
    if where in {"mounted", "aggregated"}:
        mcp.add_middleware(ResponseCachingMiddleware())
        child, mcp = mcp, FastMCP("parent")
        if where == "mounted":
            mcp.mount(child, namespace="ns")
        else:
            mcp.add_provider(AggregateProvider([FastMCPProvider(child)]))
        mcp.add_middleware(policy)
    else:
        mcp.add_middleware(ResponseCachingMiddleware())
        mcp.middleware.insert(1 if where == "outside" else 0, policy)
    served = await serve_open(mcp)
    for mode in ("auto", "legacy"):
        with pytest.raises(MCPError, match=UNAVAILABLE):
            await served.call("whose", bearer=ada, mode=mode)
    assert "a response cache would answer one caller with another's results" in caplog.text


async def test_mounted_tools_are_decided_by_their_name_here(serve_open, serve_plain, grants):
    bearer = grants.token("look", "near_look", "resources/read:data://open", "prompts/get:plain")
    grants.lay()
    near, far = RecordingServer("near"), RecordingServer("far")
    upstream = await serve_open(far.mcp)
    open_, guarded = FastMCP("open"), FastMCP("guarded")
    for parent in (open_, guarded):
        parent.mount(near.mcp, namespace="near")
        parent.mount(create_proxy(upstream.url), namespace="far")
    tools = [f"{where}_{name}" for where in ("near", "far") for name in ("look", "delete")]

    async def all_of_it(served):
        async with served.client(bearer) as client:
            for tool in (*tools, "look"):
                await text(client, tool)
            for where in ("near", "far"):
                for asked in (
                    client.read_resource(f"data://{where}/open"),
                    client.get_prompt(f"{where}_plain"),
                ):
                    await asyncio.gather(asked, return_exceptions=True)
            listed = {tool.name for tool in await client.list_tools()}
            return listed, near.taken(), far.taken()

    everything = {"look", "delete", "open", "plain"}
    assert await all_of_it(await serve_open(open_)) == (set(tools), everything, everything)
    served = await serve_plain(guarded)
    assert await all_of_it(served) == ({"near_look"}, {"look"}, set())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_search_tool_calls_only_tools_its_caller_may_call(
    serve_open, serve_plain, grants, mode
):
    bearer = grants.token("look", "search_tools", "call_tool")
    grants.lay()

    async def through(serve):
        shop = RecordingServer()
        shop.mcp.add_transform(RegexSearchTransform())
        served = await serve(shop.mcp)
        async with served.client(bearer, mode=mode) as client:
            found = await text(client, "search_tools", {"pattern": "."})
            for name in ("look", "delete"):
                await text(client, "call_tool", {"name": name, "arguments": {}})
            await text(client, "delete")
        return "delete" in found, shop.taken()

    assert await through(serve_open) == (True, {"look", "delete"})
    assert await through(serve_plain) == (False, {"look"})


class Sandbox:
    """Runs each line of a "program" as the name of a tool to call."""

    async def run(self, code, *, inputs=None, external_functions=None):
        said = []
        for name in code.split():
            try:
                said.append(await external_functions["call_tool"](name, {}))
            except FastMCPError as error:
                said.append(str(error))
        return said


async def test_program_tool_calls_only_tools_its_caller_may_call(serve_open, serve_plain, grants):
    bearer = grants.token("look", "execute")
    grants.lay()

    async def through(serve):
        shop = RecordingServer()
        shop.mcp.add_transform(CodeMode(sandbox_provider=Sandbox()))
        served = await serve(shop.mcp)
        async with served.client(bearer) as client:
            await text(client, "execute", {"code": "look\ndelete"})
        return shop.taken()

    assert await through(serve_open) == {"look", "delete"}
    assert await through(serve_plain) == {"look"}


async def test_resource_and_prompt_tools_read_only_what_is_granted(serve_open, serve_plain, grants):
    bearer = grants.token(
        "read_resource", "get_prompt", "list_*", "resources/read:data://open", "prompts/get:plain"
    )
    grants.lay()

    async def through(serve):
        shop = RecordingServer()
        shop.mcp.add_transform(ResourcesAsTools(shop.mcp))
        shop.mcp.add_transform(PromptsAsTools(shop.mcp))
        served = await serve(shop.mcp)
        async with served.client(bearer) as client:
            listed = await text(client, "list_resources") + await text(client, "list_prompts")
            for uri in ("data://open", "data://secret"):
                await text(client, "read_resource", {"uri": uri})
            for name in ("plain", "hidden"):
                await text(client, "get_prompt", {"name": name})
        return "secret" in listed, "hidden" in listed, shop.taken()

    everything = {"open", "secret", "plain", "hidden"}
    assert await through(serve_open) == (True, True, everything)
    assert await through(serve_plain) == (False, False, {"open", "plain"})


async def test_call_made_by_a_tool_is_decided_for_its_caller(serve_open, serve_plain, grants):
    bearer = grants.token("outer", *MODEST)
    grants.lay()

    async def through(serve):
        shop = RecordingServer()

        @shop.mcp.tool
        async def outer(ctx: Context) -> str:
            await asyncio.gather(
                ctx.fastmcp.call_tool("delete"),
                ctx.fastmcp.call_tool("look"),
                ctx.fastmcp.read_resource("data://secret"),
                ctx.fastmcp.render_prompt("hidden"),
                return_exceptions=True,
            )
            return "done"

        served = await serve(shop.mcp)
        assert await served.call("outer", bearer=bearer) == "done"
        return shop.taken()

    assert await through(serve_open) == {"look", "delete", "secret", "hidden"}
    assert await through(serve_plain) == {"look"}


async def test_tool_that_middleware_brings_along_is_decided_too(serve_open, serve_plain, modest):
    def wipe() -> str:
        return "wiped"

    async def through(serve):
        mcp = FastMCP("injected")
        mcp.add_middleware(ToolInjectionMiddleware([Tool.from_function(wipe)]))
        served = await serve(mcp)
        async with served.client(modest) as client:
            return [tool.name for tool in await client.list_tools()], await text(client, "wipe")

    assert await through(serve_open) == (["wipe"], "wiped")
    listed, said = await through(serve_plain)
    assert listed == []
    assert "permission" in said


async def test_background_work_of_a_call_has_no_decision(serve_plain, grants):
    """A task of the event loop has a copy of the context that started it."""
    bearer = grants.token("*", libraries=["lib-a"])
    grants.lay()
    mcp, over, seen = FastMCP("later"), asyncio.Event(), []
    tasks = []

    @mcp.tool
    async def inner(libraries: list[str] = AllowedLibraries()) -> list[str]:
        return libraries

    @mcp.tool
    async def start(ctx: Context) -> list[str]:
        server = ctx.fastmcp

        async def later():
            await over.wait()
            seen.append(current_decision())
            try:
                result = await server.call_tool("inner", run_middleware=False)
                seen.append(result.structured_content)
            except FastMCPError as error:
                seen.append(str(error))

        tasks.append(asyncio.create_task(later()))
        return list(current_decision().libraries)

    served = await serve_plain(mcp)
    assert await served.call("start", bearer=bearer) == ["lib-a"]
    over.set()
    await asyncio.gather(*tasks)

    assert seen == [None, "This tool needs the libraries of an authenticated caller."]


class Queue(ServerExtension):
    """Puts calls of tools that may run as tasks aside, as FastMCP's own extension does."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self):
        self.waiting = []

    async def intercept_tool_call(self, params, context, call_next):
        tool = await context.fastmcp.get_tool(params.name)
        if not tool.task_config.supports_tasks():
            return await call_next()
        self.waiting.append(tool)
        return ToolResult(content="accepted")


async def test_call_deferred_without_its_decision_is_refused(serve_open, serve_plain, grants):
    bearer = grants.token("*")
    grants.lay()

    async def through(serve):
        mcp, queue = FastMCP("tasks"), Queue()
        mcp.add_extension(queue)

        def work():
            return "worked"

        mcp.tool(work, name="now")
        mcp.tool(work, name="later")
        (await mcp.get_tool("later")).task_config.mode = "optional"
        served = await serve(mcp)
        async with served.client(bearer) as client:
            said = [await text(client, "now"), await text(client, "later")]
        return said, len(queue.waiting)

    assert await through(serve_open) == (["worked", "accepted"], 1)
    said, waiting = await through(serve_plain)
    assert said == ["worked", "This server runs no tool as a task: 'later' would be one."]
    assert waiting == 0
