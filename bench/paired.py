"""Ratios of two things measured in alternation: their median cancels the machine's noise."""

import math
import statistics
import time

WARM_UP = 200


def paired(first, second, rounds):
    """Microseconds of both calls in each round."""
    taken = []
    for number in range(WARM_UP + rounds):
        one = {}
        for call in (first, second) if number % 2 else (second, first):
            began = time.perf_counter_ns()
            call()
            one[call] = (time.perf_counter_ns() - began) / 1000
        taken.append((one[first], one[second]))
    return taken[WARM_UP:]


async def paired_async(first, second, rounds):
    """The same of coroutine functions."""
    taken = []
    for number in range(WARM_UP + rounds):
        one = {}
        for call in (first, second) if number % 2 else (second, first):
            began = time.perf_counter_ns()
            await call()
            one[call] = (time.perf_counter_ns() - began) / 1000
        taken.append((one[first], one[second]))
    return taken[WARM_UP:]


def summary(taken):
    """Medians of both, and the median of the ratios with its 95 % confidence interval."""
    ratios = sorted(first / second for first, second in taken)
    low, high = interval(ratios)
    return {
        "n": len(taken),
        "ours_us": round(statistics.median(first for first, _ in taken), 1),
        "other_us": round(statistics.median(second for _, second in taken), 1),
        "ratio": round(statistics.median(ratios), 3),
        "low": round(low, 3),
        "high": round(high, 3),
    }


def interval(ordered):
    """The order statistics between which the median lies with 95 % confidence (binomial)."""
    reach = 1.96 * math.sqrt(len(ordered)) / 2
    middle = len(ordered) / 2
    return ordered[max(0, math.floor(middle - reach))], ordered[
        min(len(ordered) - 1, math.ceil(middle + reach))
    ]
