"""One publisher at a time: the lease, its fence, and a Redis that dies, freezes or forgets."""

import asyncio
import time

import pytest
from support.clock import ManualClock
from support.waiting import until

from bundles.cluster.lease import Lease
from bundles.cluster.redis_connection import connect
from bundles.exceptions import LeaseLostError, LocationInvalidError, RedisUnavailableError

pytestmark = pytest.mark.anyio

TTL = 1.5


async def get(lease, **kwargs):
    """A term, once the lease can be had: a new Redis gives none for as long as one lasts."""
    return await until(lambda: lease.acquire(**kwargs), "the lease is given")


async def nothing_seen():
    return 0


async def test_lease_goes_to_one_of_two_and_the_next_fence_is_higher(new_lease):
    first, second = new_lease(ttl=0.6), new_lease(ttl=0.6)
    term = await get(first)

    assert await second.acquire() is None
    await first.release(term)
    assert not term.held

    later = await get(second)
    assert later.held
    assert later.fence > term.fence


async def test_lease_is_renewed_while_it_is_held(new_lease):
    first, second = new_lease(ttl=0.9), new_lease(ttl=0.9)

    async with first.term(floor=nothing_seen) as term:
        until_three_lives = time.monotonic() + 2.7
        while time.monotonic() < until_three_lives:
            assert term.held
            assert await second.acquire() is None
            await asyncio.sleep(0.05)


async def test_lease_of_a_frozen_holder_ends_by_its_own_clock_for_good(new_lease):
    clock = ManualClock()
    lease = new_lease(ttl=0.6, clock=clock)
    term = await get(lease)
    clock.now = 0.53
    assert term.held

    clock.now = 0.55  # before Redis lets it go, at 0.6

    assert not term.held
    with pytest.raises(LeaseLostError) as lost:
        term.check()
    assert lost.value.code == "lease_lost"
    term.extend(99)
    clock.now = 0
    assert not term.held


async def test_lease_granted_too_late_is_not_held(new_lease):
    clock = ManualClock()
    lease = new_lease(ttl=0.6, clock=clock)
    await get(lease)
    acquire = lease._acquire

    async def slow(**kwargs):
        answer = await acquire(**kwargs)
        clock.now += 1
        return answer

    lease._acquire = slow
    term = await lease.acquire()
    assert not term.held


async def test_lease_taken_by_another_ends_the_term_at_renewal(new_lease, server, namespace):
    lease = new_lease(ttl=0.9)
    async with lease.term(floor=nothing_seen) as term:
        with server.client() as client:
            client.set(f"{{{namespace}}}:lease", "somebody else")
        await asyncio.wait_for(term.lost(), 5)
        assert not term.held


async def test_fence_is_above_the_highest_that_was_seen_elsewhere(new_lease):
    first, second = new_lease(ttl=0.6), new_lease(ttl=0.6)
    term = await get(first, floor=41)
    assert term.fence == 42
    await first.release(term)
    assert (await get(second, floor=7)).fence == 43


async def test_lease_is_withheld_after_redis_lost_its_data(server, new_lease):
    server.must_be_ours()
    first, second = new_lease(ttl=TTL), new_lease(ttl=TTL)
    began = time.monotonic()
    term = await get(first)
    assert time.monotonic() - began >= TTL * 0.95  # it did not know whether it was the first

    server.kill()
    with pytest.raises(RedisUnavailableError):
        await first.renew(term)
    assert term.held  # until its time is over, and no other holder has it
    server.start()

    given = None
    while given is None:
        still = term.held
        given = await second.acquire(floor=term.fence)
        assert not (given and still)
        await asyncio.sleep(0.01)
    assert given.fence > term.fence


async def test_lease_of_a_frozen_redis_ends_in_time(server, new_lease):
    server.must_be_ours()
    lease = new_lease(ttl=TTL)
    async with lease.term(floor=nothing_seen) as term:
        began = time.monotonic()
        server.freeze()
        await asyncio.wait_for(term.lost(), TTL)
        assert time.monotonic() - began < TTL
        await until(lambda: lease.error, "the lease says why")
        assert "127.0.0.1" not in lease.error
        server.thaw()
    async with new_lease(ttl=TTL).term(floor=nothing_seen) as later:
        assert later.fence > term.fence


async def test_lease_is_acquired_once_redis_is_back(server, new_lease):
    server.must_be_ours()
    server.kill()
    lease = new_lease(ttl=0.9)

    async def wait():
        async with lease.term(floor=nothing_seen) as term:
            return term.fence

    waiting = asyncio.ensure_future(wait())
    await until(lambda: lease.error, "it cannot be acquired")
    assert not waiting.done()
    server.start()
    assert await asyncio.wait_for(waiting, 10) == 1


@pytest.mark.parametrize(
    "url",
    ["http://x", "nonsense", "", "redis://:hunter2@host:port/0", "redis://u:hunter2@[::1/0"],
)
def test_invalid_location_is_refused_unquoted(url):
    with pytest.raises(LocationInvalidError) as invalid:
        connect(url)
    assert invalid.value.code == "location_invalid"
    assert "hunter2" not in str(invalid.value)
    assert invalid.value.__cause__ is None


async def test_password_is_in_no_message(server):
    server.must_be_ours()
    server.kill()
    client = connect(server.url.replace("redis://", "redis://u:hunter2@"))
    with pytest.raises(RedisUnavailableError) as unavailable:
        await Lease(client).acquire()
    assert "hunter2" not in str(unavailable.value)
    await client.aclose()
