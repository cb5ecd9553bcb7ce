"""When each OPA was last seen, kept over a restart: it may still answer from its bundles.

Without it a `lictor serve` that has just started would take the OPAs that have come back so far for
all that there are. A file that was lost or cannot be read therefore differs from one that was never
written: the server then knows that there may be instances that it does not know.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from lictor_common.private_files import replace_private

LAG: Final = 10.0
"""Seconds by which the file may be behind. OPA fetches a heartbeat every five, and so is seen."""

_EVERY: Final = 5.0
_KEPT: Final = 7 * 86400.0
"""Seconds after which one that is silent is forgotten. No staleness limit is as long."""
_MOST: Final = 10_000

_log = logging.getLogger(__name__)


class LastSeenStore:
    """A file with the time at which each instance was last seen.

    Attributes:
        seen: until when each may have been seen before this start, in seconds since 1970.
        forgot_at: when it was found that others may be missing, likewise; None if never.
    """

    def __init__(
        self, path: Path, *, boot: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Read the file, if it is there.

        Args:
            path: in the folder of published bundles.
            boot: the id of the machine's current boot; empty if the system has none.
            clock: seconds since 1970.
        """
        self._path = path
        self._boot = _this_boot() if boot is None else boot
        self._written_at = -math.inf
        self._failing = False
        self._kept: Mapping[str, float] = {}
        now = clock()
        try:
            self._seen, self.forgot_at = self._read()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            _log.warning("last_seen.unknown file=%s", path)
            self._seen, self.forgot_at = {}, now
        latest = sorted(self._seen, key=self._seen.__getitem__)[-_MOST:]
        self._seen = {id_: self._seen[id_] for id_ in latest if self._seen[id_] > now - _KEPT}
        self.seen = {id_: min(at + LAG, now) for id_, at in self._seen.items()}

    def _read(self) -> tuple[dict[str, float], float | None]:
        try:
            stored = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            if (self._path.parent / "published.json").exists():
                # The instances that fetched that are not recorded.
                raise
            return {}, None
        if stored["boot"] != self._boot:
            # What was written last need not have come to the disk when the machine went down.
            raise ValueError("of another start of the machine")
        seen = {str(id_): float(at) for id_, at in stored["seen"].items()}
        forgot_at = stored["forgot_at"] and float(stored["forgot_at"])
        if not all(map(math.isfinite, [*seen.values(), forgot_at or 0.0])):
            raise ValueError("no moment")
        return seen, forgot_at

    def record(self, id_: str, seen_at: float) -> None:
        """Record that an instance was seen: at once if that is news, else soon."""
        self._seen[id_] = max(seen_at, self._seen.get(id_, -math.inf))
        news = seen_at - self._kept.get(id_, -math.inf) > LAG
        due = time.monotonic() - self._written_at >= _EVERY
        if due or (news and not self._failing):
            self._write()

    def _write(self) -> None:
        content = json.dumps(
            {"boot": self._boot, "forgot_at": self.forgot_at, "seen": self._seen}
        ).encode()
        self._written_at = time.monotonic()
        try:
            # On the event loop, so without a sync, unless the boot is unknown.
            replace_private(self._path, content, durable=not self._boot)
            self._kept, self._failing = dict(self._seen), False
        except OSError as error:
            if not self._failing:
                _log.error("last_seen.unwritable file=%s error=%s", self._path, error.strerror)
            self._failing = True
            self._spoil()

    def _spoil(self) -> None:
        """Mark the file as incomplete, so that the next start does not rely on it."""
        try:
            self._path.write_bytes(b"")
        except OSError:
            _log.exception("last_seen.outdated file=%s", self._path)


def _this_boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
