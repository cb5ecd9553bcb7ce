"""The library server once more, made with the MCP Python SDK alone."""

import argparse
import asyncio
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from server import CORPUS, pdp_from_environment

from mcp_plugin import PolicyGuard, allowed, current_libraries
from pdp_client import PDP

Context = ServerRequestContext[Any]


def _tool(name: str, *parameters: str) -> types.Tool:
    properties = {parameter: {"type": "string"} for parameter in parameters}
    schema = {"type": "object", "properties": properties, "required": [*parameters]}
    return types.Tool(name=name, input_schema=schema)


TOOLS = [
    _tool("get_health"),
    _tool("list_libraries"),
    _tool("search", "query"),
    _tool("get_document", "library", "document"),
]


def run(name: str, arguments: dict[str, Any]) -> Any:
    """What a tool answers; each finds the libraries of its caller by itself."""
    match name:
        case "list_libraries":
            return {name: [*CORPUS[name]] for name in current_libraries() if name in CORPUS}
        case "search":
            return [
                {"library": library, "document": document, "line": line.strip()}
                for library in current_libraries()
                for document, text in CORPUS.get(library, {}).items()
                for line in text.splitlines()
                if arguments["query"].casefold() in line.casefold()
            ]
        case "get_document":
            library, document = arguments["library"], arguments["document"]
            if not allowed(library) or document not in CORPUS.get(library, {}):
                raise ValueError("No such document.")
            return CORPUS[library][document]
    return "ok"


def build_server(pdp: PDP) -> Server:
    """The server, with every tool call decided by the PDP."""

    async def list_tools(_: Context, __: types.PaginatedRequestParams | None) -> Any:
        return types.ListToolsResult(tools=TOOLS)

    async def call_tool(_: Context, call: types.CallToolRequestParams) -> Any:
        try:
            found = run(call.name, call.arguments or {})
        except ValueError as error:
            said = types.TextContent(type="text", text=str(error))
            return types.CallToolResult(content=[said], is_error=True)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=str(found))],
            structured_content=found if isinstance(found, dict) else {"result": found},
        )

    server = Server("library", on_list_tools=list_tools, on_call_tool=call_tool)
    reads = {"list_libraries", "search", "get_document"}
    tags = {name: ["read"] for name in reads}
    PolicyGuard(pdp, public_tools={"get_health"}, tags=tags).protect(server)
    return server


async def main() -> None:
    """Serve over streamable HTTP until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    async with pdp_from_environment() as pdp:
        app = build_server(pdp).streamable_http_app()
        await uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning")).serve()


if __name__ == "__main__":
    asyncio.run(main())
