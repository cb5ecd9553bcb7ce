"""What is published gets into the store: at once, in order, and by nobody who may not."""

import asyncio

import pytest
from support.stack import until

from bundles.exceptions import ArtefactsUnavailable, LeaseLost, RedisUnavailable
from bundles.shared.artefacts import ANY, Artefacts
from bundles.shared.index import decoded
from bundles.shared.mirror import Mirror
from bundles.signing import Bundle

pytestmark = pytest.mark.anyio


class Holder:
    """A holder whose lease ends when the test says so."""

    def __init__(self, fence):
        self.fence = fence
        self.held = True

    def check(self):
        if not self.held:
            raise LeaseLost("over")


class Watched(Artefacts):
    """Remembers the order of writes, and can be made to fail or to stop before one."""

    def __init__(self, url):
        super().__init__(url)
        self.written = []
        self.failing = set()
        self.stops_at = None
        self.stopped, self.go_on = asyncio.Event(), asyncio.Event()

    async def put(self, name, content, **kwargs):
        if name in self.failing:
            raise ArtefactsUnavailable(f"{name}: as the test wants it")
        if name == self.stops_at:
            self.stopped.set()
            await self.go_on.wait()
        etag = await super().put(name, content, **kwargs)
        self.written.append(name.removesuffix(".tar.gz"))
        return etag


@pytest.fixture
def watched(artefacts_url):
    return Watched(artefacts_url)


@pytest.fixture
async def mirror_of():
    """Start a mirror, and end it with the test."""
    running = []

    def start(*args, **kwargs):
        mirror = Mirror(*args, **{"repair_every": 0.05, **kwargs})
        mirror.running = asyncio.ensure_future(mirror.run())
        running.append(mirror.running)
        return mirror

    yield start
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def index_of(artefacts):
    found = await artefacts.get("index.json")
    return found and decoded(found.content)


async def written(mirror, artefacts, *given):
    """Wait until these are in the store, and in its index."""
    wanted = {bundle.name: bundle.etag for bundle in given}

    async def there():
        index = await index_of(artefacts)
        listed = {name: entry.sha256 for name, entry in index.bundles.items()} if index else {}
        return not mirror.waiting and wanted.items() <= listed.items()

    await until(there, f"{sorted(wanted)} are written; {mirror.error}")
    for bundle in given:
        assert (await artefacts.get(f"{bundle.name}.tar.gz")).content == bundle.content


async def test_everything_gets_there_in_the_order_that_a_reader_needs(watched, bundles, mirror_of):
    given = [
        bundles.policy("p-1"),
        bundles.heartbeat(10, 5, policy=["p-1"]),
        bundles.live(5, since={"00": 3, "01": 4}),
        bundles.base("00", 3),
        bundles.base("01", 4),
    ]
    mirror = mirror_of(watched, Holder(1))
    for bundle in given:
        mirror.offer(bundle)

    await written(mirror, watched, *given)

    first = [name for name in dict.fromkeys(watched.written) if name != "index.json"]
    assert sorted(first[:2]) == ["base-00", "base-01"]
    assert first[2:] == ["live", "heartbeat", "policy"]
    assert watched.written[0] == "index.json"


async def test_a_revocation_does_not_wait_for_a_base_that_it_does_not_need(
    watched, bundles, mirror_of
):
    mirror = mirror_of(watched)
    for bundle in (start := [bundles.base("00", 1), bundles.live(5)]):
        mirror.offer(bundle)
    await written(mirror, watched, *start)
    watched.stops_at = "base-00.tar.gz"
    mirror.offer(bundles.base("00", 6))
    await watched.stopped.wait()

    mirror.offer(revoked := bundles.live(7))

    async def there():
        return (await watched.get("live.tar.gz")).content == revoked.content

    await until(there, "live is written")
    await until(lambda: mirror.waiting.keys() == {"base-00"}, "only the base waits")
    mirror.offer(needing := bundles.live(8, since={"00": 6}))
    mirror.offer(demanding := bundles.heartbeat(9, 8))
    await asyncio.sleep(0)
    watched.go_on.set()
    await written(mirror, watched, needing, demanding)
    assert watched.written.index("base-00", 3) < len(watched.written) - 1


async def test_only_the_newest_of_a_name_is_written_and_the_publisher_never_waits(
    watched, bundles, mirror_of
):
    mirror = mirror_of(watched)
    for bundle in (bundles.base("00", 1), bundles.live(2)):
        mirror.offer(bundle)
    watched.stops_at = "live.tar.gz"
    await watched.stopped.wait()

    for revision in range(3, 200):
        mirror.offer(newest := bundles.live(revision))
    watched.go_on.set()
    await written(mirror, watched, newest)
    assert watched.written.count("live") == 2


