"""Private parts of FastMCP and the MCP SDK that the plugin needs.

Each was verified in FastMCP 4.1.2 and 4.2, and mcp 2.2. When one of them becomes public, remove it
here; `make test-fastmcp` shows when one of them moves.
"""

# ruff: noqa: SLF001

from collections.abc import Iterator
from typing import Any

from fastmcp import Context, FastMCP
from fastmcp.server.providers import AggregateProvider, Provider
from fastmcp.server.providers.fastmcp_provider import FastMCPProviderTool
from fastmcp.tools import Tool
from fastmcp.utilities.versions import VersionSpec
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity


def sdk_server(server: FastMCP[Any]) -> Server[Any]:
    """Return the MCP SDK's server inside a FastMCP server; missing: `FastMCP.sdk_server`."""
    return server._mcp_server


def sdk_context(carrying: Any) -> Any:
    """Return the SDK's context behind FastMCP's request context; missing: a public name for it."""
    return carrying._srctx


def extension(server: FastMCP[Any], name: str) -> Any:
    """Return an extension that was added to a server, or None; missing: a look-up by name."""
    return server._extensions.get(name)


def isolate_request_state(context: Context) -> None:
    """Give a call its own copy of the state; missing: state that nested calls do not share.

    A call made by a tool inherits the same dict as the tool's own call. A copy hides what is set
    here from that tool, and from other calls that it makes concurrently.
    """
    context._request_state = dict(context._request_state)


def wrapped_provider(provider: Any) -> Any:
    """Return the provider at the end of a chain of wrappers; missing: a way through transforms."""
    while hasattr(provider, "_inner"):
        provider = provider._inner
    return provider


def providers_of(parent: AggregateProvider) -> Iterator[Provider]:
    """Yield the providers of a server, or of a provider that combines others, without wrappers."""
    for one in parent.providers:
        provider = wrapped_provider(one)
        yield provider
        if isinstance(provider, AggregateProvider) and not isinstance(provider, FastMCP):
            yield from providers_of(provider)


def servers_of(server: FastMCP, seen: frozenset[int] = frozenset()) -> Iterator[FastMCP]:
    """Yield a server and all that are mounted on it, at any depth."""
    if id(server) in seen:
        return
    yield server
    for provider in providers_of(server):
        mounted = provider if isinstance(provider, FastMCP) else getattr(provider, "server", None)
        if isinstance(mounted, FastMCP):
            yield from servers_of(mounted, seen | {id(server)})


def delegate_of(tool: Tool) -> tuple[FastMCP[Any], str, VersionSpec | None] | None:
    """Return what runs a mounted server's tool; missing: a public name for its server.

    Returns:
        The server, the tool's name there and its version; None for a tool of the server's own.
    """
    if not isinstance(tool, FastMCPProviderTool):
        return None
    name = tool.get_span_attributes()["fastmcp.delegate.original_name"]
    return tool._server, name, VersionSpec(eq=tool.version) if tool.version else None


def request_state_security(boundary: RequestStateBoundary) -> RequestStateSecurity:
    """Return what binds request state to a principal; missing: a way to change it after start."""
    return boundary._security


def worker_dependencies(server: FastMCP[Any]) -> Any:
    """Return the dependencies of the task worker, or None; missing: a hook around each task."""
    worker: Any = server._worker
    return None if worker is None else worker.dependencies
