"""The other `lictor serve` processes: what each of them serves, and what their OPAs report.

A server that has been silent for a while may still serve OPAs that the other servers do not know.
So it counts as serving an old state until its OPAs can no longer answer; and a server that is cut
off lets its own OPAs grow stale (`Follower`, `in_touch`).
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from cachetools import LRUCache

from bundles.cluster.lease import TTL
from bundles.cluster.message_bus import MOST_REPORTS, MessageBus
from bundles.cluster.messages import Report
from bundles.exceptions import RedisUnavailableError
from bundles.fleet.tracker import LONGEST_TEXT, FleetTracker, Instance, version_of
from bundles.serve.served_bundles import ServedBundles
from lictor_common.clocks import running_clock
from lictor_common.text import printable
from lictor_common.version import CLOCK_TOLERANCE
from registry import RegistryVersion

CUT_OFF = TTL
"""Seconds without a word from Redis after which a server lets its OPAs grow old."""

_REPORT_EVERY = 1.0
_REPORT_AT_MOST_EVERY = 0.005
_SILENT = 3.0
"""Seconds of silence from Redis after which OPAs of other servers may be unknown."""

_SAME_TIME = 1e-5
"""Seconds: above what a difference of two times since 1970 is rounded by."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another server.

    Attributes:
        name: where it runs, for people.
        publishing: whether it publishes.
        live: the state of the registry that it serves.
        heard_at: when it said so, by `running_clock`.
        ahead: seconds by which its clock is ahead of ours.
    """

    name: str
    publishing: bool
    live: RegistryVersion
    heard_at: float
    ahead: float


@dataclass(frozen=True, slots=True)
class _Dated:
    """When another server learned what an OPA runs.

    Attributes:
        revision: what it runs.
        there: when that server learned it, by its own clock.
        at: the same by our clock, or later by what its first report was delayed.
    """

    revision: str
    there: float
    at: float

    def repeats(self, other: "_Dated") -> bool:
        """Whether both are one and the same observation."""
        return self.revision == other.revision and abs(self.there - other.there) < _SAME_TIME


class Peers:
    """Exchanges with the other servers what each serves, and what its OPAs report.

    Attributes:
        malformed: reports that could not be read, as those of another version.
    """

    def __init__(
        self,
        bus: MessageBus,
        *,
        fleet: FleetTracker,
        served_bundles: ServedBundles,
        name: str,
        publishing: Callable[[], bool],
        limit: Callable[[], float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the exchange; reports that reach the fleet are sent from now on.

        Args:
            bus: what the servers talk over.
            fleet: receives the reports of the other servers.
            served_bundles: what is served here.
            name: of this server, for people.
            publishing: says whether it publishes.
            limit: seconds for which an OPA may answer without news.
            clock: seconds since 1970.
        """
        self._bus = bus
        self._fleet = fleet
        self._served_bundles = served_bundles
        self._id = secrets.token_hex(8)
        self._name = name
        self._publishing = publishing
        self._limit = limit
        self._clock = clock
        self._peers: dict[str, Peer] = {}
        self._dated: LRUCache[str, dict[str, _Dated]] = LRUCache(MOST_REPORTS)
        self._last = 0.0
        self.malformed = 0
        fleet.on_report = self._report_instance

    @property
    def publisher(self) -> str:
        """The name of the publishing server, if it was seen recently; else empty."""
        if self._publishing():
            return self._name
        latest = running_clock() - CUT_OFF
        names = [p.name for p in self._known() if p.publishing and p.heard_at >= latest]
        return names[-1] if names else ""

    @property
    def others(self) -> list[str]:
        """The names of the other servers that were seen recently."""
        latest = running_clock() - CUT_OFF
        return sorted(peer.name for peer in self._known() if peer.heard_at >= latest)

    def has_unreported_instances(self, version: RegistryVersion) -> bool:
        """Whether another server may have unknown OPAs that run an older state."""
        return self._bus.silent_for > _SILENT or any(
            peer.live < version or abs(peer.ahead) > CLOCK_TOLERANCE for peer in self._known()
        )

    def problems(self) -> list[str]:
        """The problems of the other servers."""
        lines = [
            f"server {peer.name}: its clock is {peer.ahead:+.0f} s off ours"
            for peer in self._known()
            if abs(peer.ahead) > CLOCK_TOLERANCE
        ]
        if self.malformed:
            lines.append(f"{self.malformed} reports of other servers could not be read")
        return lines

    async def run(self) -> None:
        """Send what is served here until cancelled: after each change, and each second."""
        etags = frozenset[str]()
        while True:
            live = await self._served_bundles.changed("live", etags, seconds=_REPORT_EVERY)
            etags = frozenset([live.etag] if live else [])
            self._bus.enqueue(self._own_report(live=live.revision if live else ""))
            await asyncio.sleep(_REPORT_AT_MOST_EVERY)

    async def leave(self) -> None:
        """Send that nothing is served here any more, so that no server waits for this one."""
        with suppress(RedisUnavailableError):
            await self._bus.send(self._own_report(live="", gone=True))

    def receive(self, report: Report, age: float) -> None:
        """Process a report from the bus; see `MessageBus.run`."""
        try:
            server, _, instance = report.id.partition("/")
            if server == self._id:
                return
            if instance:
                reported = _instance(instance, report.told, now=self._clock() - age)
                self._fleet.merge(self._keep_first_dates(report, reported))
            else:
                self._note(server, report.told, age)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            self.malformed += 1
            _log.warning("cluster.message_malformed kind=%s", type(error).__name__)

    def _keep_first_dates(self, report: Report, instance: Instance) -> Instance:
        """Give what a server repeats the time that its first report gave it.

        Redis and the event loops delay a report, and what it says looks younger by that delay. A
        repeated old revision must not count as newer than what this server learned meanwhile.
        """
        before, dated = self._dated.get(report.id, {}), {}
        for name, at in instance.learned.items():
            revision = instance.revisions.get(name, "")
            new = _Dated(revision, report.at - (instance.seen_at - at), at)
            old = before.get(name)
            dated[name] = old if old and old.at < at and old.repeats(new) else new
        self._dated[report.id] = dated
        return replace(instance, learned={name: one.at for name, one in dated.items()})

    def _note(self, server: str, content: Mapping[str, Any], age: float) -> None:
        if content["gone"]:
            self._peers.pop(server, None)
        else:
            self._peers[server] = Peer(
                name=_text(content["name"]),
                publishing=bool(content["publishing"]),
                live=version_of(str(content["live"])),
                heard_at=running_clock() - age,
                ahead=float(content["clock"]) + age - self._clock(),
            )
        self._fleet.notify()

    def _known(self) -> list[Peer]:
        """Those that may serve, the latest seen last."""
        # A server that does not know yet that it is cut off still serves heartbeats to its OPAs.
        oldest = running_clock() - self._limit() - 2 * CUT_OFF
        self._peers = {id_: p for id_, p in self._peers.items() if p.heard_at >= oldest}
        return sorted(self._peers.values(), key=lambda peer: peer.heard_at)

    def _own_report(self, *, live: str, gone: bool = False) -> Report:
        content = {
            "name": self._name,
            "publishing": self._publishing(),
            "live": live,
            "clock": self._clock(),
            "gone": gone,
        }
        return Report(self._id, self._moment(), content)

    def _report_instance(self, instance: Instance) -> None:
        now = self._moment()
        content = asdict(instance)
        content["learned"] = {name: now - at for name, at in instance.learned.items()}
        self._bus.enqueue(Report(f"{self._id}/{instance.id}", now, content))

    def _moment(self) -> float:
        """Now; but never before the last time, which would pass for an old report put back."""
        self._last = max(self._clock(), self._last + 1e-6)
        return self._last


def _instance(id_: str, content: Mapping[str, Any], *, now: float) -> Instance:
    """Another server's report of an instance, with its times converted to ours."""
    learned = {_text(name): now - max(0.0, float(ago)) for name, ago in content["learned"].items()}
    return Instance(
        id=_text(id_),
        version=_text(content["version"]),
        seen_at=now,
        revisions={_text(name): _text(one) for name, one in content["revisions"].items()},
        learned=learned,
        errors={_text(name): _text(error) for name, error in content["errors"].items()},
        refused=_text(content["refused"]),
    )


def _text(value: Any) -> str:
    return printable(str(value), longest=LONGEST_TEXT)
