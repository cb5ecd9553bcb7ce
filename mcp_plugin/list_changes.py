"""Tells the sessions whose lists changed with the registry, and no others.

MCP, tools, resources and prompts (List Changed Notification). The notification says that a list
changed, and not what: the client lists again, and gets what it may see by then. Only sessions with
an open stream can be told, so only theirs are filtered again, and only two at a time: decisions
come first.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from cachetools import LRUCache

from mcp_plugin.http.request import Caller
from pdp_client import Action

_MOST: Final = 30_000
"""Lists that are remembered: three kinds for each session that the SDK allows."""

_AT_ONCE: Final = 2
_KINDS: Final = ("tool", "resource", "prompt")

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
        # Sessions see the same list, before it is filtered: it is kept once.
        self._lists: dict[str, Sequence[Action]] = {}
        self._streams: Counter[str] = Counter()
        self._running: asyncio.Task[None] | None = None
        self._due: set[str] = set()

    @contextmanager
    def streaming(self, session_id: str | None) -> Iterator[None]:
        """Know that a session has an open stream, until the context ends."""
        if session_id is None:
            yield
            return
        self._streams[session_id] += 1
        # What changed since the session listed, while it had no stream, could not be sent.
        self._examine_soon({session_id})
        try:
            yield
        finally:
            self._streams[session_id] -= 1
            if not self._streams[session_id]:
                del self._streams[session_id]

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
        if self._lists.get(kind) != actions:
            self._lists[kind] = actions
        actions = self._lists[kind]
        notify = getattr(session, f"send_{kind}_list_changed")
        self._listed[session_id, kind] = _Listed(caller, actions, shown, notify)

    def registry_moved(self) -> None:
        """Filter the lists again in the background, once more if that is under way already."""
        self._examine_soon(self._streams)

    def _examine_soon(self, sessions: Iterable[str]) -> None:
        listed = (one for one in sessions if any((one, kind) in self._listed for kind in _KINDS))
        self._due.update(listed)
        if self._due and (self._running is None or self._running.done()):
            self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while self._due:
            due, self._due = self._due, set()
            try:
                await self.examine(due)
            except Exception:  # noqa: BLE001 - the next change is to be told all the same
                _log.exception("mcp_auth.list_changed failed")

    async def examine(self, sessions: AbstractSet[str]) -> None:
        """Filter the lists of sessions again, and notify those for which they differ."""
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

        keys = ((session, kind) for session in sessions for kind in _KINDS)
        listed = [(key, self._listed[key]) for key in keys if key in self._listed]
        await asyncio.gather(*(examine(*one) for one in listed))
