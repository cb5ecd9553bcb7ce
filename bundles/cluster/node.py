"""One of several `lictor serve` processes, which share a Redis and an object store."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from bundles.cluster.index import NAME
from bundles.cluster.leader_loop import LeaderLoop, Publish
from bundles.cluster.lease import Lease
from bundles.cluster.message_bus import MessageBus
from bundles.cluster.messages import bus_key
from bundles.cluster.object_store import ObjectStore
from bundles.cluster.peers import CUT_OFF, Peers
from bundles.cluster.uploader import LATE
from bundles.cluster.verify import BundleVerifier
from bundles.exceptions import BundleError
from bundles.fleet.propagation import staleness_limit
from bundles.fleet.tracker import FleetTracker
from bundles.publish.signing import SigningKey
from bundles.publish.store import Store
from bundles.serve.served_bundles import ServedBundles
from bundles.serve.server_role import ServerRole
from lictor_common.redis import Redis
from lictor_common.version import CLOCK_TOLERANCE
from registry import RegistryError, RegistryVersion

_log = logging.getLogger(__name__)


class ClusterNode:
    """One of several servers; see `bundles.serve.server_role.Cluster`."""

    def __init__(
        self,
        redis: Redis,
        object_store: ObjectStore,
        *,
        role: ServerRole,
        served_bundles: ServedBundles,
        fleet: FleetTracker,
        store: Store,
        key: SigningKey,
        policy_key: str,
        publish: Publish,
        name: str,
        has_unreported_instances: bool,
    ) -> None:
        """Create the node; it connects to nothing before `run`.

        Args:
            redis: from `connect`.
            object_store: the store that published bundles are written to and read from.
            role: whether this server publishes.
            served_bundles: the bundles that this server serves.
            fleet: the OPA instances that it knows.
            store: the state from which a local publisher resumes.
            key: signs data.
            policy_key: the public half of the key that signs rules, as PEM text.
            publish: see `LeaderLoop`.
            name: of this server, for people.
            has_unreported_instances: whether some OPAs do not report to any server.
        """
        self._role = role
        self._has_unreported_instances = has_unreported_instances
        self._sync_requested = asyncio.Event()
        self.bus = MessageBus(redis, key=bus_key(key), faults=role.faults)
        self.lease = Lease(redis)
        self.peers = Peers(
            self.bus,
            fleet=fleet,
            served_bundles=served_bundles,
            name=name,
            publishing=lambda: role.publishing is not None,
            limit=lambda: staleness_limit(role.settings) + CLOCK_TOLERANCE,
        )
        self.leader_loop = LeaderLoop(
            lease=self.lease,
            object_store=object_store,
            bus=self.bus,
            served_bundles=served_bundles,
            store=store,
            verifier=BundleVerifier(policy_key=policy_key, data_key=key.public_pem),
            publish=publish,
            in_touch=lambda: self.bus.silent_for < CUT_OFF,
        )

    alone = False

    async def run(self) -> None:
        """Follow or publish, send and receive until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for name, job in (
                    ("leader_loop", self.leader_loop.run),
                    ("peers", self.peers.run),
                    ("sync_when_requested", self._sync_when_requested),
                    ("message_bus", self._exchange),
                ):
                    group.create_task(self._role.faults.keep_running(name, job))
        finally:
            await self.peers.leave()

    async def request_sync(self) -> None:
        """Have the publishing server sync with the registry.

        Raises:
            RedisUnavailableError: the message was not sent.
        """
        await self.bus.request_sync()

    def has_unreported_instances(self, version: RegistryVersion) -> bool:
        """Whether an OPA that does not report here may run an older state."""
        return self._has_unreported_instances or self.peers.has_unreported_instances(version)

    def status(self) -> Mapping[str, Any]:
        """The fields for `lictor status`."""
        term, uploader = self.leader_loop.term, self.leader_loop.uploader
        return {
            "publisher": self.peers.publisher or None,
            "servers": self.peers.others,
            "fence": term.fence if term else None,
            "waiting": len(uploader.waiting) if uploader else 0,
        }

    def problems(self) -> list[str]:
        """The problems, one per line."""
        leader_loop, bus = self.leader_loop, self.bus
        lines = [
            ("publishing ended", leader_loop.error),
            ("lease", self.lease.error),
            ("bus", bus.error),
        ]
        if leader_loop.uploader is None:
            lines.append(("store", leader_loop.follower.error))
            lines += [("store", why) for why in self._refused()]
            if not self.peers.publisher:
                lines.append(("servers", "none of them publishes at the moment"))
        else:
            lines += [("store", why) for why in leader_loop.uploader.problems()]
        if bus.rejected:
            lines.append(("bus", f"{bus.rejected} values were not written by a lictor serve"))
        if bus.dropped:
            lines.append(("bus", f"{bus.dropped} reports were too many or too large"))
        return [f"{part}: {why}" for part, why in lines if why] + self.peers.problems()

    def metrics(self) -> Mapping[str, float]:
        """The values for `/metrics`; see `bundles.serve.metrics`."""
        term, uploader = self.leader_loop.term, self.leader_loop.uploader
        return {
            "fence": term.fence if term else 0,
            "waiting": len(uploader.waiting) if uploader else 0,
            "refused": 0 if uploader else len(self._refused()),
            "servers": len(self.peers.others),
            "rejected": self.bus.rejected,
            "dropped": self.bus.dropped,
            "problems": len(self.problems()),
        }

    def _refused(self) -> list[str]:
        """Why bundles in the store are not served; ignores those that are just being written."""
        follower = self.leader_loop.follower
        behind = time.time() - follower.synced_at > LATE
        return [why for name, why in sorted(follower.refused.items()) if behind or name == NAME]

    async def _exchange(self) -> None:
        await self.bus.run(
            woken=self._sync_requested.set,
            announced=lambda _: self.leader_loop.request_sync(),
            reported=self.peers.receive,
        )

    async def _sync_when_requested(self) -> None:
        while True:
            await self._sync_requested.wait()
            self._sync_requested.clear()
            if self._role.publishing is None:
                continue
            try:
                await self._role.publishing.publisher.sync()
            except (RegistryError, BundleError) as error:
                _log.error("publisher.failed code=%s error=%s", error.code, error)
