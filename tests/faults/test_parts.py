"""One seed of each fault of two publishers and of a graph: `make faults` runs many."""

import pytest

from .families import FAMILIES
from .rows import judge, results_of

HERE = [*FAMILIES["pair"].faults, *FAMILIES["graph"].faults]


@pytest.fixture(scope="module")
def results(request, opa_binary):
    return results_of(request)


@pytest.mark.parametrize("fault", HERE)
def test_nothing_is_wrongly_allowed_and_all_is_well_after(results, fault):
    judge(results[fault])
