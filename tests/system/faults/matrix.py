"""The faults of one `lictor serve`, as data: where each begins and ends, and what may be said of it meanwhile."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from . import acts
from .proxy import ProxyFault, http
from .server import STEPS

NOTHING = frozenset()
OUT = frozenset({"unavailable"})
OLD = frozenset({"behind", "stale_data"})
STRICT, BOTH = frozenset({"strict"}), frozenset({"strict", "bounded"})


@dataclass(frozen=True)
class Fault:
    """One row of the matrix.

    Attributes:
        name: of the row; unique.
        begin: breaks a deployment.
        end: mends it; returns how many met the fault, where that can be counted.
        strict: reasons that a `strict` PDP may give meanwhile, besides those that it would give anyway.
        bounded: the same of a `bounded` one.
        long: whether it is to last past the staleness limit in every other trial.
        met: whether some request must have met it.
        at_least: seconds that it lasts.
        first: whether it must have begun before the revocation.
        ahead: seconds that `lictor serve` may be ahead, which `bounded` then adds to its limit.
        shut: modes in which no caller may be allowed while it lasts.
        holds_back: whether what Redis says may be as old as `bounded` allows.
        changes: what may be revoked, where not everything may.
    """

    name: str
    begin: Callable[..., Awaitable[None]]
    end: Callable[..., Awaitable[int | None]]
    strict: frozenset = NOTHING
    bounded: frozenset = NOTHING
    long: bool = False
    met: bool = False
    at_least: float = 0.0
    first: bool = False
    ahead: float = 0.0
    shut: frozenset = NOTHING
    holds_back: bool = False
    changes: tuple = ()


ELSEWHERE = "Location: http://127.0.0.1:9/elsewhere"
GARBAGE = b"\x00\xffgarbage\r\n\r\n" * 20
ANSWERS = {
    "answers garbage": GARBAGE,
    "answers 200 with an empty body": http("200 OK"),
    "answers 200 with other JSON": http("200 OK", b'{"result": {"allow": "true"}}'),
    "answers 500": http("500 Internal Server Error", b'{"code": "internal_error"}'),
    "redirects": http("307 Temporary Redirect", b"", ELSEWHERE),
}


def on_a_proxy(part, proxy, kind, **more):
    """A fault of a proxy between two parts."""
    reasons = {key: more.pop(key) for key in ("strict", "bounded", "long", "at_least", "name", "first", "shut")
               if key in more}  # fmt: skip
    name = reasons.pop("name", kind)
    return Fault(
        f"{part}: {name}", acts.begin_on_proxy(proxy, lambda rng: ProxyFault(kind, rng=rng, **more)),
        acts.end_on_proxy(proxy), met=True, **reasons,
    )  # fmt: skip


def _opa():
    both = {"strict": OUT, "bounded": OUT, "shut": BOTH}
    back = {"strict": OUT | OLD, "bounded": OUT | OLD}
    yield Fault("OPA: killed", acts.kill("opa"), acts.start("opa"), shut=BOTH, **back)
    yield Fault("OPA: frozen", acts.freeze("opa"), acts.thaw("opa"), long=True, shut=BOTH, **back)
    yield Fault("OPA: cannot keep its bundles", acts.lose_persisted, acts.find_persisted, **back)
    yield on_a_proxy("OPA", "opa", "refuse", name="refuses connections", **both)
    yield on_a_proxy("OPA", "opa", "half open", at_least=1.8, **both)
    yield on_a_proxy("OPA", "opa", "slow", seconds=3.0, at_least=1.8, **both)
    yield on_a_proxy("OPA", "opa", "cut", name="cut within an answer", **both)
    for name, body in ANSWERS.items():
        yield on_a_proxy("OPA", "opa", "answer", name=name, body=body, **both)


def _redis():
    out = {"strict": OUT}
    yield Fault("Redis: killed, back empty", acts.kill_redis, acts.start_redis, shut=STRICT, **out)
    yield Fault("Redis: frozen", acts.freeze_redis, acts.thaw_redis, shut=STRICT, **out)
    yield Fault(
        "Redis: full disk, refuses writes", acts.fill_redis_disk, acts.empty_redis_disk, **out
    )
    yield Fault("Redis: full memory", acts.fill_redis, acts.empty_redis, **out)
    yield Fault("Redis: flushed", acts.flush, acts.nothing, **out)
    yield Fault(
        "Redis: restored from an older backup", acts.back_up, acts.restore, first=True, **out
    )
    for what in ("forged", "other key", "deleted"):
        begin = acts.write_newest(what)
        yield Fault(f"Redis: newest revision {what}", begin, acts.nothing, first=True, **out)
    # Authentic, fresh and of this Redis. Only the registry could refute it; see the docs.
    begin, name = acts.write_newest("older"), "Redis: newest revision held back by a writer"
    yield Fault(name, begin, acts.nothing, first=True, holds_back=True, **out)
    yield on_a_proxy("Redis", "redis", "refuse", shut=STRICT, name="refuses connections", **out)
    yield on_a_proxy("Redis", "redis", "half open", shut=STRICT, at_least=1.8, **out)
    yield on_a_proxy("Redis", "redis", "slow", shut=STRICT, seconds=2.0, at_least=1.8, **out)
    yield on_a_proxy("Redis", "redis", "cut", shut=STRICT, name="cut within an answer", **out)
    yield on_a_proxy("Redis", "redis", "flip", name="bit flips", **out)
    yield on_a_proxy(
        "Redis", "redis", "answer", shut=STRICT, name="answers garbage", body=GARBAGE, **out
    )
    yield on_a_proxy(
        "Redis",
        "redis",
        "answer",
        shut=STRICT,
        name="answers an empty value",
        body=b"$0\r\n\r\n",
        **out,
    )
    old = {"strict": OLD | OUT, "bounded": OLD}
    yield on_a_proxy("Redis for serve", "redis of serve", "half open", **old)


def _bundles():
    old = {"strict": OLD, "bounded": OLD, "long": True}
    yield on_a_proxy("bundle server", "bundles", "refuse", name="refuses connections", **old)
    yield on_a_proxy("bundle server", "bundles", "half open", **old)
    yield on_a_proxy("bundle server", "bundles", "slow", seconds=0.2, **old)
    yield on_a_proxy("bundle server", "bundles", "cut", name="cut within an answer", **old)
    for name, body in ANSWERS.items():
        yield on_a_proxy("bundle server", "bundles", "answer", name=name, body=body, **old)
    for name, reasons in _KINDS.items():
        yield _changed(name, "bit flips", acts.flip, **reasons)
        yield _changed(name, "signed by another key", acts.other_key, **reasons)
    for name, reasons in _REPLAYED.items():
        yield _changed(name, "older but valid, replayed", acts.older, **reasons)
    yield _changed("heartbeat", "is live's bundle", acts.swapped, **old)
    yield on_a_proxy("live bundle", "bundles", "half open", names=("live",), name="withheld", **old)
    yield on_a_proxy(
        "heartbeat bundle", "bundles", "half open", names=("heartbeat",), name="withheld", **old
    )


_OLD = {"strict": OLD, "bounded": OLD, "long": True}
# OPA goes on with the rules and the base that it has: no caller notices.
_KINDS = {"policy": {}, "site": {}, "base-00": {}, "live": _OLD, "heartbeat": _OLD}
_REPLAYED = dict.fromkeys(("policy", "site", "base-00", "live", "heartbeat"), _OLD)


def _changed(name, what, change, **reasons):
    begin = acts.changed_bundle(name, change)
    end = acts.end_on_proxy("bundles")
    return Fault(
        f"{name} bundle: {what}", begin, end, met=True, first=True, at_least=0.5, **reasons
    )


def _publisher():
    old = {"strict": OLD, "bounded": OLD}
    yield Fault("publisher: killed", acts.kill("serve"), acts.start("serve"), long=True, **old)
    yield Fault("publisher: frozen", acts.freeze("serve"), acts.thaw("serve"), long=True, **old)
    yield Fault("publisher: full disk", acts.fill("serve"), acts.empty("serve"), long=True, **old)
    both = {"strict": OLD | OUT, "bounded": OLD}
    for seconds in (60, -60):
        name = f"publisher: its clock {abs(seconds)} s {'ahead' if seconds > 0 else 'behind'}"
        yield Fault(name, acts.clock(seconds), acts.clock(0), long=True, **both)
    # What differs by less than five seconds is taken for clocks that run apart.
    yield Fault("publisher: its clock 4 s ahead", acts.clock(4), acts.clock(0), ahead=4.0, **both)
    for step in STEPS:
        folds = any(word in step for word in ("compact", "base-00", "published"))
        yield Fault(
            f"publisher: kill -9 {step.replace(':', ' ')}", acts.die_at(step, compact=folds),
            acts.restart_dead, met=True, first=True, **old,
        )  # fmt: skip


def _others():
    yield Fault(
        "decision record: full disk", acts.fill_record, acts.empty_record,
        strict=OUT, shut=BOTH, bounded=OUT, long=True,
    )  # fmt: skip


ONE = {fault.name: fault for fault in (*_opa(), *_redis(), *_bundles(), *_publisher(), *_others())}
"""The faults of one deployment."""
