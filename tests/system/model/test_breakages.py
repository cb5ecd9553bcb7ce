"""What the agreement and the laws are worth: each breakage of the Rego is found by them."""

import random

import pytest

from .breakages import BREAKAGES, LAW_BREAKAGES, broken
from .datasets import random_dataset, random_query
from .laws import LAWS
from .queries import differences

DATASETS, QUERIES = 4000, 6
"""The rarest breakage shows in one dataset of a few thousand; the others in the first few."""


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_model_finds(modelled_opa, breakage):
    chance = random.Random(3)
    with broken(modelled_opa, BREAKAGES[breakage]):
        assert any(
            differences(
                modelled_opa,
                random_dataset(chance, damaged=3),
                [random_query(chance) for _ in range(QUERIES)],
            )[1]
            for _ in range(DATASETS)
        )


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law_can_be_broken(modelled_opa, law):
    chance = random.Random(3)
    with broken(modelled_opa, LAW_BREAKAGES[law.__name__]):
        assert any(law(modelled_opa, chance) for _ in range(300))
