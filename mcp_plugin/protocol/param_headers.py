"""Parameters that a tool wants in headers too, for proxies to go by (`x-mcp-header`).

MCP 2026-07-28, transports (Standard MCP Request Headers), SEP-2243. The SDK compares them with the
body before anybody has decided, and its refusal tells any caller of a tool and its parameters. So
here it is kept from it, and they are compared after the decision, with the tool that will run.
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
    """Have the SDK compare nothing, nor list all tools before each call, to see what it would."""
    server.get_tool_input_schema = _nothing


def is_look_ahead(context: ServerRequestContext[Any, Any]) -> bool:
    """Whether the SDK lists tools for itself before a call.

    It does where nobody has called `compare_nothing`: before the first call, and in every version
    before 2.3. It shows the list to nobody.
    """
    return context.method == "tools/list" and _is_call(context)


def compare(
    context: ServerRequestContext[Any, Any], schema: Any, *, dereferenced: bool = False
) -> None:
    """Refuse a call whose headers do not say what its body does.

    Args:
        context: of the client's own request, which has been decided.
        schema: what the tool takes.
        dereferenced: whether clients see it without references.

    Raises:
        MCPError: `HEADER_MISMATCH`, which is 400 in HTTP.
    """
    if not _is_call(context) or not wants_headers(schema):
        return
    # What the client sent, not what middleware made of it: a proxy goes by that.
    arguments = (context.params or {}).get("arguments") or {}
    shown = dereference_refs(schema) if dereferenced else schema
    request: Any = context.request
    wrong = validate_mcp_param_headers(shown, arguments, request.headers)
    if wrong is not None:
        raise MCPError(code=wrong.code, message=wrong.message)


def wants_headers(schema: Any) -> bool:
    """Whether a parameter must stand in a header too."""
    if isinstance(schema, Mapping):
        return "x-mcp-header" in schema or any(map(wants_headers, schema.values()))
    return isinstance(schema, list) and any(map(wants_headers, schema))


def _is_call(context: ServerRequestContext[Any, Any]) -> bool:
    """Whether HTTP carries a call, of a version of the protocol that has such headers."""
    request = context.request
    if request is None or context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return False
    # The SDK has seen to it that this one is there once, and true.
    return bool(request.headers.get(MCP_METHOD_HEADER) == "tools/call")


def _nothing(_name: str) -> None:
    return None
