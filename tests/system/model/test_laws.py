"""The laws between answers of a real OPA; see `laws`."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .laws import LAWS


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law_holds(modelled_opa, law):
    @settings(
        max_examples=40,
        derandomize=True,
        suppress_health_check=[*HealthCheck],
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.randoms(use_true_random=False))
    def hold(chance):
        assert law(modelled_opa, chance) is None

    hold()
