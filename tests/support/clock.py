"""A clock that a test sets."""


class ManualClock:
    """Returns `now`, which stands still until the test changes it."""

    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now
