"""From a question to an answer that is recent enough: one that is remembered, or OPA's."""

import asyncio
from collections.abc import Awaitable, Callable

from pdp_client.cache import Answer, AnswerCache, Question, State
from pdp_client.newest import Newest, NewestRevision
from pdp_client.progress import Stamp


class Answers:
    """Holds answers to the state that the registry is known to be in, at one consistency."""

    def __init__(
        self,
        newest: NewestRevision | None,
        *,
        strict: bool,
        deadline: float,
        reached: Callable[[], Stamp],
    ) -> None:
        """Take what tells how far things are.

        Args:
            newest: knows how far the registry has got; None remembers nothing.
            strict: ask it before each answer.
            deadline: seconds for an answer that several wait for.
            reached: the newest state that OPA has answered from.
        """
        self._newest = newest
        self._strict = strict
        self._deadline = deadline
        self._reached = reached

    async def get(
        self,
        cache: AnswerCache[Answer] | None,
        asked: Question | None,
        ask: Callable[[Stamp | None], Awaitable[Answer]],
    ) -> tuple[Answer, int]:
        """What is remembered, or else what OPA says.

        Args:
            cache: remembers; None asks each time.
            asked: what it is remembered by; None where it may not be.
            ask: asks OPA, for an answer that is made from this state at least.

        Returns:
            The answer, and the milliseconds since it was given.

        Raises:
            PDPError: there is none, or nobody can say what it has to be made from.
            TimeoutError: somebody else who waits for it has asked, and OPA took too long.
        """
        newest = await self._newest.read() if self._strict and self._newest else None
        at_least = newest.stamp if newest else None

        async def ask_for_all() -> Answer:
            # Whoever waits for the answer has a deadline too, but it outlives each of them.
            async with asyncio.timeout(self._deadline):
                return await ask(at_least)

        if cache is None:
            return await ask(at_least), 0
        state = self._state(newest) if newest else self.known()
        if asked is None or state is None:
            return await ask(at_least), 0
        return cache.get(state, asked) or (await cache.ask(state, asked, ask_for_all), 0)

    def known(self) -> State | None:
        """The state that the registry is known to be in, without asking; in `strict`, None."""
        if self._strict or self._newest is None:
            return None
        self._newest.watch()
        newest = self._newest.known()
        return self._state(newest) if newest else None

    def _state(self, newest: Newest) -> State | None:
        # Redis may be told late. What OPA has said meanwhile ends what was remembered before.
        return newest.state if newest.stamp >= self._reached() else None
