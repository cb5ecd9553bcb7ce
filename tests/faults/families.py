"""Which faults belong to which kind of world."""

from collections.abc import Callable
from dataclasses import dataclass

from .matrix import ONE
from .world import World


class Missing(Exception):  # noqa: N818 - it reads as what happened
    """A part of a world cannot be had here; the message says why."""


@dataclass(frozen=True)
class Family:
    """Rows that share a kind of world.

    Attributes:
        faults: by name.
        world: makes one.
        share: how many are up at once, for one that is asked for.
        missing: raised where there can be none.
    """

    faults: dict
    world: Callable
    share: int = 1
    missing: type[Exception] = Missing


FAMILIES = {
    "one": Family(ONE, World),
}
NAMES = [name for family in FAMILIES.values() for name in family.faults]
