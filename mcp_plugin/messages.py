"""Requests for which an SDK has no hook: read, decided, or refused as the protocol refuses."""

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
    """Decide all that a request asks for.

    Args:
        enforcer: asks the PDP.
        caller: who sent it.
        method: which.
        params: raw.
        protocol_version: negotiated; a method that it does not have has no parameters either.
        describe: adds what the server says of what an action is about.

    Returns:
        The last of its actions, and the decision that allows it.

    Raises:
        CallDenied: one of the decisions is no.
        MCPError: `METHOD_NOT_FOUND` for a method that is not known, `INVALID_PARAMS`.
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
    """The protocol's error for a method that is not there, logged."""
    _log.info("mcp_auth.refused method=%s", quote(method))
    return MCPError(
        code=mcp_types.METHOD_NOT_FOUND, message=f"This server does not offer {quote(method)}."
    )


def unknown_resource(uri: str) -> MCPError:
    """The protocol's error for a resource that is not there."""
    return MCPError(code=mcp_types.INVALID_PARAMS, message=f"Unknown resource: {uri!r}")


def _is_template(action: Action) -> bool:
    return action.method == "completion/complete"
