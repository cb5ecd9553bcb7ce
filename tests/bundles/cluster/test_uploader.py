"""What is published gets into the store: at once, in order, and from the lease's holder alone."""

import asyncio

import pytest
from support.waiting import until

from bundles.cluster.index import decode_index
from bundles.cluster.object_store import ANY, ObjectStore
from bundles.cluster.uploader import StoreUploader
from bundles.exceptions import LeaseLostError, ObjectStoreUnavailableError, RedisUnavailableError
from bundles.publish.signing import Bundle

pytestmark = pytest.mark.anyio


class Holder:
    """A holder whose lease ends when the test says so."""

    def __init__(self, fence):
        self.fence = fence
        self.held = True

    def check(self):
        if not self.held:
            raise LeaseLostError("over")


class Watched(ObjectStore):
    """Remembers the order of writes, and can be made to fail or to stop before one."""

    def __init__(self, url):
        super().__init__(url)
        self.written = []
        self.failing = set()
        self.stops_at = None
        self.stopped, self.go_on = asyncio.Event(), asyncio.Event()

    async def put(self, name, content, **kwargs):
        if name in self.failing:
            raise ObjectStoreUnavailableError(f"{name}: as the test wants it")
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
    """Start an uploader, and end it with the test."""
    running = []

    def start(*args, **kwargs):
        uploader = StoreUploader(*args, **{"repair_every": 0.05, **kwargs})
        uploader.running = asyncio.ensure_future(uploader.run())
        running.append(uploader.running)
        return uploader

    yield start
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def index_of(object_store):
    found = await object_store.get("index.json")
    return found and decode_index(found.content)


async def written(uploader, object_store, *given):
    """Wait until these are in the store, and in its index."""
    wanted = {bundle.name: bundle.etag for bundle in given}

    async def there():
        index = await index_of(object_store)
        listed = {name: entry.sha256 for name, entry in index.bundles.items()} if index else {}
        return not uploader.waiting and wanted.items() <= listed.items()

    await until(there, f"{sorted(wanted)} are written; {uploader.error}")
    for bundle in given:
        assert (await object_store.get(f"{bundle.name}.tar.gz")).content == bundle.content


async def test_uploader_writes_bundles_in_the_order_readers_need(watched, bundles, mirror_of):
    given = [
        bundles.policy("p-1"),
        bundles.heartbeat(10, 5, policy=["p-1"]),
        bundles.live(5, since={"00": 3, "01": 4}),
        bundles.base("00", 3),
        bundles.base("01", 4),
    ]
    uploader = mirror_of(watched, Holder(1))
    for bundle in given:
        uploader.enqueue(bundle)

    await written(uploader, watched, *given)

    first = [name for name in dict.fromkeys(watched.written) if name != "index.json"]
    assert sorted(first[:2]) == ["base-00", "base-01"]
    assert first[2:] == ["live", "heartbeat", "policy"]
    assert watched.written[0] == "index.json"


async def test_revocation_does_not_wait_for_an_unneeded_base(watched, bundles, mirror_of):
    uploader = mirror_of(watched)
    for bundle in (start := [bundles.base("00", 1), bundles.live(5)]):
        uploader.enqueue(bundle)
    await written(uploader, watched, *start)
    watched.stops_at = "base-00.tar.gz"
    uploader.enqueue(bundles.base("00", 6))
    await watched.stopped.wait()

    uploader.enqueue(revoked := bundles.live(7))

    async def there():
        return (await watched.get("live.tar.gz")).content == revoked.content

    await until(there, "live is written")
    await until(lambda: uploader.waiting.keys() == {"base-00"}, "only the base waits")
    uploader.enqueue(needing := bundles.live(8, since={"00": 6}))
    uploader.enqueue(demanding := bundles.heartbeat(9, 8))
    await asyncio.sleep(0)
    watched.go_on.set()
    await written(uploader, watched, needing, demanding)
    assert watched.written.index("base-00", 3) < len(watched.written) - 1


async def test_uploader_writes_only_the_newest_and_never_blocks(watched, bundles, mirror_of):
    uploader = mirror_of(watched)
    for bundle in (bundles.base("00", 1), bundles.live(2)):
        uploader.enqueue(bundle)
    watched.stops_at = "live.tar.gz"
    await watched.stopped.wait()

    for revision in range(3, 200):
        uploader.enqueue(newest := bundles.live(revision))
    watched.go_on.set()
    await written(uploader, watched, newest)
    assert watched.written.count("live") == 2


