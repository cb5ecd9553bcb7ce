"""The decision on the call that is running, and the libraries it allows.

A ContextVar, because FastMCP's own state is shared where it must be separate: between the callers
of one session by default, and between a call and the calls nested in it otherwise.
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
        decision: the decision that it runs on.
        fingerprint: what was decided, for comparison with what runs.
        ended: whether the request is over; tasks that it left running no longer have a decision.
        reached: whether it reached the server's own code.
    """

    decision: Decision
    fingerprint: Any = None
    ended: bool = False
    reached: bool = False


_current: ContextVar[DecisionScope | None] = ContextVar("mcp_plugin_decision", default=None)


def running() -> DecisionScope | None:
    """Return the innermost request that runs on a decision here; None outside of one."""
    found = _current.get()
    return None if found is None or found.ended else found


def current_decision() -> Decision | None:
    """Return the decision on the running request; None outside of one, and after its end.

    Under `require_auth=False` a call may run without an authenticated caller: then this is the
    denial that did not stop it, such as `missing_token`, with `allow` False. In shadow mode it may
    be a denial too, which is `shadowed`.
    """
    found = running()
    return found.decision if found else None


def AllowedLibraries() -> list[str]:  # noqa: N802 - a default that reads as one, like FastMCP's
    """Return the default for a tool's parameter that receives the libraries the call may touch.

    ```python
    @mcp.tool
    async def search(query: str, libraries: list[str] = AllowedLibraries()) -> list[str]: ...
    ```

    The parameter is absent from the tool's schema, and a client that supplies it is refused. The
    list is sorted and the tool's own; an empty list means none. If the call has no authenticated
    decision (no middleware, a public tool, a caller let through by `require_auth=False`, a worker
    that runs the tool later), the tool does not run: `LibrariesUnavailable`. Functions behind
    resources and prompts accept it too.
    """
    return Depends(current_libraries)


@contextmanager
def decision_scope(decision: Decision, fingerprint: Any = None) -> Iterator[DecisionScope]:
    """Make a decision the current one until the request is over."""
    found = DecisionScope(decision, fingerprint)
    token = _current.set(found)
    try:
        yield found
    finally:
        # A task or a thread that outlives the request has a copy of the context.
        found.ended = True
        _current.reset(token)


def proven(decision: Decision | None) -> Credential | None:
    """Return the credential behind a decision; None if no caller was authenticated."""
    return decision.credential if decision is not None and decision.runs else None


def libraries_of(decision: Decision | None) -> list[str] | None:
    """Return the libraries that a decision allows; None if it does not cover libraries."""
    return None if decision is None or proven(decision) is None else [*decision.libraries]


def current_libraries() -> list[str]:
    """Return the libraries that the running request may touch, sorted.

    Raises:
        LibrariesUnavailable: the request has no authenticated decision.
    """
    libraries = libraries_of(current_decision())
    if libraries is None:
        raise LibrariesUnavailable
    return libraries
