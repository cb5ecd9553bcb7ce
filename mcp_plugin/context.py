"""The decision on the call that is running, and the libraries it allows.

A ContextVar, because FastMCP's own state is shared between what must stay apart: between the
callers of one session by default, and between a call and the calls nested in it otherwise.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from fastmcp.dependencies import Depends

from mcp_plugin.exceptions import LibrariesUnavailable
from pdp_client import Credential, Decision


@dataclass(slots=True)
class DecisionScope:
    """A request that runs on its decision.

    Attributes:
        decision: what it runs on.
        fingerprint: what was decided, for comparison with what runs.
        ended: whether the request is over; what it left running has no decision any more.
        reached: whether it came as far as the server's own code.
    """

    decision: Decision
    fingerprint: Any = None
    ended: bool = False
    reached: bool = False


_current: ContextVar[DecisionScope | None] = ContextVar("mcp_plugin_decision", default=None)


def running() -> DecisionScope | None:
    """The innermost request that runs on a decision here; None outside of one."""
    found = _current.get()
    return None if found is None or found.ended else found


def current_decision() -> Decision | None:
    """The decision that the running request rests on; None outside of one, and after its end.

    Under `require_auth=False` a call may run although nobody was authenticated: then this is the
    refusal that was let through, `missing_token`, with `allow` False. In shadow mode it may be a
    refusal too, which is `shadowed`.
    """
    found = running()
    return found.decision if found else None


def AllowedLibraries() -> list[str]:  # noqa: N802 - a default that reads as one, like FastMCP's
    """The default of a tool's parameter that receives the libraries the call may touch.

    ```python
    @mcp.tool
    async def search(query: str, libraries: list[str] = AllowedLibraries()) -> list[str]: ...
    ```

    The parameter is absent from the tool's schema, and a client that supplies it is refused. The
    list is sorted and the tool's own; empty means none. Where no authenticated decision stands
    behind the call (no middleware, a public tool, a caller let through by `require_auth=False`, a
    worker that runs the tool later) the tool does not run: `LibrariesUnavailable`. Functions behind
    resources and prompts take it too.
    """
    return Depends(current_libraries)


@contextmanager
def decision_scope(decision: Decision, fingerprint: Any = None) -> Iterator[DecisionScope]:
    """Make a decision the current one, until the request is over."""
    found = DecisionScope(decision, fingerprint)
    token = _current.set(found)
    try:
        yield found
    finally:
        # A task or a thread that outlives the request has a copy of the context.
        found.ended = True
        _current.reset(token)


def proven(decision: Decision | None) -> Credential | None:
    """The credential that a call rests on; None where nobody was authenticated."""
    return decision.credential if decision is not None and decision.runs else None


def libraries_of(decision: Decision | None) -> list[str] | None:
    """The libraries that a decision allows; None where it says nothing about libraries."""
    return None if decision is None or proven(decision) is None else [*decision.libraries]


def current_libraries() -> list[str]:
    """The libraries that the running request may touch, sorted.

    Raises:
        LibrariesUnavailable: no authenticated decision stands behind it.
    """
    libraries = libraries_of(current_decision())
    if libraries is None:
        raise LibrariesUnavailable
    return libraries
