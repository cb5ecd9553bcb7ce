"""The role of a `lictor serve`: it publishes, or serves what another server publishes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bundles.exceptions import BundleError, NotPublishedError, NotPublishingError
from bundles.fleet.tracker import version_of
from bundles.publish.publisher import Publisher
from bundles.publish.reconciler import Reconciler
from bundles.publish.signing import data_of
from bundles.serve.served_bundles import ServedBundles
from lictor_common.periodic import FaultLog
from registry import Registry, RegistryError, RegistryVersion

PATIENCE = 4.0
"""Seconds for another server to publish a requested change; less than `lictor` waits for us."""

_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ActivePublisher:
    """The publisher: active while the lease is held, or always on a single server."""

    publisher: Publisher
    reconciler: Reconciler


class Cluster(Protocol):
    """The state shared with other servers, or with a static host."""

    @property
    def alone(self) -> bool:
        """Whether this is the only server."""

    async def request_sync(self) -> None:
        """Have the publishing server sync with the registry; raises `BundleError`."""

    def has_unreported_instances(self, version: RegistryVersion) -> bool:
        """Whether an OPA that does not report here may run an older state."""

    def status(self) -> Mapping[str, Any]:
        """The fields for `lictor status`."""

    def problems(self) -> list[str]:
        """The problems, one per line."""

    def metrics(self) -> Mapping[str, float]:
        """The values for `/metrics`, by names that never change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationState:
    """The progress of publishing.

    Attributes:
        version: the state of the registry that `live` has reached.
        synced_at: when all of the log was known to be published, in seconds since 1970.
        reconciled_at: when the newest read of everything began that was published; likewise.
        live_records: how many records `live` carries.
        shards: how many shards there are.
        compactions: how many shards were compacted here.
        malformed: records that were published as null, each with the reason.
        held: why changes wait to be accepted.
        failing: other problems.
        reconcile_seconds: how long the newest read took; None if this server made none.
        reconcile_records: how many records it read.
    """

    version: RegistryVersion
    synced_at: float
    reconciled_at: float
    live_records: int
    shards: int
    compactions: int = 0
    malformed: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    reconcile_seconds: float | None = None
    reconcile_records: int | None = None


