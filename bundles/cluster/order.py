"""The order in which bundles must appear, so that a reader can always decide.

A `live` needs bases that reach its `since`, a heartbeat needs the `live` that it demands, a policy
needs the heartbeat that accepts it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bundles.exceptions import ObjectRefusedError
from bundles.fleet.tracker import version_of
from bundles.publish.policy_releases import NAMES
from bundles.publish.signing import Bundle, data_of
from lictor_common.version import CLOCK_TOLERANCE
from registry import RegistryVersion

EDGE = ("live", "heartbeat", *NAMES)
"""The bundles that are small and urgent, in the order in which a reader needs them."""

_NOTHING = RegistryVersion(-1, -1)
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that determine the order.

    Attributes:
        bundle: the bundle that they are about.
        version: the state of the registry that it holds, or that a heartbeat demands.
        since: shard to revision, of `live`.
        accepted: the revisions of policies that a heartbeat accepts.
        synced_at: a heartbeat's, in seconds since 1970.
        reconciled_at: the same.
    """

    bundle: Bundle
    version: RegistryVersion = _NOTHING
    since: Mapping[str, int] = field(default_factory=dict)
    accepted: Mapping[str, Any] = field(default_factory=dict)
    synced_at: float = 0.0
    reconciled_at: float = 0.0


def facts_of(bundle: Bundle) -> Facts:
    """Read the facts of a bundle.

    Raises:
        ObjectRefusedError: it does not hold what a bundle of its name holds.
    """
    if bundle.name not in {"live", "heartbeat"}:
        return Facts(bundle, version_of(bundle.revision))
    try:
        document = data_of(bundle.content)["registry"][bundle.name]
        version = RegistryVersion(int(document["epoch"]), int(document["revision"]))
        if bundle.name == "live":
            return Facts(bundle, version, since={s: int(r) for s, r in document["since"].items()})
        return Facts(
            bundle,
            version,
            accepted={name: list(document.get(name, [])) for name in NAMES},
            synced_at=document["synced_at_ns"] / _NANOSECONDS,
            reconciled_at=document.get("reconciled_at_ns", 0) / _NANOSECONDS,
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ObjectRefusedError(f"{bundle.name}: incomplete ({type(error).__name__})") from None


class VisibleBundles:
    """The bundles that a reader of one location finds."""

    def __init__(self) -> None:
        self.facts: dict[str, Facts] = {}

    def add(self, facts: Facts) -> None:
        """Note what is there now."""
        self.facts[facts.bundle.name] = facts

    def has(self, bundle: Bundle) -> bool:
        """Whether exactly this one is there."""
        found = self.facts.get(bundle.name)
        return found is not None and found.bundle.etag == bundle.etag

    def missing_for(self, facts: Facts) -> str:
        """The bundles that must precede this one; empty if none is missing."""
        name = facts.bundle.name
        if name == "live":
            return next(
                (
                    f"base-{shard}"
                    for shard, revision in facts.since.items()
                    if not self._reaches(
                        f"base-{shard}", RegistryVersion(facts.version.epoch, revision)
                    )
                ),
                "",
            )
        if name == "heartbeat":
            return "" if self._reaches("live", facts.version) else "live"
        if name in NAMES:
            heartbeat = self.facts.get("heartbeat")
            accepts = heartbeat and facts.bundle.revision in heartbeat.accepted[name]
            return "" if accepts else "heartbeat"
        return ""

    def is_newer_than(self, facts: Facts, *, now: float) -> bool:
        """Whether what is there is newer; a reader never goes back.

        Args:
            facts: of the one that would come.
            now: seconds since 1970.
        """
        held = self.facts.get(facts.bundle.name)
        if held is None or facts.bundle.name in NAMES:
            return False
        if facts.bundle.name == "heartbeat":
            # OPA refuses a heartbeat from the future, which must not bar the way until then.
            newer = facts.synced_at < held.synced_at <= now + CLOCK_TOLERANCE
            return facts.version.epoch < held.version.epoch or newer
        return facts.version < held.version

    def _reaches(self, name: str, version: RegistryVersion) -> bool:
        found = self.facts.get(name)
        if found is None or found.version.epoch != version.epoch:
            return False
        return found.version >= version
