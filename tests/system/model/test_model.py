"""OPA and the model answer alike, in datasets and to queries that Hypothesis makes."""

import json
import random
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bundles.publish.records import find_problem
from registry.model import Kind, Ref

from . import model
from .datasets import NANO, NOW, Maker, random_dataset, random_query
from .queries import answers, differences, expected, later, published, smallest
from .shapes import SCHEMA, fits

DATASETS, QUERIES = 400, 25
SETTINGS = settings(
    derandomize=True, suppress_health_check=[*HealthCheck], phases=[Phase.generate]
)  # what is found is made small by `smallest`, which keeps both answers as they are


def agreed_reasons(modelled_opa, datasets):
    """Query both on so many datasets, and count the reasons in which they agree."""
    reasons = Counter()

    @settings(SETTINGS, max_examples=datasets)
    @given(st.randoms(use_true_random=False))
    def agree(chance):
        asked = random_dataset(chance), [random_query(chance) for _ in range(QUERIES)]
        wanted, found = differences(modelled_opa, *asked)
        reasons.update(answer["reason"] for answer in wanted)
        if found:
            pytest.fail(f"the smallest of {len(found)}:\n{smallest(modelled_opa, found[0])}")

    agree()
    assert reasons.total() >= datasets * QUERIES
    return reasons


@pytest.mark.quick
def test_opa_and_model_agree_on_five_hundred_queries(modelled_opa):
    assert len(agreed_reasons(modelled_opa, 20)) > 10


def test_opa_and_model_agree_on_ten_thousand_queries(modelled_opa):
    reasons = agreed_reasons(modelled_opa, DATASETS)
    # Each reason is reached, and none crowds out the rest.
    assert {code for code in reasons if reasons[code] >= 20} == {*model.ORDER, "ok"}
    assert reasons["ok"] >= 0.15 * reasons.total()


def test_model_knows_which_records_the_publisher_refuses():
    chance = random.Random(7)
    outcomes = Counter()
    for kind in SCHEMA:
        maker = Maker(chance)
        for _ in range(500):
            record = maker.published(kind)
            name = "0" * 64 if kind == "tokens" else "x"
            published_ = record is not None and find_problem(Ref(Kind(kind), name), record) is None
            assert fits(kind, record) == published_, record
            outcomes[kind, published_] += 1
    assert len(outcomes) == 2 * len(SCHEMA)


def test_batched_query_has_the_response_of_a_single_one(modelled_opa):
    """On the transport that the product takes, by OPA's own clock, with errors of builtins as errors."""
    chance, asked = random.Random(11), Counter()
    while asked.total() < 150:
        laid = published(random_dataset(chance))
        queries = [random_query(chance) for _ in range(5)]
        shift = (time.time_ns() - NOW) // NANO
        now = later(laid, shift)
        wanted = [expected(laid, query, NOW) for query in queries]
        if wanted != [expected(laid, query, NOW + 8 * NANO) for query in queries]:
            continue  # at an edge of time, which OPA's clock will not meet
        assert answers(modelled_opa, now, queries, NOW + shift * NANO) == wanted
        for query, answer in zip(queries, wanted, strict=True):
            rule = "visible" if "actions" in query else "decision"
            path = f"/v1/data/lictor/{rule}?strict-builtin-errors=true"
            said = json.loads(modelled_opa.request("POST", path, {"input": query}))["result"]
            assert {name: said[name] for name in answer} == answer
            asked[answer["reason"]] += 1
    assert len(asked) > 10
