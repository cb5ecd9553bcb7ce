"""Answers that hold until something changes, and questions that are being asked already.

An answer is remembered for one state: epoch, revision, and the revisions of both bundles of rules.
Whoever asks says which state the registry is known to be in now; another state than before empties
the cache. Time ends an answer too, but never makes one good: that is for the known state alone.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Generic, TypeAlias, TypeVar

from pdp_client.decision import Action, Context, Decision, Visible

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))

State: TypeAlias = tuple[int, int, str, str]
"""Epoch, revision, and the revisions of the product's and of the site's rules."""

Question: TypeAlias = tuple[str, Context, str]
"""All of a verified question that an answer may depend on."""

Answer = TypeVar("Answer", Decision, Visible)


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
    said = _text(action.as_input(arguments=arguments))
    return None if said is None else (canonical, context, said)


def list_question(canonical: str, actions: Sequence[Action], context: Context) -> Question | None:
    """What a list's answer is remembered by: the SHA-256 of its actions, which are many.

    Args:
        canonical: the credential.
        actions: what is asked about.
        context: where.

    Returns:
        None, as `question`.
    """
    said = _text([action.as_input() for action in actions])
    return None if said is None else (canonical, context, sha256(said.encode()).hexdigest())


def _text(value: Any) -> str | None:
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Answer]):
    answer: Answer
    at: float
    until: float


class AnswerCache(Generic[Answer]):
    """Answers of one kind by question, for one state. For one event loop.

    Attributes:
        hits: questions that were answered from it.
        joined: questions that waited for an equal one's answer.
    """

    def __init__(self, *, most: int, clock: Callable[[], float] = time.time) -> None:
        """Start with none.

        Args:
            most: answers remembered; the one that came first goes first.
            clock: seconds since 1970.
        """
        self._most = most
        self._clock = clock
        self._state: State | None = None
        self._entries: dict[Question, _Entry[Answer]] = {}
        self._flights: dict[tuple[State, Question], asyncio.Future[Answer]] = {}
        self.hits = self.joined = 0

    def get(self, state: State, asked: Question) -> tuple[Answer, int] | None:
        """What is known of a question in the state that the registry is in now.

        Returns:
            The answer, which says that it is remembered, and the milliseconds since it was made;
            None where nothing is known.
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
        return entry.answer, round((now - entry.at) * 1000)

    async def ask(
        self, state: State, asked: Question, ask: Callable[[], Awaitable[Answer]]
    ) -> Answer:
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

    def _landed(self, state: State, asked: Question, flight: "asyncio.Future[Answer]") -> None:
        del self._flights[state, asked]
        # An error that nobody waits for any more is nobody's.
        if not flight.cancelled() and flight.exception() is None:
            self._put(asked, flight.result())

    def _put(self, asked: Question, answer: Answer) -> None:
        # Only what was made from the very state: an OPA may be ahead of what is known.
        made_from = (answer.epoch, answer.revision, answer.policy, answer.site)
        if answer.valid_until is None or made_from != self._state:
            return
        if len(self._entries) >= self._most:
            del self._entries[next(iter(self._entries))]
        remembered = replace(answer, cached=True)
        self._entries[asked] = _Entry(remembered, self._clock(), answer.valid_until)
