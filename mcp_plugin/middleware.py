"""The policy enforcement point: FastMCP's requests against the PDP's decisions."""

import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, TypeVar

import mcp_types
from fastmcp.exceptions import AuthorizationError, NotFoundError
from fastmcp.prompts import Prompt
from fastmcp.prompts.base import PromptResult
from fastmcp.resources import Resource, ResourceTemplate
from fastmcp.resources.base import ResourceResult
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import Tool, ToolResult
from mcp import MCPError
from prometheus_client import REGISTRY, CollectorRegistry

from mcp_plugin import actions
from mcp_plugin.current import running
from mcp_plugin.exceptions import CallDenied, TaskRefused
from mcp_plugin.gate import Gate, fastmcp_context, named
from mcp_plugin.http import keep_private
from mcp_plugin.metrics import metrics
from mcp_plugin.order import HOOKED, Misordered, Order, would_run_later
from mcp_plugin.request import version
from mcp_plugin.spans import SPANS
from mcp_plugin.stdio import StdioBearer
from mcp_plugin.uris import is_canonical
from pdp_client import PDP, Action, Decision, Reason
from pdp_client.reasons import message, quote

_PASSED: Final = frozenset({"initialize", "ping", "server/discover"})
"""What says nothing that needs a decision."""

_LISTS: Final = frozenset(
    {"prompts/list", "resources/list", "resources/templates/list", "tools/list"}
)
_NOTIFICATIONS: Final = frozenset(
    {
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)

Component = TypeVar("Component")

_log = logging.getLogger(__name__)


class PolicyMiddleware(Middleware):
    """Lets a request run only on the PDP's decision, and lists only what a caller may use.

    Tools, resources, prompts, completions, subscriptions and log levels are decided, each under its
    own method; tasks and methods that it does not know are refused.

    Middleware runs in the order in which it was added. What renames requests goes before this one.
    What was added after it is held to what was decided, and FastMCP's response cache is refused:
    see `mcp_plugin.order`. `run_middleware=False` and custom routes pass by any middleware; a tool
    with `AllowedLibraries()` refuses to run there.
    """

    def __init__(
        self,
        pdp: PDP,
        *,
        require_auth: bool = True,
        public_tools: AbstractSet[str] = frozenset(),
        list_without_token: bool = True,
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
            stdio: Whose bearer counts for callers over stdio; None gives them no identity.
            registry: Where the metrics of the PDP's answers go, and `mcp_auth_failures_total`: each
                request refused, and each bad bearer that `require_auth=False` let through.
        """
        pdp.observe(metrics(registry))
        pdp.observe(SPANS)
        self._order = Order(self)
        self._gate = Gate(
            pdp, self._order, require_auth=require_auth, registry=registry, stdio=stdio
        )
        self._require_auth = require_auth
        self._public_tools = frozenset(public_tools)
        self._list_without_token = list_without_token

    @property
    def pdp(self) -> PDP:
        """Decides."""
        return self._gate.pdp

    @property
    def requires_auth(self) -> bool:
        """Whether a bearer that fails authentication is refused."""
        return self._require_auth

    def is_open(self, method: str, name: str) -> bool:
        """Whether there may be something in it for a caller without a bearer.

        Args:
            method: the MCP method.
            name: what it is about, where it is about one thing.
        """
        if not self._require_auth:
            return True
        if method == "tools/call":
            return name in self._public_tools
        if method in _LISTS - {"tools/list"}:
            return self._list_without_token
        known = _PASSED | _NOTIFICATIONS | {"tools/list"}
        return method in known and (self._list_without_token or bool(self._public_tools))

    def turned_away(self, reason: Reason) -> None:
        """Count and log a request that did not get as far as a decision."""
        self._gate.turned_away(reason)

    async def on_notification(
        self,
        context: MiddlewareContext[mcp_types.Notification[Any, Any]],
        call_next: CallNext[mcp_types.Notification[Any, Any], Any],
    ) -> Any:
        """Drop every notification that is not the protocol's own."""
        if context.method in _NOTIFICATIONS:
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
        keep_private(fastmcp_context(context).fastmcp)
        if method in HOOKED:
            return await call_next(context)
        if method in _PASSED | _LISTS:
            self._trust(context)
            return await call_next(context)
        try:
            asked = actions.of_message(method, context.message)
        except actions.ValidationError:
            raise MCPError(
                code=mcp_types.INVALID_PARAMS, message="Invalid request parameters"
            ) from None
        if asked is None:
            _log.info("mcp_auth.refused method=%s", quote(method))
            raise MCPError(
                code=mcp_types.METHOD_NOT_FOUND,
                message=f"This server does not offer {quote(method)}.",
            )
        try:
            for action in asked:
                decision = await self._gate.admit(fastmcp_context(context), action)
                if (
                    action.uri is not None
                    and not _is_template(action)
                    and not is_canonical(action.uri)
                ):
                    raise MCPError(
                        code=mcp_types.INVALID_PARAMS, message=f"Unknown resource: {action.uri!r}"
                    )
            return await self._gate.run(
                context, decision, lambda: call_next(context), shown=named(asked[-1])
            )
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
            NotFoundError: The caller may call such a tool, but there is none.
            TaskRefused: A worker would run it.
        """
        call, server_context = context.message, fastmcp_context(context)
        _log.debug(
            "mcp_auth.on_call_tool tool=%s require_auth=%s", quote(call.name), self._require_auth
        )
        public = call.name in self._public_tools
        if public:
            decision = await self._gate.allow_public(server_context, call.name)
        else:
            tool = await server_context.fastmcp.get_tool(
                call.name, version=version(call, server_context, nested=running() is not None)
            )
            action = actions.call(call.name, tool, call.arguments or {})
            decision = await self._gate.admit(server_context, action)
            if tool is None:
                # Also for what FastMCP would find by other means than the name that is listed.
                raise NotFoundError(f"Unknown tool: {call.name!r}")
            if would_run_later(tool, server_context.fastmcp):
                raise TaskRefused(quote(call.name))
        return await self._gate.run(
            context,
            decision,
            lambda: call_next(context),
            shown=f"tool={quote(call.name)}",
            as_decided=not public,
        )

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
        return await self._gate.run(
            context, decision, lambda: call_next(context), shown=named(action)
        )

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
        decision = await self._gate.admit(server_context, action)
        if prompt is None:
            raise NotFoundError(f"Unknown prompt: {asked.name!r}")
        return await self._gate.run(
            context, decision, lambda: call_next(context), shown=named(action)
        )

    async def on_list_tools(
        self,
        context: MiddlewareContext[mcp_types.ListToolsRequest],
        call_next: CallNext[mcp_types.ListToolsRequest, Sequence[Tool]],
    ) -> Sequence[Tool]:
        """Leave in the list what the caller may call, with one query for all of it."""
        tools = await call_next(context)
        return await self._shown(
            context,
            tools,
            lambda tool: actions.call(tool.name, tool),
            public=lambda tool: tool.name in self._public_tools,
        )

    async def on_list_resources(
        self,
        context: MiddlewareContext[mcp_types.ListResourcesRequest],
        call_next: CallNext[mcp_types.ListResourcesRequest, Sequence[Resource]],
    ) -> Sequence[Resource]:
        """Leave in the list what the caller may read, with one query for all of it."""
        resources = await call_next(context)
        readable = [one for one in resources if is_canonical(str(one.uri))]
        return await self._shown(context, readable, lambda one: actions.read(str(one.uri), one))

    async def on_list_resource_templates(
        self,
        context: MiddlewareContext[mcp_types.ListResourceTemplatesRequest],
        call_next: CallNext[mcp_types.ListResourceTemplatesRequest, Sequence[ResourceTemplate]],
    ) -> Sequence[ResourceTemplate]:
        """Leave in the list the templates whose very text the caller may read."""
        templates = await call_next(context)
        return await self._shown(
            context, templates, lambda one: actions.read(one.uri_template, one)
        )

    async def on_list_prompts(
        self,
        context: MiddlewareContext[mcp_types.ListPromptsRequest],
        call_next: CallNext[mcp_types.ListPromptsRequest, Sequence[Prompt]],
    ) -> Sequence[Prompt]:
        """Leave in the list what the caller may get, with one query for all of it."""
        prompts = await call_next(context)
        return await self._shown(context, prompts, lambda one: actions.prompt(one.name, one))

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
        decision = await self._gate.admit(server_context, action)
        # Patterns and rules see the text of a URI; what has another spelling could pass them by.
        if (component or template) is None or not is_canonical(uri):
            raise NotFoundError(f"Unknown resource: {uri!r}")
        return action, decision

    async def _shown(
        self,
        context: MiddlewareContext[Any],
        components: Sequence[Component],
        action: Callable[[Component], Action],
        *,
        public: Callable[[Component], bool] = lambda _: False,
    ) -> Sequence[Component]:
        # What anybody sees is no part of the question, so that the record does not call it hidden.
        asked = [one for one in components if not public(one)]
        shown = await self._gate.visible(
            fastmcp_context(context),
            [action(one) for one in asked],
            without_token=self._list_without_token,
        )
        visible = {id(asked[i]) for i in shown}
        return [one for one in components if id(one) in visible or public(one)]

    def _trust(self, context: MiddlewareContext[Any]) -> None:
        """Say at the first request, and at each, that a server cannot be guarded as it is."""
        try:
            self._order.look(fastmcp_context(context).fastmcp)
        except Misordered as wrong:
            if wrong.lasting:
                raise MCPError(
                    code=mcp_types.INTERNAL_ERROR, message=message(Reason.UNAVAILABLE)
                ) from None


def _is_template(action: Action) -> bool:
    return action.method == "completion/complete"
