"""The heartbeat: up to when, and up to which revision, everything is known to be published."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from registry import RegistryVersion

_SETTLED = 1.0
"""Seconds after which a connected OPA must have a change; the heartbeat demands no sooner."""

_HISTORY = 4096
"""Publications of which the time is remembered."""


_CLOCK_MOVED = 5.0
"""Seconds at once that are more than a slow machine explains."""

_log = logging.getLogger(__name__)


class Heartbeat:
    """The publication times, and the revision that an OPA must have by now.

    Attributes:
        clock_moved: when and by how much the clock was last set; empty if it was not.
        synced_at: the last moment at which all that the log held was known to be published, in
            seconds since 1970.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._history: deque[tuple[RegistryVersion, float]] = deque(maxlen=_HISTORY)
        self._reached: deque[tuple[RegistryVersion, float]] = deque()
        self._settled = RegistryVersion(0, 0)
        self._offset = clock() - time.monotonic()
        self.synced_at = 0.0
        self.clock_moved = ""

    def watch_clock(self) -> None:
        """Notice a clock that was set; to be called about each second."""
        offset = self._clock() - time.monotonic()
        moved = offset - self._offset
        self._offset = offset
        if abs(moved) > _CLOCK_MOVED:
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
            self.clock_moved = f"the clock of this host was moved by {moved:+.0f} s at {when}"
            _log.warning("publisher.clock_moved seconds=%+.0f", moved)

    def published(self, version: RegistryVersion, *, at: float | None = None) -> None:
        """Note that a state of the registry was published; now, unless another moment is given."""
        entry = version, self._clock() if at is None else at
        self._history.append(entry)
        self._reached.append(entry)

    def published_at(self, version: RegistryVersion) -> float:
        """When a state of the registry was published, in seconds since 1970, or at the latest."""
        return next((at for one, at in self._history if one >= version), self._clock())

    def document(
        self, *, epoch: int, reconciled_at: float, accepted: Mapping[str, list[str]]
    ) -> dict[str, Any]:
        """Return the heartbeat bundle's current document."""
        while self._reached and self._reached[0][1] <= self._clock() - _SETTLED:
            self._settled = max(self._settled, self._reached.popleft()[0])
        return {
            "epoch": epoch,
            "synced_at_ns": int(self.synced_at * 1_000_000_000),
            "reconciled_at_ns": int(reconciled_at * 1_000_000_000),
            "revision": self._settled.revision if self._settled.epoch == epoch else 0,
            **accepted,
        }
