"""One seed of each fault of OPA, Redis, the publisher and the decision record: `make faults` runs many."""

import pytest

from .families import FAMILIES
from .judging import judge, results_of

HERE = [name for name in FAMILIES["one"].faults if "bundle" not in name]


@pytest.fixture(scope="module")
def results(request, opa_binary):
    return results_of(request)


@pytest.mark.parametrize("fault", HERE)
def test_every_fault_allows_nothing_wrongly_and_heals(results, fault):
    judge(results[fault])
