"""Prometheus metrics of decisions. Callers cannot choose the value of any label."""

from collections.abc import Sequence
from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pdp_client import Action, Decision, Reason, Visible

_METHODS: Final = frozenset(
    {
        "completion/complete",
        "logging/setLevel",
        "prompts/get",
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        "subscriptions/listen",
        "tools/call",
    }
)
_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


@cache
def metrics(registry: CollectorRegistry) -> "Metrics":
    """Return a registry's metrics; servers of one process share them, as names are unique in it."""
    return Metrics(registry)


class Metrics:
    """Counters and durations of decisions; see `pdp_client.observer.Observer`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._decisions = Counter(
            "lictor_decisions",
            "Decisions on calls, reads, prompts and the like.",
            ["method", "reason", "cached"],
            registry=registry,
        )
        self._shadowed = Counter(
            "lictor_shadowed",
            "Denials that did not stop an action in shadow mode.",
            ["method", "reason"],
            registry=registry,
        )
        # Looking a series up by its labels costs more than to count in it.
        self._of_decisions = cache(self._decision_series)
        self._seconds = Histogram(
            "lictor_decision_seconds",
            "Time to a decision, including its record.",
            ["cached"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._authentications = Counter(
            "lictor_authentications",
            "Checks of a bearer before a request is admitted.",
            ["reason"],
            registry=registry,
        )
        self._authentication_seconds = Histogram(
            "lictor_authentication_seconds",
            "Time to check a bearer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._lists = Counter(
            "lictor_lists", "Lists that were filtered.", ["reason", "cached"], registry=registry
        )
        self._list_seconds = Histogram(
            "lictor_list_seconds",
            "Time to filter a list, including its record.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._hidden = Counter(
            "lictor_list_hidden", "Entries hidden from lists.", registry=registry
        )
        self._ended = Counter(
            "lictor_ended",
            "Calls, streams and tasks that were ended because access ended while they ran.",
            ["kind", "reason"],
            registry=registry,
        )
        self._rule_errors = Counter(
            "lictor_rule_errors",
            "Errors of rules in OPA, each of which made a decision unavailable.",
            ["code"],
            registry=registry,
        )
        self._epoch, self._revision, self._age = (
            Gauge(name, text, registry=registry, multiprocess_mode="mostrecent")
            for name, text in (
                ("lictor_decision_epoch", "Epoch of the registry behind the last decision."),
                ("lictor_decision_revision", "Revision of the registry behind the last decision."),
                ("lictor_decision_data_age_seconds", "Age of the data behind the last decision."),
            )
        )

    def decided(self, action: Action, decision: Decision, *, seconds: float) -> None:
        """As `Observer.decided`."""
        method = action.method if action.method in _METHODS else "other"
        cached = str(decision.cached).lower()
        decisions, durations = self._of_decisions(method, decision.reason, cached)
        decisions.inc()
        if decision.shadowed:
            self._shadowed.labels(method=method, reason=decision.reason.value).inc()
        durations.observe(seconds)
        self._record_version(decision)
        if decision.data_age_ms is not None:
            self._age.set(decision.data_age_ms / 1000)

    def listed(self, actions: Sequence[Action], visible: Visible, *, seconds: float) -> None:
        """As `Observer.listed`."""
        cached = str(visible.cached).lower()
        self._lists.labels(reason=visible.reason.value, cached=cached).inc()
        self._list_seconds.observe(seconds)
        self._hidden.inc(len(actions) - len(visible.indices))
        self._record_version(visible)

    def authenticated(self, reason: Reason, *, seconds: float) -> None:
        """As `Observer.authenticated`."""
        self._authentications.labels(reason=reason.value).inc()
        self._authentication_seconds.observe(seconds)

    def ended(self, kind: str, reason: Reason) -> None:
        """Count something that was ended; see `mcp_plugin.revocation`."""
        self._ended.labels(kind=kind, reason=reason.value).inc()

    def _decision_series(
        self, method: str, reason: Reason, cached: str
    ) -> tuple[Counter, Histogram]:
        decisions = self._decisions.labels(method=method, reason=reason.value, cached=cached)
        return decisions, self._seconds.labels(cached=cached)

    def _record_version(self, answer: Decision | Visible) -> None:
        for error in answer.errors:
            self._rule_errors.labels(code=error.code).inc()
        if answer.epoch is not None and answer.revision is not None:
            self._epoch.set(answer.epoch)
            self._revision.set(answer.revision)
