"""MCP's methods, by what has to be decided about them."""

from typing import Final

EXEMPT: Final = frozenset({"initialize", "ping", "server/discover"})
"""What says nothing that needs a decision."""

LISTS: Final = frozenset(
    {"prompts/list", "resources/list", "resources/templates/list", "tools/list"}
)
"""What is answered with as much as the caller may use."""

NOTIFICATIONS: Final = frozenset(
    {
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)
"""The protocol's own; others are dropped."""

TASKS: Final = frozenset({"tasks/cancel", "tasks/get", "tasks/update"})
"""What concerns a task of the caller's own; see `mcp_plugin.tasks`."""
