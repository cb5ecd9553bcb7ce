"""What the agreement and the laws are worth: each breakage of the Rego is found by them."""

import random

import pytest

from .asking import differences
from .breakages import BREAKAGES, LAW_BREAKAGES, broken
from .laws import LAWS
from .worlds import question, world

WORLDS, QUESTIONS = 4000, 6
"""The rarest breakage shows in one world of a few thousand; the others in the first few."""


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_the_model_finds(modelled_opa, breakage):
    chance = random.Random(3)
    with broken(modelled_opa, BREAKAGES[breakage]):
        assert any(
            differences(
                modelled_opa, world(chance, damaged=3), [question(chance) for _ in range(QUESTIONS)]
            )[1]
            for _ in range(WORLDS)
        )


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_a_law_can_be_broken(modelled_opa, law):
    chance = random.Random(3)
    with broken(modelled_opa, LAW_BREAKAGES[law.__name__]):
        assert any(law(modelled_opa, chance) for _ in range(300))
