"""How much memory OPA may take: settings of Go's garbage collector, from what this host has."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

_GOGC_WITH_ONE_SHARD, _GOGC_WITH_MORE = "400", "100"
"""Percent that the heap may grow by before it is collected. An OPA with a small heap would collect
several times in each activation of `live`, and revocations would wait for that; with a million
tokens, 100 is Go's own and keeps the peak within twice of what is live."""

_SHARE = 0.8
"""Of the memory that the process may have: the rest is for what is not Go's heap."""

_UNLIMITED = 1 << 60
"""cgroup v1 has a number near 2^63 for no limit."""


def collector_settings(
    inherited: Mapping[str, str], bundles: Collection[str], *, root: Path = Path("/")
) -> dict[str, str]:
    """Return `GOGC` and `GOMEMLIMIT` for OPA's environment; what is set already is kept.

    Near a memory limit Go collects without an end, and decisions wait for seconds. So the limit is
    no tuning, but what keeps the kernel from killing OPA: four fifths of what the process may have,
    which is the limit of its control group, or the machine's memory. See
    https://go.dev/doc/gc-guide#Memory_limit.

    Args:
        inherited: the environment of `lictor opa`.
        bundles: the names of the bundles that OPA fetches: a small registry has one shard.
        root: where `/proc` and `/sys` are.
    """
    shards = sum(name.startswith("base-") for name in bundles)
    settings = {"GOGC": _GOGC_WITH_ONE_SHARD if shards <= 1 else _GOGC_WITH_MORE}
    if limit := min(_limits(root), default=0):
        settings["GOMEMLIMIT"] = f"{int(limit * _SHARE) >> 20}MiB"
    return settings | {name: inherited[name] for name in settings if inherited.get(name)}


def _limits(root: Path) -> Iterator[int]:
    """The limits for this process, in bytes: of its control groups, and the machine's memory."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folder, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = folder / path.lstrip("/")
        for place in (group, *group.parents):
            if not place.is_relative_to(folder):
                break
            for value in _lines(place / name):
                if value.isdecimal() and int(value) < _UNLIMITED:
                    yield int(value)
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemTotal:"):
            yield int(line.split()[1]) << 10


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return []
