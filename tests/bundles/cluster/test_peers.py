"""What servers know of each other's OPAs, and when one must assume that there are others."""

import asyncio
import time

import pytest
from support.waiting import until

from bundles.cluster import peers as module
from bundles.cluster.messages import Report
from bundles.cluster.peers import Peers
from bundles.fleet.tracker import FleetTracker
from bundles.publish.signing import Bundle
from bundles.serve.served_bundles import ServedBundles
from lictor_common.version import CLOCK_TOLERANCE
from registry import RegistryVersion

pytestmark = pytest.mark.anyio

STATUS = {
    "labels": {"instance": "opa-1", "version": "1.22.2"},
    "bundles": {"live": {"active_revision": "1:5", "message": "it broke"}},
}


def live(revision):
    return Bundle("live", revision, f'"{revision}"', b"")


class PeerServer:
    """One server's end: its bus, its fleet and what it serves."""

    def __init__(self, bus, name, *, limit=30.0, ahead=0.0):
        self.bus = bus
        self._now = ahead
        self.fleet, self.served_bundles = FleetTracker(clock=self.clock), ServedBundles()
        self.publishing = False
        self.peers = Peers(
            bus, fleet=self.fleet, served_bundles=self.served_bundles, name=name,
            publishing=lambda: self.publishing, limit=lambda: limit, clock=self.clock,
        )  # fmt: skip
        self._running = []

    def clock(self):
        return time.time() + self._now

    async def start(self):
        self._running = [
            asyncio.ensure_future(self.bus.run(reported=self.peers.receive)),
            asyncio.ensure_future(self.peers.run()),
        ]
        await until(lambda: self.bus.silent_for < 1, "the bus is heard")
        return self

    async def stop(self):
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def instance(self, id_="opa-1"):
        return next((one for one in self.fleet.instances() if one.id == id_), None)


@pytest.fixture
async def start(new_bus):
    started = []

    async def start(name, **kwargs):
        started.append(PeerServer(new_bus(), name, **kwargs))
        return await started[-1].start()

    yield start
    for one in started:
        await one.stop()


async def test_opa_report_to_one_server_is_known_to_all(start):
    here, there = await start("a"), await start("b")
    there.fleet.report("opa-1", STATUS, published=RegistryVersion(1, 9))
    await until(here.instance, "it is heard of")

    known, notified = here.instance(), there.instance()
    assert (known.version, known.live) == ("1.22.2", RegistryVersion(1, 5))
    assert known.errors == {"live": "it broke"}
    assert known.seen_at == pytest.approx(notified.seen_at, abs=0.5)
    assert known.live_at == pytest.approx(notified.live_at, abs=0.5)

    # It goes on with the other one; what the first had heard before does not come back.
    here.fleet.acknowledge("opa-1", "live", "1:7")
    there.fleet.acknowledge("opa-1", "heartbeat", "9.000")
    await until(lambda: there.instance().live == RegistryVersion(1, 7), "it is known there")
    await until(lambda: "heartbeat" in here.instance().revisions, "and this here")
    assert here.instance().live == there.instance().live == RegistryVersion(1, 7)


async def test_repeated_old_revision_does_not_replace_a_newer_one(new_bus):
    """A delayed report looks younger than it is."""
    here = PeerServer(new_bus(), "a")

    def receive(at, *, learned, **revisions):
        content = {"version": "1.22.2", "revisions": revisions, "errors": {}, "refused": "",
                   "learned": {name: at - when for name, when in learned.items()}}  # fmt: skip
        here.peers.receive(Report("other/opa-1", at, content), 0.0)

    now = here.clock()
    receive(now, learned={"live": now}, live="1:5")
    here.fleet.acknowledge("opa-1", "live", "1:7")
    here._now = 2.5  # seconds of delay that no age counts
    receive(now + 0.1, learned={"live": now, "heartbeat": now + 0.1}, live="1:5", heartbeat="9.000")
    assert here.instance().revisions == {"live": "1:7", "heartbeat": "9.000"}

    # What is news there does replace it, even if it is lower: an OPA may have been put back.
    receive(now + 2.6, learned={"live": now + 2.6}, live="1:6")
    assert here.instance().live == RegistryVersion(1, 6)


async def test_state_not_served_by_all_servers_may_have_unreported_opas(start):
    here, there = await start("a"), await start("b")
    there.served_bundles.put(live("1:5"))
    await until(lambda: here.peers.others, "the other is heard of")
    await until(
        lambda: not here.peers.has_unreported_instances(RegistryVersion(1, 5)), "it serves it"
    )
    assert here.peers.has_unreported_instances(RegistryVersion(1, 6))
    there.served_bundles.put(live("1:6"))
    await until(
        lambda: not here.peers.has_unreported_instances(RegistryVersion(1, 6)), "now this too"
    )
    assert here.peers.others == ["b"]
    assert here.peers.publisher == ""
    there.publishing = True
    await until(lambda: here.peers.publisher == "b", "it publishes")

    # One that is cut off counts as one that serves something old; one that leaves does not.
    await there.stop()
    assert here.peers.has_unreported_instances(RegistryVersion(1, 7))
    await there.peers.leave()
    await until(
        lambda: not here.peers.has_unreported_instances(RegistryVersion(1, 7)), "it has left"
    )


async def test_server_silent_for_long_enough_is_no_longer_counted(start, monkeypatch):
    monkeypatch.setattr(module, "CUT_OFF", 0.1)
    here, there = await start("a", limit=0.5), await start("b")
    there.served_bundles.put(live("1:5"))
    await until(lambda: here.peers.others, "the other is heard of")
    await until(
        lambda: not here.peers.has_unreported_instances(RegistryVersion(1, 5)), "it serves it"
    )
    await there.stop()
    assert here.peers.has_unreported_instances(RegistryVersion(1, 6))
    await until(
        lambda: not here.peers.has_unreported_instances(RegistryVersion(1, 6)),
        "its OPAs cannot answer any more",
    )


async def test_server_whose_clock_is_off_is_named_and_not_relied_on(start):
    here, there = await start("a"), await start("b", ahead=60.0)
    there.served_bundles.put(live("1:5"))
    await until(here.peers.problems, "it is named")
    assert here.peers.problems() == ["server b: its clock is +60 s off ours"]
    assert here.peers.has_unreported_instances(RegistryVersion(1, 5))
    # The age of its messages is measured by the clock of Redis.
    there.fleet.acknowledge("opa-1", "live", "1:5")
    await until(here.instance, "it is heard of")
    assert abs(here.instance().seen_at - here.clock()) < CLOCK_TOLERANCE


async def test_redis_outage_leaves_unreported_instances_possible(start, server):
    server.must_be_ours()
    here = await start("a")
    assert not here.peers.has_unreported_instances(RegistryVersion(1, 5))
    server.freeze()
    await until(
        lambda: here.peers.has_unreported_instances(RegistryVersion(1, 5)), "Redis is silent"
    )
    server.thaw()
    await until(
        lambda: not here.peers.has_unreported_instances(RegistryVersion(1, 5)), "it is back"
    )


async def test_report_of_another_version_is_counted_and_ignored(start):
    here, there = await start("a"), await start("b")
    for n, notified in enumerate([{}, {"name": "b"}, {"learned": 7}]):
        there.bus.enqueue(Report("other/opa-9" if n else "other", 1.0 + n, notified))
        await until(lambda n=n: here.peers.malformed == n + 1, "it is counted")
    there.fleet.acknowledge("opa-1", "live", "1:5")
    await until(here.instance, "the next is heard")
    assert "3 reports of other servers could not be read" in here.peers.problems()
