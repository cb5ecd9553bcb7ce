"""The other `lictor serve` processes: what each of them serves, and what their OPAs told them.

A server that has said nothing for a while may still be serving OPAs of which nobody else hears. So
it counts as one that serves something old until its OPAs cannot answer any more; and one that is
cut off lets its own grow old (`Replica`, `in_touch`).
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from bundles.catalogue import Catalogue
from bundles.effect import CLOCKS_APART
from bundles.exceptions import RedisUnavailable
from bundles.fleet import Fleet, Instance, stamp_of
from bundles.shared.bus import Bus
from bundles.shared.lease import TTL, running_clock
from bundles.shared.sealed import Report
from registry import Stamp

CUT_OFF = TTL
"""Seconds without a word from Redis after which a server lets its OPAs grow old."""

_TELL_EVERY = 1.0
_TELL_AT_MOST_EVERY = 0.005
_SILENT = 3.0
"""Seconds without a word from Redis after which we may not know of everybody."""

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
    live: Stamp
    heard_at: float
    ahead: float


class Peers:
    """Tells the other servers what is served and heard here, and hears it of them.

    Attributes:
        garbled: reports that could not be read, as those of another version.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        fleet: Fleet,
        catalogue: Catalogue,
        name: str,
        publishing: Callable[[], bool],
        limit: Callable[[], float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Tie the parts together; the fleet's news are shared from now on.

        Args:
            bus: what the servers talk over.
            fleet: gets what the others hear.
            catalogue: what is served here.
            name: of this server, for people.
            publishing: says whether it publishes.
            limit: seconds for which an OPA may answer without news.
            clock: seconds since 1970.
        """
        self._bus = bus
        self._fleet = fleet
        self._catalogue = catalogue
        self._id = secrets.token_hex(8)
        self._name = name
        self._publishing = publishing
        self._limit = limit
        self._clock = clock
        self._peers: dict[str, Peer] = {}
        self._last = 0.0
        self.garbled = 0
        fleet.told = self._share

    @property
    def publisher(self) -> str:
        """The name of the one that publishes, if it was heard of lately; else empty."""
        if self._publishing():
            return self._name
        latest = running_clock() - CUT_OFF
        names = [p.name for p in self._known() if p.publishing and p.heard_at >= latest]
        return names[-1] if names else ""

    @property
    def others(self) -> list[str]:
        """The names of the other servers that were heard of lately."""
        latest = running_clock() - CUT_OFF
        return sorted(peer.name for peer in self._known() if peer.heard_at >= latest)

    def unheard(self, stamp: Stamp) -> bool:
        """Whether another server may have OPAs that run an older state, and nobody knows of."""
        return self._bus.silent_for > _SILENT or any(
            peer.live < stamp or abs(peer.ahead) > CLOCKS_APART for peer in self._known()
        )

    def problems(self) -> list[str]:
        """What is wrong with them."""
        lines = [
            f"server {peer.name}: its clock is {peer.ahead:+.0f} s off ours"
            for peer in self._known()
            if abs(peer.ahead) > CLOCKS_APART
        ]
        if self.garbled:
            lines.append(f"{self.garbled} reports of other servers could not be read")
        return lines

    async def run(self) -> None:
        """Tell what is served here until cancelled: at each new one, and each second."""
        etags = frozenset[str]()
        while True:
            live = await self._catalogue.changed("live", etags, seconds=_TELL_EVERY)
            etags = frozenset([live.etag] if live else [])
            self._bus.share(self._told(live=live.revision if live else ""))
            await asyncio.sleep(_TELL_AT_MOST_EVERY)

    async def leave(self) -> None:
        """Tell that nothing is served here any more, so that nobody waits for us."""
        with suppress(RedisUnavailable):
            await self._bus.tell(self._told(live="", gone=True))

    def hear(self, report: Report, age: float) -> None:
        """Take what the bus brings; see `Bus.run`."""
        try:
            server, _, instance = report.id.partition("/")
            if server == self._id:
                return
            if instance:
                self._fleet.merge(_instance(instance, report.told, now=self._clock() - age))
            else:
                self._note(server, report.told, age)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            self.garbled += 1
            _log.warning("peers.garbled kind=%s", type(error).__name__)

    def _note(self, server: str, told: Mapping[str, Any], age: float) -> None:
        if told["gone"]:
            self._peers.pop(server, None)
        else:
            self._peers[server] = Peer(
                name=str(told["name"]),
                publishing=bool(told["publishing"]),
                live=stamp_of(str(told["live"])),
                heard_at=running_clock() - age,
                ahead=float(told["clock"]) + age - self._clock(),
            )
        self._fleet.nudge()

    def _known(self) -> list[Peer]:
        """Those that may serve, the latest heard of last."""
        # For as long as one does not know that it is cut off, its OPAs are given heartbeats.
        oldest = running_clock() - self._limit() - 2 * CUT_OFF
        self._peers = {id_: p for id_, p in self._peers.items() if p.heard_at >= oldest}
        return sorted(self._peers.values(), key=lambda peer: peer.heard_at)

    def _told(self, *, live: str, gone: bool = False) -> Report:
        told = {
            "name": self._name,
            "publishing": self._publishing(),
            "live": live,
            "clock": self._clock(),
            "gone": gone,
        }
        return Report(self._id, self._moment(), told)

    def _share(self, instance: Instance) -> None:
        now = self._clock()
        told = asdict(instance)
        told["learned"] = {name: now - at for name, at in instance.learned.items()}
        self._bus.share(Report(f"{self._id}/{instance.id}", self._moment(), told))

    def _moment(self) -> float:
        """Now; but never before the last time, which would pass for an old report put back."""
        self._last = max(self._clock(), self._last + 1e-6)
        return self._last


def _instance(id_: str, told: Mapping[str, Any], *, now: float) -> Instance:
    """What another server has heard, its times put as ours."""
    learned = {str(name): now - max(0.0, float(ago)) for name, ago in told["learned"].items()}
    return Instance(
        id=id_,
        version=str(told["version"]),
        seen_at=now,
        revisions={str(name): str(revision) for name, revision in told["revisions"].items()},
        learned=learned,
        errors={str(name): str(error) for name, error in told["errors"].items()},
        refused=str(told["refused"]),
    )
