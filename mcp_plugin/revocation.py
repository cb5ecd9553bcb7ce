"""What is running when access ends is ended: streams closed, calls cancelled, results withheld.

A call, a stream or a task was allowed by a decision at its start. While anything is open, the
registry's state is read several times a second; when it has moved, each credential with something
open is checked again. In `strict`, a stream is checked before each of its messages too.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Literal, TypeVar
from weakref import WeakKeyDictionary

import anyio

from mcp_plugin.context import proven
from mcp_plugin.exceptions import CallDenied
from mcp_plugin.http.request import Caller
from mcp_plugin.metrics import Metrics
from pdp_client import PDP, Action, Credential, Decision, Reason, ReasonClass
from pdp_client.freshness.cache import State, state_of
from pdp_client.reasons import quote

OnRevocation = Literal["end", "finish"]
"""`end`: what runs is ended when its credential is refused. `finish`: it runs to its end."""

POLL_EVERY: Final = 0.05
"""Seconds between two reads of the registry's state, while something is open."""

_CHECK_AT_LEAST_EVERY: Final = 15.0
"""Seconds after which a credential is checked although nothing moved: time ends credentials too."""

_BATCH: Final = 25
"""Credentials that are checked with one query."""

_AT_ONCE: Final = 2
"""Queries at once. More or larger ones would slow decisions down more than twofold."""

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class OpenWork:
    """A call, a stream or a task that is under way.

    Attributes:
        kind: `call`, `stream` or `task`.
        action: what it does.
        end: ends it; called at most once.
        reason: why it was ended; None while it may go on.
    """

    kind: str
    action: Action
    end: Callable[[], object] = field(repr=False)
    reason: Reason | None = None


@dataclass(slots=True)
class _Holder:
    """A credential with something open."""

    caller: Caller
    work: set[OpenWork] = field(default_factory=set)
    state: State | None = None
    checked_at: float = 0.0
    was_valid: bool = False
    opened_at: float = field(default_factory=time.monotonic)


class Revocations:
    """Knows what is open, for whom, and ends it.

    Attributes:
        on_new_state: called when the registry has moved while something is open.
    """

    def __init__(
        self, pdp: PDP, metrics: Metrics, *, requires_auth: bool, on_revocation: OnRevocation
    ) -> None:
        """Create it; nothing runs until something is open.

        Args:
            pdp: checks credentials.
            metrics: counts what was ended.
            requires_auth: whether callers that fail authentication are refused.
            on_revocation: with `finish` nothing is ended. Streams are still watched, because
                their sessions get `list_changed`.
        """
        self._ends = on_revocation == "end"
        self._pdp = pdp
        self._metrics = metrics
        self._requires_auth = requires_auth
        self.on_new_state: Callable[[], None] | None = None
        # A server may run event loops in several threads; each ends its own work.
        self._watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()

    @property
    def is_strict(self) -> bool:
        """Whether nothing may be sent after a revocation that has returned."""
        return self._ends and self._pdp.consistency == "strict"

    async def run(
        self,
        caller: Caller,
        action: Action,
        decision: Decision,
        call: Callable[[], Awaitable[Result]],
        *,
        may_cut: bool = True,
    ) -> Result:
        """Run a call; cancel it, or withhold its result, when its caller is refused meanwhile.

        Args:
            caller: the caller of the request.
            action: what it does.
            decision: the decision that it runs on.
            call: runs it.
            may_cut: whether it may be cancelled; otherwise only its result is withheld.

        Raises:
            CallDenied: access ended while it ran.
        """
        if not self._ends or caller.bearer is None or proven(decision) is None:
            return await call()
        with anyio.CancelScope() as scope:
            work = OpenWork("call", action, scope.cancel if may_cut else lambda: None)
            with self.opened(caller, work, decision=decision):
                result = await call()
        if work.reason is not None:
            raise CallDenied(Decision.refused(work.reason))
        return result

    @contextmanager
    def opened(
        self,
        caller: Caller,
        work: OpenWork,
        *,
        decision: Decision | None = None,
        was_valid: bool = False,
    ) -> Iterator[OpenWork]:
        """Watch over something until the context ends.

        Args:
            caller: whose it is; it has a bearer.
            work: what it is.
            decision: the decision that it runs on, if there is one.
            was_valid: whether the bearer was checked just now.
        """
        watch = self._watch()
        key = sha256((caller.bearer or "").encode()).digest()
        holder = watch.holders.get(key)
        if is_new := holder is None:
            holder = watch.holders[key] = _Holder(caller)
        holder.work.add(work)
        if decision is not None:
            holder.was_valid = True
        # A decision of another state than the last check may have been overtaken by a revocation.
        state = state_of(decision) if decision is not None else None
        if is_new:
            holder.state, holder.checked_at = state, time.monotonic()
        elif state != holder.state:
            holder.state = None
        holder.was_valid = holder.was_valid or was_valid or self._requires_auth
        watch.start()
        try:
            yield work
        finally:
            holder.work.discard(work)
            if not holder.work and watch.holders.get(key) is holder:
                del watch.holders[key]

    def _watch(self) -> "_Watch":
        loop = asyncio.get_running_loop()
        watch = self._watches.get(loop)
        if watch is None:
            watch = self._watches[loop] = _Watch(self)
        return watch

    async def is_valid(self, caller: Caller) -> bool:
        """Return whether a caller's bearer is known to be valid now."""
        if self._requires_auth:
            return True
        _, reason = await self._pdp.authenticate(caller.bearer, transport=caller.transport)
        return reason is Reason.OK

    async def is_refused(self, caller: Caller) -> Reason | None:
        """Return why a caller is refused now; None if it is not, or that cannot be determined."""
        _, reason = await self._pdp.authenticate(caller.bearer, transport=caller.transport)
        return reason if _refuses(reason) else None

    def end(self, work: OpenWork, reason: Reason, credential: Credential | None) -> None:
        """End something, record and count it."""
        if work.reason is not None or not self._ends:
            return
        work.reason = reason
        _log.info(
            "mcp_auth.ended kind=%s name=%s reason=%s",
            work.kind, quote(work.action.name or work.action.method), reason,
        )  # fmt: skip
        self._metrics.ended(work.kind, reason)
        self._pdp.record_end(work.action, reason, credential=credential)
        try:
            work.end()
        except Exception:  # noqa: BLE001 - the others are to be ended too
            _log.exception("mcp_auth.ended kind=%s could not be ended", work.kind)

    async def state(self) -> State | None:
        """Return the registry's state; None in an outage."""
        return await self._pdp.registry_state()

    async def examine(self, holders: Sequence[_Holder], state: State) -> None:
        """Check credentials with one query, and end what is open for those that are refused.

        Args:
            holders: the credentials; all came over the same transport.
            state: the registry's state, or an older one.
        """
        transport = holders[0].caller.transport
        if len(holders) == 1:
            checked = [await self._pdp.authenticate(holders[0].caller.bearer, transport=transport)]
        else:
            bearers = [one.caller.bearer or "" for one in holders]
            checked, checked_in = await self._pdp.authenticate_all(bearers, transport=transport)
            if any(reason is Reason.UNAVAILABLE for _, reason in checked):
                # One of them may be at fault: that must not keep the others open.
                middle = len(holders) // 2
                await self.examine(holders[:middle], state)
                await self.examine(holders[middle:], state)
                return
            state = checked_in or state
        for holder, (credential, reason) in zip(holders, checked, strict=True):
            if _refuses(reason) and holder.was_valid:
                for work in [*holder.work]:
                    self.end(work, reason, credential)
            if _refuses(reason) or reason is Reason.OK:
                holder.was_valid = holder.was_valid or reason is Reason.OK
                holder.state, holder.checked_at = state, time.monotonic()


