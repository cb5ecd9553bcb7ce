"""From a decision to FastMCP: one line that guards a server, one default that limits a tool."""

from mcp_plugin.auth import BearerAuth
from mcp_plugin.current import AllowedLibraries, current_decision
from mcp_plugin.exceptions import (
    CallDenied,
    LibrariesUnavailable,
    LibraryNotAllowed,
    PluginError,
    TaskRefused,
)
from mcp_plugin.libraries import allowed, checks_libraries, cypher, sql
from mcp_plugin.middleware import PolicyMiddleware
from mcp_plugin.stdio import StdioBearer

__all__ = [
    "AllowedLibraries",
    "BearerAuth",
    "CallDenied",
    "LibrariesUnavailable",
    "LibraryNotAllowed",
    "PluginError",
    "PolicyMiddleware",
    "StdioBearer",
    "TaskRefused",
    "allowed",
    "checks_libraries",
    "current_decision",
    "cypher",
    "sql",
]
