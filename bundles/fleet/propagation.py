"""Tracks when a change is effective: each OPA has acknowledged it, or can no longer lack it.

The same goes for the caches of MCP servers that poll here; they are listed apart from the OPAs.

An OPA that was not seen recently may still run. It answers from data that is older than the
change for as long as the staleness limit lets it, and for what its clock may be behind.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bundles.fleet.caches import CacheTracker
from bundles.fleet.tracker import FleetTracker
from lictor_common.version import CLOCK_TOLERANCE
from registry import RegistryVersion

_LEAST = 4.0
"""Seconds in which it must be published, however short the wait for its effect."""


def staleness_limit(settings: Mapping[str, Any]) -> float:
    """Seconds after which OPA no longer answers from what has not been confirmed."""
    limit = settings.get("staleness_limit")
    return limit if isinstance(limit, int | float) else float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Propagation:
    """The propagation of a change.

    Attributes:
        version: the state of the registry that holds the change.
        effective: whether no OPA and no cache can still allow a call by the state before it.
        how: `acknowledged` by every instance, `limit` when the staleness limit has passed since
            publication, `waiting` if neither.
        published_at: when it was published, in seconds since 1970.
        acknowledged: instance to the moment of its acknowledgement, in seconds since 1970.
        missing: the instances that were seen within the limit and have not acknowledged it.
        caches: the caches of MCP servers that know the change.
        caches_missing: those that may still answer from the state before it.
    """

    version: RegistryVersion
    effective: bool
    how: str
    published_at: float
    acknowledged: dict[str, float]
    missing: tuple[str, ...]
    caches: tuple[str, ...] = ()
    caches_missing: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "epoch": self.version.epoch,
            "revision": self.version.revision,
            "effective": self.effective,
            "how": self.how,
            "published_at": self.published_at,
            "acknowledged": dict(sorted(self.acknowledged.items())),
            "missing": list(self.missing),
            "caches": list(self.caches),
            "caches_missing": list(self.caches_missing),
        }


class ChangeSource(Protocol):
    """Publishes changes, and reports when it did; `ServerRole` is one."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that rules read."""

    async def sync(self, *, seconds: float) -> None:
        """Have the registry's current state published, within so many seconds."""

    def published_at(self, version: RegistryVersion) -> float:
        """When a state of the registry was published, in seconds since 1970, or at the latest."""

    def has_unreported_instances(self, version: RegistryVersion) -> bool:
        """Whether an OPA that does not report here may run an older state."""


class PropagationTracker:
    """Watches the acknowledgements of the instances."""

    def __init__(
        self,
        source: ChangeSource,
        fleet: FleetTracker,
        *,
        caches: CacheTracker | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the tracker.

        Args:
            source: says when a change was published. Where it knows of instances that do not
                report, a change is not effective before the limit.
            fleet: says which instances have it; likewise if it lost the list of instances.
            caches: the caches that poll here, whose news wakes `fleet` too.
            clock: seconds since 1970.
        """
        self._source = source
        self._fleet = fleet
        self._caches = caches or CacheTracker()
        self._clock = clock

    async def wait(self, version: RegistryVersion, *, seconds: float) -> Propagation:
        """Publish the current state, then wait until a change is effective, or time is over.

        Raises:
            RegistryError: the registry cannot be read; nothing was published.
            BundleError: nothing could be published.
        """
        deadline = time.monotonic() + seconds
        await self._source.sync(seconds=max(seconds, _LEAST))
        published_at = self._source.published_at(version)
        acknowledged: dict[str, float] = {}
        # Wait for every instance of that moment, also if it is silent from then on: it may have
        # fetched a heartbeat since it was last seen.
        expected = {one.id for one in self._fleet.seen_within(self._limit)}
        while True:
            effect = self._with_caches(self._now(version, published_at, expected, acknowledged))
            left = deadline - time.monotonic()
            if effect.effective or left <= 0:
                return effect
            until_limit = published_at + self._limit - self._clock()
            until_known = self._caches.seconds_until_known(version)
            waits = [one + 0.001 for one in (until_limit, until_known) if one > 0]
            try:
                async with asyncio.timeout(min([left, *waits])):
                    await self._fleet.news()
            except TimeoutError:
                continue

    def _with_caches(self, effect: Propagation) -> Propagation:
        lacking = tuple(self._caches.lacking(effect.version))
        return replace(
            effect,
            effective=effect.effective and not lacking,
            how="waiting" if lacking else effect.how,
            caches=tuple(self._caches.knowing(effect.version)),
            caches_missing=lacking,
        )

    @property
    def _limit(self) -> float:
        return staleness_limit(self._source.settings) + CLOCK_TOLERANCE

    def _now(
        self,
        version: RegistryVersion,
        published_at: float,
        expected: set[str],
        acknowledged: dict[str, float],
    ) -> Propagation:
        missing = []
        expected |= {one.id for one in self._fleet.seen_within(self._limit)}
        for one in self._fleet.instances():
            if one.id not in expected:
                continue
            if one.live >= version:
                acknowledged.setdefault(one.id, one.live_at)
            else:
                missing.append(one.id)
                acknowledged.pop(one.id, None)
        has_unreported_instances = self._source.has_unreported_instances(
            version
        ) or self._fleet.forgot_within(self._limit)
        if missing or not acknowledged or has_unreported_instances:
            passed = self._clock() >= published_at + self._limit
            # If no instance was seen, the effect is unknown: 0 of 0 is not a success.
            heard = missing or acknowledged
            how = "limit" if passed and heard else "waiting"
        else:
            how = "acknowledged"
        return Propagation(
            version=version,
            effective=how != "waiting",
            how=how,
            published_at=published_at,
            acknowledged=dict(acknowledged),
            missing=tuple(missing),
        )
