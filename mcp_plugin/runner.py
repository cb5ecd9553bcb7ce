"""Execution of a FastMCP request on its decision: only the decided request runs."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from fastmcp import Context
from fastmcp.exceptions import NotFoundError, ValidationError
from fastmcp.server.middleware import CallNext, MiddlewareContext

from mcp_plugin.context import decision_scope, libraries_of
from mcp_plugin.enforcer import named
from mcp_plugin.exceptions import CallDenied
from mcp_plugin.integrity import request_fingerprint, require_handler_reached
from mcp_plugin.state import publish
from pdp_client import Action, Decision, Reason
from pdp_client.reasons import quote

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


async def run(
    context: MiddlewareContext[Any],
    decision: Decision,
    call_next: CallNext[Any, Result],
    *,
    action: Action,
    integrity_checked: bool,
    as_decided: bool = True,
    run_call: Callable[[Callable[[], Awaitable[Result]]], Awaitable[Result]] | None = None,
) -> Result:
    """Run the decided request, with the decision as the current one.

    Args:
        context: the context of the request.
        decision: the decision that it runs on.
        call_next: runs the rest of the chain.
        action: the action, for log lines.
        integrity_checked: whether it passes the integrity check; see `mcp_plugin.integrity`.
        as_decided: whether the arguments must be those that were decided on.
        run_call: runs it, and ends it when access ends; None leaves it alone.

    Raises:
        CallDenied: the chain of middleware does not run what was decided.
    """
    if debugs := _log.isEnabledFor(logging.DEBUG):
        _log.debug(
            "mcp_auth.resolved %s principal=%s lib_count=%s",
            named(action),
            quote(str(decision.principal or "anonymous")),
            len(libraries_of(decision) or ()),
        )
    await publish(fastmcp_context(context), decision)
    compared = as_decided and decision.uses_arguments
    about = request_fingerprint(context, arguments=compared) if integrity_checked else None
    with decision_scope(decision, about) as found:
        try:
            call = partial(call_next, context)
            result = await (call() if run_call is None else run_call(call))
        except Exception as error:
            # A client's mistake needs no traceback, and this one would quote the client's input.
            fault = not isinstance(error, ValidationError | NotFoundError | CallDenied)
            _log.error("mcp_auth.call_next_failed %s", named(action), exc_info=fault)
            raise
        if integrity_checked:
            require_handler_reached(found, context)
    if debugs:
        _log.debug("mcp_auth.call_next_ok %s result_type=%s", named(action), type(result).__name__)
    return result


def fastmcp_context(context: MiddlewareContext[Any]) -> Context:
    """Return FastMCP's context of a request.

    Raises:
        CallDenied: the request has no context, so its caller cannot be determined.
    """
    if context.fastmcp_context is None:
        raise CallDenied(Decision.refused(Reason.UNAVAILABLE))
    return context.fastmcp_context
