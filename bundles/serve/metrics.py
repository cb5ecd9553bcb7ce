"""The metrics of `lictor serve` for Prometheus. Labels are only names of instances and bundles."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from bundles.fleet.tracker import FleetTracker
from bundles.serve.served_bundles import ServedBundles
from bundles.serve.server_role import ServerRole

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

SHARED = {
    "fence": "Number of the term in which this server publishes; 0 while it follows",
    "waiting": "Bundles that are published here and not in the store yet",
    "refused": "Bundles in the store that are not taken from there",
    "servers": "Other servers that were seen recently",
    "rejected": "Values in Redis that were not written with the key",
    "dropped": "Reports that were too many or too large to share",
    "problems": "What is wrong with what is shared; lictor status has the words",
}
"""The metrics of what several servers share, with their help texts."""


class ServeMetrics:
    """The metrics of one `lictor serve`; `registry` is what is exposed."""

    def __init__(
        self, role: ServerRole, served_bundles: ServedBundles, fleet: FleetTracker
    ) -> None:
        self.registry = CollectorRegistry()
        self._active = Histogram(
            "lictor_publish_to_active_seconds",
            "From the publication of a bundle to an instance's acknowledgement that it runs it.",
            ["bundle"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.registry.register(_State(role, served_bundles, fleet))

    def active(self, bundle: str, seconds: float) -> None:
        """An instance has activated a bundle so many seconds after it was published."""
        # The 64 shards are one label: they behave alike.
        self._active.labels(bundle.partition("-")[0]).observe(seconds)


class _State(Collector):
    def __init__(
        self, role: ServerRole, served_bundles: ServedBundles, fleet: FleetTracker
    ) -> None:
        self._role = role
        self._served_bundles = served_bundles
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        state, live = self._role.state(), self._served_bundles.get("live")
        for name, text, value in [
            ("revision", "Revision of the registry that live has reached", state.version.revision),
            ("epoch", "Epoch of the registry that is published", state.version.epoch),
            ("live_records", "Records that live carries", state.live_records),
            ("live_bytes", "Size of live, packed", len(live.content) if live else 0),
            ("synced_timestamp_seconds", "When all of the log was published", state.synced_at),
            (
                "reconciled_timestamp_seconds",
                "When all of the store was read",
                state.reconciled_at,
            ),
            ("malformed_records", "Records that are published as null", len(state.malformed)),
            ("held", "1 while changes wait to be accepted", bool(state.held)),
            ("publishing", "1 while this server publishes", bool(self._role.publishing)),
        ]:
            yield GaugeMetricFamily(f"lictor_{name}", text, value=float(value))
        yield CounterMetricFamily(
            "lictor_compactions", "Shards that were compacted.", value=state.compactions
        )
        faults = CounterMetricFamily(
            "lictor_task_faults",
            "Unexpected errors of background tasks, each of which was tried again.",
            labels=["task"],
        )
        for task, count in self._role.faults.counts.items():
            faults.add_metric([task], count)
        yield faults
        cluster = self._role.cluster
        for name, number in (cluster.metrics() if cluster else {}).items():
            yield GaugeMetricFamily(f"lictor_shared_{name}", SHARED[name], value=number)
        lag = GaugeMetricFamily(
            "lictor_instance_lag_revisions",
            "Revisions by which an instance is behind; -1 if it runs nothing of this epoch.",
            labels=["instance"],
        )
        seen = GaugeMetricFamily(
            "lictor_instance_seen_timestamp_seconds",
            "When an instance was last seen.",
            labels=["instance"],
        )
        for one in self._fleet.instances():
            same = one.live.epoch == state.version.epoch
            behind = state.version.revision - one.live.revision if same else -1
            lag.add_metric([one.id], behind)
            seen.add_metric([one.id], one.seen_at)
        yield lag
        yield seen
