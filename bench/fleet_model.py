"""The fleet on paper: what 1,000 OPAs and 10 million tokens ask of `lictor serve`.

The model has few inputs, all measured here: how often OPA polls, what a poll moves and costs the
server, and what a token weighs. It is checked against 200 simulated OPAs.
"""

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

from bench.filled import filled
from bench.fleet import until
from bench.simulated_opas import LONG_POLLED, REQUEST_HEAD, SimulatedOPAs, Traffic, counting_proxy
from bench.tables import number, table
from bench.throughput import cpu_seconds

TITLE = "The fleet on paper"
ABOUT = (
    "A real OPA polls through a proxy that counts. 50 simulated OPAs, which poll as often and "
    "report as much, show what each costs `lictor serve`. The model is checked against 200, and "
    "then applied to 1,000 OPAs and 10 million tokens. OPA's memory and the sizes of bundles "
    "are those of the section on growth, extended in a straight line."
)
SECONDS = 170

OPAS, TOKENS = 1_000, 10_000_000
_FEW, _MANY = 50, 200
_SETTLED, _WINDOW = 6, 30


async def measure(bench):
    """The inputs, the check, and the model's figures."""
    async with AsyncExitStack() as exit_:
        folder = exit_.enter_context(tempfile.TemporaryDirectory(dir=bench.folder))
        made = await exit_.enter_async_context(filled(folder, 10_000))
        inputs = await _real_opa(bench, exit_, made)
        instances = (await made.admin.status())["instances"]
        revisions = {name: one["revisions"][name] for one in instances for name in made.names}
        for _, process in made.fleet.opas:
            process.terminate()  # its reports are not to be counted below
        traffic = Traffic()
        simulated = await exit_.enter_async_context(
            SimulatedOPAs(
                made.settings, revisions,
                status_bytes=inputs["status_bytes"], traffic=traffic,
            )
        )  # fmt: skip
        idle = await _window(bench, made, simulated, traffic)
        few, many = [], []
        for count, found in ((_FEW, few), (_MANY, many)):
            await simulated.grow(count)
            found.append(await _window(bench, made, simulated, traffic))
            assert not simulated.failures(), simulated.failures()
        inputs |= _costs(idle, few[0])
    inputs |= _weights(bench)
    check = _check(inputs, idle, many[0])
    return {
        "rows": [], "ratios": [], "missing": {}, "inputs": inputs, "check": check,
        "paper": _paper(inputs),
    }  # fmt: skip


async def _real_opa(bench, exit_, made):
    """What one real OPA polls and moves in a steady state."""
    traffic, at = Traffic(), urlsplit(made.settings.bundles_url)
    port = await exit_.enter_async_context(counting_proxy(at.hostname, at.port, traffic))
    made.fleet.opa(1, f"http://127.0.0.1:{port}", made.names)

    async def ready():
        for one in (await made.admin.status())["instances"]:
            if one["id"] == "opa-1" and set(made.names) <= set(one["revisions"]):
                return True
        return False

    await until(ready, "the OPA behind the proxy has everything")
    await asyncio.sleep(_SETTLED)
    traffic.reset()
    for second in range(_WINDOW):
        await asyncio.sleep(1)
        bench.progress("a real OPA behind the proxy, second", second)
    reports = traffic.requests["status"]
    polls = sum(traffic.requests.values()) - reports
    heads = REQUEST_HEAD * sum(traffic.requests.values())
    return {
        "by_kind": traffic.rates()["by_kind"],
        "reports_per_poll": reports / polls,
        "shards": sum(name.startswith("base-") for name in made.names),
        "status_bytes": int((traffic.sent - heads) / max(1, reports)),
    }


async def _window(bench, made, simulated, traffic):
    """The server's CPU and memory, and the clients' traffic, in a window."""
    pid = made.fleet.server.pid
    await asyncio.sleep(_SETTLED)
    traffic.reset()
    before = cpu_seconds(pid)
    for second in range(_WINDOW):
        await asyncio.sleep(1)
        bench.progress(f"{simulated.count} simulated OPAs, second", second)
    cpu = (cpu_seconds(pid) - before) / _WINDOW
    return {"opas": simulated.count, "cpu": cpu, "rss_mb": rss_mb(pid), **traffic.rates()}


