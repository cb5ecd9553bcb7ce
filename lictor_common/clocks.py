"""A clock for leases and deadlines that must not stretch while a machine sleeps."""

import time


def running_clock() -> float:
    """Return seconds that also pass during suspend, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
