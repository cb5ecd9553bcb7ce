"""Decisions that hold until something changes, and questions that are being asked already.

A decision is remembered for one state: epoch, revision, and the revisions of both bundles of rules.
Whoever asks says which state the registry is known to be in now; another state than before empties
the cache. Time ends a decision too, but never makes one good: that is for the known state alone.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from pdp_client.decision import Action, Context, Decision

_MOST = 10_000
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))

State: TypeAlias = tuple[int, int, str, str]
"""Epoch, revision, and the revisions of the product's and of the site's rules."""

Question: TypeAlias = tuple[str, Context, str]
"""All of a verified question that an answer may depend on."""


def question(
    canonical: str, action: Action, context: Context, *, arguments: bool
) -> Question | None:
    """What a decision is remembered by.

    Args:
        canonical: the credential.
        action: what is asked for.
        context: where.
        arguments: whether rules read the call's arguments.

    Returns:
        None where what counts of the action is no JSON: there is nothing to remember it by.
    """
    try:
        said = _ENCODER.encode(action.as_input(arguments=arguments))
    except (TypeError, ValueError, RecursionError):
        return None
    return (canonical, context, said)


@dataclass(frozen=True, slots=True)
class _Entry:
    decision: Decision
    at: float
    until: float


class DecisionCache:
    """Decisions by question, for one state. For one event loop.

    Attributes:
        hits: questions that were answered from it.
        joined: questions that waited for an equal one's answer.
    """

    def __init__(self, *, most: int = _MOST, clock: Callable[[], float] = time.time) -> None:
        """Start with none.

        Args:
            most: decisions remembered; the one that came first goes first.
            clock: seconds since 1970.
        """
        self._most = most
        self._clock = clock
        self._state: State | None = None
        self._entries: dict[Question, _Entry] = {}
        self._flights: dict[tuple[State, Question], asyncio.Future[Decision]] = {}
        self.hits = self.joined = 0

    def get(self, state: State, asked: Question) -> tuple[Decision, int | None] | None:
        """What is known of a question in the state that the registry is in now.

        Returns:
            The decision, which says that it is remembered, and the age of its data by now, in
            milliseconds; None where nothing is known.
        """
        if state != self._state:
            self._entries.clear()
            self._state = state
            return None
        entry = self._entries.get(asked)
        if entry is None:
            return None
        now = self._clock()
        if not entry.at <= now < entry.until:  # a clock that was set back tells nothing
            del self._entries[asked]
            return None
        self.hits += 1
        age = entry.decision.data_age_ms
        return entry.decision, None if age is None else age + round((now - entry.at) * 1000)

    async def ask(
        self, state: State, asked: Question, ask: Callable[[], Awaitable[Decision]]
    ) -> Decision:
        """Ask, or wait for the answer to an equal question that was asked in the same state.

        Raises:
            PDPError: as `ask`; whoever waits for it gets the same.
        """
        flight = self._flights.get((state, asked))
        if flight is None:
            # A task of its own: who asked first may hang up, and the others are still waiting.
            flight = asyncio.ensure_future(ask())
            self._flights[state, asked] = flight
            flight.add_done_callback(lambda done: self._landed(state, asked, done))
        else:
            self.joined += 1
        return await asyncio.shield(flight)

    async def aclose(self) -> None:
        """Wait for what is being asked: each question has its deadline, and somebody waiting."""
        await asyncio.gather(*self._flights.values(), return_exceptions=True)

    def _landed(self, state: State, asked: Question, flight: "asyncio.Future[Decision]") -> None:
        del self._flights[state, asked]
        # An error that nobody waits for any more is nobody's.
        if not flight.cancelled() and flight.exception() is None:
            self._put(asked, flight.result())

    def _put(self, asked: Question, decision: Decision) -> None:
        # Only what was made from the very state: an OPA may be ahead of what is known.
        made_from = (decision.epoch, decision.revision, decision.policy, decision.site)
        if decision.valid_until is None or made_from != self._state:
            return
        if len(self._entries) >= self._most:
            del self._entries[next(iter(self._entries))]
        remembered = replace(decision, cached=True)
        self._entries[asked] = _Entry(remembered, self._clock(), decision.valid_until)
