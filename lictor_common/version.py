"""The version of a registry, and how far apart the clocks of two hosts may be."""

from typing import NamedTuple

CLOCK_TOLERANCE = 5.0
"""Seconds that the clocks of two hosts may differ; `registry.rego` has the same limit."""


class RegistryVersion(NamedTuple):
    """A state of the registry. A restore starts the next epoch; each write is the next revision."""

    epoch: int
    revision: int
