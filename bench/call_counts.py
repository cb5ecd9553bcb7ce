"""Python function calls that one MCP request costs a server: `python -m bench.call_counts`.

Counts do not depend on how busy the machine is. The servers run in a thread of their own, which
is the only one that is counted: bare, with the plugin, and with it and a cache of decisions. A call
of a tool, and a list of 500 tools, over streamable HTTP; medians. `--functions` prints which of
the project's functions were called how often.
"""

import argparse
import asyncio
import json
import statistics
import sys
import threading
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import uvicorn
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from prometheus_client import CollectorRegistry

from bench.mcp_calls import many_tools
from bench.plugin import served
from bench.served import deployed
from bundles.opa.server import client_token_file
from mcp_plugin import PolicyMiddleware
from pdp_client import PDP, BearerVerifier, FileRecord, Issuer, KeyringFile
from pdp_client.shared import Shared
from tests.support.waiting import until

_KINDS = ("bare", "uncached", "cached")
_SHOWN = 160


class CountedServers:
    """Servers in a thread of their own, whose function calls are counted."""

    def __init__(self, options):
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._is_listening = threading.Event()
        self.ports = {}
        self.calls = 0
        self.functions = None

    def __enter__(self):
        self._thread.start()
        assert self._is_listening.wait(60)
        return self

    def __exit__(self, *_):
        for server in self._servers.values():
            server.should_exit = True
        self._thread.join()

    def _run(self):
        sys.setprofile(self._count)
        self._loop.run_until_complete(self._serve())

    def _count(self, frame, event, _):
        if event == "call":
            self.calls += 1
            if self.functions is not None:
                self.functions[frame.f_code] += 1

    async def _serve(self):
        record = FileRecord(self._options.pop("record_file"))
        shared = self._options.pop("shared")
        common = {**self._options, "record": record}
        async with (
            PDP(**common) as uncached,
            PDP(**common, shared=Shared(**shared), cache=True) as cached,
        ):
            self._servers = {}
            for make in (served, many_tools):
                for kind, pdp in zip(_KINDS, (None, uncached, cached), strict=True):
                    mcp = make()
                    if pdp is not None:
                        mcp.add_middleware(PolicyMiddleware(pdp, registry=CollectorRegistry()))
                    config = uvicorn.Config(mcp.http_app(), port=0, log_level="error", ws="none")
                    self._servers[make.__name__, kind] = uvicorn.Server(config)
            async with asyncio.TaskGroup() as group:
                for server in self._servers.values():
                    # Signals belong to the main thread.
                    group.create_task(server._serve())
                await until(
                    lambda: all(one.started for one in self._servers.values()), "they listen"
                )
                for name, server in self._servers.items():
                    self.ports[name] = server.servers[0].sockets[0].getsockname()[1]
                self._is_listening.set()


async def count(servers, bearer, rounds, *, functions):
    """Medians by request and kind of server; and by the same, the calls of each function."""
    medians, found = {}, {}
    async with AsyncExitStack() as exit_:
        for (made, kind), port in servers.ports.items():
            transport = StreamableHttpTransport(
                f"http://127.0.0.1:{port}/mcp", headers={"Authorization": f"Bearer {bearer}"}
            )
            client = await exit_.enter_async_context(Client(transport))

            async def use(client=client, made=made):
                if made == "served":
                    assert (await client.call_tool("search", {"query": "raven"})).data == ["raven"]
                else:
                    assert len(await client.list_tools()) == 500

            for _ in range(5):
                await use()
            taken, totals = [], Counter()
            for _ in range(rounds):
                servers.functions = Counter() if functions else None
                before = servers.calls
                await use()
                taken.append(servers.calls - before)
                totals.update(servers.functions or {})
            servers.functions = None
            medians[made, kind] = statistics.median(taken)
            found[made, kind] = totals
    return medians, found


async def measure(rounds, *, functions):
    async with deployed() as (deployment, redis, folder):
        await deployment.add_library("poe", "books")
        token = await deployment.create_token(tools=["search", "read_*"], libraries=["poe"])
        await deployment.settle()
        keys = str(deployment.settings.keys / "mnemosyne.public.jwks")
        options = {
            "opa_url": deployment.opa.settings.address, "server": "bench", "deadline": 5,
            "opa_token_file": str(client_token_file(deployment.opa.settings.folder)),
            "verifier": BearerVerifier([Issuer("mnemosyne", KeyringFile(keys))]),
            "record_file": f"{folder}/record",
            "shared": {"url": redis.url, "key_file": str(deployment.settings.newest_key)},
        }  # fmt: skip
        servers = CountedServers(options)
        await asyncio.to_thread(servers.__enter__)
        try:
            return await count(servers, token, rounds, functions=functions)
        finally:
            await asyncio.to_thread(servers.__exit__)


def _where(code):
    parts = Path(code.co_filename).parts
    return "/".join(parts[-2:]) + f":{code.co_firstlineno} {code.co_qualname}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--functions", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    medians, found = asyncio.run(measure(arguments.rounds, functions=arguments.functions))
    if arguments.json:
        print(json.dumps({f"{made}, {kind}": one for (made, kind), one in medians.items()}))
    else:
        for (made, kind), one in medians.items():
            what = "a call" if made == "served" else "a list of 500"
            added = "" if kind == "bare" else f"{one - medians[made, 'bare']:>+8.0f}"
            print(f"{what:14} {kind:10}{one:>8.0f}{added}")
    if arguments.functions:
        for (made, kind), one in found.items():
            if kind == "bare":
                continue
            added = Counter(one)
            added.subtract(found[made, "bare"])
            print(f"\n{made}, {kind}: calls per request beyond the bare server's")
            for code, times in added.most_common(int(_SHOWN)):
                print(f"{times / arguments.rounds:>8.1f}  {_where(code)}")


if __name__ == "__main__":
    main()
