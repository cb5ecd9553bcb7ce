"""The faults of a registry in Neo4j."""

import asyncio
import signal

from .matrix import GARBAGE, OLD, Fault, on_a_proxy


async def _kill(deployment, rng):
    deployment.neo4j.kill()


async def _start(deployment):
    await asyncio.to_thread(deployment.neo4j.start)


async def _freeze(deployment, rng):
    deployment.signal_graph(signal.SIGSTOP)


async def _thaw(deployment):
    deployment.signal_graph(signal.SIGCONT)


def _faults():
    old = {"strict": OLD, "bounded": OLD, "long": True}
    yield Fault("Neo4j: killed", _kill, _start, **old)
    yield Fault("Neo4j: frozen", _freeze, _thaw, **old)
    yield on_a_proxy("Neo4j", "registry", "refuse", name="refuses connections", **old)
    yield on_a_proxy("Neo4j", "registry", "half open", **old)
    yield on_a_proxy("Neo4j", "registry", "slow", seconds=0.3, **old)
    yield on_a_proxy("Neo4j", "registry", "cut", name="cut within an answer", **old)
    yield on_a_proxy("Neo4j", "registry", "answer", name="answers garbage", body=GARBAGE, **old)


GRAPH = {fault.name: fault for fault in _faults()}