async def test_a_store_that_fails_is_tried_again_and_the_delay_can_be_seen(
    watched, bundles, mirror_of
):
    watched.failing = {"live.tar.gz"}
    mirror = mirror_of(watched)
    for bundle in (given := [bundles.base("00", 1), bundles.live(2)]):
        mirror.offer(bundle)
    await until(lambda: mirror.error, "it says so")
    assert mirror.error == "live.tar.gz: as the test wants it"
    await until(lambda: mirror.waiting.get("live", 0) > 0.2, "it says how long")

    watched.failing = set()
    await written(mirror, watched, *given)
    assert not mirror.error


async def test_what_lies_there_already_is_not_written_again(watched, bundles, mirror_of):
    given = [bundles.base("00", 1), bundles.live(2), bundles.heartbeat(3, 2)]
    first = mirror_of(watched, Holder(1))
    for bundle in given:
        first.offer(bundle)
    await written(first, watched, *given)
    first.running.cancel()
    watched.written = []

    second = mirror_of(watched, Holder(2))
    for bundle in given:
        second.offer(bundle)
    await until(lambda: not second.waiting, "everything is there")

    assert set(watched.written) == {"index.json"}
    assert (await index_of(watched)).fence == 2


async def test_a_write_that_a_former_holder_had_begun_is_refused(watched, bundles, mirror_of):
    zombie = mirror_of(watched, Holder(1))
    for bundle in (given := [bundles.base("00", 1), bundles.live(2)]):
        zombie.offer(bundle)
    await written(zombie, watched, *given)
    watched.stops_at = "live.tar.gz"
    zombie.offer(bundles.live(3))
    await watched.stopped.wait()  # past its last look at the lease

    other = Watched(watched_url(watched))
    after = mirror_of(other, Holder(2))
    for bundle in (newer := [given[0], bundles.live(4)]):
        after.offer(bundle)
    await written(after, other, *newer)
    watched.go_on.set()

    with pytest.raises(LeaseLost):
        await asyncio.wait_for(zombie.running, 10)
    await written(after, other, *newer)


def watched_url(watched):
    """The URL of a store that is open."""
    if watched._folder:
        return watched._folder.as_uri()
    return f"s3://artefacts/{watched._store.prefix}"


async def test_a_late_write_that_no_store_could_refuse_is_written_over(watched, bundles, mirror_of):
    mirror = mirror_of(watched, Holder(2))
    for bundle in (given := [bundles.base("00", 1), bundles.live(4)]):
        mirror.offer(bundle)
    await written(mirror, watched, *given)

    await Artefacts(watched_url(watched)).put("live.tar.gz", bundles.live(3).content, replaces=ANY)
    await Artefacts(watched_url(watched)).put("index.json", b"garbage", replaces=ANY)

    async def repaired():
        return (await watched.get("live.tar.gz")).content == given[1].content

    await until(repaired, "the holder's own is there again")
    await written(mirror, watched, *given)
    mirror.offer(later := bundles.live(5))
    await written(mirror, watched, later)


async def test_nobody_begins_where_a_later_holder_has_written(watched, bundles, mirror_of):
    later = mirror_of(watched, Holder(5))
    await until(lambda: index_of(watched), "the store is taken over")

    earlier = mirror_of(watched, Holder(4))
    earlier.offer(bundles.base("00", 1))

    with pytest.raises(LeaseLost):
        await asyncio.wait_for(earlier.running, 10)
    assert set(watched.written) == {"index.json"}
    assert not later.running.done()


async def test_nothing_is_written_once_the_lease_is_over(watched, bundles, mirror_of):
    holder = Holder(1)
    mirror = mirror_of(watched, holder)
    await until(lambda: index_of(watched), "the store is taken over")
    holder.held = False
    mirror.offer(bundles.base("00", 1))
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(mirror.running, 10)
    assert set(watched.written) == {"index.json"}


async def test_redis_gone_does_not_keep_anything_from_the_store(watched, bundles, mirror_of):
    async def announce(_):
        raise RedisUnavailable("gone")

    mirror = mirror_of(watched, Holder(1), announce=announce)
    for bundle in (given := [bundles.base("00", 1), bundles.live(2)]):
        mirror.offer(bundle)
    await written(mirror, watched, *given)


async def test_a_bundle_that_is_none_is_told_and_stops_no_other(
    watched, bundles, mirror_of, caplog
):
    mirror = mirror_of(watched)
    mirror.offer(Bundle("live", "1:1", '"x"', bundles.policy("p").content))
    mirror.offer(base := bundles.base("00", 1))

    async def there():
        return await watched.get("base-00.tar.gz")

    assert (await until(there, "the base is there")).content == base.content
    assert "mirror.failed code=artefact_refused error=live: incomplete" in caplog.text
    mirror.offer(live := bundles.live(2))
    await written(mirror, watched, live)
