"""For the test files: one seed of each fault of a file, in several deployments at once."""

import asyncio

import pytest

from .run import run

SEED = 1
# A trial mostly waits; more of them at once would delay each other.
DEPLOYMENTS = 2


def results_of(request):
    """Fault to its result, for what is selected of a test file."""
    names = [
        item.callspec.params["fault"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    found = asyncio.run(run(names, [SEED], deployments=DEPLOYMENTS, brief=True))
    return {result.fault: result for result in found}


def judge(result):
    """Fail with all that was wrong in a trial."""
    if result.skipped:
        # No Neo4j here, no right to mount, a Redis that is not ours to kill: see `families.MISSING`.
        pytest.skip(result.skipped)
    # Other tests run at the same time: `make faults` is what holds recovery to its seconds.
    assert not result.faults, (
        f"{result.fault}, {result.change}: {sorted(set(result.faults))}; said {result.reasons}"
    )
