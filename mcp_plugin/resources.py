"""Reads of resources: which one is meant, and the decision on it."""

import mcp_types
from fastmcp import FastMCP
from fastmcp.exceptions import NotFoundError
from fastmcp.resources import ResourceTemplate
from fastmcp.resources.template import expand_uri_template
from fastmcp.server.middleware import MiddlewareContext

from mcp_plugin import messages
from mcp_plugin.context import running
from mcp_plugin.enforcer import Enforcer
from mcp_plugin.http.request import Caller, version
from mcp_plugin.protocol import actions
from mcp_plugin.protocol.uris import is_canonical, is_expansion
from mcp_plugin.runner import fastmcp_context
from pdp_client import Action, Decision
from pdp_client.opa.limits import MAX_NAME


async def decide_read(
    enforcer: Enforcer,
    caller: Caller,
    context: MiddlewareContext[mcp_types.ReadResourceRequestParams],
) -> tuple[Action, Decision]:
    """Return the action of a read, and the decision that allows it.

    Args:
        enforcer: queries the PDP.
        caller: the caller of the request.
        context: the context of the request.

    Raises:
        CallDenied: the read is denied.
        NotFoundError: the caller may read such a resource, but it does not exist.
        MCPError: the URI is longer than any that can be granted.
    """
    asked, server_context = context.message, fastmcp_context(context)
    uri, server = str(asked.uri), server_context.fastmcp
    if len(uri) > MAX_NAME:  # matching templates takes quadratic time
        await enforcer.enforce(caller, actions.read(uri, None))
        raise messages.unknown_resource(uri)
    wanted = version(asked, server_context, nested=running() is not None)
    component = await server.get_resource(uri, version=wanted)
    template = None if component else await server.get_resource_template(uri, version=wanted)
    action = actions.read(uri, component or template)
    # Patterns and rules see the text of a URI; a second spelling could bypass them.
    if not await _is_spelt_as_known(server, uri, template):
        await enforcer.refuse_spelling(caller, action)
        raise NotFoundError(f"Unknown resource: {uri!r}")
    decision = await enforcer.enforce(caller, action)
    if component is None and template is None:
        raise NotFoundError(f"Unknown resource: {uri!r}")
    return action, decision


async def _is_spelt_as_known(server: FastMCP, uri: str, template: ResourceTemplate | None) -> bool:
    """Return whether a URI is canonical, and its template's own; or exactly that of a resource."""
    if is_canonical(uri):
        return template is None or _expands_to(template, uri)
    # A server may give a file any name. It is decided on as the server lists it.
    listed = await server.list_resources(run_middleware=False)
    return any(str(one.uri) == uri for one in listed)


def _expands_to(template: ResourceTemplate, uri: str) -> bool:
    """Return whether the template expands to a URI with the values that FastMCP finds in it."""
    found = template.matches(uri)
    if found is None:
        return False
    return is_expansion(uri, expand_uri_template(template.uri_template, found), found.values())
