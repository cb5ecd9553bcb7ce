"""Waiting for a condition instead of for a time."""

import asyncio
import time

PATIENCE = 20.0
"""Seconds after which a condition that a test waits for counts as not met."""


async def until(condition, what, *, patience=PATIENCE):
    """Wait for a condition (a function, async or not) to hold, and return what it returned."""
    latest = time.monotonic() + patience
    while True:
        held = condition()
        if asyncio.iscoroutine(held):
            held = await held
        if held:
            return held
        assert time.monotonic() < latest, f"not within {patience} s: {what}"
        await asyncio.sleep(0.01)
