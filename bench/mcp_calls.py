"""What a policy adds to MCP: a call of a tool, and a list of 500, over streamable HTTP.

The servers run in one process and the client in another; each server is called in turn.
"""

import asyncio
import json
import logging
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvicorn
from fastmcp import Client, FastMCP
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from fastmcp.server.middleware import AuthMiddleware
from fastmcp.tools import Tool
from prometheus_client import CollectorRegistry

from bench.floors import UnavailableError, build_echo
from bench.peers.processes import environment
from bench.plots import bars
from bench.plugin import served
from bench.sampling import (
    Contestant,
    batch_of,
    difference,
    failed_rounds,
    interleave,
    median,
    ratio,
)
from bundles.opa.server import client_token_file
from mcp_plugin import PolicyMiddleware
from pdp_client import PDP, BearerVerifier, FileRecord, Issuer, KeyringFile
from pdp_client.shared import Shared
from tests.support.waiting import until

TITLE = "FastMCP"
ABOUT = (
    "The same FastMCP server behind different guards, over streamable HTTP; FastMCP's own "
    "client calls each in turn over a connection that stays open. lictor writes its records. "
    "apparitor asks a PDP in Go that allows everything. All 500 tools are visible to the caller."
)
SECONDS = 90

_TOOLS = 500
_CALL, _LIST = "a call", f"a list of {_TOOLS} tools"
_BARE, _OWN = "bare", "FastMCP's AuthMiddleware"
_UNCACHED, _CACHED = "lictor's plugin, uncached", "lictor's plugin, cached"
_APPARITOR = "apparitor"
_NOTES = {
    _OWN: "one Python function in the server",
    _UNCACHED: "with its record",
    _CACHED: "with its record",
    _APPARITOR: "its PDP is an HTTP server that allows everything",
}


def many_tools():
    """A server with 500 tools, all of which the pattern `read_*` covers."""
    mcp = FastMCP("bench")

    async def run(query: str) -> str:
        return query

    for n in range(_TOOLS):
        mcp.add_tool(Tool.from_function(run, name=f"read_{n}", tags={"read", f"t{n % 7}"}))
    return mcp


def servers(config, exit_):
    """Name and server of all."""
    common = {
        "opa_url": config["opa"], "opa_token_file": config["opa_token"], "server": "bench",
        "verifier": BearerVerifier([Issuer("mnemosyne", KeyringFile(config["keys"]))]),
        "deadline": 5, "record": FileRecord(config["record"]),
    }  # fmt: skip
    guards = {_UNCACHED: {}}
    if config["redis"]:
        shared = Shared(config["redis"], key_file=config["newest_key"])
        guards[_CACHED] = {"shared": shared, "cache": True}
    pdps = {name: PDP(**common, **changes) for name, changes in guards.items()}
    for pdp in pdps.values():
        exit_.push_async_callback(pdp.aclose)
    for kind, make in ((_CALL, served), (_LIST, many_tools)):
        yield kind, _BARE, make()
        for name, pdp in pdps.items():
            mcp = make()
            mcp.add_middleware(PolicyMiddleware(pdp, registry=CollectorRegistry()))
            yield kind, name, mcp
    mcp = served()
    mcp.auth = StaticTokenVerifier(tokens={config["bearer"]: {"client_id": "bench", "scopes": []}})
    mcp.add_middleware(
        AuthMiddleware(
            auth=lambda context: context.token is not None and context.component.name == "search"
        )
    )
    yield _CALL, _OWN, mcp


async def serve(config):
    """Serve all until standard input ends; their ports go to standard output."""
    # It is expected that Redis is late while a list of 500 is made.
    logging.getLogger("pdp_client").setLevel(logging.CRITICAL)
    async with AsyncExitStack() as exit_:
        running = []
        for kind, name, mcp in servers(config, exit_):
            config = uvicorn.Config(mcp.http_app(), port=0, log_level="error", ws="none")
            running.append((kind, name, uvicorn.Server(config)))
        async with asyncio.TaskGroup() as group:
            for *_, server in running:
                group.create_task(server.serve())
            await until(lambda: all(server.started for *_, server in running), "they listen")
            print(
                json.dumps(
                    [
                        [kind, name, server.servers[0].sockets[0].getsockname()[1]]
                        for kind, name, server in running
                    ]
                ),
                flush=True,
            )
            await asyncio.to_thread(sys.stdin.read)
            for *_, server in running:
                server.should_exit = True


@asynccontextmanager
async def _program(*arguments):
    """A program that prints a line of JSON; it ends with the context."""
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        if not line:
            raise UnavailableError("its server has ended")
        yield json.loads(line)
    finally:
        process.stdin.close()
        await process.wait()


