"""The arguments that a tool will run with, where a site's rules read them.

FastMCP converts a call's arguments to the types of the tool's signature: `"1000"` becomes 1000,
`"yes"` becomes True, an omitted argument its default. A rule sees JSON. So that both mean the same,
the decision is made on the arguments as the tool will get them, defaults included, and a call that
would need a conversion is refused.
"""

import logging
from collections.abc import Mapping
from typing import Any

from fastmcp import FastMCP
from fastmcp.tools import FunctionTool, Tool

from mcp_plugin.enforcer import Enforcer, named
from mcp_plugin.exceptions import ArgumentsRefusedError
from mcp_plugin.fastmcp_compat import delegate_of
from mcp_plugin.http.request import Caller
from mcp_plugin.protocol import actions
from mcp_plugin.protocol.function_arguments import written_back
from mcp_plugin.protocol.schema_arguments import apply_defaults, top_level_defaults
from pdp_client import Decision

_log = logging.getLogger(__name__)


async def enforce(
    enforcer: Enforcer,
    caller: Caller,
    *,
    server: FastMCP,
    name: str,
    tool: Tool | None,
    sent: Mapping[str, Any],
) -> Decision:
    """Decide a call on the arguments that it will run with, and return the decision.

    Args:
        enforcer: queries the PDP.
        caller: the caller that sent it.
        server: the server that the tool was found in.
        name: the tool's name.
        tool: the tool that will run; None if it does not exist.
        sent: the call's arguments.

    Raises:
        CallDenied: the call is denied.
        ArgumentsRefusedError: rules read the arguments, and the tool would get different ones.
    """
    given = {**(top_level_defaults(tool.parameters) if tool else {}), **sent}
    action = actions.call(name, tool, given)
    decision = await enforcer.enforce(caller, action)
    if tool is None or not decision.uses_arguments:
        return decision
    try:
        # After the decision: a caller that may not call a tool learns nothing of its parameters.
        whole = await as_run(server, tool, sent)
    except ArgumentsRefusedError as refused:
        watched = enforcer.watches(action)
        said = "would_deny" if watched else "denied"
        _log.info("mcp_auth.%s %s reason=%s", said, named(action), refused.code)
        if watched:
            return decision
        raise
    return (
        decision
        if whole == given
        else await enforcer.enforce(caller, actions.call(name, tool, whole))
    )


async def as_run(server: FastMCP, tool: Tool, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments as the tool will get them, as JSON.

    Args:
        server: the server that the tool was found in.
        tool: the tool.
        sent: the call's arguments.

    Raises:
        ArgumentsRefusedError: they are not those that were sent.
    """
    schema = tool.parameters
    while (delegate := delegate_of(tool)) is not None:
        server, name, version = delegate
        found = await server.get_tool(name, version=version)
        if found is None:
            break
        tool = found
    # A subclass may run something else than its function.
    if type(tool) is FunctionTool:
        return written_back(tool.fn, sent, strict=server.strict_input_validation)
    return apply_defaults(schema, sent)
