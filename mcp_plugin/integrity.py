"""Protection against other middleware in a server's chain that could undo the policy's decision.

Middleware added before the policy is outside of it: the policy decides on the request as that
middleware leaves it. Middleware added after the policy is inside. It could change the name in a
request that was decided, or return a result of its own. So the policy adds an integrity check at
the end of the chain: the request that reaches the server's own code must be the decided one, and
the result must come from there.
"""

import copy
import logging
from collections.abc import Mapping
from typing import Any, Final

import mcp_types
from fastmcp import FastMCP
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from fastmcp.tools import Tool

from mcp_plugin.context import DecisionScope, running
from mcp_plugin.exceptions import CallDenied
from mcp_plugin.fastmcp_compat import extension, servers_of
from mcp_plugin.protocol.methods import LISTS
from pdp_client import Decision, Reason

FASTMCP_HOOKED: Final = frozenset({"tools/call", "resources/read", "prompts/get"})
"""Requests that FastMCP decodes before middleware sees them."""

_TASKS: Final = "io.modelcontextprotocol/tasks"

_log = logging.getLogger(__name__)


def request_fingerprint(context: MiddlewareContext[Any], *, arguments: bool) -> tuple[Any, ...]:
    """Return a copy of what a request is about, as middleware may change messages in place.

    Args:
        context: the context of the request.
        arguments: whether to include the call's arguments.
    """
    message = context.message
    if context.method not in FASTMCP_HOOKED:
        said = {key: value for key, value in dict(message).items() if key != "_meta"}
        return context.method, copy.deepcopy(said)
    name = str(message.uri) if context.method == "resources/read" else message.name
    if not arguments or context.method == "resources/read":
        return context.method, name
    return context.method, name, copy.deepcopy(message.arguments or {})


def is_observed(context: MiddlewareContext[Any]) -> bool:
    """Return whether FastMCP only reports a request that has already failed, without running it."""
    return context.method in FASTMCP_HOOKED and isinstance(context.message, Mapping)


class ChainNotTrustedError(Exception):
    """The chain cannot be trusted to run what was decided.

    Attributes:
        lasting: whether this will also affect the next request.
    """

    def __init__(self, *, lasting: bool) -> None:
        super().__init__()
        self.lasting = lasting


class ChainGuard:
    """The guard of the middleware chain that a policy is part of."""

    def __init__(self, policy: Middleware) -> None:
        """Create the guard; it checks the chain on the first request.

        Args:
            policy: the middleware that decides.
        """
        self._policy = policy
        self._warned: set[str] = set()

    def verify(self, server: FastMCP) -> bool:
        """Find out whether a request inside the chain now will pass the integrity check.

        Returns:
            False if nothing stands between the policy and the server's own code.

        Raises:
            ChainNotTrustedError: the request may miss a check, or a cache responds to it.
        """
        chains = (one for each in servers_of(server) for one in each.middleware)
        if any(isinstance(one, ResponseCachingMiddleware) for one in chains):
            self._warn_once(
                "a response cache would answer one caller with another's results; remove it"
            )
            raise ChainNotTrustedError(lasting=True)
        chain = server.middleware
        # If the policy is not in the chain itself, middleware in the chain wraps it.
        position = next((i for i, one in enumerate(chain) if one is self._policy), -1)
        inside = [one for one in chain[position + 1 :] if one is not _CHECK]
        if not inside:
            return False
        if chain[-1] is _CHECK:
            return True
        names = ", ".join(type(one).__name__ for one in inside)
        self._warn_once(f"sealed, as these are inside the policy: {names}")
        server.middleware[:] = [*(one for one in chain if one is not _CHECK), _CHECK]
        # FastMCP built this request's own chain earlier.
        raise ChainNotTrustedError(lasting=False)

    def _warn_once(self, what: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            _log.warning("mcp_auth.order %s", what)


class IntegrityMiddleware(Middleware):
    """The innermost middleware, which runs only the request that was decided."""

    async def on_request(
        self,
        context: MiddlewareContext[mcp_types.Request[Any, Any]],
        call_next: CallNext[mcp_types.Request[Any, Any], Any],
    ) -> Any:
        """Refuse a request that is not the one that was decided."""
        if is_observed(context):
            return await call_next(context)
        found = running()
        if context.method in FASTMCP_HOOKED and found is None:
            raise _refusal(context, "was not decided")
        # Checking once is not enough: inner middleware may call on twice. Running server code may
        # list, however.
        lists = found is not None and found.reached and context.method in LISTS
        if found is not None and found.fingerprint is not None and not lists:
            # A fingerprint of two parts belongs to a decision that did not read arguments.
            with_arguments = len(found.fingerprint) > 2  # noqa: PLR2004
            if request_fingerprint(context, arguments=with_arguments) != found.fingerprint:
                raise _refusal(context, "is not what was decided")
            found.reached = True
        return await call_next(context)


_CHECK: Final = IntegrityMiddleware()


def require_handler_reached(found: DecisionScope, context: MiddlewareContext[Any]) -> None:
    """Refuse a result that does not come from the server's own code.

    Raises:
        CallDenied: middleware inside the policy responded by itself.
    """
    if not found.reached:
        raise _refusal(context, "was answered by middleware inside the policy")


def decides_tasks(server: FastMCP, policy: Middleware) -> bool:
    """Return whether calls that a worker runs later are decided then; see `mcp_plugin.tasks`."""
    return getattr(extension(server, _TASKS), "policy", None) is policy


def would_run_later(tool: Tool, server: FastMCP) -> bool:
    """Return whether FastMCP's tasks extension may hand a call to a worker.

    A worker runs it later, and a revocation in between would not take effect.
    """
    return tool.task_config.supports_tasks() and extension(server, _TASKS) is not None


def _refusal(context: MiddlewareContext[Any], why: str) -> CallDenied:
    _log.error("mcp_auth.order method=%s %s", context.method, why)
    return CallDenied(Decision.refused(Reason.UNAVAILABLE))