async def test_uploader_retries_a_failing_store_and_reports_the_delay(watched, bundles, mirror_of):
    watched.failing = {"live.tar.gz"}
    uploader = mirror_of(watched)
    for bundle in (given := [bundles.base("00", 1), bundles.live(2)]):
        uploader.enqueue(bundle)
    await until(lambda: uploader.error, "it says so")
    assert uploader.error == "live.tar.gz: as the test wants it"
    await until(lambda: uploader.waiting.get("live", 0) > 0.2, "it says how long")

    watched.failing = set()
    await written(uploader, watched, *given)
    assert not uploader.error


async def test_uploader_does_not_rewrite_unchanged_bundles(watched, bundles, mirror_of):
    given = [bundles.base("00", 1), bundles.live(2), bundles.heartbeat(3, 2)]
    first = mirror_of(watched, Holder(1))
    for bundle in given:
        first.enqueue(bundle)
    await written(first, watched, *given)
    first.running.cancel()
    watched.written = []

    second = mirror_of(watched, Holder(2))
    for bundle in given:
        second.enqueue(bundle)
    await until(lambda: not second.waiting, "everything is there")

    assert set(watched.written) == {"index.json"}
    assert (await index_of(watched)).fence == 2


async def test_write_that_a_former_holder_had_begun_is_refused(watched, bundles, mirror_of):
    zombie = mirror_of(watched, Holder(1))
    for bundle in (given := [bundles.base("00", 1), bundles.live(2)]):
        zombie.enqueue(bundle)
    await written(zombie, watched, *given)
    watched.stops_at = "live.tar.gz"
    zombie.enqueue(bundles.live(3))
    await watched.stopped.wait()  # past its last check of the lease

    other = Watched(watched_url(watched))
    after = mirror_of(other, Holder(2))
    for bundle in (newer := [given[0], bundles.live(4)]):
        after.enqueue(bundle)
    await written(after, other, *newer)
    watched.go_on.set()

    with pytest.raises(LeaseLostError):
        await asyncio.wait_for(zombie.running, 10)
    await written(after, other, *newer)


def watched_url(watched):
    """The URL of a store that is open."""
    if watched._folder:
        return watched._folder.as_uri()
    return f"s3://artefacts/{watched._store.prefix}"


async def test_late_write_that_no_store_could_refuse_is_written_over(watched, bundles, mirror_of):
    uploader = mirror_of(watched, Holder(2))
    for bundle in (given := [bundles.base("00", 1), bundles.live(4)]):
        uploader.enqueue(bundle)
    await written(uploader, watched, *given)

    await ObjectStore(watched_url(watched)).put(
        "live.tar.gz", bundles.live(3).content, replaces=ANY
    )
    await ObjectStore(watched_url(watched)).put("index.json", b"garbage", replaces=ANY)

    async def repaired():
        return (await watched.get("live.tar.gz")).content == given[1].content

    await until(repaired, "the holder's own is there again")
    await written(uploader, watched, *given)
    uploader.enqueue(later := bundles.live(5))
    await written(uploader, watched, later)


async def test_uploader_refuses_a_store_of_a_later_holder(watched, bundles, mirror_of):
    later = mirror_of(watched, Holder(5))
    await until(lambda: index_of(watched), "the store is taken over")

    earlier = mirror_of(watched, Holder(4))
    earlier.enqueue(bundles.base("00", 1))

    with pytest.raises(LeaseLostError):
        await asyncio.wait_for(earlier.running, 10)
    assert set(watched.written) == {"index.json"}
    assert not later.running.done()


async def test_uploader_writes_nothing_after_the_lease_ends(watched, bundles, mirror_of):
    holder = Holder(1)
    uploader = mirror_of(watched, holder)
    await until(lambda: index_of(watched), "the store is taken over")
    holder.held = False
    uploader.enqueue(bundles.base("00", 1))
    with pytest.raises(LeaseLostError):
        await asyncio.wait_for(uploader.running, 10)
    assert set(watched.written) == {"index.json"}


async def test_redis_gone_does_not_keep_anything_from_the_store(watched, bundles, mirror_of):
    async def announce(_):
        raise RedisUnavailableError("gone")

    uploader = mirror_of(watched, Holder(1), announce=announce)
    for bundle in (given := [bundles.base("00", 1), bundles.live(2)]):
        uploader.enqueue(bundle)
    await written(uploader, watched, *given)


async def test_uploader_invalid_bundle_is_reported_and_stops_no_other(
    watched, bundles, mirror_of, caplog
):
    uploader = mirror_of(watched)
    uploader.enqueue(Bundle("live", "1:1", '"x"', bundles.policy("p").content))
    uploader.enqueue(base := bundles.base("00", 1))

    async def there():
        return await watched.get("base-00.tar.gz")

    assert (await until(there, "the base is there")).content == base.content
    assert "store.upload_failed code=artefact_refused error=live: incomplete" in caplog.text
    uploader.enqueue(live := bundles.live(2))
    await written(uploader, watched, live)
