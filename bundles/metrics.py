"""What `lictor serve` tells Prometheus. The only labels are names of instances and of bundles."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from bundles.catalogue import Catalogue
from bundles.fleet import Fleet
from bundles.publisher import Publisher

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one `lictor serve`; `registry` is what is exposed."""

    def __init__(self, publisher: Publisher, catalogue: Catalogue, fleet: Fleet) -> None:
        self.registry = CollectorRegistry()
        self._active = Histogram(
            "lictor_publish_to_active_seconds",
            "From the publication of a bundle to an instance's acknowledgement that it runs it.",
            ["bundle"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.registry.register(_State(publisher, catalogue, fleet))

    def active(self, bundle: str, seconds: float) -> None:
        """An instance has activated a bundle so many seconds after it was published."""
        # The 64 shards are one label: they behave alike.
        self._active.labels(bundle.partition("-")[0]).observe(seconds)


class _State(Collector):
    def __init__(self, publisher: Publisher, catalogue: Catalogue, fleet: Fleet) -> None:
        self._publisher = publisher
        self._catalogue = catalogue
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        publisher = self._publisher
        live = self._catalogue.get("live")
        reconciled_at = publisher.bases.published.reconciled_at
        for name, text, value in [
            (
                "revision",
                "Revision of the registry that live has reached",
                publisher.stamp.revision,
            ),
            ("epoch", "Epoch of the registry that is published", publisher.stamp.epoch),
            ("live_records", "Records that live carries", len(publisher.live)),
            ("live_bytes", "Size of live, packed", len(live.content) if live else 0),
            (
                "synced_timestamp_seconds",
                "When all of the log was published",
                publisher.heartbeat.synced_at,
            ),
            ("reconciled_timestamp_seconds", "When all of the store was read", reconciled_at),
            ("malformed_records", "Records that are published as null", len(publisher.problems)),
            ("held", "1 while changes wait to be accepted", bool(publisher.held)),
        ]:
            yield GaugeMetricFamily(f"lictor_{name}", text, value=float(value))
        yield CounterMetricFamily(
            "lictor_compactions", "Shards that were folded.", value=publisher.bases.folded
        )
        lag = GaugeMetricFamily(
            "lictor_instance_lag_revisions",
            "Revisions by which an instance is behind; -1 if it runs nothing of this epoch.",
            labels=["instance"],
        )
        seen = GaugeMetricFamily(
            "lictor_instance_seen_timestamp_seconds",
            "When an instance was last heard of.",
            labels=["instance"],
        )
        for one in self._fleet.instances():
            same = one.live.epoch == publisher.stamp.epoch
            behind = publisher.stamp.revision - one.live.revision if same else -1
            lag.add_metric([one.id], behind)
            seen.add_metric([one.id], one.seen_at)
        yield lag
        yield seen
