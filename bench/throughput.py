"""How many decisions a second: an open loop, and the CPU time that each takes.

The highest rate is searched at which 99 % of the decisions take 20 ms at most, each from the moment
when it was due. OPA, `lictor serve` and the process that requests them share the machine.
"""

import asyncio
import os
from pathlib import Path

from bench.fleet import percentile
from bench.load import load_process
from bench.plots import lines
from bench.questions import TIMED
from bench.sampling import median

TITLE = "Throughput"
ABOUT = (
    "One process requests decisions of one OPA at a steady rate (an open loop). The highest rate "
    "at which p99 is 20 ms at most is searched; a decision's time counts from the moment when it "
    "was due. CPU times are those of a rate that the machine can keep."
)
SECONDS = 90

LIMIT_MS = 20.0
_LOW, _HIGH = 50, 6400
_STEP = 1.15
_SECONDS = 2.0
_DRAINED = 1.0
_TRIES = 3
_STEADY = 150


async def measure(bench):
    """The highest rate for a token and a team, and CPU per decision."""
    rows, curve = [], []
    async with load_process(bench.made) as load:
        for kind in TIMED:
            bearer = bench.asked[kind].bearer
            await load.tell(do="open", bearer=bearer, rate=_LOW, seconds=1)
            low, high = await _highest(bench, load, kind, bearer, curve)
            rows.append(
                {
                    "group": "highest rate with p99 ≤ 20 ms", "name": kind, "n": _TRIES,
                    "unit": "decisions/s", "value": low, "low": low, "high": high,
                    "note": "held in two of three tries; the upper end is the lowest rate that "
                    "did not hold",
                }
            )  # fmt: skip
            rows += await _cpu(bench, load, kind, bearer)
    return {"rows": rows, "curve": curve, "ratios": [], "missing": {}}


async def _highest(bench, load, kind, bearer, curve):
    """Double the rate until it is too high, then halve the interval."""

    async def holds(rate):
        # Something else on this machine can spoil a try, or luck save one.
        held = []
        while held.count(True) < 2 and held.count(False) < 2:
            found = await _run(load, bearer, rate)
            held.append(found["p99"] <= LIMIT_MS and not found["failed"])
            curve.append({"kind": kind, "rate": round(rate), **found})
            bench.progress(f"{kind}, {rate:.0f}/s: p99 {found['p99']:.1f} ms; try", len(curve))
            if not held[-1]:
                await asyncio.sleep(_DRAINED)
        return held.count(True) == 2

    low, high = 0, _LOW
    while high < _HIGH and await holds(high):
        low, high = high, high * 2
    while low and high / low > _STEP:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if await holds(middle) else (low, middle)
    return low, high


async def _run(load, bearer, rate):
    found = await load.tell(do="open", bearer=bearer, rate=rate, seconds=_SECONDS)
    return {
        "p50": percentile(found["ms"], 50), "p99": percentile(found["ms"], 99),
        "failed": found["failed"],
    }  # fmt: skip


async def _cpu(bench, load, kind, bearer):
    pid, opa, client = bench.made.opa_process.pid, [], []
    for number in range(6):
        before = cpu_seconds(pid)
        found = await load.tell(do="open", bearer=bearer, rate=_STEADY, seconds=_SECONDS)
        opa.append(1e6 * (cpu_seconds(pid) - before) / len(found["ms"]))
        client.append(1e6 * found["cpu"] / len(found["ms"]))
        bench.progress(f"CPU time of a decision, {kind}", number)
    group = f"CPU time of a decision, at {_STEADY}/s"
    return [
        {
            "group": group, "name": f"{name}, {kind}", "unit": "µs", "note": note,
            **median(taken).as_json(),
        }
        for name, taken, note in (
            ("OPA", opa, "with Go's collector, and the activation of a heartbeat every 5 s"),
            ("the client", client, "the whole process that requests decisions"),
        )
    ]  # fmt: skip


def cpu_seconds(pid):
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plot(part, folder):
    """p99 by rate."""
    path = folder / "throughput.svg"
    series = {
        kind: sorted(
            (one["rate"], one["p99"]) for one in part["curve"] if one["kind"] == kind
        )
        for kind in TIMED
    }  # fmt: skip
    title = "p99 of a decision by the rate of an open loop, each try"
    lines(
        path,
        series,
        x="decisions per second",
        y="p99, ms",
        title=title,
        joined=False,
        level=LIMIT_MS,
    )
    yield path, title
