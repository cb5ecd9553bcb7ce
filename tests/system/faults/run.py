"""Run trials in several deployments at once. A deployment that a trial has spoilt is replaced."""

import asyncio
import logging
import tempfile
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bundles.opa.binary import find_opa

from .deployment import template
from .families import FAMILIES, MISSING
from .trial import Result, run_trial

_TRIALS = 100
"""Trials of one deployment. After each, the files are searched for the secrets of all trials so far."""


@asynccontextmanager
async def prepared(*, rules=""):
    """Prepare the state directory that deployments are copied from, in a temporary folder with all logs of this process.

    Args:
        rules: of the site, as Rego; by default it has none.
    """
    binary = await asyncio.to_thread(find_opa)
    with tempfile.TemporaryDirectory(prefix="lf-", dir="/tmp") as folder:
        yield binary, await template(Path(folder) / "s", binary, rules=rules)


async def run(names, seeds, *, deployments=1, brief=False, on_result=lambda _: None):
    """Run each named fault with each seed.

    Args:
        names: of rows.
        seeds: one trial of each fault for each seed.
        deployments: how many of a family run at once.
        brief: whether no fault is to last past the staleness limit.
        on_result: called with each result.

    Returns:
        All results.
    """
    results = []

    def add(result):
        results.append(result)
        on_result(result)

    async with prepared() as (binary, made), _everything_logged():
        # One family after another: a machine has room for so many processes only.
        for family in FAMILIES.values():
            mine = [name for name in names if name in family.faults]
            # By seed and then by name, so that what is cut short has seen every fault.
            trials = deque((family.faults[name], seed) for seed in seeds for name in mine)
            at_once = min(deployments, family.most, len(trials))
            await asyncio.gather(
                *(
                    _work(family, trials, add, binary=binary, made=made, brief=brief)
                    for _ in range(at_once)
                )
            )
    return results


async def _work(family, trials, add, *, binary, made, brief):
    while trials:
        async with AsyncExitStack() as exit_:
            try:
                deployment = await exit_.enter_async_context(family.deployment(binary, made))
            except MISSING as reason:
                while trials:
                    fault, seed = trials.popleft()
                    add(Result(fault.name, seed, skipped=str(reason)))
                return
            except Exception as error:  # noqa: BLE001 - as a trial's own, it is the result
                fault, seed = trials.popleft()
                add(
                    Result(
                        fault.name, seed, faults=[f"no deployment: {type(error).__name__}: {error}"]
                    )
                )
                continue
            logs = _log_into(deployment.folder / "pdp.log", exit_)
            logs.info("a deployment")
            for _ in range(_TRIALS):
                if not (trials and deployment.usable):
                    break
                fault, seed = trials.popleft()
                add(await run_trial(deployment, fault, seed, brief=brief))


@asynccontextmanager
async def _everything_logged():
    """Log everything, for the handlers of all deployments."""
    root, nowhere = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(nowhere)  # nor on standard error, while there is no deployment
    try:
        yield
    finally:
        root.removeHandler(nowhere)
        root.setLevel(level)


def _log_into(path, exit_):
    """All that this process logs, of all deployments: the PDPs are in it."""
    handler = logging.FileHandler(path)
    root = logging.getLogger()
    root.addHandler(handler)

    def end():
        root.removeHandler(handler)
        handler.close()

    exit_.callback(end)
    return logging.getLogger("tests.system.faults")
