"""How long one revocation keeps a server with thousands of idle sessions busy, and what it costs.

Starts `lictor serve`, OPA and a guarded FastMCP server. A client process opens the sessions, each
with a stream and a token of its own. Then one token after another is revoked. Measured are the time
until the revoked stream has ended, the time until every other credential has been checked in the
new state, and how long decisions take meanwhile, beside the same decisions while nothing changes.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import threading
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2

from bench.ending import HELLO, run_here
from bench.fleet import percentile
from bench.generated import GeneratedRegistry, fill_sqlite
from bench.served import guarded, new_pdp, report, serving, start_lictor
from lictor.settings import Settings
from tests.support.waiting import until


async def keep_sessions(port, bearers, found):
    """Open a session and its stream for each bearer, and report when a stream ends."""
    url = f"http://127.0.0.1:{port}/mcp"
    accept = "application/json, text/event-stream"
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
    opening = asyncio.Semaphore(8)

    async def keep(http, n, bearer):
        async with opening:
            headers = {"Accept": accept, "Authorization": f"Bearer {bearer}"}
            opened = await http.post(url, json=body, headers=headers)
            opened.raise_for_status()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"GET /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: {accept}\r\n"
                f"Authorization: Bearer {bearer}\r\n"
                f"Mcp-Session-Id: {opened.headers['mcp-session-id']}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            found.put(("opened", n, time.monotonic()))
        while not (chunk := await reader.readuntil(b"\r\n")).startswith(b"0\r\n"):
            await reader.readexactly(int(chunk, 16) + 2)
        found.put(("ended", n, time.monotonic()))
        writer.close()

    async with httpx2.AsyncClient(timeout=60) as http, asyncio.TaskGroup() as group:
        for n, bearer in enumerate(bearers):
            group.create_task(keep(http, n, bearer))


def client(port, bearers, found):
    asyncio.run(keep_sessions(port, bearers, found))


class Decisions:
    """Decisions one after another, and how long each took."""

    def __init__(self, pdp, bearer, every):
        self._pdp, self._bearer, self._every = pdp, bearer, every
        self.taken = []

    async def run(self):
        while True:
            began = time.monotonic()
            decision = await self._pdp.authorize(self._bearer, tool="search")
            assert decision.allow, decision
            self.taken.append((began, time.monotonic() - began))
            await asyncio.sleep(self._every)

    def between(self, start, end):
        return [took for began, took in self.taken if start <= began <= end]


async def measure(options):
    generated = GeneratedRegistry(options.sessions + 1)
    async with AsyncExitStack() as exit_:
        folder = Path(exit_.enter_context(tempfile.TemporaryDirectory(prefix="l")))
        settings = Settings(state=folder / "s")
        run = start_lictor(
            exit_,
            settings,
            fill=lambda: fill_sqlite(settings.registry.removeprefix("sqlite:///"), generated),
        )
        pdp = await exit_.enter_async_context(new_pdp(run.state))
        mcp, policy = guarded(pdp)
        port = await exit_.enter_async_context(serving(mcp))
        *bearers, deciding = (generated.bearer(n) for n in range(generated.tokens))

        async def is_ready():
            return (await pdp.authorize(deciding, tool="search")).allow

        await until(is_ready, "OPA knows the tokens")
        spawn = multiprocessing.get_context("spawn")
        found = spawn.Queue()
        sessions = spawn.Process(target=client, args=(port, bearers, found), daemon=True)
        began = time.monotonic()
        sessions.start()
        exit_.callback(sessions.kill)
        events = {}

        def collect():
            while True:
                what, n, at = found.get()
                events[what, n] = at

        threading.Thread(target=collect, daemon=True).start()
        while sum(what == "opened" for what, _ in [*events]) < options.sessions:
            assert sessions.is_alive()
            await asyncio.sleep(1)
        print(f"{options.sessions} sessions in {time.monotonic() - began:.0f} s", flush=True)
        decisions = Decisions(pdp, deciding, options.every)
        task = asyncio.create_task(decisions.run())
        exit_.callback(task.cancel)
        (watch,) = policy.enforcer.revocations._watches.values()
        rows = []
        # Sessions are checked in the order in which they were opened: these are spread over it.
        victims = [n * options.sessions // options.revocations for n in range(options.revocations)]
        for n in victims:
            await until(lambda: len({one.state for one in watch.holders.values()}) == 1, "settled")
            await asyncio.sleep(options.pause)
            start = time.monotonic()
            revoked = ("token", "revoke", f"lct_…{generated.digest(n)[:8]}", "--wait")
            before = next(iter(watch.holders.values())).state
            await asyncio.to_thread(run_here, *revoked)
            returned = time.monotonic()

            def is_checked(before=before):
                return all(one.state != before for one in watch.holders.values())

            await until(is_checked, "every credential has been checked")
            checked = time.monotonic()
            await until(lambda n=n: ("ended", n) in events, "the stream ends")
            quiet = decisions.between(start - options.pause + 1, start)
            busy = decisions.between(returned, checked)
            rows.append(
                {
                    "ended_ms": max(0.0, events["ended", n] - returned) * 1000,
                    "checked_ms": (checked - returned) * 1000,
                    "quiet_ms": statistics.median(quiet) * 1000,
                    "quiet_max_ms": max(quiet) * 1000,
                    "busy_ms": statistics.median(busy) * 1000 if busy else None,
                    "busy_max_ms": max(busy) * 1000 if busy else None,
                }
            )
            print({k: v and round(v, 1) for k, v in rows[-1].items()}, flush=True)
        ended = sorted(n for what, n in events if what == "ended")
        assert ended == victims, "a stream of another token ended"
        sessions.kill()
    checked = sorted(row["checked_ms"] for row in rows)
    return {
        "sessions": options.sessions,
        "revocations": len(rows),
        "ended_ms_max": round(max(row["ended_ms"] for row in rows), 1),
        "checked_ms_p50": round(percentile(checked, 50), 1),
        "checked_ms_max": round(checked[-1], 1),
        "decision_quiet_ms": round(statistics.median(row["quiet_ms"] for row in rows), 2),
        "decision_busy_ms": round(statistics.median(row["busy_ms"] or 0 for row in rows), 2),
        "decision_quiet_max_ms": round(max(row["quiet_max_ms"] for row in rows), 1),
        "decision_busy_max_ms": round(max(row["busy_max_ms"] or 0 for row in rows), 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=9_999)
    parser.add_argument("--revocations", type=int, default=10)
    parser.add_argument("--every", type=float, default=0.01, help="seconds between two decisions")
    parser.add_argument("--pause", type=float, default=4.0, help="seconds between two revocations")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    report(asyncio.run(measure(options)), options.json)


if __name__ == "__main__":
    main()
