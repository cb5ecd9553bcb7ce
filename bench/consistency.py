"""What `strict` promises: a credential revoked before the call is refused, by any instance.

Starts a Redis, `lictor serve`, two OPAs, and three processes that each do what an operator and an
MCP server do: revoke a token as `lictor token revoke` does it, and as soon as the write has
returned (Redis has it; OPA may not) call with it, in `strict`, through one of the OPAs.
Between the pairs, it calls with tokens that are never revoked. An allow after a revocation
is a stale one, and there must be none.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

from bench.fleet import Fleet, bundle_names, free_port, percentile, say, until
from bench.generated import GeneratedRegistry, fill_sqlite
from bundles.opa.binary import find_opa
from bundles.opa.server import client_token_file
from lictor.admin import Admin
from lictor.cluster import announcer
from lictor.exceptions import ServeUnavailableError
from lictor.keys import KeyFolder
from lictor.settings import Settings
from lictor.state_dir import initialise, publish_policies
from pdp_client import PDP
from pdp_client.shared import Shared
from registry import open_registry
from registry.operations import Operator
from tests.support.redis import redis_server

_CLIENTS, _OPAS, _CONTROLS = 3, 2, 1000
_TELL_EVERY = 1000
_CHECK_BEFORE = 20
"""One pair in so many first shows that the token was good."""


class Client:
    """One process: operator and MCP server."""

    def __init__(self, config, operator, pdps):
        self.config = config
        self.generated = GeneratedRegistry(config["tokens"])
        self.operator = operator
        self.pdps = pdps
        self.admin = Admin(Path(config["admin"]))
        self.rng = random.Random(config["seed"])
        self.left = iter(config["victims"])
        self.stale = 0
        self.reasons, self.controls, self.before = Counter(), Counter(), Counter()
        self.took = []
        self.changed = asyncio.Event()

    async def call(self, number):
        pdp = self.rng.choice(self.pdps)
        return await pdp.authorize(self.generated.bearer(number), tool="search")

    async def work(self):
        for number in self.left:
            if number % _CHECK_BEFORE == 0:
                self.before[(await self.call(number)).reason.value] += 1
            await self.operator.revoke_token(self.generated.digest(number))
            self.changed.set()
            began = time.perf_counter()
            decision = await self.call(number)
            self.took.append(time.perf_counter() - began)
            self.stale += decision.allow
            self.reasons[decision.reason.value] += 1
            if len(self.took) % _TELL_EVERY == 0:
                say(f"{len(self.took)} pairs of one process, {self.stale} stale allows")
            control = self.rng.randrange(_CONTROLS)
            self.controls[(await self.call(control)).reason.value] += 1

    async def wake(self):
        """As the command does after a write; once for all that were written meanwhile."""
        while True:
            await self.changed.wait()
            self.changed.clear()
            try:
                await self.admin.wake()
            except ServeUnavailableError as error:
                print(error, file=sys.stderr)

    async def run(self):
        waking = asyncio.ensure_future(self.wake())
        await asyncio.gather(*(self.work() for _ in range(self.config["in_flight"])))
        waking.cancel()
        return {
            "stale": self.stale,
            "reasons": self.reasons,
            "controls": self.controls,
            "before": self.before,
            "took": self.took,
        }


async def client(config):
    settings = Settings(state=config["state"], redis_url=config["redis"])
    async with AsyncExitStack() as exit_:
        registry = await exit_.enter_async_context(aclosing(await open_registry(settings.registry)))
        telling = await exit_.enter_async_context(aclosing(announcer(settings)))
        operator = Operator(registry, actor="bench", committed=telling.announce)
        pdps = [
            PDP(
                opa_url=opa["url"],
                opa_token_file=Path(opa["token"]),
                verifier=KeyFolder(settings.keys).verifier(),
                shared=Shared(settings.redis_url, key_file=settings.newest_key, timeout=1),
                consistency="strict",
                catch_up=config["catch_up"],
                deadline=config["catch_up"] + 2,
            )
            for opa in config["opas"]
        ]
        for pdp in pdps:
            await exit_.enter_async_context(pdp)
        return await Client(config, operator, pdps).run()


async def measure(arguments):
    generated = GeneratedRegistry(max(arguments.tokens, arguments.pairs + _CONTROLS))
    async with AsyncExitStack() as exit_:
        folder = Path(exit_.enter_context(tempfile.TemporaryDirectory(prefix="lc-", dir="/tmp")))
        redis = exit_.enter_context(redis_server())
        settings = Settings(
            state=folder / "s",
            bundles_url=f"http://127.0.0.1:{free_port()}",
            redis_url=redis.url,
        )
        binary = find_opa()
        await initialise(settings, actor="bench")
        publish_policies(settings, binary)
        say(f"filling SQLite with {generated.tokens} tokens")
        fill_sqlite(settings.registry.removeprefix("sqlite:///"), generated)
        fleet = Fleet(settings, binary, exit_)
        fleet.environment["LICTOR_REDIS_URL"] = redis.url
        await fleet.serve()
        admin = Admin(settings.admin_socket)
        names = bundle_names(await admin.status())
        config = [fleet.opa(n, settings.bundles_url, names) for n in range(_OPAS)]
        for one in config:
            pdp = await exit_.enter_async_context(fleet.pdp(one))

            async def ready(pdp=pdp):
                return (await pdp.authorize(generated.bearer(0), tool="search")).allow

            await until(ready, "OPA is ready")
        say("started")
        victims = random.Random(arguments.seed).sample(
            range(_CONTROLS, generated.tokens), arguments.pairs
        )
        began = time.monotonic()
        given = [
            {
                "state": str(settings.state),
                "redis": redis.url,
                "admin": str(settings.admin_socket),
                "tokens": generated.tokens,
                "victims": victims[number::_CLIENTS],
                "seed": arguments.seed + number,
                "in_flight": arguments.in_flight,
                "catch_up": arguments.catch_up,
                "opas": [
                    {"url": one.address, "token": str(client_token_file(one.folder))}
                    for one in config
                ],
            }
            for number in range(_CLIENTS)
        ]
        found = await asyncio.gather(*(asyncio.to_thread(run_client, one) for one in given))
        seconds = time.monotonic() - began
        return summary(found, generated, status=await admin.status(), seconds=seconds)


def run_client(config):
    done = subprocess.run(
        [sys.executable, "-m", "bench.consistency", "--client"],
        input=json.dumps(config), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def summary(found, generated, *, status, seconds):
    def total(name):
        return sum((Counter(one[name]) for one in found), Counter())

    reasons, controls = total("reasons"), total("controls")
    pairs = sum(reasons.values())
    took = [seconds for one in found for seconds in one["took"]]
    return {
        "pairs": pairs,
        "stale_allows": sum(one["stale"] for one in found),
        "own_reason": reasons["token_deactivated"],
        "own_reason_share": round(reasons["token_deactivated"] / pairs, 4),
        "controls": sum(controls.values()),
        "controls_denied": sum(controls.values()) - controls["ok"],
        "refusals": dict(reasons),
        "controls_by_reason": dict(controls),
        "before_by_reason": dict(total("before")),
        "tokens": generated.tokens,
        "live_records": status["live_records"],
        "folds": status["compactions"],
        "clients": _CLIENTS,
        "opas": _OPAS,
        "seconds": round(seconds, 1),
        "refused_ms": {
            percent: round(1000 * percentile(took, percent), 1) for percent in (50, 95, 99)
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--tokens", type=int, default=0, help="in the registry, at least")
    parser.add_argument("--in-flight", type=int, default=4, help="pairs at once, in each process")
    parser.add_argument("--catch-up", type=float, default=0.25, help="seconds, as of the PDP")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        print(json.dumps(asyncio.run(client(json.load(sys.stdin)))))
        return
    result = asyncio.run(measure(arguments))
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
