"""The policy enforcement point: enforces the PDP's decisions on FastMCP's requests."""

import logging
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

import mcp_types
from fastmcp.exceptions import AuthorizationError, NotFoundError, PromptError, ToolError
from fastmcp.prompts.base import PromptResult
from fastmcp.resources.base import ResourceResult
from fastmcp.server.middleware import CallNext, MiddlewareContext
from fastmcp.server.middleware.dereference import DereferenceRefsMiddleware
from fastmcp.tools import ToolResult
from mcp import MCPError
from prometheus_client import REGISTRY, CollectorRegistry

from mcp_plugin import messages
from mcp_plugin.context import running
from mcp_plugin.denials import DENIAL, explain, protocol_error, refusals_explained
from mcp_plugin.enforcer import Enforcer
from mcp_plugin.exceptions import CallDenied, PluginError, TaskRefused
from mcp_plugin.fastmcp_compat import sdk_context, sdk_server
from mcp_plugin.http.asgi import force_private_cache
from mcp_plugin.http.passthrough import BearerShield
from mcp_plugin.http.request import Caller, version
from mcp_plugin.http.sessions import Sessions, bind_sessions, manager_of, refuse_unbound
from mcp_plugin.http.stdio import StdioBearer
from mcp_plugin.integrity import (
    FASTMCP_HOOKED,
    ChainGuard,
    ChainNotTrustedError,
    decides_tasks,
    would_run_later,
)
from mcp_plugin.lists import Lists
from mcp_plugin.lookups import FoundTool, handed_over
from mcp_plugin.protocol import actions, arguments
from mcp_plugin.protocol.methods import EXEMPT, LISTS, NOTIFICATIONS, TASKS
from mcp_plugin.protocol.param_headers import compare, compare_nothing
from mcp_plugin.protocol.request_state import bind_to_callers
from mcp_plugin.resources import decide_read
from mcp_plugin.revocation import OnRevocation, may_cut
from mcp_plugin.runner import fastmcp_context, run
from pdp_client import PDP, Action, Decision, Reason
from pdp_client.opa.limits import MAX_NAME
from pdp_client.reasons import message, quote

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class PolicyMiddleware(Lists):
    """Middleware that runs a request only if the PDP allows it, and filters lists accordingly.

    It decides tools, resources, prompts, completions, subscriptions and log levels, each under its
    own method. It refuses unknown methods, and tasks without `PolicyTasks`.

    Middleware runs in the order in which it was added. Add middleware that renames requests before
    this one. Middleware added after it cannot change what was decided, and FastMCP's response cache
    is refused: see `mcp_plugin.integrity`. `run_middleware=False` and custom routes bypass any
    middleware; a tool with `AllowedLibraries()` refuses to run there.
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
        on_revocation: OnRevocation = "end",
        sessions: Sessions = "bound",
        forward_bearer: bool = False,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """Guard a server with a PDP; closing the PDP remains the caller's responsibility.

        Args:
            pdp: Decides.
            require_auth: When False, a request whose bearer is missing or fails authentication runs
                without libraries, unless it has another reason for denial.
            public_tools: Names of tools that every caller may call and see: without checking the
                bearer, without libraries, and without OPA.
            list_without_token: When False, a caller that is not authenticated sees only the public
                tools in the lists; otherwise also what the registry's settings list for it.
            shadow: True, or the names of tools, where denials for `tool_not_allowed` and by site
                rules are only recorded and logged. Such a call runs with the libraries of the
                caller's own grant.
            stdio: The bearer of callers over stdio; None gives them no identity.
            on_revocation: What happens to calls, streams and tasks that run when their caller's
                access ends: `end` cancels them and withholds their results, `finish` lets them run
                to their end. A tool with `meta={"lictor": {"on_revocation": "finish"}}` is never
                cancelled, but its result is withheld.
            sessions: Whose an HTTP session is where the server has no authentication provider:
                `bound`, its opener's, by the bearer; `unbound`, that of any caller who knows its
                id. A server whose sessions cannot be bound accepts none unless it says `unbound`.
            forward_bearer: Whether FastMCP's proxies send callers' bearers on to the servers
                behind them, which can then call this one in their name.
            registry: The registry of the metrics of the PDP's decisions, and of
                `mcp_auth_failures_total`: each request refused, and each invalid bearer that
                `require_auth=False` let through.
        """
        enforcer = Enforcer(
            pdp,
            require_auth=require_auth,
            public_tools=public_tools,
            list_without_token=list_without_token,
            shadow=shadow,
            on_revocation=on_revocation,
            registry=registry,
        )
        super().__init__(enforcer, stdio)
        self._chain = ChainGuard(self)
        self._sessions = sessions
        self._forward_bearer = forward_bearer
        self._shield = BearerShield()

    @property
    def enforcer(self) -> Enforcer:
        """The enforcer that queries the PDP."""
        return self._enforcer

    async def on_notification(
        self,
        context: MiddlewareContext[mcp_types.Notification[Any, Any]],
        call_next: CallNext[mcp_types.Notification[Any, Any], Any],
    ) -> Any:
        """Drop every notification that the protocol does not define."""
        if context.method in NOTIFICATIONS:
            return await call_next(context)
        _log.info("mcp_auth.refused method=%s", quote(context.method or ""))
        return None

    async def on_request(
        self,
        context: MiddlewareContext[mcp_types.Request[Any, Any]],
        call_next: CallNext[mcp_types.Request[Any, Any], Any],
    ) -> Any:
        """Decide requests that have no hook below, and refuse unknown methods.

        Raises:
            MCPError: `METHOD_NOT_FOUND`, `INVALID_PARAMS`, or `INVALID_REQUEST` for a refusal.
        """
        server_context = fastmcp_context(context)
        if self._forward_bearer or not await self._shield.needed(server_context.fastmcp):
            return await self._decide(context, call_next)
        with self._shield.hiding(server_context.request_context):
            return await self._decide(context, call_next)

    async def _decide(
        self,
        context: MiddlewareContext[mcp_types.Request[Any, Any]],
        call_next: CallNext[mcp_types.Request[Any, Any], Any],
    ) -> Any:
        method = context.method or ""
        server = fastmcp_context(context).fastmcp
        force_private_cache(server)
        for see_to in (compare_nothing, bind_to_callers):
            see_to(sdk_server(server))
        if method in FASTMCP_HOOKED:
            return await call_next(context)
        if method in EXEMPT | LISTS:
            self._trust(context)
            if method == "initialize":
                self._bind_session(context)
            return await call_next(context)
        carrying, caller = fastmcp_context(context).request_context, self._caller(context)
        try:
            if method in TASKS and decides_tasks(server, self):
                await self._enforcer.require_authenticated(caller)
                return await call_next(context)
            action, decision = await messages.enforce(
                self._enforcer,
                caller,
                method,
                context.message,
                protocol_version=carrying.protocol_version if carrying else "",
                describe=partial(actions.described, server),
            )
            return await self._run(context, decision, call_next, caller=caller, action=action)
        except CallDenied as denied:
            # No caller of this hook would turn it into an error of the protocol.
            raise protocol_error(denied) from None

    async def on_call_tool(
        self,
        context: MiddlewareContext[mcp_types.CallToolRequestParams],
        call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        """Decide the call, and run it with the decision as the current one.

        Returns:
            The tool's result, or a refusal that says what would help; see `mcp_plugin.denials`.

        Raises:
            NotFoundError: The caller may call such a tool, but it does not exist.
            PluginError: The call is denied, and it is server code that makes it.
        """
        if running() is not None:
            return await self._call_tool(context, call_next)
        try:
            return await self._call_tool(context, call_next)
        except PluginError as refused:
            return ToolResult(
                content=[mcp_types.TextContent(type="text", text=str(refused))],
                meta={DENIAL: explain(refused)},
                is_error=True,
            )

    async def _call_tool(
        self,
        context: MiddlewareContext[mcp_types.CallToolRequestParams],
        call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        call, server_context = context.message, fastmcp_context(context)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "mcp_auth.on_call_tool tool=%s require_auth=%s",
                quote(call.name),
                self._enforcer.requires_auth,
            )
        server, nested = server_context.fastmcp, running() is not None
        # FastMCP's look-ups take a time that grows with the name, and come before any decision.
        tool = wanted = None
        if len(call.name) <= MAX_NAME:
            wanted = version(call, server_context, nested=nested)
            tool = await server.get_tool(call.name, version=wanted)
        public, caller = self._enforcer.is_public(Action(name=call.name)), self._caller(context)
        if public:
            decision = self._enforcer.allow_public(caller, call.name)
        else:
            sent = call.arguments or {}
            decision = await arguments.enforce(
                self._enforcer,
                caller,
                server=server,
                name=call.name,
                tool=tool,
                sent=sent,
            )
            if tool is None:
                # Also for tools that FastMCP would find by other means than the listed name. For a
                # NotFoundError it answers with the whole name.
                unknown = NotFoundError if len(call.name) <= MAX_NAME else ToolError
                raise unknown(f"Unknown tool: {quote(call.name)}")
            if would_run_later(tool, server) and not decides_tasks(server, self):
                raise TaskRefused(quote(call.name))
        carrying = server_context.request_context
        if tool is not None and carrying is not None and not nested:
            plain = any(isinstance(one, DereferenceRefsMiddleware) for one in server.middleware)
            compare(sdk_context(carrying), tool.parameters, dereferenced=plain)
        return await self._run(
            context,
            decision,
            call_next,
            caller=caller,
            action=Action(name=call.name),
            as_decided=not public,
            found=FoundTool(server, call.name, wanted, tool) if tool else None,
            cuttable=may_cut(tool.meta if tool else None),
        )

    async def check_resource_access(
        self, context: MiddlewareContext[mcp_types.ReadResourceRequestParams]
    ) -> None:
        """Decide whether a resource may be read, when FastMCP checks without reading it.

        Raises:
            AuthorizationError: The read is denied, or the resource does not exist.
        """
        try:
            await decide_read(self._enforcer, self._caller(context), context)
        except (NotFoundError, MCPError) as error:
            # FastMCP omits what is refused; any other error fails the whole response.
            raise AuthorizationError(str(error)) from None

    async def on_read_resource(
        self,
        context: MiddlewareContext[mcp_types.ReadResourceRequestParams],
        call_next: CallNext[mcp_types.ReadResourceRequestParams, ResourceResult],
    ) -> ResourceResult:
        """Decide the read, and run it with the decision as the current one.

        Raises:
            MCPError: `INTERNAL_ERROR` for a refusal, as FastMCP has it.
            NotFoundError: The caller may read such a resource, but it does not exist.
            PluginError: The read is denied, and it is server code that makes it.
        """
        caller = self._caller(context)
        with refusals_explained():
            action, decision = await decide_read(self._enforcer, caller, context)
            return await self._run(context, decision, call_next, caller=caller, action=action)

    async def on_get_prompt(
        self,
        context: MiddlewareContext[mcp_types.GetPromptRequestParams],
        call_next: CallNext[mcp_types.GetPromptRequestParams, PromptResult],
    ) -> PromptResult:
        """Decide the prompt, and render it with the decision as the current one.

        Raises:
            MCPError: `INTERNAL_ERROR` for a refusal, as FastMCP has it.
            NotFoundError: The caller may get such a prompt, but it does not exist.
            PluginError: The prompt is denied, and it is server code that makes it.
        """
        with refusals_explained():
            return await self._get_prompt(context, call_next)

    async def _get_prompt(
        self,
        context: MiddlewareContext[mcp_types.GetPromptRequestParams],
        call_next: CallNext[mcp_types.GetPromptRequestParams, PromptResult],
    ) -> PromptResult:
        asked, server_context = context.message, fastmcp_context(context)
        prompt = None
        if len(asked.name) <= MAX_NAME:
            wanted = version(asked, server_context, nested=running() is not None)
            prompt = await server_context.fastmcp.get_prompt(asked.name, version=wanted)
        action = actions.prompt(asked.name, prompt, asked.arguments or {})
        caller = self._caller(context)
        decision = await self._enforcer.enforce(caller, action)
        if prompt is None:
            if len(asked.name) > MAX_NAME:
                raise PromptError(f"Unknown prompt: {quote(asked.name)}")
            raise NotFoundError(f"Unknown prompt: {asked.name!r}")
        return await self._run(context, decision, call_next, caller=caller, action=action)

    async def _run(
        self,
        context: MiddlewareContext[Any],
        decision: Decision,
        call_next: CallNext[Any, Result],
        *,
        caller: Caller,
        action: Action,
        as_decided: bool = True,
        found: FoundTool | None = None,
        cuttable: bool = True,
    ) -> Result:
        try:
            integrity_checked = self._chain.verify(fastmcp_context(context).fastmcp)
        except ChainNotTrustedError:
            raise CallDenied(Decision.refused(Reason.UNAVAILABLE)) from None
        # Middleware inside the policy may change what the server offers.
        with nullcontext() if found is None or integrity_checked else handed_over(found):
            return await run(
                context,
                decision,
                call_next,
                action=action,
                integrity_checked=integrity_checked,
                as_decided=as_decided,
                # A nested call ends with the one that makes it.
                run_call=None
                if running() is not None
                else partial(
                    self._enforcer.revocations.run, caller, action, decision, may_cut=cuttable
                ),
            )

    def _bind_session(self, context: MiddlewareContext[Any]) -> None:
        """Make a session belong to its caller, where no authentication provider does so.

        Raises:
            MCPError: it is not possible, and the server did not say that it need not be.
        """
        server_context = fastmcp_context(context)
        carrying = server_context.request_context
        request = carrying.request if carrying else None
        if request is None:
            return
        manager = manager_of(request.scope)
        if manager is None and self._sessions == "bound" and not server_context.fastmcp.auth:
            raise refuse_unbound()
        if manager is not None and not manager.stateless:
            binding = bind_sessions(manager, self._enforcer, sessions=self._sessions)
            binding.bind(server_context.session_id, request.scope)

    def _trust(self, context: MiddlewareContext[Any]) -> None:
        """Refuse each request, from the first, if the server cannot be guarded as it is."""
        try:
            self._chain.verify(fastmcp_context(context).fastmcp)
        except ChainNotTrustedError as wrong:
            if wrong.lasting:
                raise MCPError(
                    code=mcp_types.INTERNAL_ERROR, message=message(Reason.UNAVAILABLE)
                ) from None
