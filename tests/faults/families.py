"""Which faults belong to which kind of world."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.support.fetched import Unavailable
from tests.support.neo4j import NoNeo4j
from tests.support.small_disk import NoMount

from .disk import FileOnSmallDisk, GraphOnSmallDisk
from .graph import GraphWorld
from .matrix import ONE
from .matrix_disk import DISK, GRAPH_DISK
from .matrix_graph import GRAPH
from .matrix_pair import PAIR
from .pair import Pair
from .world import World


@dataclass(frozen=True)
class Family:
    """Rows that share a kind of world.

    Attributes:
        faults: by name.
        world: makes one.
        most: so many are up at once in a process, however many are asked for.
    """

    faults: dict
    world: Callable
    most: int


MISSING = (NoNeo4j, NoMount, Unavailable, pytest.skip.Exception)
"""What says that a part of a world cannot be had here, and why; a server that was lent to us is not killed."""

FAMILIES = {
    "one": Family(ONE, World, 4),
    "disk": Family(DISK, FileOnSmallDisk, 1),
    "pair": Family(PAIR, Pair, 1),
    # A JVM takes 20 s to start.
    "graph": Family(GRAPH, GraphWorld, 1),
    "graph disk": Family(GRAPH_DISK, GraphOnSmallDisk, 1),
}
NAMES = [name for family in FAMILIES.values() for name in family.faults]
