"""What a decision costs beyond what it cannot do without: `python -m bench.cost [--rounds N]`.

Starts a whole lictor with a real OPA on a unix socket and a real Redis. Each line compares two
things, in alternation, in the same rounds:

- `uncached`: a decision with its query to OPA and a cached verification, against a bare
  asyncio exchange of the same bytes with the same OPA on the same socket;
- `strict`: a decision in `strict` that is remembered, against one read from Redis;
- `strict, uncached`: the same with its query to OPA, against the bare exchange and the read;
- `cached`: a decision that is remembered, against looking up a bearer's SHA-256 in a dict.

Records are not written here; `bench.decision` shows what they cost.
"""

import argparse
import asyncio
import json
import platform
from hashlib import sha256

from bench.paired import paired_async, summary
from bench.served import deployed
from bundles.opa.server import client_token_file
from pdp_client.opa.unix import UnixSocketTransport
from pdp_client.shared import Shared
from pdp_client.shared.connection import connect
from tests.support.waiting import until

_LIBRARIES = 4


class Tapped(UnixSocketTransport):
    """The product's own transport, which shows the bytes that it sends."""

    async def _exchange(self, request):
        self.request = request
        return await super()._exchange(request)


class Bare:
    """The least that an asyncio program can do: write, read the head, read the body."""

    def __init__(self, path):
        self._path = path

    async def connect(self):
        self._reader, self._writer = await asyncio.open_unix_connection(self._path)

    async def exchange(self, request):
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        at = head.index(b"Content-Length: ") + 16
        return await self._reader.readexactly(int(head[at : head.index(b"\r", at)]))

    def close(self):
        self._writer.close()


async def compare(deployment, redis, kind, bearer, rounds):
    """Each comparison for one bearer."""
    path = deployment.opa.settings.address.removeprefix("unix://")
    secret = client_token_file(deployment.opa.settings.folder).read_text()
    transport = Tapped(path, token=secret)

    def pdp(**changes):
        shared = Shared(redis.url, key_file=deployment.settings.newest_key, timeout=5)
        return deployment.pdp(verifier=deployment.keys.verifier(), shared=shared, **changes)

    async def decide(pdp):
        decision = await pdp.authorize(bearer, tool="search", tags=["read"])
        assert decision.allow, decision
        return decision

    uncached, strict = pdp(opa_transport=transport), pdp(consistency="strict")
    cached, strictly_cached = pdp(cache=True), pdp(consistency="strict", cache=True)
    await decide(uncached)
    bare = Bare(path)
    await bare.connect()
    client = connect(redis.url, timeout=5)

    async def remembered():
        # Time ends what is remembered; once in many rounds OPA is asked.
        await decide(cached)

    async def read():
        await client.get("{lictor}:newest")

    async def read_and_exchange():
        await read()
        await bare.exchange(transport.request)

    known = {sha256(bearer.encode()).digest(): True}

    async def look_up():
        assert known[sha256(bearer.encode()).digest()]

    async def hit():
        return (await decide(cached)).cached

    await until(hit, "it is remembered")
    pairs = {
        "uncached": (lambda: decide(uncached), lambda: bare.exchange(transport.request)),
        "strict": (lambda: decide(strictly_cached), read),
        "strict, uncached": (lambda: decide(strict), read_and_exchange),
        "cached": (remembered, look_up),
    }
    results = {}
    for name, (ours, other) in pairs.items():
        taken = await paired_async(ours, other, rounds)
        results[f"{kind}, {name}"] = summary(taken)
    bare.close()
    await client.aclose()
    return results


async def measure(rounds):
    async with deployed() as (deployment, redis, _):
        for number in range(_LIBRARIES):
            await deployment.add_library(f"lib-{number}", f"w-{number % 2}")
        token = await deployment.create_token(libraries=[f"lib-{n}" for n in range(_LIBRARIES)])
        _, team_jwt = await deployment.create_team(workspaces=["w-0", "w-1"])
        await deployment.settle()
        results = {}
        for kind, bearer in {"token": token, "team": team_jwt}.items():
            results |= await compare(deployment, redis, kind, bearer, rounds)
        return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = asyncio.run(measure(arguments.rounds))
    if arguments.json:
        print(json.dumps(results))
        return
    print(f"{platform.machine()}, Python {platform.python_version()}; medians of paired rounds\n")
    print(f"{'':24}{'µs':>8}{'other µs':>10}   ratio  95 %")
    for name, one in results.items():
        print(
            f"{name:24}{one['ours_us']:>8}{one['other_us']:>10}  {one['ratio']:>6}"
            f"  {one['low']}-{one['high']}"
        )


if __name__ == "__main__":
    main()