async def _apparitor(exit_, bench, bearer):
    """The port of a server behind apparitor."""
    python = await asyncio.to_thread(environment, "apparitor", os.environ)
    port = await exit_.enter_async_context(_program(build_echo(os.environ), "-authzen"))
    given = bench.folder / "apparitor.json"
    given.write_text(json.dumps({"pdp": f"http://127.0.0.1:{port}", "bearer": bearer}))
    script = Path(__file__).parent / "peers" / "apparitor_server.py"
    (port,) = await exit_.enter_async_context(_program(python, script, given))
    return port


async def measure(bench):
    """All rows, and the aims."""
    made, bearer, missing = bench.made, bench.cases["token"].bearer, {}
    config = {
        "opa": made.opa.address, "opa_token": str(client_token_file(made.opa.folder)),
        "redis": made.redis_url, "keys": str(made.settings.keys / "mnemosyne.public.jwks"),
        "newest_key": str(made.settings.newest_key), "record": str(bench.folder / "record.jsonl"),
        "bearer": bearer,
    }  # fmt: skip
    if not made.redis_url:
        missing[_CACHED] = "no Redis"
    async with AsyncExitStack() as exit_:
        arguments = (sys.executable, "-m", "bench.mcp_calls", json.dumps(config))
        ports = await exit_.enter_async_context(_program(*arguments))
        try:
            ports.append([_CALL, _APPARITOR, await _apparitor(exit_, bench, bearer)])
        except Exception as error:  # noqa: BLE001 - a row less
            missing[_APPARITOR] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        rows = {_CALL: [], _LIST: []}
        for kind, name, port in ports:
            headers = {"Authorization": f"Bearer {bearer}"}
            url = f"http://127.0.0.1:{port}/mcp"
            try:
                client = await exit_.enter_async_context(
                    Client(StreamableHttpTransport(url, headers=headers))
                )
                use = _use(client, kind)
                await use()
            except Exception as error:  # noqa: BLE001 - a row less
                missing[f"{name}, {kind}"] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            rows[kind].append(Contestant(name, batch_of(use), _NOTES.get(name, "")))
        for kind, contestants in rows.items():
            await interleave(
                contestants, bench.rounds if kind == _CALL else max(6, bench.rounds // 2),
                seconds=0.05 if kind == _CALL else 0.8,
                on_round=lambda n, kind=kind: bench.progress(kind, n),
            )  # fmt: skip
    return _result(rows, missing)


def _use(client, kind):
    """A call whose outcome is checked."""

    async def call():
        result = await client.call_tool("search", {"query": "raven"})
        assert result.data == ["raven"], result

    async def list_tools():
        assert len(await client.list_tools()) == _TOOLS

    return call if kind == _CALL else list_tools


def _result(rows, missing):
    result = {"rows": [], "ratios": [], "missing": missing}
    medians = {}
    for kind, contestants in rows.items():
        missing |= failed_rounds(contestants)
        for one in contestants:
            if one.dropped or not one.taken:
                missing[f"{one.name}, {kind}"] = one.dropped
                continue
            medians[kind, one.name] = [value and value / 1000 for value in one.medians]
            taken = median([value / 1000 for value in one.taken]).as_json()
            row = {"group": kind, "name": one.name, "unit": "ms", "note": one.note}
            result["rows"].append({**row, **taken})
    for name, kind, ours, aim, how in (
        ("an MCP call, uncached, over the bare one", _CALL, _UNCACHED, 50, "%"),
        ("an MCP call, cached, over the bare one", _CALL, _CACHED, 8, "%"),
        ("a list of 500, uncached, beyond 1.5 × the bare one", _LIST, _UNCACHED, 3, "ms"),
        ("a list of 500, cached, beyond the bare one", _LIST, _CACHED, 1, "ms"),
    ):
        first, second = medians.get((kind, ours)), medians.get((kind, _BARE))
        if first is None or second is None:
            missing[name] = "a row that it needs was left out"
            continue
        if how == "%":
            found = {k: v if k == "n" else 100 * (v - 1) for k, v in _json(ratio(first, second))}
        else:
            times = 1.5 if ours == _UNCACHED else 1.0
            found = difference(first, [value and times * value for value in second]).as_json()
        result["ratios"].append({"name": name, "aim": aim, "below": True, "unit": how, **found})
    return result


def _json(estimate):
    return estimate.as_json().items()


def plot(part, folder):
    """The call."""
    path = folder / "mcp-call.svg"
    title = "One call of a tool over streamable HTTP: median and 95 % interval"
    bars(
        path,
        [row for row in part["rows"] if row["group"] == _CALL],
        unit="ms",
        title=title,
        log=False,
    )
    yield path, title


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
