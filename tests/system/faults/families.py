"""Which faults belong to which kind of deployment."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.support.downloads import DownloadUnavailableError
from tests.support.neo4j import Neo4jUnavailableError
from tests.support.small_disk import MountRefusedError

from .deployment import ProxiedDeployment
from .disk import FileOnSmallDisk, GraphOnSmallDisk
from .graph import GraphDeployment
from .matrix import ONE
from .matrix_disk import DISK, GRAPH_DISK
from .matrix_graph import GRAPH
from .matrix_pair import PAIR
from .pair import DeploymentPair


@dataclass(frozen=True)
class Family:
    """Rows that share a kind of deployment.

    Attributes:
        faults: by name.
        deployment: makes one.
        most: so many are up at once in a process, however many are asked for.
    """

    faults: dict
    deployment: Callable
    most: int


MISSING = (
    Neo4jUnavailableError,
    MountRefusedError,
    DownloadUnavailableError,
    # A Redis or a Neo4j that the environment names is not ours to kill: the fault skips, saying so.
    pytest.skip.Exception,
)
"""Raised where a deployment lacks a part on this machine. The row is skipped, and the reason printed."""

FAMILIES = {
    "one": Family(ONE, ProxiedDeployment, 4),
    "disk": Family(DISK, FileOnSmallDisk, 1),
    "pair": Family(PAIR, DeploymentPair, 1),
    # A JVM takes 20 s to start.
    "graph": Family(GRAPH, GraphDeployment, 1),
    "graph disk": Family(GRAPH_DISK, GraphOnSmallDisk, 1),
}
NAMES = [name for family in FAMILIES.values() for name in family.faults]
