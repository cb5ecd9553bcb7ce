"""The rate of calls that the example MCP server holds, and what happens at 2 and 5 times it.

Starts `lictor serve`, OPA and the example server, with the decision cache off and on, and a process
that calls `search` at a steady rate. A rate is held when p99 is 50 ms at most and no call of a
caller with access is refused. Under overload, refusals must be `unavailable`, each decided within
the PDP's deadline; a token that was revoked before or meanwhile must never be served; and calls
must be served normally again within 2 s of the end of the load. Exits with 1 if not.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from bench.call_load import MOST_UNDER_WAY, NORMAL, call_load
from bench.example import Example
from bench.fleet import percentile, say
from bench.tables import table
from pdp_client.pdp import DEADLINE
from tests.support.waiting import until

P99 = 50.0
RECOVERY = 2.0
MARGIN = 0.5
"""Seconds beyond its deadline that a refusal may take on a machine that is shared."""

_CALLERS, _LOWEST, _STEP, _HIGHEST = 8, 20, 1.5, 2000
_REVOKED, _ENDED = "revoked", "revoked meanwhile"


class Measured:
    """An example server under load."""

    def __init__(self, example, load, callers):
        self.example, self.load, self.callers = example, load, callers

    async def held_rate(self, seconds):
        """The highest of the rates tried that is held, or None; a rate may fail once."""
        held, rate = None, _LOWEST
        while rate <= _HIGHEST:
            for _ in range(2):
                row = summary(await self._run(rate, seconds, self.callers))
                if row["p99_ms"] <= P99 and row["ok"] == row["due"]:
                    break
                say(f"{rate}/s is not held: p99 {row['p99_ms']} ms, {row['outcomes']}")
            else:
                return held
            held, rate = rate, round(rate * _STEP)
        return held

    async def overload(self, rate, seconds):
        """Calls at a rate that is too high, with one token revoked before and one meanwhile."""
        token = await self.example.new_token()
        await self._until_served({_ENDED: token["token"]})
        before = self.example.record.stat().st_size
        # One call in five is of a revoked token.
        callers = [*self.callers, _ENDED, _REVOKED]
        running = asyncio.create_task(self._run(rate, seconds, callers, recover=4 * RECOVERY))
        await asyncio.sleep(seconds / 3)
        try:
            await self.example.command("token", "revoke", token["id"], "--wait=30")
        finally:
            returned = asyncio.get_running_loop().time()
            run = await running
        row = summary(run, [*self.callers])
        row["wrong"] = sum(
            outcome == "ok" and (name == _REVOKED or (name == _ENDED and due > returned))
            for name, due, _, outcome in run["calls"]
        )
        row["revoked_calls"] = sum(
            name == _REVOKED or (name == _ENDED and due > returned)
            for name, due, *_ in run["calls"]
        )
        row["revoked_before_the_end"] = returned < run["ended"]
        row["recovered_s"] = run["recovered"] and round(run["recovered"], 2)
        row["decided_ms_max"] = slowest_refusal(self.example.record, before)
        return row

    async def _run(self, rate, seconds, callers, **more):
        return await self.load.request("run", rate=rate, seconds=seconds, callers=callers, **more)

    async def _until_served(self, bearers):
        """Wait until all callers are served."""
        await self.load.request("open", bearers=bearers)

        async def served():
            found = await self._run(20, len(bearers) / 10, [*bearers])
            return all(outcome == "ok" for *_, outcome in found["calls"])

        await until(served, "the callers are served", patience=60)


def summary(run, callers=None):
    """Counts and times of the calls of a run, or of some callers alone."""
    calls = [one for one in run["calls"] if callers is None or one[0] in callers]
    outcomes = Counter(outcome for *_, outcome in calls)

    def at_99(of):
        took = sorted(ms for *_, ms, outcome in calls if outcome == of or of is None)
        return round(percentile(took, 99) if len(took) > 1 else sum(took), 1)

    return {
        "due": len(calls) + (run["not_sent"] if callers is None else 0),
        "not_sent": run["not_sent"],
        "ok": outcomes["ok"],
        "unavailable": outcomes["unavailable"],
        "timeout": outcomes["timeout"],
        "outcomes": dict(outcomes),
        "p99_ms": at_99(None),
        "unavailable_p99_ms": at_99("unavailable"),
    }


def slowest_refusal(record, offset):
    """The most milliseconds that deciding `unavailable` took, in a record from an offset."""
    with record.open("rb") as lines:
        lines.seek(offset)
        entries = map(json.loads, lines)
        took = [one["took_ms"] for one in entries if one["reason"] == "unavailable"]
    return round(max(took, default=0.0), 1)


def faults(row):
    """What a run under overload must not show."""
    unearned = {k for k in row["outcomes"] if k not in ("ok", "unavailable", "timeout")}
    late = 1000 * (DEADLINE + MARGIN)
    if unearned:
        yield f"refused as {sorted(unearned)}"
    if row["wrong"]:
        yield f"{row['wrong']} calls of a revoked token were served"
    if row["decided_ms_max"] > late:
        yield f"a refusal took {row['decided_ms_max']} ms, beyond {late:.0f} ms"
    if row["recovered_s"] is None or row["recovered_s"] > RECOVERY:
        yield f"calls were served normally again after {row['recovered_s']} s"


async def measure_one(example, options, *, cached):
    """A row for each multiple of the rate that is held."""
    port = await example.start_server(cached=cached)
    async with call_load(port) as load:
        measured = Measured(example, load, [f"caller-{n}" for n in range(_CALLERS)])
        tokens = [await example.new_token() for _ in range(_CALLERS + 1)]
        bearers = [token["token"] for token in tokens]
        names = [*measured.callers, _REVOKED]
        await measured._until_served(dict(zip(names, bearers, strict=True)))
        await example.command("token", "revoke", tokens[-1]["id"], "--wait=30")
        held = options.rate or await measured.held_rate(options.step)
        say(f"cache {'on' if cached else 'off'}: {held or 'less than ' + str(_LOWEST)}/s is held")
        for times in options.times:
            row = await measured.overload(times * (held or _LOWEST), options.seconds)
            row |= {"cached": cached, "held": held, "times": times, "faults": [*faults(row)]}
            say(f"{times} ×: {row['outcomes']}, {row['faults'] or 'as it should be'}")
            yield row


async def measure(options):
    """The rows of all servers."""
    async with AsyncExitStack() as exit_:
        folder = Path(exit_.enter_context(tempfile.TemporaryDirectory(prefix="l")))
        example = Example(folder, exit_)
        await example.start()
        return [
            row
            for cached in options.cache
            async for row in measure_one(example, options, cached=cached)
        ]


def show(rows):
    """The table, in Markdown."""
    heads = [
        "cache", "load", "calls/s", "sent", "not sent", "served", "`unavailable`", "timeouts",
        "p99 ms", "refusal decided in, max ms", "revoked token served", "normal again after",
    ]  # fmt: skip
    for line in table(
        heads,
        (
            (
                "on" if row["cached"] else "off",
                f"{row['times']} ×",
                str(row["times"] * (row["held"] or _LOWEST)),
                row["due"],
                row["not_sent"],
                f"{100 * row['ok'] / row['due']:.1f} %",
                f"{100 * row['unavailable'] / row['due']:.1f} %",
                row["timeout"],
                row["p99_ms"],
                row["decided_ms_max"],
                f"{row['wrong']} of {row['revoked_calls']}",
                "never" if row["recovered_s"] is None else f"{row['recovered_s']:.2f} s",
            )
            for row in rows
        ),
    ):
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", nargs="+", choices=["off", "on"], default=["off", "on"])
    parser.add_argument("--rate", type=int, help="calls a second that count as held; else measured")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--seconds", type=float, default=15.0, help="of each load")
    parser.add_argument("--step", type=float, default=4.0, help="seconds for which a rate is tried")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    options.cache = [one == "on" for one in options.cache]
    say(f"at most {MOST_UNDER_WAY} calls at once; normal is five in a row within {NORMAL} s each")
    rows = asyncio.run(measure(options))
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        for fault in row["faults"]:
            say(f"fault at {row['times']} ×, cache {'on' if row['cached'] else 'off'}: {fault}")
    sys.exit(any(row["faults"] for row in rows))


if __name__ == "__main__":
    main()
