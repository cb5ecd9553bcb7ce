"""From a decision to FastMCP: one line that guards a server, one default that limits a tool."""

from mcp_plugin.current import AllowedLibraries, current_decision
from mcp_plugin.exceptions import CallDenied, LibrariesUnavailable, PluginError
from mcp_plugin.middleware import PolicyMiddleware

__all__ = [
    "AllowedLibraries",
    "CallDenied",
    "LibrariesUnavailable",
    "PluginError",
    "PolicyMiddleware",
    "current_decision",
]
