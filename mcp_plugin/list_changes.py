"""Tells the sessions whose lists changed with the registry, and no others.

MCP, tools, resources and prompts (List Changed Notification). The notification says that a list
changed, and not what: the client lists again, and gets what it may see by then.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cachetools import LRUCache

from mcp_plugin.http.request import Caller
from pdp_client import Action

_MOST: Final = 30_000
"""Lists that are remembered: three kinds for each session that the SDK allows."""

_AT_ONCE: Final = 16

Visible = Callable[[Caller, Sequence[Action]], Awaitable[frozenset[int]]]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Listed:
    """A list as one session saw it last."""

    caller: Caller
    actions: Sequence[Action] = field(repr=False)
    shown: frozenset[int]
    notify: Callable[[], Awaitable[None]] = field(repr=False)


class ListChanges:
    """The lists that sessions have seen, which are filtered again when the registry moves."""

    def __init__(self, visible: Visible) -> None:
        """Create it without any list.

        Args:
            visible: filters a list for a caller.
        """
        self._visible = visible
        self._listed: LRUCache[tuple[str, str], _Listed] = LRUCache(_MOST)

    def remember(
        self,
        session_id: str,
        kind: str,
        *,
        caller: Caller,
        actions: Sequence[Action],
        shown: frozenset[int],
        session: Any,
    ) -> None:
        """Remember what a session was shown.

        Args:
            session_id: the session's id; it stays the same between requests.
            kind: `tool`, `resource` or `prompt`.
            caller: whose session it is.
            actions: the actions of using each entry of the list.
            shown: the positions that were shown.
            session: the SDK's server session, which sends notifications.
        """
        notify = getattr(session, f"send_{kind}_list_changed")
        self._listed[session_id, kind] = _Listed(caller, actions, shown, notify)

    async def examine(self) -> None:
        """Filter each remembered list again, and notify the sessions for which it differs."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def examine(key: tuple[str, str], listed: _Listed) -> None:
            async with slots:
                shown = await self._visible(listed.caller, listed.actions)
                if shown == listed.shown or self._listed.get(key) is not listed:
                    return
                listed.shown = shown
                try:
                    await listed.notify()
                except Exception as error:  # noqa: BLE001 - the session may be gone
                    self._listed.pop(key, None)
                    _log.debug("mcp_auth.list_changed error=%s", type(error).__name__)

        await asyncio.gather(*(examine(*item) for item in [*self._listed.items()]))
