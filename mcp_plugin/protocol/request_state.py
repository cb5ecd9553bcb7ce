"""Calls in several rounds: the state that a tool keeps between them belongs to its caller.

MCP 2026-07-28, multi-round-trip requests, SEP-2322: a tool that needs more input responds with
`requestState`, and the client sends it back. The SDK binds it to the caller that it considers
authenticated. Without `BearerAuth` it has none: any caller could continue another's call.
"""

from hashlib import sha256
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, authenticated_principal

from mcp_plugin.fastmcp_compat import request_state_security
from mcp_plugin.http.request import bearer_of
from mcp_plugin.lowlevel.components import Context


def bind_to_callers(server: Server[Any]) -> None:
    """Make a server accept a request state only with the bearer that it was issued to.

    A server that already sets `bind_principal` keeps its own binding.
    """
    for one in server.middleware:
        if isinstance(one, RequestStateBoundary):
            security = request_state_security(one)
            if security.bind_principal is authenticated_principal:
                security.bind_principal = _caller


def _caller(context: Context) -> str | None:
    """Return what a state is bound to; None where callers are indistinguishable, as over stdio."""
    known = authenticated_principal(context)
    if known is not None or context.request is None:
        return known
    bearer = bearer_of(context.request.scope)
    return None if bearer is None else sha256(bearer.encode()).hexdigest()
