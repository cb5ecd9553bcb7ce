"""Which OPA runs which revision of which bundle, as they report it themselves."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_MOST_INSTANCES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One OPA, as of its newest report.

    Attributes:
        id: the id that it was configured with.
        version: OPA's version.
        seen_at: the report's arrival, in seconds since 1970.
        revisions: bundle name to the revision that is active.
        errors: bundle name to what OPA says of its newest failure.
    """

    id: str
    version: str
    seen_at: float
    revisions: Mapping[str, str]
    errors: Mapping[str, str] = field(default_factory=dict)


class Fleet:
    """The instances that have reported."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._instances: dict[str, Instance] = {}

    def report(self, status: Mapping[str, Any]) -> Instance:
        """Take one of OPA's status reports.

        Source: https://www.openpolicyagent.org/docs/management-status.

        Raises:
            ValueError: it is none, or there are too many instances.
        """
        # An OPA that has just started reports before it has a bundle.
        labels, bundles = status.get("labels"), status.get("bundles") or {}
        if not isinstance(labels, dict) or not isinstance(bundles, dict):
            raise ValueError("no status report")  # noqa: TRY004 - its shape, to the caller
        # OPA gives itself another id at each start; the label is the one it was configured with.
        id_ = str(labels.get("instance") or labels.get("id", ""))
        if not id_ or (id_ not in self._instances and len(self._instances) >= _MOST_INSTANCES):
            raise ValueError("a status report without an id, or one instance too many")
        bundles = {name: one for name, one in bundles.items() if isinstance(one, dict)}
        instance = Instance(
            id=id_,
            version=str(labels.get("version", "")),
            seen_at=self._clock(),
            revisions={
                name: str(one["active_revision"])
                for name, one in bundles.items()
                if one.get("active_revision")
            },
            errors={
                name: str(one["message"]) for name, one in bundles.items() if one.get("message")
            },
        )
        self._instances[id_] = instance
        return instance

    def instances(self) -> list[Instance]:
        """Every instance that has reported, by id."""
        return sorted(self._instances.values(), key=lambda instance: instance.id)

    def all_run(self, name: str, *, epoch: int, revision: int, within: float) -> bool:
        """Whether each instance seen within the last seconds runs at least this revision.

        False when none was seen: nobody's silence proves anything.
        """
        recent = [one for one in self.instances() if one.seen_at >= self._clock() - within]
        return bool(recent) and all(
            stamp_of(one.revisions.get(name, "")) >= (epoch, revision) for one in recent
        )


def stamp_of(revision: str) -> tuple[int, int]:
    """`"1:812"` as `(1, 812)`; what is no such revision is below every other."""
    found = re.fullmatch("([0-9]{1,18}):([0-9]{1,18})", revision)
    return (int(found[1]), int(found[2])) if found else (-1, -1)
