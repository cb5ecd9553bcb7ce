"""A guarded server that offers what clients call; callers are granted some of it."""

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import quote

import mcp_types
import uvicorn
from fastmcp import Context, FastMCP
from fastmcp.resources import TextResource
from pydantic import BaseModel, ConfigDict, Field
from support.waiting import until

from mcp_plugin import AllowedLibraries, BearerAuth
from tests.system.conformance.input_requests import accepted, elicit, needed

NAMES = ("R&D.md", "C#.md", "100%.md", "a b.md")
"""Files whose names have to be quoted in a URI."""

RULES = """package site

deny contains {"action": a.name, "code": "rows", "message": "Too many rows."} if {
	some a in data.lictor.actions
	a.arguments.options.maxRows > 100
}

deny contains {"action": a.name, "code": "limit", "message": "Limit too high."} if {
	some a in data.lictor.actions
	a.arguments.limit > 100
}
"""


Region = Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]
"""A parameter that newer clients send in a header too (SEP-2243)."""


class ReportOptions(BaseModel):
    """An argument that Python and JSON name differently."""

    model_config = ConfigDict(populate_by_name=True)
    max_rows: int = Field(10, alias="maxRows")


def bookshop():
    """The server, unguarded as yet."""
    mcp = FastMCP("bookshop")
    mcp.progress, mcp.ran = 0, []
    mcp.finish = asyncio.Event()
    _add_books(mcp)
    _add_slow(mcp)
    _add_questions(mcp)
    for name in NAMES:
        uri = f"file:///shelf/{quote(name)}"
        mcp.add_resource(TextResource(uri=uri, name=name, text=f"text of {name}"))
    mcp.add_resource(TextResource(uri="data://x?y=1+2", text="text of a query"))
    return mcp


def _add_books(mcp):  # noqa: C901 - a list of components
    @mcp.tool
    def get_health() -> str:
        return "ok"

    @mcp.tool(tags={"read"})
    def list_books(libraries: list[str] = AllowedLibraries()) -> list[str]:
        return libraries

    @mcp.tool(tags={"write"})
    def delete_book(title: str = "") -> str:
        mcp.ran.append(title)
        return "deleted"

    @mcp.tool
    def report(
        options: ReportOptions | None = None, limit: Annotated[int, Field(ge=0)] = 10
    ) -> str:
        mcp.ran.append((options, limit))
        return "reported"

    @mcp.tool
    def list_shops(region: Region) -> str:
        return f"shops in {region}"

    @mcp.resource("data://open")
    def open_data() -> str:
        return "open data"

    @mcp.resource("data://closed")
    def closed_data() -> str:
        return "closed data"

    @mcp.resource("data://shelf/{name}")
    def shelf(name: str) -> str:
        return f"shelf {name}"

    @mcp.prompt
    def ask(topic: str) -> str:
        return f"Tell me of {topic}."

    @mcp.prompt
    def order(topic: str) -> str:
        return f"Order {topic}."

    @mcp.completion
    def complete(ref, argument, context):
        return [one for one in ("poe", "poetry", "shelley") if one.startswith(argument.value)]


def _add_slow(mcp):
    @mcp.tool
    async def narrate(ctx: Context) -> str:
        """Report progress until the test says that it is enough."""
        while not mcp.finish.is_set():
            mcp.progress += 1
            await ctx.report_progress(mcp.progress, 1e9)
            await asyncio.sleep(0.01)
        return "narrated"

    @mcp.tool
    async def reconnect(ctx: Context) -> str:
        """Close the stream of the call in the middle; the client has to come back for the result."""
        await ctx.close_sse_stream()
        await mcp.finish.wait()
        return "resumed"


def _add_questions(mcp):
    """Ask the client while the tool runs, and in the way of 2026-07-28 (SEP-2322)."""

    @mcp.tool
    async def survey(ctx: Context) -> str:
        answer = await ctx.elicit("Which?", response_type=str)
        return f"{len(answer.data)} characters" if answer.action == "accept" else answer.action

    @mcp.tool
    async def think(ctx: Context) -> str:
        text = mcp_types.TextContent(type="text", text="Say it")
        asked = mcp_types.SamplingMessage(role="user", content=text)
        answer = await ctx.session.create_message(
            [asked], max_tokens=9, related_request_id=ctx.request_id
        )
        return f"{len(answer.content.text)} characters"

    @mcp.tool(output_schema=None)
    async def survey_in_rounds(ctx: Context):
        value = accepted(ctx, "which", "value")
        if value is None:
            return needed("asked", which=elicit("Which?", value="string"))
        return f"{len(value)} characters, {ctx.request_state}"


@asynccontextmanager
async def served(mcp, policy, *, auth=True, **http):
    """Serve with a policy, and with `BearerAuth` that names the server's real URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if auth:
            mcp.auth = BearerAuth(policy, base_url=base_url, authorization_servers=[base_url])
        mcp.add_middleware(policy)
        config = uvicorn.Config(
            mcp.http_app(**http), log_level="warning", ws="none", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started or task.done(), "uvicorn listens")
        try:
            yield f"{base_url}/mcp"
        finally:
            mcp.finish.set()
            server.should_exit = True
            await task
            # On a busy machine uvicorn gives up before each connection is closed.
            connections = server.server_state.connections
            for connection in [*connections]:
                connection.transport.abort()
            await until(lambda: not connections, "every connection is closed")
