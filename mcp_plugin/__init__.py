"""From a decision to an MCP server: one line that guards it, one default that limits a tool."""

from mcp_plugin.context import AllowedLibraries, current_decision, current_libraries
from mcp_plugin.exceptions import (
    CallDenied,
    LibrariesUnavailable,
    LibraryNotAllowed,
    PluginError,
    TaskRefused,
)
from mcp_plugin.http.bearer_auth import BearerAuth
from mcp_plugin.http.stdio import StdioBearer
from mcp_plugin.libraries import allowed, checks_libraries, cypher, sql
from mcp_plugin.lowlevel.guard import PolicyGuard
from mcp_plugin.middleware import PolicyMiddleware

__all__ = [
    "AllowedLibraries",
    "BearerAuth",
    "CallDenied",
    "LibrariesUnavailable",
    "LibraryNotAllowed",
    "PluginError",
    "PolicyGuard",
    "PolicyMiddleware",
    "StdioBearer",
    "TaskRefused",
    "allowed",
    "checks_libraries",
    "current_decision",
    "current_libraries",
    "cypher",
    "sql",
]
