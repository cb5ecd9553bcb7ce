"""A process that requests decisions, so that what is measured does not share its interpreter.

It does what its standard input says, line by line: so many callers at once (`closed`), or a steady
rate whether earlier responses are there or not (`open`). In an open loop a decision's time counts
from the moment at which it was due, so that no delay of the process itself is left out.
"""

import asyncio
import json
import logging
import resource
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

from bundles.opa.server import client_token_file
from lictor.keys import KeyFolder
from pdp_client import PDP

_BEHIND = 0.25
"""Seconds' worth of decisions under way at which an open loop gives up: the rate is too high."""


async def closed(pdp, bearer, *, callers, seconds):
    """So many callers, each with the next decision as soon as it has one."""
    taken, ends = [], time.monotonic() + seconds

    async def loop():
        while time.monotonic() < ends:
            began = time.perf_counter()
            decision = await pdp.authorize(bearer, tool="search")
            assert decision.allow, decision.reason
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(loop() for _ in range(callers)))
    return taken, 0


async def opened(pdp, bearer, *, rate, seconds):
    """Decisions at a steady rate."""
    taken, failed, tasks = [], 0, set()

    async def one(due):
        nonlocal failed
        decision = await pdp.authorize(bearer, tool="search")
        failed += not decision.allow
        taken.append(time.perf_counter() - due)

    began = time.perf_counter()
    for n in range(int(rate * seconds)):
        due = began + n / rate
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        if len(tasks) > max(20, _BEHIND * rate):
            failed += int(rate * seconds) - n
            break
        task = asyncio.ensure_future(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if n % 16 == 15:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return taken, failed


async def serve(config):
    # What a rate that is too high leads to is counted, not logged.
    logging.getLogger("pdp_client").setLevel(logging.CRITICAL)
    loop = asyncio.get_running_loop()
    async with PDP(
        opa_url=config["opa"],
        opa_token_file=config["token"],
        verifier=KeyFolder(Path(config["keys"])).verifier(),
        deadline=5,
    ) as pdp:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            command = json.loads(line)
            way = {"closed": closed, "open": opened}[command.pop("do")]
            cpu = _cpu()
            began = time.monotonic()
            taken, failed = await way(pdp, command.pop("bearer"), **command)
            print(
                json.dumps(
                    {
                        "seconds": time.monotonic() - began, "cpu": _cpu() - cpu,
                        "failed": failed, "ms": sorted(round(1000 * one, 3) for one in taken),
                    }
                ),
                flush=True,
            )  # fmt: skip


def _cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Load:
    """The process, as its parent has it."""

    def __init__(self, process):
        self._process = process

    async def request(self, **command):
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def load_process(made):
    """A process that loads the OPA of a deployment."""
    config = {
        "opa": made.opa.address,
        "token": str(client_token_file(made.opa.folder)),
        "keys": str(made.settings.keys),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.decision_load", json.dumps(config),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 26,
    )  # fmt: skip
    try:
        yield Load(process)
    finally:
        process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
