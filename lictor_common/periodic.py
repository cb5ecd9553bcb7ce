"""Jobs that run again and again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def run_periodically(
    job: Callable[[], Awaitable[object]],
    *,
    every: float | Callable[[], float] = 0.0,
    pause: float = 0.0,
    on_error: Callable[[Any], None],
    catch: type[Exception] = Exception,
) -> None:
    """Run a job until cancelled.

    Args:
        job: what to run.
        every: seconds before each run.
        pause: seconds after a failure, in addition.
        on_error: called with each error after which the job runs again.
        catch: the class of these errors; others end the loop.
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