class _Watch:
    """The watch over the open work of one event loop."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations
        self._task: asyncio.Task[None] | None = None
        self._state: State | None = None
        self.holders: dict[bytes, _Holder] = {}

    def start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="lictor-watch")

    async def _run(self) -> None:
        """Check what is open until nothing is."""
        while self.holders:
            await asyncio.sleep(POLL_EVERY)
            try:
                await self._look()
            except Exception:  # noqa: BLE001 - the watch must go on, whatever happens
                _log.exception("mcp_auth.watch failed; it goes on")

    async def _look(self) -> None:
        # Most calls end before it is worth asking.
        latest = time.monotonic() - POLL_EVERY
        lasting = [one for one in self.holders.values() if one.opened_at <= latest]
        state = await self._revocations.state() if lasting else None
        if state is None:
            return
        # Many idle credentials are checked for the time's sake more slowly.
        oldest = time.monotonic() - max(_CHECK_AT_LEAST_EVERY, len(self.holders) / 50)
        due = [one for one in lasting if one.state != state or one.checked_at < oldest]
        slots = asyncio.Semaphore(_AT_ONCE)

        async def examine(holders: Sequence[_Holder]) -> None:
            async with slots:
                await self._revocations.examine(holders, state)

        await asyncio.gather(*map(examine, _batches(due)))
        if state != self._state:
            self._state = state
            # At the first look too: the registry may have moved since something was opened.
            if self._revocations.on_new_state is not None:
                self._revocations.on_new_state()


def _batches(holders: Sequence[_Holder]) -> Iterator[Sequence[_Holder]]:
    """Split holders into batches, each of one transport."""
    by_transport: dict[str, list[_Holder]] = {}
    for one in holders:
        by_transport.setdefault(one.caller.transport, []).append(one)
    for same in by_transport.values():
        for start in range(0, len(same), _BATCH):
            yield same[start : start + _BATCH]


def may_cut(meta: Any) -> bool:
    """Return whether a tool may be cancelled half-way, as its `_meta` says.

    Args:
        meta: the tool's; `{"lictor": {"on_revocation": "finish"}}` says no.
    """
    said = meta.get("lictor") if isinstance(meta, Mapping) else None
    return not (isinstance(said, Mapping) and said.get("on_revocation") == "finish")


def _refuses(reason: Reason) -> bool:
    return reason.reason_class is ReasonClass.AUTHENTICATION or reason is Reason.LOCKDOWN
