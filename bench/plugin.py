"""What the plugin adds to a call over streamable HTTP: `python -m bench.plugin [--rounds N]`.

One process serves the same FastMCP server three times: without the plugin, with it, and with it and
a cache of decisions. It queries a real OPA on a unix socket; another process calls them over
connections that stay open, and compares each guarded server with the bare one. Last, the time in
which the list of a server with 500 tools is filtered, its record included: with its query to
OPA, and remembered.
"""

import argparse
import asyncio
import json
import platform
import statistics
import sys
import time
from contextlib import AsyncExitStack, closing

import uvicorn
from fastmcp import Client, FastMCP
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.tools import Tool
from prometheus_client import CollectorRegistry

from bench.paired import interval, paired_async, summary
from bench.served import deployed
from bundles.opa.server import client_token_file
from mcp_plugin import PolicyMiddleware
from mcp_plugin.http.request import Caller
from mcp_plugin.protocol.actions import ToolActions
from pdp_client import PDP, BearerVerifier, FileRecord, Issuer, KeyringFile
from pdp_client.shared import Shared
from tests.support.waiting import until

_TOOLS = 500


def served():
    """A server with the kind of tool that a library has."""
    mcp = FastMCP("bench")

    @mcp.tool(tags={"read"})
    async def search(query: str) -> list[str]:
        return [query]

    return mcp


async def serve(asked):
    """Serve all three until standard input ends; their ports go to standard output."""
    verifier = BearerVerifier([Issuer("mnemosyne", KeyringFile(asked["keys"]))])
    shared = Shared(asked["redis"], key_file=asked["newest_key"])
    common = {
        "opa_url": asked["opa"], "opa_token_file": asked["opa_token"], "verifier": verifier,
        "server": "bench",
    }  # fmt: skip
    record = FileRecord(asked["record"])
    async with (
        PDP(**common, record=record) as asking,
        PDP(**common, record=record, shared=shared, cache=True) as caching,
    ):
        servers = []
        for pdp in (None, asking, caching):
            mcp = served()
            if pdp is not None:
                mcp.add_middleware(PolicyMiddleware(pdp, registry=CollectorRegistry()))
            config = uvicorn.Config(mcp.http_app(), port=0, log_level="error", ws="none")
            servers.append(uvicorn.Server(config))
        async with asyncio.TaskGroup() as group:
            for server in servers:
                group.create_task(server.serve())
            await until(lambda: all(server.started for server in servers), "they listen")
            ports = [server.servers[0].sockets[0].getsockname()[1] for server in servers]
            print(json.dumps(ports), flush=True)
            await asyncio.to_thread(sys.stdin.read)
            for server in servers:
                server.should_exit = True


async def calls(ports, bearer, rounds):
    """Both comparisons."""
    async with AsyncExitStack() as exit_:
        headers = {"Authorization": f"Bearer {bearer}"}
        bare, asking, caching = [
            await exit_.enter_async_context(
                Client(StreamableHttpTransport(f"http://127.0.0.1:{port}/mcp", headers=headers))
            )
            for port in ports
        ]

        def calling(client):
            async def call():
                result = await client.call_tool("search", {"query": "raven"})
                assert result.data == ["raven"]

            return call

        first = calling(bare)
        return {
            "a call, uncached": summary(await paired_async(calling(asking), first, rounds)),
            "a call, cached": summary(await paired_async(calling(caching), first, rounds)),
            # What the same thing against itself shows is the noise.
            "bare against bare": summary(await paired_async(calling(bare), first, rounds)),
        }


async def lists(pdp, bearer, rounds):
    """Milliseconds in which a list of 500 is filtered."""
    enforcer, listed = PolicyMiddleware(pdp, registry=CollectorRegistry()).enforcer, ToolActions()

    def tool(number):
        async def run(query: str) -> str:
            return query

        return Tool.from_function(run, name=f"tool_{number}", tags={"read", f"t{number % 7}"})

    tools = [tool(number) for number in range(_TOOLS)]
    caller, taken = Caller(bearer, "http"), []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        shown = await enforcer.visible(caller, listed.of(tools))
        taken.append((time.perf_counter_ns() - began) / 1e6)
    assert len(shown) == _TOOLS // 10, len(shown)
    taken.sort()
    low, high = interval(taken)
    return {
        "n": rounds, "shown": len(shown), "ms": round(statistics.median(taken), 2),
        "low": round(low, 2), "high": round(high, 2), "best": round(taken[0], 2),
    }  # fmt: skip


async def measure(rounds):
    async with deployed() as (deployment, redis, folder):
        await deployment.add_library("poe", "books")
        token = await deployment.create_token(tools=["search", "tool_*7"], libraries=["poe"])
        await deployment.settle()
        asked = {
            "opa": deployment.opa.settings.address, "redis": redis.url,
            "opa_token": str(client_token_file(deployment.opa.settings.folder)),
            "keys": str(deployment.settings.keys / "mnemosyne.public.jwks"),
            "newest_key": str(deployment.settings.newest_key), "record": f"{folder}/record",
        }  # fmt: skip
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.plugin", "--serve", json.dumps(asked),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            ports = json.loads(await server.stdout.readline())
            results = await calls(ports, token, rounds)
        finally:
            server.stdin.close()
            await server.wait()
        with closing(FileRecord(f"{folder}/lists")) as record:
            shared = Shared(redis.url, key_file=asked["newest_key"])
            listed = {
                "uncached": await lists(deployment.pdp(record=record), token, min(rounds, 300)),
                "cached": await lists(
                    deployment.pdp(record=record, shared=shared, cache=True),
                    token,
                    min(rounds, 300),
                ),
            }
            return results, listed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(json.loads(arguments.serve)))
        return
    results, listed = asyncio.run(measure(arguments.rounds))
    if arguments.json:
        print(json.dumps({**results, "lists": listed}))
        return
    print(f"{platform.machine()}, Python {platform.python_version()}; medians of paired rounds\n")
    print(f"{'':20}{'ms':>8}{'bare ms':>10}   added  95 %")
    for name, one in results.items():
        added, low, high = (f"{(one[key] - 1) * 100:.1f} %" for key in ("ratio", "low", "high"))
        print(
            f"{name:20}{one['ours_us'] / 1000:>8.2f}{one['other_us'] / 1000:>10.2f}  {added:>6}"
            f"  {low} to {high}"
        )
    print()
    for name, one in listed.items():
        print(
            f"a list of {_TOOLS} tools, {name}: {one['ms']} ms (95 %: {one['low']}-{one['high']}, "
            f"best {one['best']}), {one['shown']} shown"
        )


if __name__ == "__main__":
    main()
