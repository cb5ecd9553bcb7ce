"""Medians, their intervals, and rounds in which contestants take turns."""

import asyncio
import random
import time

import pytest

from bench.sampling import (
    Contestant,
    batch_of,
    difference,
    failed_rounds,
    interleave,
    median,
    ratio,
)


def test_interval_holds_the_true_median_nineteen_times_in_twenty():
    rng = random.Random(1)
    held = 0
    for _ in range(400):
        found = median([rng.gauss(100, 15) for _ in range(60)])
        held += found.low <= 100 <= found.high
    assert 0.92 <= held / 400 <= 1


def test_ratio_of_noise_that_both_have_is_exact():
    noise = [random.Random(n).uniform(1, 9) for n in range(40)]
    found = ratio([3 * one for one in noise], noise)
    assert (found.value, found.low, found.high) == (pytest.approx(3),) * 3


def test_rounds_that_one_side_lacks_are_left_out():
    found = difference([5, None, 7, 9], [1, 2, None, 3])
    assert found.n == 2
    assert found.value == 5


def contestant(name, order, *, fails_after=None):
    async def batch(n):
        order.append(name)
        if fails_after is not None and order.count(name) > fails_after:
            raise RuntimeError("broken\nwith a second line")
        return [50_000.0] * n  # as slow as a whole turn

    return Contestant(name, batch)


def test_contestants_take_turns_and_another_begins_each_round():
    order = []
    both = [contestant("a", order), contestant("b", order)]
    asyncio.run(interleave(both, 4, seconds=0.05))
    assert order[-8:] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert [len(one.taken) for one in both] == [4, 4]


def test_contestant_that_fails_is_dropped_and_the_others_go_on():
    order = []
    broken, sound = contestant("a", order, fails_after=5), contestant("b", order)
    asyncio.run(interleave([broken, sound], 6, seconds=0.05))
    assert broken.dropped == "RuntimeError: broken"
    assert len(sound.taken) == 6
    assert len(broken.medians) == 6


def test_contestant_that_fails_a_round_goes_on_and_it_is_told():
    rounds = iter(range(1000))

    async def batch(n):
        if n > 2 and next(rounds) == 1:
            raise TimeoutError("busy")
        return [50_000.0] * n

    one = Contestant("a", batch)
    asyncio.run(interleave([one], 6, seconds=0.05))
    assert not one.dropped
    assert len(one.taken) == 5
    assert failed_rounds([one]) == {"a, 1 of 6 rounds": "TimeoutError: busy"}


def test_slow_contestant_takes_part_in_fewer_rounds():
    async def batch(n):
        return [400_000.0] * n

    slow = Contestant("slow", batch)
    asyncio.run(interleave([slow], 12, seconds=0.1))
    assert slow.every == 4
    assert len(slow.taken) == 3


def test_batch_measures_microseconds():
    async def call():
        await asyncio.sleep(0.01)

    began = time.perf_counter()
    taken = asyncio.run(batch_of(call)(3))
    assert len(taken) == 3
    assert min(taken) >= 10_000
    assert sum(taken) <= (time.perf_counter() - began) * 1e6