class ServerRole:
    """The requests to this server, in either role.

    Attributes:
        publishing: the local publisher; None while another server publishes.
        cluster: the shared state; None without any.
        faults: unexpected errors of background tasks.
        notices: other problems, one per line.
    """

    def __init__(
        self,
        served_bundles: ServedBundles,
        registry: Registry,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._served_bundles = served_bundles
        self._registry = registry
        self._clock = clock
        self._documents: dict[str, tuple[str, dict[str, Any]]] = {}
        self.publishing: ActivePublisher | None = None
        self.cluster: Cluster | None = None
        self.faults = FaultLog()
        self.notices: Callable[[], list[str]] = list

    @property
    def version(self) -> RegistryVersion:
        """The newest published state of the registry that this server knows."""
        if self.publishing:
            return self.publishing.publisher.version
        live = self._served_bundles.get("live")
        return version_of(live.revision if live else "")

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that rules read."""
        if self.publishing:
            return self.publishing.publisher.live.settings
        settings: dict[str, Any] = self._document("live").get("settings", {})
        return settings

    @property
    def here(self) -> ActivePublisher:
        """The local publisher.

        Raises:
            NotPublishingError: another server does, or none.
        """
        if self.publishing is None:
            status = self.cluster.status() if self.cluster else {}
            raise NotPublishingError(
                "this lictor serve only follows; ask the one that publishes: "
                f"{status.get('publisher') or 'none does at the moment'}"
            )
        return self.publishing

    async def horizon(self, claimed: RegistryVersion) -> RegistryVersion:
        """The newest state that can have been published, by whichever server.

        Args:
            claimed: the revision that a caller claims. The registry is read only if it is news.
        """
        if claimed <= self.version or self.cluster is None or self.cluster.alone:
            return self.version
        try:
            return max(self.version, await self._registry.version())
        except RegistryError:
            return self.version

    async def is_behind(self, served: RegistryVersion, has: RegistryVersion) -> bool:
        """Whether this server serves an older state than another server has published.

        Args:
            served: the state that is served here.
            has: the state of an OPA that may come from there.
        """
        return served < has <= await self.horizon(has)

    async def sync(self, *, seconds: float = PATIENCE) -> None:
        """Have the registry's current state published, and serve it here as well.

        Args:
            seconds: how long to wait for another server to publish.

        Raises:
            RegistryError: the registry cannot be read.
            BundleError: it could not be published, or was not within that time.
        """
        if self.publishing:
            await self.publishing.publisher.sync()
            return
        wanted, why = await self._registry.version(), "no lictor serve has published it"
        if self.cluster:
            try:
                await self.cluster.request_sync()
            except BundleError as error:
                why = str(error)
        deadline = time.monotonic() + seconds
        while self.version < wanted:
            before = self._served_bundles.get("live")
            etags = frozenset([before.etag] if before else [])
            left = max(0.0, deadline - time.monotonic())
            after = await self._served_bundles.changed("live", etags, seconds=left)
            if after is None or after.etag in etags:
                raise NotPublishedError(f"not within {seconds:g} s: {why}")

    def published_at(self, version: RegistryVersion) -> float:
        """When a state of the registry was published, in seconds since 1970, or at the latest."""
        if self.publishing:
            return self.publishing.publisher.heartbeat.published_at(version)
        history = self._served_bundles.history("live")
        ages = [age for revision, age in history if version_of(revision) >= version]
        return self._clock() - max(ages, default=0.0)

    def has_unreported_instances(self, version: RegistryVersion) -> bool:
        """Whether an OPA that does not report here may run an older state."""
        return self.cluster is not None and self.cluster.has_unreported_instances(version)

    def state(self) -> PublicationState:
        """Return the progress of publishing."""
        return _published(self.publishing) if self.publishing else self._followed()

    def _followed(self) -> PublicationState:
        live, heartbeat = self._document("live"), self._document("heartbeat")
        records = (live.get(kind) for kind in live if kind not in {"since", "settings", "shards"})
        return PublicationState(
            version=self.version,
            synced_at=heartbeat.get("synced_at_ns", 0) / _NANOSECONDS,
            reconciled_at=heartbeat.get("reconciled_at_ns", 0) / _NANOSECONDS,
            live_records=sum(len(of_kind) for of_kind in records if isinstance(of_kind, dict)),
            shards=len(live.get("since", {})),
        )

    def _document(self, name: str) -> dict[str, Any]:
        """Return the content of a served bundle; it is read once."""
        bundle = self._served_bundles.get(name)
        if bundle is None:
            return {}
        etag, document = self._documents.get(name, ("", {}))
        if etag != bundle.etag:
            document = data_of(bundle.content)["registry"][name]
            self._documents[name] = bundle.etag, document
        return document


def _published(publishing: ActivePublisher) -> PublicationState:
    publisher, reconciler = publishing.publisher, publishing.reconciler
    latest = reconciler.latest
    return PublicationState(
        version=publisher.version,
        synced_at=publisher.heartbeat.synced_at,
        reconciled_at=publisher.bases.published.reconciled_at,
        live_records=len(publisher.live),
        shards=len(publisher.bases.published.since),
        compactions=publisher.bases.compacted,
        malformed=tuple(sorted(publisher.problems.values())),
        held=tuple(held for held in (publisher.held, reconciler.held) if held),
        failing=tuple(filter(None, (publisher.failing, publisher.heartbeat.clock_moved))),
        reconcile_seconds=round(latest.seconds, 3) if latest else None,
        reconcile_records=latest.records if latest else None,
    )
