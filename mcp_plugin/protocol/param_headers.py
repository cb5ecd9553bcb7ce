"""Parameters that a tool requires in headers too, for routing by proxies (`x-mcp-header`).

MCP 2026-07-28, transports (Standard MCP Request Headers), SEP-2243. The SDK compares them with the
body before any decision, and its refusal reveals a tool and its parameters to any caller. So this
module disables the SDK's comparison, and compares after the decision, with the tool that will run.
"""

from collections.abc import Mapping
from typing import Any

from fastmcp.utilities.json_schema import dereference_refs
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.inbound import MCP_METHOD_HEADER, validate_mcp_param_headers
from mcp_types.version import MODERN_PROTOCOL_VERSIONS


def compare_nothing(server: Server[Any]) -> None:
    """Stop the SDK from comparing headers, and from listing all tools before each call to do so."""
    server.get_tool_input_schema = _nothing


def is_look_ahead(context: ServerRequestContext[Any, Any]) -> bool:
    """Return whether the SDK lists tools for its own use before a call.

    It does so unless `compare_nothing` was called: before the first call, and in every version
    before 2.3. No caller receives that list.
    """
    return context.method == "tools/list" and _is_call(context)


def compare(
    context: ServerRequestContext[Any, Any], schema: Any, *, dereferenced: bool = False
) -> None:
    """Refuse a call whose headers do not match its body.

    Args:
        context: the context of the client's own request, which has been decided.
        schema: the tool's input schema.
        dereferenced: whether clients see the schema without references.

    Raises:
        MCPError: `HEADER_MISMATCH`, which is 400 in HTTP.
    """
    if not _is_call(context) or not wants_headers(schema):
        return
    # As the client sent it, before middleware changed it: proxies route by that.
    arguments = (context.params or {}).get("arguments") or {}
    shown = dereference_refs(schema) if dereferenced else schema
    request: Any = context.request
    wrong = validate_mcp_param_headers(shown, arguments, request.headers)
    if wrong is not None:
        raise MCPError(code=wrong.code, message=wrong.message)


def wants_headers(schema: Any) -> bool:
    """Return whether the schema requires a parameter in a header too."""
    if isinstance(schema, Mapping):
        return "x-mcp-header" in schema or any(map(wants_headers, schema.values()))
    return isinstance(schema, list) and any(map(wants_headers, schema))


def _is_call(context: ServerRequestContext[Any, Any]) -> bool:
    """Return whether this is a call over HTTP, in a protocol version that has such headers."""
    request = context.request
    if request is None or context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return False
    # The SDK has checked that this header occurs once and is correct.
    return bool(request.headers.get(MCP_METHOD_HEADER) == "tools/call")


def _nothing(_name: str) -> None:
    return None
