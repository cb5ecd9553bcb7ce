"""How soon what is running ends after `token revoke --wait` has returned, and that nothing follows.

Starts `lictor serve`, OPA and a guarded FastMCP server, and keeps streams of sessions open, each of
a token of its own. Then it revokes one token after another as the command line does. The measured
time is from the return of the command to the end of that token's stream.
"""

import argparse
import asyncio
import contextlib
import io
import tempfile
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx2

from bench.fleet import percentile
from bench.served import guarded, new_pdp, report, serving, start_lictor
from lictor.cli import run as run_command
from lictor.settings import Settings
from pdp_client.shared import Shared
from tests.support.redis import redis_server
from tests.support.waiting import until

HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}


class Stream:
    """A session's open stream, and when its last byte and its end came."""

    def __init__(self, http, url, token):
        self._http, self._url, self.token = http, url, token
        self.ended_at = self.last_byte_at = None

    async def open(self):
        headers = {
            "Accept": "application/json, text/event-stream",
            "Authorization": f"Bearer {self.token['token']}",
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
        opened = await self._http.post(self._url, json=body, headers=headers)
        opened.raise_for_status()
        headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        request = self._http.build_request("GET", self._url, headers=headers)
        self._response = await self._http.send(request, stream=True)
        assert self._response.status_code == 200, self._response.status_code
        self._task = asyncio.create_task(self._read())
        return self

    async def _read(self):
        with contextlib.suppress(httpx2.HTTPError):
            async for chunk in self._response.aiter_raw():
                if chunk:
                    self.last_byte_at = time.monotonic()
        self.ended_at = time.monotonic()

    async def end(self, patience):
        async with asyncio.timeout(patience):
            await self._task

    async def close(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._response.aclose()


def run_here(*arguments):
    """Run a command in this process, so that its end is the return of `--wait`."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = run_command([*arguments, "--format=json"])
    assert code == 0, (arguments, code)


async def measure(options):
    async with AsyncExitStack() as exit_:
        folder = Path(exit_.enter_context(tempfile.TemporaryDirectory(prefix="l")))
        redis = exit_.enter_context(redis_server()) if options.consistency == "strict" else None
        settings = Settings(state=folder / "s", **({"redis_url": redis.url} if redis else {}))
        run = start_lictor(exit_, settings, ("user", "add", "ada"))

        def new_token():
            return run.json("token", "create", "--user=ada", "--tool=*")

        tokens = [await asyncio.to_thread(new_token) for _ in range(options.streams)]
        shared = Shared(redis.url, key_file=run.state / "newest.key", timeout=5) if redis else None
        pdp = new_pdp(run.state, shared=shared, consistency=options.consistency)
        mcp, _ = guarded(await exit_.enter_async_context(pdp))
        url = f"http://127.0.0.1:{await exit_.enter_async_context(serving(mcp))}/mcp"
        limits = httpx2.Limits(max_connections=None)
        http = await exit_.enter_async_context(httpx2.AsyncClient(timeout=None, limits=limits))

        async def is_known(token):
            return (await pdp.authorize(token["token"], tool="x")).reason == "ok"

        await until(partial(is_known, tokens[-1]), "OPA knows the tokens")
        streams = [await Stream(http, url, token).open() for token in tokens]
        took, after = [], 0
        for number in range(options.revocations):
            stream = streams.pop(0)
            revoke = ("token", "revoke", stream.token["id"], "--wait")
            await asyncio.to_thread(run_here, *revoke)
            returned_at = time.monotonic()
            await stream.end(options.patience)
            took.append(max(0.0, stream.ended_at - returned_at))
            after += bool(stream.last_byte_at and stream.last_byte_at > returned_at)
            await stream.close()
            fresh = await asyncio.to_thread(new_token)
            await until(partial(is_known, fresh), "OPA knows the new token")
            streams.append(await Stream(http, url, fresh).open())
            if number % 20 == 19:
                print(f"{number + 1} revoked", flush=True)
        for stream in streams:
            await stream.close()
    took.sort()
    return {
        "consistency": options.consistency,
        "streams": options.streams,
        "n": len(took),
        **{f"p{p}_ms": round(percentile(took, p) * 1000, 1) for p in (50, 99)},
        "max_ms": round(took[-1] * 1000, 1),
        "streams_with_bytes_after": after,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--revocations", type=int, default=200)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--consistency", choices=["bounded", "strict"], default="bounded")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds for a stream to end")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    report(asyncio.run(measure(options)), options.json)


if __name__ == "__main__":
    main()
