"""One seed of each fault of two publishers, of a graph, and of a disk under the registry: `make faults` runs many."""

import pytest

from .families import FAMILIES
from .judging import judge, results_of

HERE = [
    name for family in ("disk", "pair", "graph", "graph disk") for name in FAMILIES[family].faults
]


@pytest.fixture(scope="module")
def results(request, opa_binary):
    return results_of(request)


@pytest.mark.parametrize("fault", HERE)
def test_every_fault_allows_nothing_wrongly_and_heals(results, fault):
    judge(results[fault])
