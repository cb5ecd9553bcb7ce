"""Warnings about the shared state: each failure is counted, and one a minute is logged."""

import logging
import math
import time

from pdp_client.shared.exceptions import SharedStateUnavailableError

_QUIET = 60.0


class RateLimitedWarning:
    """A counter of failures that logs one a minute.

    Attributes:
        count: the number of failures.
    """

    def __init__(self, log: logging.Logger, event: str) -> None:
        """Create the counter; it logs `event` to `log`, with the error's code."""
        self._log = log
        self._event = event
        self._told_at = -math.inf
        self.count = 0

    def add(self, error: SharedStateUnavailableError) -> None:
        """Count one more failure."""
        self.count += 1
        now = time.monotonic()
        if now - self._told_at >= _QUIET:
            self._told_at = now
            self._log.warning("%s code=%s detail=%s", self._event, error.code, error)
