"""All that one of several `lictor serve` shares with the others, over a Redis and a store."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from bundles.catalogue import Catalogue
from bundles.current import Current
from bundles.effect import CLOCKS_APART, staleness_limit
from bundles.exceptions import BundleError
from bundles.fleet import Fleet
from bundles.shared.artefacts import Artefacts
from bundles.shared.bus import Bus
from bundles.shared.index import NAME
from bundles.shared.lease import Lease
from bundles.shared.mirror import LATE
from bundles.shared.peers import CUT_OFF, Peers
from bundles.shared.sealed import bus_key
from bundles.shared.turns import Publish, Turns
from bundles.shared.verify import Verifier
from bundles.signing import SigningKey
from bundles.store import Store
from registry import RegistryError, Stamp

_log = logging.getLogger(__name__)


class Together:
    """One of several servers; see `bundles.current.Others`."""

    def __init__(
        self,
        redis: Redis,
        artefacts: Artefacts,
        *,
        current: Current,
        catalogue: Catalogue,
        fleet: Fleet,
        store: Store,
        key: SigningKey,
        policy_key: str,
        publish: Publish,
        name: str,
        unheard: bool,
    ) -> None:
        """Tie the parts together; nothing is asked of anybody before `run`.

        Args:
            redis: from `connect`.
            artefacts: where what is published is written to, and followed from.
            current: says whether this one publishes.
            catalogue: what this server serves.
            fleet: whom it has heard of.
            store: what a publisher here goes on from.
            key: signs data.
            policy_key: the public half of the one that signs rules, as PEM text.
            publish: see `Turns`.
            name: of this server, for people.
            unheard: there are OPAs that nobody hears of.
        """
        self._current = current
        self._unheard = unheard
        self._woken = asyncio.Event()
        self.bus = Bus(redis, key=bus_key(key))
        self.lease = Lease(redis)
        self.peers = Peers(
            self.bus,
            fleet=fleet,
            catalogue=catalogue,
            name=name,
            publishing=lambda: current.publishing is not None,
            limit=lambda: staleness_limit(current.settings) + CLOCKS_APART,
        )
        self.turns = Turns(
            lease=self.lease,
            artefacts=artefacts,
            bus=self.bus,
            catalogue=catalogue,
            store=store,
            verifier=Verifier(policy_key=policy_key, data_key=key.public_pem),
            publish=publish,
            in_touch=lambda: self.bus.silent_for < CUT_OFF,
        )

    alone = False

    async def run(self) -> None:
        """Follow, publish, tell and hear until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.turns.run())
                group.create_task(self.peers.run())
                group.create_task(self._look_when_woken())
                group.create_task(
                    self.bus.run(
                        woken=self._woken.set,
                        announced=lambda _: self.turns.tell(),
                        reported=self.peers.hear,
                    )
                )
        finally:
            await self.peers.leave()

    async def wake(self) -> None:
        """Have whoever publishes look at the registry.

        Raises:
            RedisUnavailable: nobody was told.
        """
        await self.bus.wake()

    def unheard(self, stamp: Stamp) -> bool:
        """Whether an OPA may run an older state, of which nothing was heard here."""
        return self._unheard or self.peers.unheard(stamp)

    def told(self) -> Mapping[str, Any]:
        """What `lictor status` shows of it."""
        term, mirror = self.turns.term, self.turns.mirror
        return {
            "publisher": self.peers.publisher or None,
            "servers": self.peers.others,
            "fence": term.fence if term else None,
            "waiting": len(mirror.waiting) if mirror else 0,
        }

    def problems(self) -> list[str]:
        """What is wrong with it, a line each."""
        turns, bus = self.turns, self.bus
        lines = [
            ("publishing ended", turns.error),
            ("lease", self.lease.error),
            ("bus", bus.error),
        ]
        if turns.mirror is None:
            lines.append(("store", turns.replica.error))
            lines += [("store", why) for why in self._refused()]
            if not self.peers.publisher:
                lines.append(("servers", "none of them publishes at the moment"))
        else:
            lines += [("store", why) for why in turns.mirror.problems()]
        if bus.rejected:
            lines.append(("bus", f"{bus.rejected} values were not written by a lictor serve"))
        if bus.dropped:
            lines.append(("bus", f"{bus.dropped} reports were too many or too large"))
        return [f"{part}: {why}" for part, why in lines if why] + self.peers.problems()

    def numbers(self) -> Mapping[str, float]:
        """What `/metrics` shows of it; see `bundles.metrics`."""
        term, mirror = self.turns.term, self.turns.mirror
        return {
            "fence": term.fence if term else 0,
            "waiting": len(mirror.waiting) if mirror else 0,
            "refused": 0 if mirror else len(self._refused()),
            "servers": len(self.peers.others),
            "rejected": self.bus.rejected,
            "dropped": self.bus.dropped,
            "problems": len(self.problems()),
        }

    def _refused(self) -> list[str]:
        """Why things in the store are not served; not what is only being written just now."""
        replica = self.turns.replica
        behind = time.time() - replica.synced_at > LATE
        return [why for name, why in sorted(replica.refused.items()) if behind or name == NAME]

    async def _look_when_woken(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self._current.publishing is None:
                continue
            try:
                await self._current.publishing.publisher.look()
            except (RegistryError, BundleError) as error:
                _log.error("publisher.failed code=%s error=%s", error.code, error)
