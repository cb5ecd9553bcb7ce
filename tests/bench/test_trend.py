"""Growth is found in the second half of samples, and noise is not taken for growth."""

import random

import pytest

from bench.trend import Bound, fit

BOUND = Bound(16)


@pytest.mark.parametrize("per_second", [1, 20])
def test_value_that_grows_with_each_call_is_found(per_second):
    trend = fit([(at, 30 + per_second * at) for at in range(90)], BOUND)
    assert trend.growth == pytest.approx(per_second * 44)
    assert trend.grows


def test_growth_of_the_first_half_alone_is_a_warm_up():
    samples = [(at, min(at, 40) * 20) for at in range(90)]
    assert not fit(samples, BOUND).grows


def test_value_that_comes_and_goes_does_not_grow():
    noise = random.Random(1)
    assert not fit([(at, 40 + noise.randint(-10, 10)) for at in range(90)], BOUND).grows


def test_relative_bound_counts_from_the_mean():
    samples = [(at, 100 + at / 10) for at in range(90)]
    assert fit(samples, Bound(1)).grows
    assert not fit(samples, Bound(1, relative=0.1)).grows
