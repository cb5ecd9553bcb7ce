"""Says what is being measured, and about how long all of it will take."""

import sys
import time

_EVERY = 5.0


class Progress:
    """Lines on standard error, at most one in five seconds for the same thing."""

    def __init__(self, expected, *, clock=time.monotonic, out=sys.stderr):
        """Begin.

        Args:
            expected: each part's seconds, as an estimate, in order.
            clock: seconds from any moment.
            out: where the lines go.
        """
        self._left = dict(expected)
        self._clock = clock
        self._out = out
        self._began = self._part_began = clock()
        self._said = clock() - _EVERY
        self.say(f"about {minutes(sum(expected.values()))} for {', '.join(expected)}")

    def begin(self, key, title):
        """A part begins."""
        self._part_began = self._clock()
        self._part = key
        self.say(f"{title}: about {minutes(self._left.get(key, 0))}")

    def end(self, key):
        """A part has ended; returns its seconds."""
        self._left.pop(key, None)
        return self._clock() - self._part_began

    def __call__(self, what, number):
        """Something is being measured for the so many-th time."""
        if self._clock() - self._said >= _EVERY:
            self.say(f"{what}: {number}")

    def remaining(self):
        """Seconds until the end, as an estimate."""
        spent = self._clock() - self._part_began
        parts = [*self._left.values()]
        return max(0.0, parts[0] - spent) + sum(parts[1:]) if parts else 0.0

    def say(self, text):
        """Print a line with the time that has passed and the time that is left."""
        self._said = self._clock()
        passed = minutes(self._clock() - self._began)
        print(f"[{passed}, about {minutes(self.remaining())} left] {text}", file=self._out)
        self._out.flush()


def minutes(seconds):
    """Seconds as people write them."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
