"""What the plugin needs of FastMCP and the MCP SDK that they offer under no public name.

Each was read in FastMCP 4.1.2 and 4.2, and mcp 2.2. When one of them gets a public name, it goes
from here; `make test-fastmcp` shows when one of them moves.
"""

# ruff: noqa: SLF001

from typing import Any

from fastmcp import Context, FastMCP
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity


def sdk_server(server: FastMCP[Any]) -> Server[Any]:
    """The MCP SDK's server inside a FastMCP server; missing: `FastMCP.sdk_server`."""
    return server._mcp_server


def sdk_context(carrying: Any) -> Any:
    """The SDK's context behind FastMCP's request context; missing: a public name for it."""
    return carrying._srctx


def extension(server: FastMCP[Any], name: str) -> Any:
    """An extension that was added to a server, or None; missing: a look-up by name."""
    return server._extensions.get(name)


def isolate_request_state(context: Context) -> None:
    """Give a call its own copy of the state; missing: state that nested calls do not share.

    A call that a tool makes inherits its caller's very dict; a copy keeps what is set here from the
    tool that made the call, and from others that it makes meanwhile.
    """
    context._request_state = dict(context._request_state)


def wrapped_provider(provider: Any) -> Any:
    """The provider at the end of a chain of wrappers; missing: a way through transforms."""
    while hasattr(provider, "_inner"):
        provider = provider._inner
    return provider


def request_state_security(boundary: RequestStateBoundary) -> RequestStateSecurity:
    """What binds a request's state to a principal; missing: a way to change it after the start."""
    return boundary._security


def worker_dependencies(server: FastMCP[Any]) -> Any:
    """The dependencies of the worker that runs tasks, or None; missing: a hook around each task."""
    worker: Any = server._worker
    return None if worker is None else worker.dependencies
