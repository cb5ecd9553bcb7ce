"""Medians with confidence intervals, and rounds in which contestants take turns.

A shared machine is fast in one second and slow in the next. So all that is compared runs in the
same rounds, each contestant for a moment, and in another order each time. A round gives one figure
for each contestant: the median of its calls. Their median is the result; its interval comes from
order statistics, and a ratio is the median of the rounds' ratios.
"""

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field

from bench.paired import interval

WARM_UP = 0.5
"""Seconds for which each contestant is called before the first round."""

_FEWEST, _LARGEST = 5, 200
_SLOW = 6
_MOST_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median, and the 95 % confidence interval that it lies in."""

    value: float
    low: float
    high: float
    n: int

    def as_json(self):
        return {name: round(one, 4) for name, one in asdict(self).items()}


def median(values):
    """The median of measured values."""
    ordered = sorted(values)
    low, high = interval(ordered)
    return Estimate(statistics.median(ordered), low, high, len(ordered))


def ratio(first, second):
    """The median of first / second, of the rounds that have both."""
    return median(_paired(first, second, lambda one, other: one / other))


def difference(first, second):
    """The median of first - second, of the rounds that have both."""
    return median(_paired(first, second, lambda one, other: one - other))


def _paired(first, second, combined):
    return [
        combined(one, other)
        for one, other in zip(first, second, strict=True)
        if one is not None and other is not None
    ]


@dataclass
class Contestant:
    """Something that is timed.

    Attributes:
        name: its row.
        batch: makes so many calls, one after another, and returns each one's microseconds.
        failures: the rounds that failed.
        error: the last failure.
        dropped: why it takes no part any more.
        medians: each round's median in microseconds, or None.
    """

    name: str
    batch: Callable[[int], Awaitable[Sequence[float]]]
    note: str = ""
    size: int = 1
    every: int = 1
    failures: int = 0
    error: str = ""
    dropped: str = ""
    medians: list = field(default_factory=list)

    @property
    def taken(self):
        return [one for one in self.medians if one is not None]


def batch_of(call):
    """A batch of an asynchronous function's calls."""

    async def batch(n):
        taken = []
        for _ in range(n):
            began = time.perf_counter_ns()
            await call()
            taken.append((time.perf_counter_ns() - began) / 1000)
        return taken

    return batch


def failed_rounds(contestants):
    """What to say of those that failed some rounds and went on, by name."""
    return {
        f"{one.name}, {one.failures} of {len(one.medians)} rounds": one.error
        for one in contestants
        if one.failures and not one.dropped
    }


async def interleave(contestants, rounds, *, seconds=0.04, on_round=lambda _: None):
    """Let contestants take turns, each for about so many seconds a round.

    A busy machine can fail a round. One that fails again and again, or while it is warmed up, is
    dropped, with its error as the reason; the others go on.
    """
    for one in contestants:
        await _try(one, lambda one=one: _warm_up(one, seconds))
        one.dropped = one.error
    for number in range(rounds):
        # Another one begins each time, so that none always follows the same one.
        at = number % max(1, len(contestants))
        for one in [*contestants[at:], *contestants[:at]]:
            found = None
            if not one.dropped and number % one.every == 0:
                found = await _try(one, lambda one=one: one.batch(one.size + 1))
            # The first call after the others' turns finds all caches cold.
            one.medians.append(statistics.median(found[1:]) if found else None)
        on_round(number + 1)


async def _warm_up(one, seconds):
    until, took = time.monotonic() + WARM_UP, 0.0
    while not took or time.monotonic() < until:
        took = statistics.median(await one.batch(2)) / 1e6
    one.size = max(_FEWEST, min(_LARGEST, int(seconds / took)))
    one.every = max(1, min(_SLOW, int(_FEWEST * took / seconds / 5)))


async def _try(one, call):
    try:
        return await call()
    except Exception as error:  # noqa: BLE001 - a row less, and the run goes on
        one.failures += 1
        one.error = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        one.dropped = one.error if one.failures > _MOST_FAILURES else ""
        return None
