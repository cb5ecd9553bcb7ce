"""Background tasks go on after any error, which is logged, counted and shown."""

import asyncio

import pytest
from support.waiting import until

from lictor_common.periodic import FaultLog

pytestmark = pytest.mark.anyio


async def test_task_runs_again_after_an_unexpected_error(caplog):
    faults, runs = FaultLog(), []

    async def job():
        runs.append(1)
        if len(runs) < 3:
            raise KeyError("a foreign value")
        await asyncio.Event().wait()

    running = asyncio.ensure_future(faults.keep_running("exchange", job, pause=0.001))
    await until(lambda: len(runs) == 3, "it runs again")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert faults.counts == {"exchange": 2}
    assert faults.problems() == ["task exchange: failed 2 times, last with KeyError; see the log"]
    assert caplog.text.count("task.failed task=exchange error=KeyError") == 2


def test_error_is_shown_for_ten_minutes():
    now = [0.0]
    faults = FaultLog(clock=lambda: now[0])
    faults.add("exchange", ValueError())
    now[0] = 599.0
    assert faults.problems()
    now[0] = 601.0
    assert faults.problems() == []
    assert faults.counts == {"exchange": 1}
