"""How soon a revocation holds everywhere, in a large registry, while decisions run.

Starts all that it needs: the registry, `lictor serve`, OPAs, and a process that asks for decisions.
Each revocation is the operator's verb and the wait for every OPA's acknowledgement, as in
`lictor token revoke --wait`, but for the start of Python. After each one a decision is asked for,
from every OPA, and must be a refusal.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

from bench.fleet import Fleet, bundle_names, free_port, peak_mb, percentile, say, until
from bench.generated import GeneratedRegistry, fill_neo4j, fill_sqlite
from bundles.opa.binary import find_opa
from bundles.opa.server import client_token_file
from lictor.admin import Admin
from lictor.keys import KeyFolder
from lictor.settings import Settings
from lictor.state_dir import initialise, publish_policies
from pdp_client import PDP
from registry import Key, Team, open_registry
from registry.operations import Operator


async def request_decisions(config, rate, bearers, stop, taken):
    """Ask at a steady rate, whether earlier answers are there or not."""
    pdps = [
        PDP(
            opa_url=one["url"],
            opa_token_file=Path(one["token"]),
            verifier=KeyFolder(Path(one["keys"])).verifier(),
            deadline=5,
        )
        for one in config
    ]
    tasks = set()

    async def ask(n):
        began = time.perf_counter()
        decision = await pdps[n % len(pdps)].authorize(random.choice(bearers), tool="search")
        taken.append([time.perf_counter() - began, decision.reason.value])

    began, n = time.perf_counter(), 0
    while not stop():
        n += 1
        await asyncio.sleep(max(0.0, began + n / rate - time.perf_counter()))
        task = asyncio.ensure_future(ask(n))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for pdp in pdps:
        await pdp.aclose()


def load_process(settings_json):
    """The process that asks for decisions, until its standard input ends."""
    config = json.loads(settings_json)
    taken = []

    async def run():
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await request_decisions(
            config["opas"], config["rate"], config["bearers"], ended.done, taken
        )

    asyncio.run(run())
    print(json.dumps(taken))


async def measure(arguments):
    generated = GeneratedRegistry(arguments.tokens)
    async with AsyncExitStack() as exit_:
        made = tempfile.TemporaryDirectory(prefix="lr-", dir="/tmp")
        folder = arguments.folder or Path(exit_.enter_context(made))
        filled = (folder / "s").exists()
        url = {}
        if arguments.registry == "neo4j":
            from tests.support.neo4j import running_neo4j

            say("starting Neo4j")
            (folder / "neo4j").mkdir(exist_ok=True)
            graph = exit_.enter_context(running_neo4j(heap="2g", folder=folder / "neo4j"))
            url = {"registry": graph.url}
        settings = Settings(state=folder / "s", bundles_url="http://127.0.0.1:0", **url)
        binary = find_opa()
        if not filled:
            await initialise(settings, actor="bench")
        for kept in settings.state.glob("opa-*"):
            # An OPA that starts from what it has kept fetches everything as well, at once.
            shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
        publish_policies(settings, binary)
        port = free_port()
        settings = settings.model_copy(update={"bundles_url": f"http://127.0.0.1:{port}"})
        (settings.state / "lictor.toml").write_text(
            f'bundles_url = "{settings.bundles_url}"\nregistry = "{settings.registry}"\n'
        )
        say(f"filling {arguments.registry} with {generated.tokens} tokens")
        if filled:
            pass
        elif arguments.registry == "neo4j":
            await asyncio.to_thread(fill_neo4j, settings.registry, generated)
        else:
            await asyncio.to_thread(
                fill_sqlite, settings.registry.removeprefix("sqlite:///"), generated
            )
        fleet = Fleet(settings, binary, exit_, memory=arguments.opa_memory)
        say("publishing everything")
        publish_seconds, publish_peak = await fleet.serve()
        say(f"published in {publish_seconds:.1f} s")
        registry = await exit_.enter_async_context(aclosing(await open_registry(settings.registry)))
        operator = Operator(registry, actor="bench")
        admin = Admin(settings.admin_socket)
        names = bundle_names(await admin.status())
        began = time.monotonic()
        config = [fleet.opa(n, settings.bundles_url, names) for n in range(arguments.opas)]
        pdps = [await exit_.enter_async_context(aclosing(fleet.pdp(one))) for one in config]
        for pdp in pdps:

            async def ready(pdp=pdp):
                return (await pdp.authorize(generated.bearer(0), tool="search")).allow

            await until(ready, "OPA is ready")

        async def whole():
            config = (await admin.status())["instances"]
            have = [set(names) <= set(one["revisions"]) for one in config]
            return len(have) == arguments.opas and all(have)

        await until(whole, "every OPA has every bundle")
        ready_seconds = time.monotonic() - began
        say(f"{arguments.opas} OPA ready in {ready_seconds:.1f} s")
        rng = random.Random(arguments.seed)
        victims = rng.sample(
            range(generated.tokens), min(generated.tokens, 4 * arguments.revocations)
        )
        # `live` as full as it may be before anything is compacted.
        for n in victims[arguments.revocations :][: arguments.live]:
            await operator.revoke_token(generated.digest(n))
        version = await registry.version()
        await admin.effect(epoch=version.epoch, revision=version.revision, seconds=60)
        safe = sorted(set(range(min(generated.tokens, 50_000))) - set(victims))[:2000]
        load = fleet_load(fleet, config, [generated.bearer(n) for n in safe], arguments.rate)
        taken, seconds = await revoke(
            arguments,
            generated,
            fleet=fleet,
            operator=operator,
            admin=admin,
            pdps=pdps,
            victims=victims,
        )
        out, _ = load.communicate()
        answers = json.loads(out)
        decisions = [seconds for seconds, _ in answers]
        status = await admin.status()
        return {
            "registry": arguments.registry,
            "tokens": generated.tokens,
            "teams": generated.teams,
            "libraries": generated.libraries,
            "workspaces": generated.workspaces,
            "opas": arguments.opas,
            "n": len(taken),
            "p50_ms": round(1000 * statistics.median(taken), 1),
            "p99_ms": round(1000 * percentile(taken, 99), 1),
            "max_ms": round(1000 * max(taken), 1),
            "decisions": len(decisions),
            "decisions_not_allowed": sum(reason != "ok" for _, reason in answers),
            "decision_p50_ms": round(1000 * statistics.median(decisions), 2),
            "decision_p99_ms": round(1000 * percentile(decisions, 99), 2),
            "opa_peak_mb": round(max(peak_mb(process.pid) for _, process in fleet.opas)),
            "publish_seconds": round(publish_seconds, 1),
            "publisher_peak_mb": round(max(publish_peak, peak_mb(fleet.server.pid))),
            "ready_seconds": round(ready_seconds, 1),
            "compactions": status["compactions"],
            "live_records": status["live_records"],
            "seconds": round(seconds, 1),
            "percentiles_ms": {
                percent: round(1000 * percentile(taken, percent), 1)
                for percent in (10, 25, 50, 75, 90, 95, 99)
            },
        }


def fleet_load(fleet, config, bearers, rate):
    keys = str(fleet.settings.keys)
    opas = [
        {"url": one.address, "token": str(client_token_file(one.folder)), "keys": keys}
        for one in config
    ]
    given = json.dumps({"opas": opas, "bearers": bearers, "rate": rate})
    return subprocess.Popen(
        [sys.executable, "-m", "bench.revocation", "--load", given],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


async def revoke(arguments, generated, *, fleet, operator, admin, pdps, victims):
    """Revoke one after another, while a shard is compacted each second."""
    taken, outages, began = [], 0, time.monotonic()
    folding = asyncio.ensure_future(fold_each_second(admin))
    keys = KeyFolder(fleet.settings.keys)
    kids = [key.kid for key in await operator._registry.all(Key) if key.active]
    await asyncio.sleep(2)
    for count, n in enumerate(victims[: arguments.revocations]):
        if count % 2:
            team = generated.team_id(n % generated.teams)
            before = await operator._registry.get(Team, team)
            bearer = keys.mint_team(team, jti=before.active_jti, active_kids=kids)
            verb = operator.rotate_team(team)
        else:
            bearer = generated.bearer(n)
            verb = operator.revoke_token(generated.digest(n))
        started = time.perf_counter()
        done = await verb
        effect = await admin.effect(
            epoch=done.version.epoch, revision=done.version.revision, seconds=60
        )
        taken.append(time.perf_counter() - started)
        assert effect["effective"], effect
        assert effect["how"] == "acknowledged", effect
        for pdp in pdps:
            while True:
                decision = await pdp.authorize(bearer, tool="search")
                assert not decision.allow, decision
                if decision.reason not in {"unavailable", "stale_data"}:
                    break
                outages += 1
            assert decision.reason in {"token_deactivated", "invalid_token"}, decision
        await asyncio.sleep(random.uniform(0, 0.2))
        if count % 50 == 49:
            say(f"{count + 1} revocations, p50 {1000 * statistics.median(taken):.1f} ms")
    folding.cancel()
    say(f"{outages} outages among the checks")
    return taken, time.monotonic() - began


async def fold_each_second(admin):
    while True:
        started = time.monotonic()
        await admin.compact()
        await asyncio.sleep(max(0.0, started + 1 - time.monotonic()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--opas", type=int, default=1)
    parser.add_argument("--registry", choices=["sqlite", "neo4j"], default="sqlite")
    parser.add_argument("--revocations", type=int, default=300)
    parser.add_argument("--live", type=int, default=200, help="records in live at the start")
    parser.add_argument("--rate", type=int, default=200, help="decisions per second")
    parser.add_argument(
        "--opa-memory", default="", help="each OPA's GOMEMLIMIT, in place of what lictor opa sets"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep everything here, and go on from it")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load_process(arguments.load)
        return
    result = asyncio.run(measure(arguments))
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
        for name, value in result.items():
            print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
