"""Jobs that run again and again, whatever happens."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

_SHOWN_FOR = 600.0
"""Seconds for which an unexpected error is a problem to show."""

_log = logging.getLogger(__name__)


async def run_periodically(
    job: Callable[[], Awaitable[object]],
    *,
    every: float | Callable[[], float] = 0.0,
    pause: float = 0.0,
    on_error: Callable[[Any], None],
    catch: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> None:
    """Run a job until cancelled.

    Args:
        job: what to run.
        every: seconds before each run.
        pause: seconds after a failure, in addition.
        on_error: called with each error after which the job runs again.
        catch: the classes of these errors; others end the loop.
    """
    task = asyncio.current_task()
    # A job may lose a cancellation, as `asyncio.wait_for` does before Python 3.12.
    while not (task and task.cancelling()):
        if seconds := every() if callable(every) else every:
            await asyncio.sleep(seconds)
        try:
            await job()
        except catch as error:
            on_error(error)
            if pause:
                await asyncio.sleep(pause)


class FaultLog:
    """Unexpected errors of background tasks: logged, counted, shown for a while, and survived.

    Attributes:
        counts: the number of errors, by the task's name.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Create an empty log.

        Args:
            clock: seconds that never go back.
        """
        self._clock = clock
        self._last: dict[str, tuple[float, str]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, task: str, error: BaseException) -> None:
        """Log and count an error; its text is not shown, as it may quote foreign values."""
        self.counts[task] += 1
        self._last[task] = self._clock(), type(error).__name__
        _log.error("task.failed task=%s error=%s", task, type(error).__name__, exc_info=error)

    def problems(self) -> list[str]:
        """Return the tasks that failed in the last ten minutes, a line each."""
        oldest = self._clock() - _SHOWN_FOR
        return [
            f"task {task}: failed {self.counts[task]} times, last with {kind}; see the log"
            for task, (at, kind) in self._last.items()
            if at >= oldest
        ]

    async def keep_running(
        self, task: str, job: Callable[[], Awaitable[object]], *, pause: float = 1.0
    ) -> None:
        """Run a job until cancelled, and again after each error.

        Args:
            task: its name, in the log and in metrics.
            job: what to run; it does not end by itself.
            pause: seconds after an error.
        """
        await run_periodically(job, pause=pause, on_error=partial(self.add, task))
