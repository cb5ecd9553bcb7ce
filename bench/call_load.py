"""A process that calls the example MCP server at a steady rate, whatever the server does.

It does what its standard input says, line by line. A call's time counts from the moment at which
it was due. So many calls are under way at once at most; those that would exceed that are counted
as not sent.
"""

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager

from bench.mcp_wire import Client, Session

MOST_UNDER_WAY = 256
PATIENCE = 10.0
"""Seconds after which a call counts as a timeout."""

NORMAL = 0.1
"""Seconds within which a call is answered when the server is not overloaded."""

_IN_A_ROW = 5


class Calls:
    """The sessions of this process, by the name of their caller, and the calls made in them."""

    def __init__(self, port):
        self._client = Client(port)
        self._sessions, self._passing = {}, []

    async def open(self, *, bearers):
        """Open a session for each caller."""
        for name, bearer in bearers.items():
            if old := self._sessions.pop(name, None):
                await old.close()
            self._sessions[name] = await Session(self._client, bearer).open()

    async def replace_streams(self, *, bearers):
        """Open a session with a stream for each bearer, and end those that were opened before."""
        before, self._passing = self._passing, []
        for bearer in bearers:
            self._passing.append(await Session(self._client, bearer).open(stream=True))
        for session in before:
            await session.close()

    async def run(self, *, rate, seconds, callers, recover=0):
        """Call in turn as each caller; then, with `recover`, wait until calls are served again.

        Returns:
            `calls`: caller, when it was due, milliseconds, outcome; `not_sent`; and with `recover`
            the seconds `recovered` from the end of the load, None if it took longer than that.
        """
        calls, tasks, not_sent = [], set(), 0
        began = time.monotonic()

        async def call(name, due):
            outcome = await self._sessions[name].search(PATIENCE)
            calls.append([name, due, round(1000 * (time.monotonic() - due), 2), outcome])

        for n in range(int(rate * seconds)):
            due = began + n / rate
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            elif n % 8 == 7:
                await asyncio.sleep(0)
            if len(tasks) >= MOST_UNDER_WAY:
                not_sent += 1
                continue
            task = asyncio.create_task(call(callers[n % len(callers)], due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        ended = time.monotonic()
        recovered = await self._recovery(callers[0], ended, recover) if recover else None
        await asyncio.gather(*tasks)
        return {"calls": calls, "not_sent": not_sent, "ended": ended, "recovered": recovered}

    async def _recovery(self, name, ended, limit):
        """Seconds until the first of several calls in a row that are served as usual."""
        first, row = None, 0
        while time.monotonic() < ended + limit:
            began = time.monotonic()
            outcome = await self._sessions[name].search(PATIENCE)
            if outcome != "ok" or time.monotonic() - began > NORMAL:
                first, row = None, 0
                continue
            first, row = first or time.monotonic(), row + 1
            if row == _IN_A_ROW:
                return first - ended
            await asyncio.sleep(0.02)
        return None


async def serve(port):
    """Do what standard input says until it ends."""
    calls, loop = Calls(port), asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        do = {"open": calls.open, "streams": calls.replace_streams, "run": calls.run}
        print(json.dumps(await do[command.pop("do")](**command)), flush=True)


class CallLoad:
    """The process, as its parent has it."""

    def __init__(self, process):
        self._process = process

    async def request(self, do, **arguments):
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        line = await self._process.stdout.readline()
        assert line, "the process that calls has ended"
        return json.loads(line)


@asynccontextmanager
async def call_load(port):
    """A process that calls the server at a port of this host."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.call_load", str(port),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 26,
    )  # fmt: skip
    try:
        yield CallLoad(process)
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
