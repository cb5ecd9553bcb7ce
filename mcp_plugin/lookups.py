"""One look-up of a tool for each call: FastMCP runs the tool that was decided on.

FastMCP looks a tool up again after the middleware, through all providers of the server. What it
finds then may differ from what was decided on, if the server's tools changed meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

from fastmcp import FastMCP
from fastmcp.tools import Tool
from fastmcp.utilities.versions import VersionSpec

_MARK: Final = "lictor_hands_over"


@dataclass(slots=True)
class FoundTool:
    """A tool that was looked up for a call, for the one look-up that follows."""

    server: FastMCP[Any]
    name: str
    version: VersionSpec | None
    tool: Tool | None

    def claim(self, server: FastMCP[Any], name: str, version: VersionSpec | None) -> Tool | None:
        """Return the tool to the first look-up of it; None to any other."""
        if self.server is not server or self.name != name or self.version != version:
            return None
        tool, self.tool = self.tool, None
        return tool


_handed_over: ContextVar[FoundTool | None] = ContextVar("mcp_plugin_found_tool", default=None)


@contextmanager
def handed_over(found: FoundTool) -> Iterator[None]:
    """Let the server's next look-up of a tool within the context find what was found before."""
    _accept(found.server)
    token = _handed_over.set(found)
    try:
        yield
    finally:
        # Tasks that outlive the call have a copy of the context.
        found.tool = None
        _handed_over.reset(token)


def _accept(server: FastMCP[Any]) -> None:
    """Make a server's look-up accept what is handed over; further calls change nothing."""
    look_up = server.get_tool
    if hasattr(look_up, _MARK):
        return

    @wraps(look_up)
    async def get_tool(name: str, version: VersionSpec | None = None) -> Tool | None:
        found = _handed_over.get()
        tool = found.claim(server, name, version) if found is not None else None
        return await look_up(name, version) if tool is None else tool

    setattr(get_tool, _MARK, True)
    server.get_tool = get_tool  # type: ignore[method-assign]
