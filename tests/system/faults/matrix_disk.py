"""The faults of the disk under a registry."""

import re
import secrets

from .matrix import OLD, OUT, Fault

_MOST = 400
"""Writes for which SQLite may find room in the log that it has, which it begins again each 4 MB."""


async def _fill(deployment, rng):
    """Fill the disk until a write fails: for the first writes there may be room yet, and for a part of the next."""
    deployment.forget()
    deployment.disk.fill(leave=rng.choice((0, rng.randint(1, 12))))
    for number in range(_MOST):
        if number == 10:
            deployment.disk.fill()
        if await deployment.add(f"d-{secrets.token_hex(4)}"):
            return


async def _empty(deployment):
    # First: what is there can be read as long as nothing can be written.
    await deployment.check_registry()
    _judge_said(deployment, r"unavailable: .* cannot be written: its disk is full")
    deployment.disk.empty()
    return deployment.met()


async def _empty_graph(deployment):
    """As an operator must: a database that could not write has stopped, and stays so until it is started again."""
    deployment.disk.empty()
    await deployment.restart_graph()
    await deployment.check_registry()
    _judge_said(deployment, "(serve_)?unavailable: .*")
    return deployment.met()


def _judge_said(deployment, expected):
    """The operator's commands too, which have failed meanwhile, say why."""
    wrong = [said for said in deployment.failures if not re.fullmatch(expected, said)]
    assert not wrong, wrong


DISK = {
    # `lictor serve` only reads: only commands notice.
    (name := "registry: full disk"): Fault(name, _fill, _empty, long=True, met=True),
}
GRAPH_DISK = {
    # On a busy machine Neo4j takes more than 30 s to start. What Redis says of the newest revision is late then.
    (name := "Neo4j: full disk"): Fault(
        name, _fill, _empty_graph, strict=OLD | OUT, bounded=OLD, long=True, met=True
    ),
}
