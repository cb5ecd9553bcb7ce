"""Requests for which an SDK has no hook: parsed, decided, or refused with a protocol error."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types
from mcp import MCPError
from mcp_types.methods import CLIENT_REQUESTS

from mcp_plugin.enforcer import Enforcer
from mcp_plugin.http.request import Caller
from mcp_plugin.protocol import actions
from mcp_plugin.protocol.uris import is_canonical
from pdp_client import Action, Decision
from pdp_client.reasons import quote

_log = logging.getLogger(__name__)


async def enforce(
    enforcer: Enforcer,
    caller: Caller,
    method: str,
    params: Any,
    *,
    protocol_version: str,
    describe: Callable[[Action], Awaitable[Action]],
) -> tuple[Action, Decision]:
    """Decide all actions of a request.

    Args:
        enforcer: queries the PDP.
        caller: the caller that sent it.
        method: the MCP method.
        params: the raw parameters.
        protocol_version: the negotiated version; a method that it lacks has no parameters either.
        describe: adds the server's description of an action's component.

    Returns:
        The last of its actions, and the decision that allows it.

    Raises:
        CallDenied: one of the actions is denied.
        MCPError: `METHOD_NOT_FOUND` for an unknown method, `INVALID_PARAMS`.
    """
    try:
        asked = actions.of_message(method, params)
    except actions.ValidationError:
        if (method, protocol_version) in CLIENT_REQUESTS:
            raise MCPError(
                code=mcp_types.INVALID_PARAMS, message="Invalid request parameters"
            ) from None
        asked = None
    if asked is None:
        raise not_offered(method)
    for one in asked:
        action = await describe(one)
        decision = await enforcer.enforce(caller, action)
        if action.uri is not None and not _is_template(action) and not is_canonical(action.uri):
            raise unknown_resource(action.uri)
    return action, decision


def not_offered(method: str) -> MCPError:
    """Log a method that is not offered, and return the protocol's error for it."""
    _log.info("mcp_auth.refused method=%s", quote(method))
    return MCPError(
        code=mcp_types.METHOD_NOT_FOUND, message=f"This server does not offer {quote(method)}."
    )


def unknown_resource(uri: str) -> MCPError:
    """Return the protocol's error for a resource that does not exist."""
    return MCPError(code=mcp_types.INVALID_PARAMS, message=f"Unknown resource: {quote(uri)}")


def _is_template(action: Action) -> bool:
    return action.method == "completion/complete"
