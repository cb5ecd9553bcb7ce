"""MCP's methods, by the kind of decision that they need."""

from typing import Final

EXEMPT: Final = frozenset({"initialize", "logging/setLevel", "ping", "server/discover"})
"""Methods that need no decision. The level is that of the caller's own session, and older clients
give up when they may not set it right after `initialize`."""

LISTS: Final = frozenset(
    {"prompts/list", "resources/list", "resources/templates/list", "tools/list"}
)
"""Methods whose result is filtered to what the caller may use."""

NOTIFICATIONS: Final = frozenset(
    {
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)
"""The notifications that the protocol defines; others are dropped."""

TASKS: Final = frozenset({"tasks/cancel", "tasks/get", "tasks/update"})
"""Methods about a task of the caller's own; see `mcp_plugin.tasks`."""
