"""The revision of each bundle that each OPA runs: from its reports and its next requests.

An OPA that asks for `live` with the ETag of the one it was given has activated that one: it takes
an ETag over only then. That is as good as a report, and comes sooner.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bundles.fleet.last_seen import LastSeenStore
from lictor_common.text import printable
from registry import RegistryVersion

_MOST_INSTANCES = 10_000
_MOST_BUNDLES = 256
LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One OPA, as far as it has reported.

    Attributes:
        id: the id that it was configured with.
        version: OPA's version; empty before its first report.
        seen_at: when it was last seen, in seconds since 1970.
        live_at: when it was first known to run the `live` that it runs.
        revisions: bundle name to the revision that is active.
        learned: bundle name to when it was last known to run that revision; and, under the empty
            name, when it reported last.
        errors: bundle name to what OPA says of its newest failure.
        refused: what it said that cannot be true; empty if nothing.
    """

    id: str
    version: str = ""
    seen_at: float
    live_at: float = 0.0
    revisions: Mapping[str, str] = field(default_factory=dict)
    learned: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""

    @property
    def live(self) -> RegistryVersion:
        """The state of the registry that it answers from."""
        return version_of(self.revisions.get("live", ""))


class FleetTracker:
    """The instances that have been seen.

    Attributes:
        on_report: called with each instance that this server, not another one, has seen.
    """

    def __init__(
        self, last_seen: LastSeenStore | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Start with the instances that were seen before the last restart, or may have been.

        Args:
            last_seen: keeps which instances were seen; without one, none was before.
            clock: seconds since 1970.
        """
        self._clock = clock
        self._last_seen = last_seen
        before = last_seen.seen if last_seen else {}
        self._instances = {id_: Instance(id=id_, seen_at=at) for id_, at in before.items()}
        self._news = asyncio.Event()
        self.on_report: Callable[[Instance], object] = lambda _: None

    def report(
        self, id_: str, status: Mapping[str, Any], *, published: RegistryVersion
    ) -> Instance:
        """Take one of OPA's status reports.

        Source: https://www.openpolicyagent.org/docs/management-status.

        Args:
            id_: the instance whose bearer it came with.
            status: the report.
            published: the newest state that was published; no instance can run a newer one.

        Raises:
            ValueError: it is not a report, it names another instance or an unknown revision, or
                there are too many instances.
        """
        # An OPA that has just started reports before it has a bundle.
        labels, bundles = status.get("labels"), status.get("bundles") or {}
        if not isinstance(labels, dict) or not isinstance(bundles, dict):
            raise ValueError("no status report")  # noqa: TRY004 - its shape, to the caller
        instance = self._heard_of(id_)
        # OPA gives itself another id at each start; the label is the one it was configured with.
        if labels.get("instance") != id_:
            raise self._refuse(instance, "it reports in another instance's name")
        bundles = {
            printable(str(name), longest=LONGEST_TEXT): one
            for name, one in list(bundles.items())[:_MOST_BUNDLES]
            if isinstance(one, dict)
        }
        revisions = {
            name: printable(str(one["active_revision"]), longest=LONGEST_TEXT)
            for name, one in bundles.items()
            if one.get("active_revision")
        }
        for name, revision in revisions.items():
            if version_of(revision) > published:
                raise self._refuse(instance, f"it reports a {name} that was never published")
        return self._keep(
            replace(
                instance,
                version=printable(str(labels.get("version", "")), longest=LONGEST_TEXT),
                revisions=revisions,
                learned=dict.fromkeys(["", *revisions], instance.seen_at),
                errors={
                    name: printable(str(one["message"]), longest=LONGEST_TEXT)
                    for name, one in bundles.items()
                    if one.get("message")
                },
                refused="",
            )
        )

    def acknowledge(self, id_: str, name: str, revision: str) -> bool:
        """Note that an instance has activated a bundle, since it asks for the next one.

        Returns:
            True when it was not known to run that one before.
        """
        if id_ not in self._instances and len(self._instances) >= _MOST_INSTANCES:
            return False
        before = self._heard_of(id_)
        new = before.revisions.get(name) != revision
        revisions = {**before.revisions, name: revision} if new else before.revisions
        learned = {**before.learned, name: before.seen_at}
        self._keep(replace(before, revisions=revisions, learned=learned))
        return new

    def mark_seen(self, id_: str) -> None:
        """Note that an instance is there, whatever it runs."""
        if id_ in self._instances or len(self._instances) < _MOST_INSTANCES:
            self._keep(self._heard_of(id_))

    def merge(self, heard: Instance) -> None:
        """Merge another server's report of an instance: the latest news of each bundle wins.

        Raises:
            ValueError: it is one instance too many.
        """
        before = self._instances.get(heard.id)
        if before is None:
            if len(self._instances) >= _MOST_INSTANCES:
                raise ValueError("one instance too many")
            before = Instance(id=heard.id, seen_at=heard.seen_at)
        newer = {
            name: at for name, at in heard.learned.items() if at > before.learned.get(name, 0.0)
        }
        runs = {name: heard.revisions[name] for name in newer if name in heard.revisions}
        reported = heard if "" in newer else before
        self._put(
            replace(
                before,
                version=reported.version,
                errors=reported.errors,
                refused=reported.refused,
                seen_at=max(before.seen_at, heard.seen_at),
                revisions={**before.revisions, **runs},
                learned={**before.learned, **newer},
            )
        )

    def instances(self) -> list[Instance]:
        """Return every instance that has been seen, by id."""
        return sorted(self._instances.values(), key=lambda instance: instance.id)

    def seen_within(self, seconds: float) -> list[Instance]:
        """Return the instances seen within the last seconds, by id."""
        return [one for one in self.instances() if one.seen_at >= self._clock() - seconds]

    def forgot_within(self, seconds: float) -> bool:
        """Whether the list of seen instances was lost within the last seconds."""
        forgot_at = self._last_seen.forgot_at if self._last_seen else None
        return forgot_at is not None and forgot_at >= self._clock() - seconds

    def all_run(self, name: str, *, version: RegistryVersion, within: float) -> bool:
        """Whether each instance seen within the last seconds runs at least this revision.

        False when none was seen: silence does not prove anything.
        """
        recent = self.seen_within(within)
        return bool(recent) and all(
            version_of(one.revisions.get(name, "")) >= version for one in recent
        )

    async def news(self) -> None:
        """Wait until an instance is seen."""
        await self._news.wait()

    def notify(self) -> None:
        """Wake the tasks that wait for news."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _heard_of(self, id_: str) -> Instance:
        if id_ not in self._instances and len(self._instances) >= _MOST_INSTANCES:
            raise ValueError("one instance too many")
        known = self._instances.get(id_)
        now = self._clock()
        return replace(known, seen_at=now) if known else Instance(id=id_, seen_at=now)

    def _refuse(self, instance: Instance, why: str) -> ValueError:
        self._keep(replace(instance, refused=why))
        return ValueError(why)

    def _keep(self, instance: Instance) -> Instance:
        kept = self._put(instance)
        self.on_report(kept)
        return kept

    def _put(self, instance: Instance) -> Instance:
        before = self._instances.get(instance.id)
        if before is None or before.live != instance.live:
            live_at = instance.learned.get("live", instance.seen_at)
            instance = replace(instance, live_at=live_at)
        self._instances[instance.id] = instance
        if self._last_seen:
            self._last_seen.record(instance.id, instance.seen_at)
        self.notify()
        return instance


def version_of(revision: str) -> RegistryVersion:
    """`"1:812"` as a version; any other text is below every revision."""
    found = re.fullmatch("([0-9]{1,18}):([0-9]{1,18})", revision)
    return RegistryVersion(int(found[1]), int(found[2])) if found else RegistryVersion(-1, -1)


def newest_in(status: Any) -> RegistryVersion:
    """Return the newest version in a status report; below every other if there is none."""
    bundles = status.get("bundles") if isinstance(status, dict) else None
    named = bundles.values() if isinstance(bundles, dict) else ()
    versions = (
        version_of(str(one.get("active_revision"))) for one in named if isinstance(one, dict)
    )
    return max(versions, default=version_of(""))
