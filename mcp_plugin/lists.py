"""FastMCP's lists, filtered to what the caller may use."""

from collections.abc import Sequence
from typing import Any, TypeVar

import mcp_types
from fastmcp.prompts import Prompt
from fastmcp.resources import Resource, ResourceTemplate
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import Tool
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER

from mcp_plugin.enforcer import Enforcer
from mcp_plugin.fastmcp_compat import sdk_context
from mcp_plugin.http.request import Caller, caller
from mcp_plugin.http.stdio import StdioBearer
from mcp_plugin.protocol import actions
from mcp_plugin.protocol.param_headers import is_look_ahead
from mcp_plugin.runner import fastmcp_context
from pdp_client import Action

Component = TypeVar("Component")


class Lists(Middleware):
    """The part of the policy that filters lists, by the same rules that decide their use."""

    def __init__(self, enforcer: Enforcer, stdio: StdioBearer | None) -> None:
        """Create the filter.

        Args:
            enforcer: queries the PDP.
            stdio: the bearer of callers over stdio.
        """
        self._enforcer = enforcer
        self._stdio = stdio
        self._tool_actions = actions.ToolActions()

    async def on_list_tools(
        self,
        context: MiddlewareContext[mcp_types.ListToolsRequest],
        call_next: CallNext[mcp_types.ListToolsRequest, Sequence[Tool]],
    ) -> Sequence[Tool]:
        """Filter the list to tools that the caller may call, with one query for all of it."""
        carrying = fastmcp_context(context).request_context
        # FastMCP's own names for these do not say which method was requested.
        if carrying and is_look_ahead(sdk_context(carrying)):
            return []
        tools = await call_next(context)
        self._enforcer.check_public_tools({one.name for one in tools})
        return await self._shown(context, "tool", tools, self._tool_actions.of(tools))

    async def on_list_resources(
        self,
        context: MiddlewareContext[mcp_types.ListResourcesRequest],
        call_next: CallNext[mcp_types.ListResourcesRequest, Sequence[Resource]],
    ) -> Sequence[Resource]:
        """Filter the list to resources that the caller may read, with one query for all of it."""
        resources = await call_next(context)
        asked = [actions.read(str(one.uri), one) for one in resources]
        return await self._shown(context, "resource", resources, asked)

    async def on_list_resource_templates(
        self,
        context: MiddlewareContext[mcp_types.ListResourceTemplatesRequest],
        call_next: CallNext[mcp_types.ListResourceTemplatesRequest, Sequence[ResourceTemplate]],
    ) -> Sequence[ResourceTemplate]:
        """Filter the list to templates whose literal text the caller may read."""
        templates = await call_next(context)
        asked = [actions.read(one.uri_template, one) for one in templates]
        return await self._shown(context, "", templates, asked)

    async def on_list_prompts(
        self,
        context: MiddlewareContext[mcp_types.ListPromptsRequest],
        call_next: CallNext[mcp_types.ListPromptsRequest, Sequence[Prompt]],
    ) -> Sequence[Prompt]:
        """Filter the list to prompts that the caller may get, with one query for all of it."""
        prompts = await call_next(context)
        asked = [actions.prompt(one.name, one) for one in prompts]
        return await self._shown(context, "prompt", prompts, asked)

    async def _shown(
        self,
        context: MiddlewareContext[Any],
        kind: str,
        components: Sequence[Component],
        asked: Sequence[Action],
    ) -> Sequence[Component]:
        asker = self._caller(context)
        shown = await self._enforcer.visible(asker, asked)
        server_context = fastmcp_context(context)
        carrying = server_context.request_context
        # A session that outlives its requests is named by a header.
        if (
            kind
            and carrying
            and carrying.request
            and MCP_SESSION_ID_HEADER in carrying.request.headers
        ):
            self._enforcer.list_changes.remember(
                server_context.session_id,
                kind,
                caller=asker,
                actions=asked,
                shown=shown,
                session=carrying.session,
            )
        return [one for i, one in enumerate(components) if i in shown]

    def _caller(self, context: MiddlewareContext[Any]) -> Caller:
        return caller(fastmcp_context(context), self._stdio)
