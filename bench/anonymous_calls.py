"""What a hundred thousand anonymous calls, each of another name, leave in a server's memory.

Starts `lictor serve`, OPA, Redis and, in a process of its own, a guarded FastMCP server with a
decision cache and a record. Every call names another tool, or reads another resource; two in a
thousand have names of a megabyte. After each part the server's resident memory is read, beside the
size of its record.
"""

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx2
import uvicorn

from bench.fleet import free_port
from bench.served import guarded, new_pdp, report, start_lictor
from lictor.settings import Settings
from pdp_client import FileRecord
from pdp_client.shared import Shared
from tests.support.redis import redis_server

HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2025-06-18",
}
LONG = 1_000_000
"""Characters of the longest names."""


def serve(state, redis_url, port, record):
    async def run():
        shared = Shared(redis_url, key_file=state / "newest.key", timeout=5)
        settings = {"shared": shared, "cache": True, "record": FileRecord(record)}
        async with new_pdp(state, **settings) as pdp:
            # Without `BearerAuth`, which would turn all of them away before any decision.
            mcp, _ = guarded(pdp, auth=False, public_tools={"ping"})
            mcp.resource("data://{name}", name="data")(lambda name: name)
            mcp.tool(lambda: "pong", name="ping")
            app = mcp.http_app(stateless_http=True, json_response=True)
            await uvicorn.Server(uvicorn.Config(app, port=port, log_level="error")).serve()

    asyncio.run(run())


def resident_mb(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def call(http, url, numbers, statuses):
    for n in numbers:
        # Two in a thousand are as long as a request may be.
        name = f"{n}-{'x' * LONG}" if n % 1000 < 2 else f"stranger-{n}"
        asked = {"name": name} if n % 2 else {"uri": f"data://{name}"}
        method = "tools/call" if n % 2 else "resources/read"
        body = {"jsonrpc": "2.0", "id": n, "method": method, "params": asked}
        answer = await http.post(url, json=body, headers=HEADERS)
        statuses[answer.status_code] += 1


async def measure(options):
    with ExitStack() as exit_:
        folder = Path(exit_.enter_context(tempfile.TemporaryDirectory(prefix="l")))
        redis = exit_.enter_context(redis_server())
        run = start_lictor(exit_, Settings(state=folder / "s", redis_url=redis.url))
        port, record = free_port(), folder / "decisions.jsonl"
        server = multiprocessing.get_context("spawn").Process(
            target=serve, args=(run.state, redis.url, port, record), daemon=True
        )
        server.start()
        exit_.callback(server.kill)
        url, statuses, rows = f"http://127.0.0.1:{port}/mcp", Counter(), []
        async with httpx2.AsyncClient(timeout=60) as http:
            ping = {"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": {"name": "ping"}}
            for _ in range(200):
                try:
                    answer = await http.post(url, json=ping, headers=HEADERS)
                    if answer.status_code == 200:
                        break
                except httpx2.ConnectError:
                    pass
                await asyncio.sleep(0.1)
            part = options.calls // options.parts
            for start in range(0, options.calls, part):
                began = time.monotonic()
                numbers = range(start, start + part)
                await asyncio.gather(*(call(http, url, numbers[k::8], statuses) for k in range(8)))
                rows.append(
                    {
                        "calls": start + part,
                        "resident_mb": round(resident_mb(server.pid), 1),
                        "record_mb": round(record.stat().st_size / 2**20, 1),
                        "per_second": round(part / (time.monotonic() - began)),
                    }
                )
                print(rows[-1], flush=True)
    warm = next(row for row in rows if row["calls"] >= options.calls // 5)
    return {
        "calls": options.calls,
        "statuses": statuses,
        "rows": rows,
        "growth_percent": round(100 * (rows[-1]["resident_mb"] / warm["resident_mb"] - 1), 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    report(asyncio.run(measure(options)), options.json)


if __name__ == "__main__":
    main()
