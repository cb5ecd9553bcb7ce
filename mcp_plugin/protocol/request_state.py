"""Calls in several rounds: what a tool keeps between them is for its caller alone.

MCP 2026-07-28, multi-round-trip requests, SEP-2322: a tool that needs more answers with
`requestState`, and the client sends it back. The SDK seals it for who is authenticated in its own
sense, which without `BearerAuth` is nobody: then any caller could go on with another's.
"""

from hashlib import sha256
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, authenticated_principal

from mcp_plugin.fastmcp_compat import request_state_security
from mcp_plugin.http.request import extract
from mcp_plugin.lowlevel.components import Context


def bind_to_callers(server: Server[Any]) -> None:
    """Have a server take back what it gave a caller only with the same bearer.

    Who has set `bind_principal` goes on with that.
    """
    for one in server.middleware:
        if isinstance(one, RequestStateBoundary):
            security = request_state_security(one)
            if security.bind_principal is authenticated_principal:
                security.bind_principal = _caller


def _caller(context: Context) -> str | None:
    """What a state is bound to; None where nobody can be told from another, as over stdio."""
    known = authenticated_principal(context)
    if known is not None or context.request is None:
        return known
    _, bearer = extract(context.request.scope["headers"])
    return None if bearer is None else sha256(bearer.encode()).hexdigest()
