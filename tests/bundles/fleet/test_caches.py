"""A change holds in the caches of MCP servers once each has polled with it, or its lease is over."""

import asyncio
import time

import pytest
from support.clock import ManualClock
from support.waiting import until

from bundles.fleet import caches as module
from bundles.fleet.caches import CacheTracker
from bundles.fleet.propagation import PropagationTracker
from lictor_common.signed_exchange import LEASE
from registry import RegistryVersion

pytestmark = pytest.mark.anyio

BEFORE, OLD, NEW = RegistryVersion(1, 0), RegistryVersion(1, 7), RegistryVersion(1, 8)


@pytest.fixture
def clock():
    return ManualClock(1000.0)


@pytest.fixture
def tracker(clock):
    return CacheTracker(clock=clock)


def test_cache_lacks_a_change_until_it_polls_with_it(tracker):
    tracker.record("a", OLD, lease=10)
    tracker.record("b", NEW, lease=10)
    assert (tracker.lacking(NEW), tracker.knowing(NEW)) == (["a"], ["b"])
    tracker.record("a", RegistryVersion(2, 0), lease=10)
    assert (tracker.lacking(NEW), tracker.knowing(NEW)) == ([], ["a", "b"])


def test_silent_cache_lacks_a_change_until_its_lease_ends(tracker, clock):
    tracker.record("a", OLD, lease=10)
    tracker.record("a", OLD, lease=2)
    assert tracker.seconds_until_known(NEW) == 10, "a later poll does not shorten a lease"
    clock.now += 10
    assert tracker.lacking(NEW) == ["a"]
    clock.now += 0.001
    assert (tracker.lacking(NEW), tracker.seconds_until_known(NEW)) == ([], 0)


def test_poll_that_arrives_late_takes_nothing_back(tracker):
    tracker.record("a", NEW, lease=10)
    tracker.record("a", OLD, lease=10)
    assert tracker.lacking(NEW) == []


def test_cache_that_leaves_is_not_waited_for(tracker):
    tracker.record("a", OLD, lease=10)
    tracker.remove("a")
    tracker.remove("unknown")
    assert tracker.lacking(NEW) == []


def test_caches_of_an_earlier_process_are_waited_for(clock):
    tracker = CacheTracker(forgot=True, clock=clock)
    tracker.record("a", NEW, lease=1)
    assert tracker.lacking(NEW) == ["of an earlier lictor serve"]
    assert tracker.seconds_until_known(NEW) == LEASE
    clock.now += LEASE
    assert tracker.lacking(NEW) == []


def test_caches_beyond_the_limit_get_no_lease(tracker, clock, monkeypatch):
    monkeypatch.setattr(module, "_MOST_CACHES", 2)
    assert tracker.record("a", OLD, lease=1)
    assert tracker.record("b", OLD, lease=10)
    assert not tracker.record("c", OLD, lease=10)
    assert tracker.record("a", OLD, lease=1)
    clock.now += 2
    assert tracker.record("c", OLD, lease=10), "one has ended"


# Waiting for them


@pytest.fixture
async def written(publishing):
    """A change that is not out yet; the one OPA acknowledges it as soon as it is."""
    await publishing.open()
    caches = CacheTracker(notify=publishing.fleet.notify)
    publishing.caches = caches
    publishing.propagation = PropagationTracker(
        publishing.role, publishing.fleet, caches=caches, clock=publishing.clock
    )
    publishing.done = await publishing.operator.add_user("ada")
    version = publishing.done.version
    publishing.fleet.acknowledge("opa-1", "live", f"{version.epoch}:{version.revision}")
    return publishing


async def test_revocation_is_not_effective_while_a_cache_lacks_it(written):
    written.caches.record("web-1", BEFORE, lease=10)
    effect = await written.propagation.wait(written.done.version, seconds=0)
    assert (effect.effective, effect.how) == (False, "waiting")
    assert (effect.missing, effect.caches_missing) == ((), ("web-1",))
    waiting = asyncio.ensure_future(written.propagation.wait(written.done.version, seconds=20))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    written.caches.record("web-1", written.done.version, lease=10)
    async with asyncio.timeout(5):  # sooner than its lease ends
        effect = await waiting
    assert (effect.effective, effect.how) == (True, "acknowledged")
    assert (list(effect.acknowledged), effect.caches) == (["opa-1"], ("web-1",))


async def test_revocation_is_effective_when_a_silent_cache_s_lease_ends(written):
    began = time.monotonic()
    written.caches.record("web-1", BEFORE, lease=0.5)
    effect = await written.propagation.wait(written.done.version, seconds=20)
    assert (effect.effective, effect.caches, effect.caches_missing) == (True, (), ())
    assert 0.5 <= time.monotonic() - began < 5


async def test_caches_alone_are_not_a_success(publishing):
    """0 OPAs of 0 is a failure, whatever caches say."""
    await publishing.open()
    caches = CacheTracker(notify=publishing.fleet.notify)
    propagation = PropagationTracker(
        publishing.role, publishing.fleet, caches=caches, clock=publishing.clock
    )
    done = await publishing.operator.add_user("ada")
    caches.record("web-1", done.version, lease=10)
    assert not (await propagation.wait(done.version, seconds=0)).effective


async def test_leaving_cache_ends_the_wait(written):
    written.caches.record("web-1", BEFORE, lease=10)
    waiting = asyncio.ensure_future(written.propagation.wait(written.done.version, seconds=20))
    await until(lambda: written.publisher.version == written.done.version, "it is published")
    written.caches.remove("web-1")
    async with asyncio.timeout(5):
        assert (await waiting).effective
