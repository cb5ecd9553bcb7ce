"""The policy enforcement point: FastMCP's requests against the PDP's decisions."""

import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from typing import Any, Final

import mcp_types
from fastmcp import Context
from fastmcp.exceptions import AuthorizationError, NotFoundError, ValidationError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import Tool, ToolResult
from mcp import MCPError
from prometheus_client import REGISTRY, CollectorRegistry, Counter

from mcp_plugin.current import deciding, libraries_of
from mcp_plugin.exceptions import CallDenied
from mcp_plugin.request import bearer, transport, version
from mcp_plugin.state import publish
from pdp_client import PDP, Action, Decision, Reason, ReasonClass
from pdp_client.reasons import quote

_PASSED: Final = frozenset(
    {
        # These say nothing that needs a decision.
        "initialize",
        "logging/setLevel",
        "ping",
        "server/discover",
        # These have their own hooks below.
        "tools/call",
        "tools/list",
    }
)
_EMPTY_LISTS: Final = frozenset({"prompts/list", "resources/list", "resources/templates/list"})
"""What answers with an empty list. Any other request is refused."""

_log = logging.getLogger(__name__)


class PolicyMiddleware(Middleware):
    """Lets a tool call run only on the PDP's decision, and lists only what a caller may call.

    Resources, prompts, completions, subscriptions, tasks and methods it does not know are refused,
    and their lists are empty: this version guards tools only.

    Middleware runs in the order in which it was added. What renames calls or changes their
    arguments goes before this one, what answers from a cache after it. `run_middleware=False` and
    custom routes pass by any middleware; a tool with `AllowedLibraries()` refuses to run there.
    """

    def __init__(
        self,
        pdp: PDP,
        *,
        require_auth: bool = True,
        public_tools: AbstractSet[str] = frozenset(),
        list_without_token: bool = True,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """Guard a server with a PDP, which stays the caller's to close.

        Args:
            pdp: Decides.
            require_auth: When False, a call whose bearer is missing or fails authentication runs
                without libraries, unless something else speaks against it.
            public_tools: Names of tools that anybody may call and see: without a look at the
                bearer, without libraries, and without OPA.
            list_without_token: When False, a caller that is not authenticated sees only the public
                tools in the list; else also what the registry's settings list for it.
            registry: Where `mcp_auth_failures_total{reason}` counts: each call refused, and each
                bad bearer that `require_auth=False` let through.
        """
        self._pdp = pdp
        self._require_auth = require_auth
        self._public_tools = frozenset(public_tools)
        self._list_without_token = list_without_token
        self._failures = _failures(registry)

    async def on_request(
        self,
        context: MiddlewareContext[mcp_types.Request[Any, Any]],
        call_next: CallNext[mcp_types.Request[Any, Any], Any],
    ) -> Any:
        """Refuse every method that is not known to be harmless or guarded.

        Raises:
            MCPError: `METHOD_NOT_FOUND`.
        """
        if context.method in _PASSED:
            return await call_next(context)
        if context.method in _EMPTY_LISTS:
            await call_next(context)  # A malformed request still gets its error.
            return []
        method = quote(context.method or "")
        _log.info("mcp_auth.refused method=%s", method)
        raise MCPError(
            code=mcp_types.METHOD_NOT_FOUND,
            message=f"This server guards tools only; {method} is refused.",
        )

    async def on_call_tool(
        self,
        context: MiddlewareContext[mcp_types.CallToolRequestParams],
        call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        """Decide the call, and run it with the decision as the current one.

        Raises:
            CallDenied: The decision is no.
            NotFoundError: The caller may call such a tool, but there is none.
        """
        call, server_context = context.message, _fastmcp_context(context)
        shown = quote(call.name)
        _log.debug("mcp_auth.on_call_tool tool=%s require_auth=%s", shown, self._require_auth)
        if call.name in self._public_tools:
            decision = self._pdp.allow_public(tool=call.name, transport=transport(server_context))
            passes = decision.allow
        else:
            tool = await server_context.fastmcp.get_tool(call.name, version=version(call))
            decision, passes = await self._decide(call, tool, server_context)
            if passes and tool is None:
                # Also for what FastMCP would find by other means than the name that is listed.
                raise NotFoundError(f"Unknown tool: {call.name!r}")
        if not passes:
            self._count(decision.reason)
            _log.info("mcp_auth.denied tool=%s reason=%s", shown, decision.reason)
            raise CallDenied(decision)

        _log.debug(
            "mcp_auth.resolved tool=%s principal=%s lib_count=%s",
            shown,
            quote(str(decision.principal or "anonymous")),
            len(libraries_of(decision) or ()),
        )
        await publish(server_context, decision)
        with deciding(decision):
            try:
                result = await call_next(context)
            except Exception as error:
                # What a client gets wrong needs no traceback, and this one would quote it.
                fault = not isinstance(error, ValidationError | NotFoundError)
                _log.error("mcp_auth.call_next_failed tool=%s", shown, exc_info=fault)
                raise
        _log.debug("mcp_auth.call_next_ok tool=%s result_type=%s", shown, type(result).__name__)
        return result

    async def on_list_tools(
        self,
        context: MiddlewareContext[mcp_types.ListToolsRequest],
        call_next: CallNext[mcp_types.ListToolsRequest, Sequence[Tool]],
    ) -> Sequence[Tool]:
        """Leave in the list what the caller may see, with one query for all of it."""
        tools = await call_next(context)
        server_context = _fastmcp_context(context)
        visible = await self._pdp.visible(
            bearer(server_context),
            actions=[Action(name=tool.name, tags=sorted(tool.tags)) for tool in tools],
            transport=transport(server_context),
        )
        shown = set(visible.indices)
        unauthenticated = visible.reason.reason_class is ReasonClass.AUTHENTICATION
        if unauthenticated and not self._list_without_token:
            shown.clear()
        return [
            tool
            for index, tool in enumerate(tools)
            if index in shown or tool.name in self._public_tools
        ]

    async def check_resource_access(
        self,
        context: MiddlewareContext[mcp_types.ReadResourceRequestParams],  # noqa: ARG002 - all alike
    ) -> None:
        """Refuse resources where FastMCP asks about one without reading it.

        Raises:
            AuthorizationError: Always.
        """
        raise AuthorizationError("This server guards tools only.")

    async def _decide(
        self, call: mcp_types.CallToolRequestParams, tool: Tool | None, context: Context
    ) -> tuple[Decision, bool]:
        """The decision, and whether the call may run on it."""

        async def ask(token: str | None) -> Decision:
            return await self._pdp.authorize(
                token,
                tool=call.name,
                tags=sorted(tool.tags) if tool else (),
                arguments=call.arguments or {},
                transport=transport(context),
            )

        token = bearer(context)
        decision = await ask(token)
        if self._require_auth or decision.reason_class is not ReasonClass.AUTHENTICATION:
            return decision, decision.allow
        # A bearer that Python refuses never got as far as lockdown, outages and site rules: it may
        # pass only where no bearer at all would.
        anonymous = decision if token is None else await ask(None)
        passes = anonymous.reasons == (Reason.MISSING_TOKEN,)
        if passes and token is not None:
            self._count(decision.reason)
        return anonymous, passes

    def _count(self, reason: Reason) -> None:
        self._failures.labels(reason=reason.value).inc()


@cache
def _failures(registry: CollectorRegistry) -> Counter:
    # Servers in one process share the counter; a registry takes a name only once.
    return Counter(
        "mcp_auth_failures",
        "Tool calls refused, and bad bearers let through, by reason.",
        ["reason"],
        registry=registry,
    )


def _fastmcp_context(context: MiddlewareContext[Any]) -> Context:
    if context.fastmcp_context is None:
        raise CallDenied(Decision.refused(Reason.UNAVAILABLE))
    return context.fastmcp_context
