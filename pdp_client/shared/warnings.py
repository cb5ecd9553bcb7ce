"""What Redis did not do: counted each time, told once a minute."""

import logging
import math
import time

from pdp_client.shared.connection import SharedUnavailable

_QUIET = 60.0


class RateLimitedWarning:
    """Counts them.

    Attributes:
        count: how many there were.
    """

    def __init__(self, log: logging.Logger, event: str) -> None:
        """Tell `event` to `log`, with the error's code."""
        self._log = log
        self._event = event
        self._told_at = -math.inf
        self.count = 0

    def add(self, error: SharedUnavailable) -> None:
        """Count one more."""
        self.count += 1
        now = time.monotonic()
        if now - self._told_at >= _QUIET:
            self._told_at = now
            self._log.warning("%s code=%s detail=%s", self._event, error.code, error)
