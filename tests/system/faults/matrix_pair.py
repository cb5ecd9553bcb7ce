"""The faults of two `lictor serve`, one of which publishes."""

import signal

from . import acts
from .matrix import OLD, OUT, Fault
from .proxy import ProxyFault


def _to(role, begin, end):
    """Breaks the one that publishes (0) or the other (1), and mends the same."""
    broken = []

    async def begun(deployment, rng):
        both = await deployment.pick()
        # Commands go through the one that is well.
        deployment.writer = both[1 - role]
        broken[:] = [both[role]]
        await begin(both[role], rng)

    async def ended(deployment):
        return await end(broken[0])

    return begun, ended


async def _zombie(side, rng):
    side.signal("serve", signal.SIGSTOP)


async def _wakes(side):
    side.signal("serve", signal.SIGCONT)


async def _no_store(deployment, rng):
    deployment.store.rename(deployment.folder / "aside")
    deployment.store.write_text("")


async def _store_back(deployment):
    deployment.store.unlink()
    (deployment.folder / "aside").rename(deployment.store)


def _cut_off(side, rng):
    return acts.begin_on_proxy("redis of serve", lambda rng: ProxyFault("half open"))(side, rng)


_PAST = 3.5
"""Seconds: longer than a lease."""


def _faults():
    old = {"strict": OLD, "bounded": OLD, "first": True}
    names = ("the publishing one", "the other one")
    for role, name in enumerate(names):
        killed = _to(role, acts.kill("serve"), acts.start("serve"))
        yield Fault(f"two publishers: {name} killed", *killed, at_least=0.5, **old)
        zombie = _to(role, _zombie, _wakes)
        yield Fault(
            f"two publishers: {name} frozen past its lease, then a zombie",
            *zombie, at_least=_PAST, **old,
        )  # fmt: skip
    cut = _to(0, _cut_off, acts.end_on_proxy("redis of serve"))
    yield Fault("two publishers: the publishing one has no Redis", *cut, at_least=_PAST, **old)
    redis = {"strict": OLD | OUT, "bounded": OLD}
    yield Fault(
        "two publishers: Redis frozen", acts.freeze_redis, acts.thaw_redis, at_least=_PAST, **redis
    )
    yield Fault(
        "two publishers: Redis killed, back empty", acts.kill_redis, acts.start_redis, **redis
    )
    yield Fault("two publishers: the store cannot be written", _no_store, _store_back, **old)


PAIR = {fault.name: fault for fault in _faults()}