def rss_mb(pid):
    """The memory that a process holds now, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _costs(idle, few):
    """What the server spends on each request and each OPA."""
    return {
        "idle_cpu": idle["cpu"],
        "idle_mb": idle["rss_mb"],
        "cpu_per_request": (few["cpu"] - idle["cpu"]) / few["requests"],
        "mb_per_opa": max(0.0, few["rss_mb"] - idle["rss_mb"]) / few["opas"],
        **{f"{key}_per_opa": few[key] / few["opas"] for key in ("requests", "received", "sent")},
        "simulated_by_kind": {kind: one / few["opas"] for kind, one in few["by_kind"].items()},
    }


def _weights(bench):
    """What a token weighs, between the two largest sizes of the part about growth."""
    figures = {**bench.known, **bench.parts}.get("growth", {}).get("figures", [])
    if len(figures) < 2:
        return {}
    small, large = figures[-2:]
    tokens = large["tokens"] - small["tokens"]
    return {
        f"{key}_per_token": (large[f"{key}_mb"] - small[f"{key}_mb"]) * 1e6 / tokens
        for key in ("base", "opa", "server")
    } | {"measured_up_to": large["tokens"]}


def _check(inputs, idle, many):
    """What the model says of 200 OPAs, and what was measured."""
    requests = inputs["requests_per_opa"] * many["opas"]
    return [
        ["requests/s", requests, many["requests"]],
        [
            "kB/s to the OPAs",
            inputs["received_per_opa"] * many["opas"] / 1000, many["received"] / 1000,
        ],
        ["MB/s from the OPAs", inputs["sent_per_opa"] * many["opas"] / 1e6, many["sent"] / 1e6],
        [
            "CPU of `lictor serve`, % of one",
            100 * (idle["cpu"] + inputs["cpu_per_request"] * requests), 100 * many["cpu"],
        ],
        [
            "memory of `lictor serve`, MB",
            idle["rss_mb"] + inputs["mb_per_opa"] * many["opas"], many["rss_mb"],
        ],
    ]  # fmt: skip


def _paper(inputs):
    """The figures for 1,000 OPAs and 10 million tokens."""
    requests = inputs["requests_per_opa"] * OPAS
    rows = [
        ["polls and reports", requests, "requests/s"],
        ["bytes to the OPAs, nothing changing", inputs["received_per_opa"] * OPAS / 1e6, "MB/s"],
        ["bytes from the OPAs", inputs["sent_per_opa"] * OPAS / 1e6, "MB/s"],
        [
            "CPU of `lictor serve`",
            100 * (inputs["idle_cpu"] + inputs["cpu_per_request"] * requests), "% of one",
        ],
        ["memory of its open polls", inputs["mb_per_opa"] * OPAS, "MB"],
        ["open connections", OPAS * (len(LONG_POLLED) + 1), ""],
    ]  # fmt: skip
    if "base_per_token" in inputs:
        base = inputs["base_per_token"] * TOKENS
        rows += [
            ["base bundles", base / 1e6, "MB"],
            ["one shard, when it is compacted, to all OPAs", base / 64 * OPAS / 1e9, "GB"],
            ["a cold start of all OPAs", base * OPAS / 1e9, "GB"],
            ["which takes at 10 Gbit/s", base * OPAS * 8 / 10e9, "s"],
            ["memory of each OPA", inputs["opa_per_token"] * TOKENS / 1e9, "GB"],
            ["memory of `lictor serve`", inputs["server_per_token"] * TOKENS / 1e9, "GB"],
        ]
    return rows


def more(part):
    """The check and the model."""
    if "paper" not in part:
        return
    yield ""
    yield from table(
        [f"{_MANY} OPAs", "by the model", "measured", "measured / model"],
        (
            [what, number(model), number(found), number(found / model)]
            for what, model, found in part["check"]
        ),
    )
    inputs = part["inputs"]
    yield ""
    yield from table(
        ["requests a second of one OPA", "real", "simulated"],
        (
            [kind, number(inputs["by_kind"].get(kind, 0)), number(rate)]
            for kind, rate in inputs["simulated_by_kind"].items()
        ),
    )
    yield ""
    yield (
        "The real OPA had just started, so that few of its bases were due (every 30 to 60 s). It "
        f"reported its status {inputs['reports_per_poll']:.2f} times for each poll, with about "
        f"{inputs['status_bytes']:,} bytes. A request costs the server "
        f"{1e6 * inputs['cpu_per_request']:.0f} µs on average."
    )
    yield ""
    yield from table(
        [f"{OPAS:,} OPAs, {TOKENS:,} tokens, one `lictor serve`", "on paper", ""],
        ([what, number(value), unit] for what, value, unit in part["paper"]),
    )
