"""How far an OPA has got, and who asks it: of all that wait for it, one at a time.

When many wait, and each asked again and again, OPA would be busy answering that it is busy.
"""

import asyncio
from typing import TypeAlias

Stamp: TypeAlias = tuple[int, int]
"""Epoch and revision."""


class Progress:
    """What answers have shown of one OPA, and the turn to ask it. For one event loop.

    Attributes:
        reached: the newest state that an answer was made from.
    """

    def __init__(self) -> None:
        self.reached: Stamp = (0, 0)
        self._taken = False
        self._waiting: dict[asyncio.Future[None], Stamp] = {}

    def show(self, stamp: Stamp) -> None:
        """Note what an answer was made from, and let go on who waited for that."""
        self.reached = max(self.reached, stamp)
        for future, wanted in self._waiting.items():
            if wanted <= self.reached and not future.done():
                future.set_result(None)

    async def turn(self, wanted: Stamp, *, latest: float) -> bool:
        """Wait until OPA has reached a state, or it is the caller's turn to ask.

        Args:
            wanted: the state.
            latest: when to give up, by the event loop's clock.

        Returns:
            True when it is the caller's turn, who must `pass_on` it. False when the state was
            reached, or time is up.
        """
        while self._taken and self.reached < wanted:
            future = asyncio.get_running_loop().create_future()
            self._waiting[future] = wanted
            try:
                async with asyncio.timeout_at(latest):
                    await future
            except TimeoutError:
                return False
            finally:
                del self._waiting[future]
        if self.reached >= wanted:
            return False
        self._taken = True
        return True

    def pass_on(self) -> None:
        """Let the next one ask."""
        self._taken = False
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
                return
