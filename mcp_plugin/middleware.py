"""The policy enforcement point: FastMCP's requests against the PDP's decisions."""

import logging
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, TypeVar

import mcp_types
from fastmcp.exceptions import AuthorizationError, NotFoundError
from fastmcp.prompts.base import PromptResult
from fastmcp.resources import ResourceTemplate
from fastmcp.resources.base import ResourceResult
from fastmcp.resources.template import expand_uri_template
from fastmcp.server.middleware import CallNext, MiddlewareContext
from fastmcp.server.middleware.dereference import DereferenceRefsMiddleware
from fastmcp.tools import ToolResult
from mcp import MCPError
from prometheus_client import REGISTRY, CollectorRegistry

from mcp_plugin import messages
from mcp_plugin.context import running
from mcp_plugin.enforcer import Enforcer, named
from mcp_plugin.exceptions import CallDenied, TaskRefused
from mcp_plugin.fastmcp_compat import sdk_context, sdk_server
from mcp_plugin.http.asgi import force_private_cache
from mcp_plugin.http.request import version
from mcp_plugin.http.stdio import StdioBearer
from mcp_plugin.integrity import (
    FASTMCP_HOOKED,
    ChainGuard,
    ChainNotTrusted,
    decides_tasks,
    would_run_later,
)
from mcp_plugin.lists import Lists
from mcp_plugin.protocol import actions, arguments
from mcp_plugin.protocol.methods import EXEMPT, LISTS, NOTIFICATIONS, TASKS
from mcp_plugin.protocol.param_headers import compare, compare_nothing
from mcp_plugin.protocol.request_state import bind_to_callers
from mcp_plugin.protocol.uris import is_canonical, is_expansion
from mcp_plugin.runner import fastmcp_context, run
from pdp_client import PDP, Action, Decision, Reason
from pdp_client.reasons import message, quote

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class PolicyMiddleware(Lists):
    """Lets a request run only on the PDP's decision, and lists only what a caller may use.

    Tools, resources, prompts, completions, subscriptions and log levels are decided, each under its
    own method; methods that it does not know are refused, and tasks without `PolicyTasks`.

    Middleware runs in the order in which it was added. What renames requests goes before this one.
    What was added after it is held to what was decided, and FastMCP's response cache is refused:
    see `mcp_plugin.integrity`. `run_middleware=False` and custom routes bypass any middleware; a
    tool with `AllowedLibraries()` refuses to run there.
    """

    def __init__(
        self,
        pdp: PDP,
        *,
        require_auth: bool = True,
        public_tools: AbstractSet[str] = frozenset(),
        list_without_token: bool = True,
        shadow: bool | AbstractSet[str] = False,
        stdio: StdioBearer | None = None,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """Guard a server with a PDP, which stays the caller's to close.

        Args:
            pdp: Decides.
            require_auth: When False, a request whose bearer is missing or fails authentication runs
                without libraries, unless something else speaks against it.
            public_tools: Names of tools that anybody may call and see: without a look at the
                bearer, without libraries, and without OPA.
            list_without_token: When False, a caller that is not authenticated sees only the public
                tools in the lists; else also what the registry's settings list for it.
            shadow: True, or the names of tools, where refusals for `tool_not_allowed` and by the
                site's rules are only recorded and logged. What then runs has the libraries of the
                caller's own grant.
            stdio: Whose bearer counts for callers over stdio; None gives them no identity.
            registry: Where the metrics of the PDP's answers go, and `mcp_auth_failures_total`: each
                request refused, and each bad bearer that `require_auth=False` let through.
        """
        enforcer = Enforcer(
            pdp,
            require_auth=require_auth,
            public_tools=public_tools,
            list_without_token=list_without_token,
            shadow=shadow,
            registry=registry,
        )
        super().__init__(enforcer, stdio)
        self._order = ChainGuard(self)

    @property
    def enforcer(self) -> Enforcer:
        """Asks the PDP."""
        return self._enforcer

    async def on_notification(
        self,
        context: MiddlewareContext[mcp_types.Notification[Any, Any]],
        call_next: CallNext[mcp_types.Notification[Any, Any], Any],
    ) -> Any:
        """Drop every notification that is not the protocol's own."""
        if context.method in NOTIFICATIONS:
            return await call_next(context)
        _log.info("mcp_auth.refused method=%s", quote(context.method or ""))
        return None

    async def on_request(
        self,
        context: MiddlewareContext[mcp_types.Request[Any, Any]],
        call_next: CallNext[mcp_types.Request[Any, Any], Any],
    ) -> Any:
        """Decide what has no hook below, and refuse every method that is not known.

        Raises:
            MCPError: `METHOD_NOT_FOUND`, `INVALID_PARAMS`, or `INVALID_REQUEST` for a refusal.
        """
        method = context.method or ""
        server = fastmcp_context(context).fastmcp
        force_private_cache(server)
        for see_to in (compare_nothing, bind_to_callers):
            see_to(sdk_server(server))
        if method in FASTMCP_HOOKED:
            return await call_next(context)
        if method in EXEMPT | LISTS:
            self._trust(context)
            return await call_next(context)
        carrying = fastmcp_context(context).request_context
        try:
            if method in TASKS and decides_tasks(server, self):
                await self._enforcer.require_authenticated(self._caller(context))
                return await call_next(context)
            action, decision = await messages.enforce(
                self._enforcer,
                self._caller(context),
                method,
                context.message,
                protocol_version=carrying.protocol_version if carrying else "",
                describe=partial(actions.described, server),
            )
            return await self._run(context, decision, call_next, shown=named(action))
        except CallDenied as denied:
            # There is no hook here whose caller would make an error of the protocol's out of it.
            raise MCPError(code=mcp_types.INVALID_REQUEST, message=str(denied)) from None

    async def on_call_tool(
        self,
        context: MiddlewareContext[mcp_types.CallToolRequestParams],
        call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        """Decide the call, and run it with the decision as the current one.

        Raises:
            CallDenied: The decision is no.
            ArgumentsRefused: Rules read the call's arguments, and the tool would get others.
            NotFoundError: The caller may call such a tool, but there is none.
            TaskRefused: A worker would run it.
        """
        call, server_context = context.message, fastmcp_context(context)
        _log.debug(
            "mcp_auth.on_call_tool tool=%s require_auth=%s",
            quote(call.name),
            self._enforcer.requires_auth,
        )
        server, nested = server_context.fastmcp, running() is not None
        tool = await server.get_tool(
            call.name, version=version(call, server_context, nested=nested)
        )
        public = self._enforcer.is_public(Action(name=call.name))
        if public:
            decision = self._enforcer.allow_public(self._caller(context), call.name)
        else:
            sent = call.arguments or {}
            decision = await arguments.enforce(
                self._enforcer, self._caller(context), call.name, tool, sent
            )
            if tool is None:
                # Also for what FastMCP would find by other means than the name that is listed.
                raise NotFoundError(f"Unknown tool: {call.name!r}")
            if would_run_later(tool, server) and not decides_tasks(server, self):
                raise TaskRefused(quote(call.name))
        carrying = server_context.request_context
        if tool is not None and carrying is not None and not nested:
            plain = any(isinstance(one, DereferenceRefsMiddleware) for one in server.middleware)
            compare(sdk_context(carrying), tool.parameters, dereferenced=plain)
        shown = f"tool={quote(call.name)}"
        return await self._run(context, decision, call_next, shown=shown, as_decided=not public)

    async def check_resource_access(
        self, context: MiddlewareContext[mcp_types.ReadResourceRequestParams]
    ) -> None:
        """Decide whether a resource may be read, where FastMCP asks without reading it.

        Raises:
            AuthorizationError: The decision is no, or there is no such resource.
        """
        try:
            await self._readable(context)
        except NotFoundError as error:
            # FastMCP leaves out what is refused, and gives up the whole answer over anything else.
            raise AuthorizationError(str(error)) from None

    async def on_read_resource(
        self,
        context: MiddlewareContext[mcp_types.ReadResourceRequestParams],
        call_next: CallNext[mcp_types.ReadResourceRequestParams, ResourceResult],
    ) -> ResourceResult:
        """Decide the reading, and read with the decision as the current one.

        Raises:
            CallDenied: The decision is no.
            NotFoundError: The caller may read such a resource, but there is none.
        """
        action, decision = await self._readable(context)
        return await self._run(context, decision, call_next, shown=named(action))

    async def on_get_prompt(
        self,
        context: MiddlewareContext[mcp_types.GetPromptRequestParams],
        call_next: CallNext[mcp_types.GetPromptRequestParams, PromptResult],
    ) -> PromptResult:
        """Decide the prompt, and render it with the decision as the current one.

        Raises:
            CallDenied: The decision is no.
            NotFoundError: The caller may get such a prompt, but there is none.
        """
        asked, server_context = context.message, fastmcp_context(context)
        prompt = await server_context.fastmcp.get_prompt(
            asked.name, version=version(asked, server_context, nested=running() is not None)
        )
        action = actions.prompt(asked.name, prompt, asked.arguments or {})
        decision = await self._enforcer.enforce(self._caller(context), action)
        if prompt is None:
            raise NotFoundError(f"Unknown prompt: {asked.name!r}")
        return await self._run(context, decision, call_next, shown=named(action))

    async def _readable(
        self, context: MiddlewareContext[mcp_types.ReadResourceRequestParams]
    ) -> tuple[Action, Decision]:
        """The action that a reading is, and the decision that allows it."""
        asked, server_context = context.message, fastmcp_context(context)
        uri, server = str(asked.uri), server_context.fastmcp
        wanted = version(asked, server_context, nested=running() is not None)
        component = await server.get_resource(uri, version=wanted)
        template = None if component else await server.get_resource_template(uri, version=wanted)
        action = actions.read(uri, component or template)
        decision = await self._enforcer.enforce(self._caller(context), action)
        # Patterns and rules see the text of a URI; what has another spelling could pass them by.
        known = component is not None or (template is not None and _expands_to(template, uri))
        if not known or not is_canonical(uri):
            raise NotFoundError(f"Unknown resource: {uri!r}")
        return action, decision

    async def _run(
        self,
        context: MiddlewareContext[Any],
        decision: Decision,
        call_next: CallNext[Any, Result],
        *,
        shown: str,
        as_decided: bool = True,
    ) -> Result:
        try:
            integrity_checked = self._order.look(fastmcp_context(context).fastmcp)
        except ChainNotTrusted:
            raise CallDenied(Decision.refused(Reason.UNAVAILABLE)) from None
        return await run(
            context,
            decision,
            call_next,
            shown=shown,
            integrity_checked=integrity_checked,
            as_decided=as_decided,
        )

    def _trust(self, context: MiddlewareContext[Any]) -> None:
        """Say at the first request, and at each, that a server cannot be guarded as it is."""
        try:
            self._order.look(fastmcp_context(context).fastmcp)
        except ChainNotTrusted as wrong:
            if wrong.lasting:
                raise MCPError(
                    code=mcp_types.INTERNAL_ERROR, message=message(Reason.UNAVAILABLE)
                ) from None


def _expands_to(template: ResourceTemplate, uri: str) -> bool:
    """Whether a URI is what the template makes of the values that FastMCP finds in it."""
    found = template.matches(uri)
    if found is None:
        return False
    return is_expansion(uri, expand_uri_template(template.uri_template, found), found.values())
