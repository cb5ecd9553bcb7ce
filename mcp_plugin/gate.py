"""A request against the PDP's decision: let it run, or refuse it; and what shows in a list."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from fastmcp import Context
from fastmcp.exceptions import NotFoundError, ValidationError
from fastmcp.server.middleware import MiddlewareContext
from prometheus_client import CollectorRegistry, Counter

from mcp_plugin.current import deciding, libraries_of
from mcp_plugin.exceptions import CallDenied
from mcp_plugin.order import Misordered, Order, answered, subject
from mcp_plugin.request import bearer, is_stdio, transport
from mcp_plugin.state import publish
from mcp_plugin.stdio import NO_IDENTITY, StdioBearer
from pdp_client import PDP, Action, Decision, Reason, ReasonClass
from pdp_client.reasons import quote

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class Gate:
    """Asks the PDP, and holds requests to the answer.

    Attributes:
        pdp: the one asked.
    """

    def __init__(
        self,
        pdp: PDP,
        order: Order,
        *,
        require_auth: bool,
        registry: CollectorRegistry,
        stdio: StdioBearer | None,
    ) -> None:
        """Ask nothing yet.

        Args:
            pdp: decides.
            order: looks after the chain of middleware.
            require_auth: as of `PolicyMiddleware`.
            registry: where refusals are counted.
            stdio: whose bearer counts over stdio.
        """
        self.pdp = pdp
        self._order = order
        self._require_auth = require_auth
        self._failures = _failures(registry)
        self._stdio = stdio

    async def allow_public(self, context: Context, name: str) -> Decision:
        """The decision for a public tool.

        Raises:
            CallDenied: it could not be put on record.
        """
        decision = self.pdp.allow_public(tool=name, transport=transport(context))
        if not decision.allow:
            raise self._refused(decision, Action(name=name))
        return decision

    async def admit(self, context: Context, action: Action) -> Decision:
        """The decision on which an action may run.

        Raises:
            CallDenied: the decision is no.
        """
        decision, passes = await self._decide(context, action)
        if not passes:
            raise self._refused(decision, action)
        return decision

    async def run(
        self,
        context: MiddlewareContext[Any],
        decision: Decision,
        proceed: Callable[[], Awaitable[Result]],
        *,
        shown: str,
        as_decided: bool = True,
    ) -> Result:
        """Run what was decided, with the decision as the current one.

        Args:
            context: of the request.
            decision: on which it runs.
            proceed: goes on with it.
            shown: how log lines name it.
            as_decided: whether the arguments must be those that were decided on.

        Raises:
            CallDenied: the chain of middleware does not run what was decided.
        """
        server_context = fastmcp_context(context)
        try:
            sealed = self._order.look(server_context.fastmcp)
        except Misordered:
            raise CallDenied(Decision.refused(Reason.UNAVAILABLE)) from None
        _log.debug(
            "mcp_auth.resolved %s principal=%s lib_count=%s",
            shown,
            quote(str(decision.principal or "anonymous")),
            len(libraries_of(decision) or ()),
        )
        await publish(server_context, decision)
        about = subject(context, arguments=as_decided and decision.uses_arguments)
        with deciding(decision, about) as found:
            try:
                result = await proceed()
            except Exception as error:
                # What a client gets wrong needs no traceback, and this one would quote it.
                fault = not isinstance(error, ValidationError | NotFoundError | CallDenied)
                _log.error("mcp_auth.call_next_failed %s", shown, exc_info=fault)
                raise
            if sealed:
                answered(found, context)
        _log.debug("mcp_auth.call_next_ok %s result_type=%s", shown, type(result).__name__)
        return result

    async def visible(
        self, context: Context, actions: Sequence[Action], *, without_token: bool
    ) -> frozenset[int]:
        """The positions of the actions that the caller may see, with one query for all of them.

        Args:
            context: of the request.
            actions: what using each entry of the list would be.
            without_token: whether a caller that is not authenticated sees anything.
        """
        shown = await self.pdp.visible(
            bearer(context, self._stdio), actions=actions, transport=transport(context)
        )
        unauthenticated = shown.reason.reason_class is ReasonClass.AUTHENTICATION
        if unauthenticated and not without_token:
            return frozenset()
        return frozenset(shown.indices)

    def turned_away(self, reason: Reason) -> None:
        """Count and log a request that did not get as far as a decision."""
        self._count(reason)
        _log.info("mcp_auth.turned_away reason=%s", reason)

    async def _decide(self, context: Context, action: Action) -> tuple[Decision, bool]:
        """The decision, and whether the request may run on it."""

        async def ask(token: str | None) -> Decision:
            return await self.pdp.decide(token, action, transport=transport(context))

        token = bearer(context, self._stdio)
        decision = await ask(token)
        if decision.reason is Reason.MISSING_TOKEN and is_stdio(context):
            decision = replace(decision, message=NO_IDENTITY)
        if self._require_auth or decision.reason_class is not ReasonClass.AUTHENTICATION:
            return decision, decision.allow
        # A bearer that Python refuses never got as far as lockdown, outages and site rules: it may
        # pass only where no bearer at all would.
        anonymous = decision if token is None else await ask(None)
        passes = anonymous.reasons == (Reason.MISSING_TOKEN,)
        if passes and token is not None:
            self._count(decision.reason)
        return anonymous, passes

    def _refused(self, decision: Decision, action: Action) -> CallDenied:
        self._count(decision.reason)
        _log.info("mcp_auth.denied %s reason=%s", named(action), decision.reason)
        return CallDenied(decision)

    def _count(self, reason: Reason) -> None:
        self._failures.labels(reason=reason.value).inc()


def named(action: Action) -> str:
    """How log lines name an action."""
    if action.method == "tools/call":
        return f"tool={quote(action.name)}"
    return f"method={action.method} name={quote(action.name)}"


def fastmcp_context(context: MiddlewareContext[Any]) -> Context:
    """FastMCP's context of a request.

    Raises:
        CallDenied: there is none, so nobody can be asked about.
    """
    if context.fastmcp_context is None:
        raise CallDenied(Decision.refused(Reason.UNAVAILABLE))
    return context.fastmcp_context


@cache
def _failures(registry: CollectorRegistry) -> Counter:
    # Servers in one process share the counter; a registry takes a name only once.
    return Counter(
        "mcp_auth_failures",
        "Requests refused, and bad bearers let through, by reason.",
        ["reason"],
        registry=registry,
    )
