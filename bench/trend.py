"""Samples over time, a line through their second half, and the growth that it may show.

The first half is a warm-up: caches fill, and allocators and Go's collector find their size.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """How much something may grow over the second half of a run.

    Attributes:
        absolute: in the unit of the samples.
        relative: of their mean, in addition.
    """

    absolute: float
    relative: float = 0.0

    def limit(self, mean):
        return self.absolute + self.relative * mean


@dataclass(frozen=True)
class Trend:
    """A line through the second half of some samples.

    Attributes:
        mean: of the second half.
        growth: of the line, from its beginning to its end.
        limit: the growth that is allowed.
    """

    mean: float
    growth: float
    limit: float

    @property
    def grows(self):
        return self.growth > self.limit


def fit(samples, bound):
    """The trend of samples, which are pairs of seconds and a value, in order."""
    middle = (samples[0][0] + samples[-1][0]) / 2
    half = [(at, value) for at, value in samples if at >= middle]
    mean_at = sum(at for at, _ in half) / len(half)
    mean = sum(value for _, value in half) / len(half)
    spread = sum((at - mean_at) ** 2 for at, _ in half)
    steep = sum((at - mean_at) * (value - mean) for at, value in half) / spread if spread else 0.0
    return Trend(mean, steep * (half[-1][0] - half[0][0]), bound.limit(mean))
