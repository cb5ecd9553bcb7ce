"""The decision on the call that is running, and the libraries it allows.

A ContextVar, because FastMCP's own state is shared between what must stay apart: between the
callers of one session by default, and between a call and the calls nested in it otherwise.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fastmcp.dependencies import Depends

from mcp_plugin.exceptions import LibrariesUnavailable
from pdp_client import Credential, Decision

_current: ContextVar[Decision | None] = ContextVar("mcp_plugin_decision", default=None)


def current_decision() -> Decision | None:
    """The decision that the running tool call rests on; None outside of one.

    Under `require_auth=False` a call may run although nobody was authenticated: then this is the
    refusal that was let through, `missing_token`, with `allow` False.
    """
    return _current.get()


def AllowedLibraries() -> list[str]:  # noqa: N802 - a default that reads as one, like FastMCP's
    """The default of a tool's parameter that receives the libraries the call may touch.

    ```python
    @mcp.tool
    async def search(query: str, libraries: list[str] = AllowedLibraries()) -> list[str]: ...
    ```

    The parameter is absent from the tool's schema, and a client that supplies it is refused. The
    list is sorted and the tool's own; empty means none. Where no authenticated decision stands
    behind the call (no middleware, a public tool, a caller let through by `require_auth=False`) the
    tool does not run: `LibrariesUnavailable`.
    """
    return Depends(_libraries_or_refuse)


@contextmanager
def deciding(decision: Decision) -> Iterator[None]:
    """Make a decision the current one."""
    token = _current.set(decision)
    try:
        yield
    finally:
        _current.reset(token)


def proven(decision: Decision | None) -> Credential | None:
    """The credential that an allowed call rests on; None where nobody was authenticated."""
    return decision.credential if decision is not None and decision.allow else None


def libraries_of(decision: Decision | None) -> list[str] | None:
    """The libraries that a decision allows; None where it says nothing about libraries."""
    return None if decision is None or proven(decision) is None else [*decision.libraries]


def _libraries_or_refuse() -> list[str]:
    libraries = libraries_of(_current.get())
    if libraries is None:
        raise LibrariesUnavailable
    return libraries
