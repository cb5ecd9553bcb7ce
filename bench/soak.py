"""A steady load for an hour, which must not make memory, sockets or asyncio tasks grow.

Starts `lictor serve`, OPA and the example server with its cache. A process calls at a steady rate.
Meanwhile tokens are created and revoked, a team is rotated, and sessions with streams come and go.
Resident memory, open sockets and asyncio tasks are sampled; at the end a line is fitted over the
second half of the samples. Exits with 1 when one of them grows beyond its bound, when a call of a
caller with access is refused, or when a revoked bearer is served.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from bench.call_load import call_load
from bench.example import SERVER, Example
from bench.fleet import say
from bench.tables import number, table
from bench.task_count import count_tasks
from bench.trend import Bound, fit
from tests.support.waiting import until

BOUNDS = {"memory, MB": Bound(32, 0.1), "sockets": Bound(16), "tasks": Bound(16)}
"""The growth that the second half may show; of memory, a tenth of the mean in addition."""

PARTS = {"server": "MCP server", "serve": "`lictor serve`", "opa": "OPA"}
_SLICE, _CALLERS, _STREAMS = 5.0, 6, 3


def memory_mb(pid):
    """The resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def count_sockets(pid):
    """The number of sockets that a process has open."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


class Samples:
    """What each part has held, over time."""

    def __init__(self, example):
        self._example = example
        self.taken = {}

    async def sample_every(self, seconds):
        while True:
            await asyncio.to_thread(self._sample)
            await asyncio.sleep(seconds)

    def _sample(self):
        at = time.monotonic()
        for name in PARTS:
            pid = self._example.pid(name)
            found = {"memory, MB": memory_mb(pid), "sockets": count_sockets(pid)}
            if name != "opa":
                found["tasks"] = count_tasks(pid, self._example.task_file(name))
            for what, value in found.items():
                self.taken.setdefault((name, what), []).append((at, value))

    def trends(self):
        return {key: fit(samples, BOUNDS[key[1]]) for key, samples in self.taken.items()}


class Churn:
    """Callers whose bearers are replaced in turn, and what became of their calls."""

    def __init__(self, example, load):
        self._example, self._load = example, load
        self._team, self._bearers, self._tokens = None, {}, {}
        self.outcomes, self.wrong, self.revoked_calls, self.changes = Counter(), 0, 0, 0

    async def start(self):
        self._team = await self._example.command(
            "team", "create", "Beagle", "--owner=ada", "--workspace=books"
        )
        self._bearers = {"team": self._team["jwt"]}
        for n in range(_CALLERS):
            name = f"caller-{n}"
            self._tokens[name] = token = await self._example.new_token()
            self._bearers[name] = token["token"]
        await self._served(self._bearers)

    async def slice(self, n, rate):
        """Load for some seconds, while one bearer is replaced; the old one is called for after."""
        name = "team" if n % 3 == 2 else f"caller-{n % _CALLERS}"
        kept = [one for one in self._bearers if one != name]
        streams = [self._bearers[one] for one in kept[:_STREAMS]]
        await self._load.request("streams", bearers=[*streams, self._bearers[name]])
        change = asyncio.create_task(self._replace(name))
        run = await self._load.request("run", rate=rate, seconds=_SLICE, callers=kept)
        self.outcomes.update(outcome for *_, outcome in run["calls"])
        self.outcomes["not sent"] += run["not_sent"]
        fresh = await change
        # The session that the replaced bearer opened is still there.
        revoked = await self._load.request("run", rate=rate, seconds=0.5, callers=[name])
        self.revoked_calls += len(revoked["calls"])
        self.wrong += sum(outcome == "ok" for *_, outcome in revoked["calls"])
        await self._served({name: fresh})
        self._bearers[name] = fresh
        self.changes += 1

    async def _replace(self, name):
        """Revoke a bearer, and return the new one."""
        if name == "team":
            rotate = ("team", "rotate", self._team["id"], "--wait=30")
            return (await self._example.command(*rotate))["jwt"]
        fresh = await self._example.new_token()
        old, self._tokens[name] = self._tokens[name], fresh
        await self._example.command("token", "revoke", old["id"], "--wait=30")
        return fresh["token"]

    async def _served(self, bearers):
        await self._load.request("open", bearers=bearers)

        async def served():
            run = await self._load.request("run", rate=50, seconds=0.2, callers=[*bearers])
            return all(outcome == "ok" for *_, outcome in run["calls"])

        await until(served, "new bearers are served", patience=60)


async def measure(options):
    """What was sampled, as trends, and what became of the calls."""
    async with AsyncExitStack() as exit_:
        folder = Path(exit_.enter_context(tempfile.TemporaryDirectory(prefix="l")))
        example = Example(folder, exit_, script=options.server)
        await example.start()
        port = await example.start_server(cached=True)
        load = await exit_.enter_async_context(call_load(port))
        churn, samples = Churn(example, load), Samples(example)
        await churn.start()
        seconds = 60 * options.minutes
        sampling = asyncio.create_task(samples.sample_every(max(1.0, seconds / 400)))
        exit_.callback(sampling.cancel)
        began, n = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            if sampling.done():
                sampling.result()
            await churn.slice(n, options.rate)
            n += 1
            if n % 12 == 0:
                say(f"{(time.monotonic() - began) / 60:.0f} min: {dict(churn.outcomes)}")
        return samples.trends(), churn


def show(trends):
    """The table, in Markdown."""
    for line in table(
        ["part", "what", "mean", "growth", "limit", "result"],
        (
            (
                PARTS[name], what, number(one.mean), number(one.growth), number(one.limit),
                "grows" if one.grows else "steady",
            )
            for (name, what), one in trends.items()
        ),
    ):  # fmt: skip
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=20, help="calls a second")
    parser.add_argument("--server", type=Path, default=SERVER, help="script of the MCP server")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    trends, churn = asyncio.run(measure(options))
    show(trends)
    print(
        f"\n{churn.outcomes.total():,} calls: {dict(churn.outcomes)}; {churn.changes} bearers "
        f"revoked, which were served {churn.wrong} of {churn.revoked_calls} times after"
    )
    if options.json:
        rows = [
            {"part": name, "what": what, "mean": one.mean, "growth": one.growth, "limit": one.limit}
            for (name, what), one in trends.items()
        ]
        result = {"rows": rows, "calls": dict(churn.outcomes), "wrong": churn.wrong}
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    refused = churn.outcomes.total() - churn.outcomes["ok"]
    sys.exit(any(one.grows for one in trends.values()) or churn.wrong > 0 or refused > 0)


if __name__ == "__main__":
    main()
