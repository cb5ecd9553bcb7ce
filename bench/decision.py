"""Where the time of a decision goes: `python -m bench.decision [--rounds N] [--json]`.

Starts a whole lictor with a real OPA on a unix socket. Each round measures, one after the other on
one connection: a whole `PDP.authorize`, the bearer's verification alone, the query to OPA alone,
and what OPA itself says it took. Shares come from the same rounds, since the machine is shared and
noisy; back to back, and with 5 ms between calls, as most real callers are.
"""

import argparse
import asyncio
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

from bench.measured_opa import MeasuredOPA
from bundles.opa.binary import find_opa
from bundles.opa.server import client_token_file
from lictor.settings import Settings
from lictor.state_dir import initialise, publish_policies
from pdp_client import FileRecord
from pdp_client.opa.unix import UnixSocketTransport
from tests.support.deployment import Deployment

_LIBRARIES = 40
_WARM_UP = 200


class Timed:
    """The calls that are compared, for one bearer."""

    def __init__(self, pdp, transport, metrics_transport, verifier, bearer):
        self._pdp = pdp
        self._transport = transport
        self._metrics_transport = metrics_transport
        self._verifier = verifier
        self._bearer = bearer
        self._question = {
            "credential": verifier.verify(bearer).as_input(),
            "context": {"server": "bench", "transport": "http"},
            "action": {"method": "tools/call", "name": "search", "tags": ["read"]},
        }

    async def round(self):
        """One round, in microseconds by part."""
        began = time.perf_counter_ns()
        decision = await self._pdp.authorize(self._bearer, tool="search", tags=["read"])
        whole = time.perf_counter_ns() - began
        assert decision.allow, decision

        began = time.perf_counter_ns()
        self._verifier.verify(self._bearer)
        verification = time.perf_counter_ns() - began

        began = time.perf_counter_ns()
        await self._transport.query("decision", self._question)
        asked = time.perf_counter_ns() - began

        opa = await self._metrics_transport.handler_ns(self._question)
        return {
            "authorize": whole / 1000,
            "verification": verification / 1000,
            "http": (asked - opa) / 1000,
            "opa": opa / 1000,
            "rest": (whole - verification - asked) / 1000,
        }


class MetricsTransport(UnixSocketTransport):
    """The same transport, asking OPA to tell how long its handler took."""

    async def handler_ns(self, query):
        body = json.dumps({"input": query}, separators=(",", ":")).encode()
        head = self._heads["decision"].replace(b"errors=true", b"errors=true&metrics=true")
        answer = await self._exchange(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        return json.loads(answer)["metrics"]["timer_server_handler_ns"]


async def measure(rounds, pause):
    with tempfile.TemporaryDirectory(prefix="lictor-bench-") as folder:
        settings = Settings(state=Path(folder) / "s", bundles_url="http://127.0.0.1:0")
        opa = find_opa()
        await initialise(settings, actor="bench")
        publish_policies(settings, opa)
        async with Deployment(settings, opa) as deployment:
            await deployment.start_server()
            measured = MeasuredOPA(opa, deployment.new_opa().settings)
            deployment.opa = measured
            deployment._exit.callback(measured.kill)
            measured.start()
            await deployment.add_user("ada")
            for number in range(_LIBRARIES):
                await deployment.add_library(f"lib-{number}", f"w-{number % 4}")
            libraries = [f"lib-{n}" for n in range(_LIBRARIES)]
            token = await deployment.create_token(libraries=libraries)
            _, team_jwt = await deployment.create_team(workspaces=[f"w-{n}" for n in range(4)])
            await deployment.settle()
            secret = client_token_file(deployment.opa.settings.folder).read_text()
            path = deployment.opa.settings.address.removeprefix("unix://")
            transport = UnixSocketTransport(path, token=secret)
            metrics_transport = MetricsTransport(path, token=measured.bench_token)
            verifier = deployment.keys.verifier()
            pdp = deployment.pdp(
                record=FileRecord(Path(folder) / "record.jsonl"), verifier=verifier
            )
            results = {}
            for kind, bearer in {"token": token, "team": team_jwt}.items():
                timed = Timed(pdp, transport, metrics_transport, verifier, bearer)
                for _ in range(_WARM_UP):
                    await timed.round()
                taken = []
                for _ in range(rounds):
                    await asyncio.sleep(pause)
                    taken.append(await timed.round())
                results[kind] = summary(taken)
            await transport.aclose()
            await metrics_transport.aclose()
            return results


def summary(taken):
    whole = [one["authorize"] for one in taken]
    parts = {
        part: statistics.median(one[part] for one in taken)
        for part in ("verification", "http", "opa", "rest")
    }
    total = sum(parts.values())
    return {
        "n": len(taken),
        "p50_us": round(statistics.median(whole)),
        "p99_us": round(statistics.quantiles(whole, n=100)[98]),
        **{f"{part}_us": round(value) for part, value in parts.items()},
        **{f"{part}_share": round(value / total, 3) for part, value in parts.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {
        "back to back": asyncio.run(measure(arguments.rounds, 0)),
        "5 ms apart": asyncio.run(measure(arguments.rounds // 4, 0.005)),
    }
    if arguments.json:
        print(json.dumps(results))
        return
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"{_LIBRARIES} libraries; microseconds, shares of the sum of medians\n"
    )
    print(f"{'':24}{'p50':>8}{'p99':>8}   verification        HTTP         OPA        rest")
    for pace, kinds in results.items():
        for kind, one in kinds.items():
            shares = "".join(
                f"{one[f'{part}_us']:>7} {one[f'{part}_share']:>4.0%}"
                for part in ("verification", "http", "opa", "rest")
            )
            print(f"{kind + ', ' + pace:24}{one['p50_us']:>8}{one['p99_us']:>8}   {shares}")


if __name__ == "__main__":
    main()
