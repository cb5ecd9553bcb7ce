"""What MCP servers share is still there when `lictor serve` is back, and has its limits."""

import asyncio
from contextlib import aclosing

import pytest
from support.clock import ManualClock

from bundles.exceptions import StoreUnusableError
from lictor.shared.store import SharedStateStore

pytestmark = pytest.mark.anyio

A, B = "a" * 64, "b" * 64


@pytest.fixture
def clock():
    return ManualClock(1_790_000_000.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shared.db"


@pytest.fixture
def opened(path, clock):
    """The store as another process opens it."""
    return lambda **changes: aclosing(SharedStateStore(path, clock=clock, **changes))


async def test_first_expiry_outlives_the_process(opened, path):
    async with opened() as store:
        assert await store.first_exp(A, exp=10.5, remember=60) == 10.5
    assert path.stat().st_mode & 0o777 == 0o600
    async with opened() as store:
        assert await store.first_exp(A, exp=99.0, remember=60) == 10.5


async def test_first_expiry_is_forgotten_when_its_time_is_over(opened, clock):
    async with opened() as store:
        await store.first_exp(A, exp=10.5, remember=60)
        clock.now += 59
        assert await store.first_exp(A, exp=99.0, remember=600) == 10.5
        clock.now += 1
        assert await store.first_exp(A, exp=99.0, remember=60) == 99.0


async def test_concurrent_first_uses_get_the_same_expiry(opened):
    async with opened() as store, opened() as other:
        both = [one.first_exp(A, exp=n, remember=60) for n in range(20) for one in (store, other)]
        assert len(set(await asyncio.gather(*both))) == 1


async def test_jtis_beyond_the_limit_go_those_that_end_first(opened, clock):
    async with opened(most_rows=2) as store:
        for number, jti in enumerate([A, B, "c" * 64]):
            await store.first_exp(jti, exp=number, remember=600 + number)
        clock.now += 61
        await store.first_exp(B, exp=50, remember=60)
        assert await store.first_exp("c" * 64, exp=50, remember=60) == 2
        assert await store.first_exp(A, exp=50, remember=60) == 50, "it was forgotten early"


async def test_uses_outlive_the_process_and_are_taken_once(opened):
    async with opened() as store:
        await store.add_uses("b1", {A: (2, 10.0), B: (1, 5.0)})
        await store.add_uses("b2", {A: (1, 7.0)})
    async with opened() as store:
        await store.add_uses("b2", {A: (1, 7.0)})  # sent once more
        first = await store.take_uses(most=1)
        assert first == {A: (3, 10.0)}
    async with opened() as store:
        assert await store.take_uses() == {B: (1, 5.0)}
        assert await store.take_uses() == {}


async def test_uses_of_too_many_tokens_are_refused_whole(opened):
    async with opened(most_rows=2) as store:
        await store.add_uses("b1", {A: (1, 1.0)})
        with pytest.raises(StoreUnusableError, match="too many"):
            await store.add_uses("b2", {B: (1, 1.0), "c" * 64: (1, 1.0)})
        assert await store.take_uses() == {A: (1, 1.0)}
        await store.add_uses("b2", {B: (1, 1.0)})
        assert await store.take_uses() == {B: (1, 1.0)}, "the batch that was refused does not count"


async def test_caches_of_an_earlier_process_are_remembered(opened, clock):
    async with opened() as store:
        assert not await store.may_have_caches()
        await store.note("caching")
    async with opened() as store:
        assert await store.may_have_caches()
        clock.now -= 100
        assert await store.may_have_caches(), "a clock that was set back proves nothing"
        clock.now += 4000
        assert not await store.may_have_caches()


async def test_damaged_file_is_an_error_that_says_what_to_do(opened, path):
    path.write_bytes(b"no database" * 1000)
    async with opened() as store:
        with pytest.raises(StoreUnusableError, match="remove it"):
            await store.first_exp(A, exp=1, remember=1)
        assert await store.may_have_caches(), "it is not known"
    path.unlink()
    async with opened() as store:
        assert await store.first_exp(A, exp=1, remember=1) == 1
