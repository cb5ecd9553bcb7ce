"""A server that offers what the conformance suite calls, by the names that the suite gives.

It answers as the suite's scenarios want it to, so that a check which fails is FastMCP's or the
plugin's and not for want of a tool.
"""

import asyncio
import base64
import json

import mcp_types
from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.prompts import Message, PromptResult
from fastmcp.resources import ResourceContent, ResourceResult
from fastmcp.tools import ToolResult
from mcp import MCPError
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.subscriptions import PromptsListChanged, ToolsListChanged

from .input_requests import add_elicitation, add_rounds
from .schemas import add_schemas

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="
STEP = 0.05
"""Seconds between two messages of a tool; the suite wants them apart, and waits for none of them."""


def everything():
    """The whole server; each call makes a new one."""
    mcp = FastMCP("everything", dereference_schemas=False)
    add_content(mcp)
    add_talkative(mcp)
    add_elicitation(mcp)
    add_schemas(mcp)
    add_resources(mcp)
    add_prompts(mcp)
    add_handlers(mcp)
    add_rounds(mcp)
    return mcp


def image():
    return mcp_types.ImageContent(type="image", data=PNG, mime_type="image/png")


def text(said):
    return mcp_types.TextContent(type="text", text=said)


def embedded(uri, said, mime_type="text/plain"):
    held = mcp_types.TextResourceContents(uri=uri, text=said, mime_type=mime_type)
    return mcp_types.EmbeddedResource(type="resource", resource=held)


def add_content(mcp):
    """Tools that answer at once, with content of each kind."""

    @mcp.tool
    def test_simple_text() -> str:
        """Answer with text."""
        return "This is a simple text response for testing."

    @mcp.tool
    def test_image_content() -> ToolResult:
        """Answer with an image."""
        return ToolResult(content=[image()])

    @mcp.tool
    def test_audio_content() -> ToolResult:
        """Answer with a sound."""
        sound = mcp_types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")
        return ToolResult(content=[sound])

    @mcp.tool
    def test_embedded_resource() -> ToolResult:
        """Answer with a resource."""
        said = "This is an embedded resource content."
        return ToolResult(content=[embedded("test://embedded-resource", said)])

    @mcp.tool
    def test_multiple_content_types() -> ToolResult:
        """Answer with three kinds of content at once."""
        document = json.dumps({"test": "data", "value": 123})
        mixed = embedded("test://mixed-content-resource", document, "application/json")
        return ToolResult(content=[text("Multiple content types test:"), image(), mixed])

    @mcp.tool
    def test_error_handling() -> str:
        """Fail."""
        raise ToolError("This tool intentionally returns an error for testing")


def add_talkative(mcp):
    """Tools that tell or ask their client something before they answer."""

    async def log(ctx):
        for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(said)
            await asyncio.sleep(STEP)
        return "Tool with logging executed"

    @mcp.tool
    async def test_tool_with_logging(ctx: Context) -> str:
        """Log three times."""
        return await log(ctx)

    @mcp.tool
    async def test_logging_tool(ctx: Context) -> str:
        """Log, to whom asked for it."""
        return await log(ctx)

    @mcp.tool
    async def test_tool_with_progress(ctx: Context) -> str:
        """Report progress three times."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100)
            await asyncio.sleep(STEP)
        return "Tool with progress executed"

    @mcp.tool
    async def test_reconnection(ctx: Context) -> str:
        """Close the stream in the middle, and answer on the next one."""
        await ctx.close_sse_stream()
        await asyncio.sleep(STEP)
        return "Reconnection test completed"

    @mcp.tool
    async def test_sampling(prompt: str, ctx: Context) -> str:
        """Ask the client's model."""
        asked = mcp_types.SamplingMessage(role="user", content=text(prompt))
        answer = await ctx.session.create_message(
            [asked], max_tokens=100, related_request_id=ctx.request_id
        )
        return f"LLM response: {answer.content.text}"

    @mcp.tool
    async def test_missing_capability() -> str:
        """Need what no client of the suite's declares."""
        raise MCPError(
            mcp_types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "this tool needs sampling",
            {"requiredCapabilities": {"sampling": {}}},
        )


def add_resources(mcp):
    @mcp.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """Text."""
        return "This is the content of the static text resource."

    @mcp.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> ResourceResult:
        """An image."""
        return ResourceResult([ResourceContent(base64.b64decode(PNG), mime_type="image/png")])

    @mcp.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        """Something to subscribe to."""
        return "Watched resource content"

    @mcp.resource("test://template/{id}/data", mime_type="application/json")
    def by_id(id: str) -> str:  # noqa: A002 - the suite's name
        """What belongs to an id."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def add_prompts(mcp):
    @mcp.prompt
    def test_simple_prompt() -> str:
        """Text."""
        return "This is a simple prompt for testing."

    @mcp.prompt
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Text with the arguments in it."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @mcp.prompt
    def test_prompt_with_embedded_resource(resourceUri: str) -> PromptResult:  # noqa: N803
        """A resource and text."""
        held = embedded(resourceUri, "Embedded resource content for testing.")
        asked = "Please process the embedded resource above."
        return PromptResult([Message(held), Message(asked)])

    @mcp.prompt
    def test_prompt_with_image() -> PromptResult:
        """An image and text."""
        return PromptResult([Message(image()), Message("Please analyze the image above.")])


def add_handlers(mcp):
    """What FastMCP leaves to its user: completions, subscriptions, and whom to tell of changes."""
    bus = InMemorySubscriptionBus()

    @mcp.tool
    async def test_trigger_tool_change() -> str:
        """Tell of a change of the tools."""
        await bus.publish(ToolsListChanged())
        return "told"

    @mcp.tool
    async def test_trigger_prompt_change() -> str:
        """Tell of a change of the prompts."""
        await bus.publish(PromptsListChanged())
        return "told"

    @mcp.completion
    def complete(ref, argument, context):
        return [one for one in ("paris", "park", "party") if one.startswith(argument.value)]

    async def subscribe(ctx, params):
        return mcp_types.EmptyResult()

    for method, params, handler in (
        ("resources/subscribe", mcp_types.SubscribeRequestParams, subscribe),
        ("resources/unsubscribe", mcp_types.UnsubscribeRequestParams, subscribe),
        ("subscriptions/listen", mcp_types.SubscriptionsListenRequestParams, ListenHandler(bus)),
    ):
        mcp._mcp_server.add_request_handler(method, params, handler)
