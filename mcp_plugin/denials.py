"""Refusals that an agent can act on: beside the text, what kind it is and what would help.

It stands in `_meta` of an error result, and in `data` of a protocol error. Not in
`structuredContent`: some clients hold that to the tool's output schema even for an error.
Nothing in it is about other callers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import mcp_types
from mcp import MCPError

from mcp_plugin.context import running
from mcp_plugin.exceptions import ArgumentsRefusedError, CallDenied, PluginError
from pdp_client import Reason, ReasonClass

DENIAL: Final = "lictor/denial"
"""The key in `_meta` and in an error's `data`."""

_NEEDED: Final = {
    Reason.LOCKDOWN: "the server's operator to lift the lockdown",
    Reason.MISSING_TOKEN: "a bearer token in the Authorization header",
    Reason.SITE_RULE: "a call that the server's own rules allow",
    Reason.TOOL_NOT_ALLOWED: "a grant from the server's operator",
}
_NEEDED_OF_CLASS: Final = {
    ReasonClass.AUTHENTICATION: "a bearer token that is valid now",
    ReasonClass.OUTAGE: "nothing but time",
}
_RETRY: Final = {
    ReasonClass.AUTHENTICATION: "with_another_bearer",
    ReasonClass.AUTHORISATION: "no",
    ReasonClass.OUTAGE: "later",
}


def explain(error: PluginError) -> dict[str, Any]:
    """Return what a client can act on.

    Args:
        error: the refusal.

    Returns:
        `reason`: one of the contract's reasons, or the error's code. `class`: `authentication`,
        `authorisation`, `outage` or `arguments`. `retry`: `no`, `later`, `with_another_bearer` or
        `with_other_arguments`. `needed`: what would help, for people. `rules`: the codes of the
        site's rules that refused, if any did.
    """
    if isinstance(error, CallDenied):
        return _of_decision(error)
    if isinstance(error, ArgumentsRefusedError):
        return {
            "reason": error.code,
            "class": "arguments",
            "retry": "with_other_arguments",
            "needed": "arguments exactly as the tool's schema describes them",
            **({} if error.parameter is None else {"parameter": error.parameter}),
        }
    return {
        "reason": error.code,
        "class": ReasonClass.AUTHORISATION.value,
        "retry": "no",
        "needed": str(error),
    }


def protocol_error(error: PluginError, code: int = mcp_types.INVALID_REQUEST) -> MCPError:
    """Return the error of the protocol for a refusal, with what a client can act on in `data`."""
    return MCPError(code=code, message=str(error), data={DENIAL: explain(error)})


def tool_result(error: PluginError) -> mcp_types.CallToolResult:
    """Return the result of a refused tool call, with what a client can act on in `_meta`."""
    return mcp_types.CallToolResult(
        content=[mcp_types.TextContent(type="text", text=str(error))],
        _meta={DENIAL: explain(error)},
        is_error=True,
    )


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Turn a refusal of a client's own request into an error of the protocol that explains it.

    FastMCP would turn it into one of the same code without `data`. Server code gets the refusal.
    """
    nested = running() is not None
    try:
        yield
    except PluginError as refused:
        if nested:
            raise
        raise protocol_error(refused, mcp_types.INTERNAL_ERROR) from None


def _of_decision(denied: CallDenied) -> dict[str, Any]:
    decision = denied.decision
    kind = decision.reason_class
    rules = [one.removeprefix("site:") for one in decision.reasons if one.startswith("site:")]
    if decision.reason is not Reason.SITE_RULE:
        rules = []  # a caller that is refused anyway learns nothing of them
    needed = _NEEDED.get(decision.reason) or _NEEDED_OF_CLASS.get(kind, "")
    return {
        "reason": decision.reason.value,
        "class": kind.value,
        "retry": "later" if decision.reason is Reason.LOCKDOWN else _RETRY.get(kind, "no"),
        "needed": needed,
        **({"rules": rules} if rules else {}),
    }
