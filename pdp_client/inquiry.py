"""Questions to OPA until it answers from what the asker knows to exist, or time is up.

What was seen is never unseen: an answer from an older state of the registry is no answer. In
`strict` the asker also says which state it must be at least.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pdp_client.decision import Action, Context, Decision, Visible
from pdp_client.progress import Progress, Stamp
from pdp_client.reading import read_decision, read_visible
from pdp_client.reasons import Reason
from pdp_client.roads import Road, Rule

CATCH_UP = 0.25
"""Seconds for which an OPA that is behind is asked again."""

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.002, 0.02, 1.5

Answer = TypeVar("Answer", Decision, Visible)


class Inquiry:
    """Asks one OPA, or several that stand behind one address.

    Attributes:
        newest: epoch and revision of the newest state that an answer was made from.
    """

    def __init__(self, road: Road, *, catch_up: float = CATCH_UP) -> None:
        """Ask nothing yet.

        Args:
            road: the way to OPA.
            catch_up: seconds for which an OPA that is behind is asked again.
        """
        self._road = road
        self._catch_up = catch_up
        self.newest: Stamp = (0, 0)
        self._progress = Progress()

    async def decision(
        self,
        credential: Mapping[str, Any],
        action: Action,
        context: Context,
        *,
        arguments: bool,
        at_least: Stamp | None = None,
    ) -> Decision:
        """Ask for a decision.

        Args:
            credential: as OPA is asked about it.
            action: what is asked for.
            context: where.
            arguments: whether to send those of the action.
            at_least: the state that the answer must be made from, in `strict`.

        Raises:
            PDPError: there was no answer, or none that can be used.
        """
        asked = action.as_input(arguments=arguments)

        async def ask(bound: Mapping[str, int]) -> Decision:
            result = await self._ask("decision", credential, context, bound, action=asked)
            return read_decision(result, shadow=context.shadow)

        decision = await self._caught_up(ask, at_least)
        if decision.reason is not Reason.BEHIND:
            return decision
        return replace(
            Decision.refused(Reason.BEHIND),
            epoch=decision.epoch,
            revision=decision.revision,
            uses_arguments=decision.uses_arguments,
        )

    async def visible(
        self,
        credential: Mapping[str, Any],
        actions: Sequence[Action],
        context: Context,
        *,
        at_least: Stamp | None = None,
    ) -> Visible:
        """Ask which of these actions show, with one query.

        Raises:
            PDPError: as `decision`.
        """
        asked = [action.as_input() for action in actions]

        async def ask(bound: Mapping[str, int]) -> Visible:
            result = await self._ask("visible", credential, context, bound, actions=asked)
            return read_visible(result, count=len(actions))

        visible = await self._caught_up(ask, at_least)
        if visible.reason is not Reason.BEHIND:
            return visible
        return Visible(indices=(), reason=Reason.BEHIND)

    async def _caught_up(
        self, ask: Callable[[Mapping[str, int]], Awaitable[Answer]], at_least: Stamp | None
    ) -> Answer:
        """Ask until the answer is not behind, or the time for that is up."""
        now = asyncio.get_running_loop().time
        latest, pause = now() + self._catch_up, _FIRST_PAUSE
        asks_for_all = False
        try:
            while True:
                # As of before the question. Answers overtake each other: one that is older than
                # another which came back meanwhile is no sign of an older OPA.
                wanted = self.newest if at_least is None else max(self.newest, at_least)
                answer = self._placed(await ask(_bound(wanted) if at_least else {}), wanted)
                if answer.reason is not Reason.BEHIND or now() + pause > latest:
                    return answer
                if not asks_for_all and self._progress.reached < wanted:
                    asks_for_all = await self._progress.turn(wanted, latest=latest)
                    if not asks_for_all:
                        continue
                await asyncio.sleep(pause)
                pause = min(pause * _GROWTH, _LONGEST_PAUSE)
        finally:
            if asks_for_all:
                self._progress.pass_on()

    def _placed(self, answer: Answer, wanted: Stamp) -> Answer:
        """The answer, which is `behind` where it was made from less than was wanted."""
        if answer.epoch is None or answer.revision is None:
            return answer
        stamp = answer.epoch, answer.revision
        self._progress.show(stamp)
        if stamp < wanted:
            return replace(answer, reason=Reason.BEHIND)
        if answer.reason is not Reason.BEHIND:
            self.newest = max(self.newest, stamp)
        return answer

    async def _ask(
        self,
        rule: Rule,
        credential: Mapping[str, Any],
        context: Context,
        bound: Mapping[str, int],
        **actions: Any,
    ) -> Any:
        asked = {"credential": credential, "context": context.as_input(), **actions, **bound}
        return await self._road.ask(rule, asked)


def _bound(stamp: Stamp) -> dict[str, int]:
    return {"min_epoch": stamp[0], "min_revision": stamp[1]}
