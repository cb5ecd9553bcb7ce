"""A change of the rules that makes a decision cost more is noticed."""

import json

import pytest

from bench.allocations import RECORDED, measure


@pytest.fixture(scope="module")
def measured(opa_binary, tmp_path_factory):
    return measure(opa_binary, tmp_path_factory.mktemp("allocations"))


@pytest.mark.parametrize("query", json.loads(RECORDED.read_text()))
def test_allocations_are_those_recorded(measured, query):
    recorded = json.loads(RECORDED.read_text())[query]
    allocations = measured[query]["allocations"]
    assert allocations == pytest.approx(recorded, rel=0.05), (
        f"{query}: {allocations} allocations in place of {recorded}. If that is meant, run: "
        "python -m bench.allocations --write"
    )
