"""Several servers, each a process: one publishes, all serve, and any of them may die."""

import asyncio
import time

import pytest
from support.publisher_process import Process
from support.waiting import until

from bundles.cluster.fencing import FencedBundles
from bundles.cluster.index import decode_index
from bundles.cluster.leader_loop import adopt
from bundles.cluster.lease import LeaseTerm
from bundles.cluster.object_store import ObjectStore
from bundles.exceptions import LeaseLostError
from bundles.fleet.tracker import version_of
from bundles.publish.store import Published, Store
from bundles.serve.served_bundles import ServedBundles
from registry import open_registry
from registry.operations import Operator

pytestmark = pytest.mark.anyio

TTL = 2.0
ONE_STORE = pytest.mark.parametrize("artefacts_url", ["directory"], indirect=True)
"""For what has nothing to do with the store."""


class Servers:
    """Two servers on one registry, one Redis and one store."""

    def __init__(self, folder, redis, url, namespace):
        self.redis = redis
        self.object_store = ObjectStore(url)
        registry = f"sqlite:///{folder / 'registry.db'}"
        self._registry = registry
        self.all = [
            Process(
                name, registry=registry, redis=redis.url, artefacts=url, namespace=namespace,
                keys=str(folder / "keys"), state=str(folder), ttl=TTL,
            )
            for name in ("a", "b")
        ]  # fmt: skip

    async def open(self):
        self.registry = await open_registry(self._registry)
        self.operator = Operator(self.registry, actor="tests")
        await self.operator.add_user("ada")
        for server in self.all:
            server.start()
        holder = await until(self.holder, "one of them publishes")
        await self.everywhere()
        return holder, next(one for one in self.all if one is not holder)

    def holder(self):
        return next((one for one in self.all if one.fence), None)

    async def change(self):
        """Write the registry; returns the state that it has then."""
        n = int(time.monotonic() * 1000)
        await self.operator.add_user(f"user-{n}")
        version = await self.registry.version()
        return f"{version.epoch}:{version.revision}"

    async def everywhere(self, *, servers=None):
        """Wait until what the registry holds is in the store, and served."""
        version = await self.registry.version()
        revision = f"{version.epoch}:{version.revision}"
        for server in servers or self.all:
            await until(lambda s=server: revision in s.served("live"), f"{server.name}: {revision}")

        async def there():
            index = await self.index()
            return index and "live" in index.bundles and index.bundles["live"].revision == revision

        await until(there, f"the store has {revision}")

    async def index(self):
        found = await self.object_store.get("index.json")
        return found and decode_index(found.content)

    def check_nobody_went_back(self):
        for server in self.all:
            versions = [version_of(revision) for revision in server.served("live")]
            assert versions == sorted(versions)


@pytest.fixture
async def servers(tmp_path, server, artefacts_url, namespace, bundle_keys):
    (tmp_path / "keys").mkdir()
    for key in bundle_keys.values():
        key.save(tmp_path / "keys")
    servers = Servers(tmp_path, server, artefacts_url, namespace)
    yield servers
    for one in servers.all:
        one.kill()
    await servers.registry.aclose()


async def test_follower_serves_what_the_leader_publishes_within_a_second(servers):
    holder, other = await servers.open()

    for _ in range(3):
        revision = await servers.change()
        await until(lambda r=revision: r in holder.served("live"), "it is published")
        published_at = time.monotonic()
        await until(lambda r=revision: r in other.served("live"), "it is served")
        assert time.monotonic() - published_at < 1

    assert not other.published()
    assert {fence for _, _, fence in holder.published()} == {holder.fence}


async def test_second_server_continues_after_the_leader_is_killed(servers):
    holder, other = await servers.open()
    fence, before = holder.fence, await servers.index()

    holder.kill()
    killed_at = time.monotonic()
    await until(lambda: other.fence, "the other has the lease")
    assert time.monotonic() - killed_at < 2 * TTL
    assert other.fence > fence
    await servers.change()
    await servers.everywhere(servers=[other])

    after = await servers.index()
    assert after.fence == other.fence
    assert after.bundles["base-00"] == before.bundles["base-00"]  # not written anew
    servers.check_nobody_went_back()


async def test_leader_frozen_past_its_lease_publishes_nothing_on_thaw(servers):
    zombie, other = await servers.open()
    fence = zombie.fence
    zombie.freeze()
    await until(lambda: other.fence, "the other has the lease")
    await servers.change()
    await servers.everywhere(servers=[other])
    had_published = len(zombie.published())

    zombie.thaw()

    # It finds out, follows, and serves what the other has published.
    await servers.change()
    await servers.everywhere()
    assert zombie.fence == 0
    assert all(one[2] > fence for one in zombie.published()[had_published:])
    assert not zombie.published()[had_published:]
    assert (await servers.index()).fence == other.fence > fence
    servers.check_nobody_went_back()


@ONE_STORE
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_leader_without_redis_stops_with_its_lease_and_resumes_later(servers, how):
    servers.redis.must_be_ours()
    holder, _ = await servers.open()
    fence = holder.fence

    servers.redis.kill() if how == "killed" else servers.redis.freeze()
    gone_at = time.monotonic()
    await until(lambda: not servers.holder(), "no server publishes")
    assert time.monotonic() - gone_at < TTL + 1
    published = [len(one.published()) for one in servers.all]
    revision = await servers.change()
    await asyncio.sleep(TTL)  # a negative: no server takes it up in all that time
    assert published == [len(one.published()) for one in servers.all]

    servers.redis.start() if how == "killed" else servers.redis.thaw()

    await servers.everywhere()
    assert servers.holder().fence > fence
    assert (await servers.index()).bundles["live"].revision == revision
    servers.check_nobody_went_back()


@ONE_STORE
async def test_leader_that_ends_hands_over_its_lease_at_once(servers):
    holder, other = await servers.open()
    holder.stop()
    stopped_at = time.monotonic()
    await until(lambda: other.fence, "the other has the lease")
    assert time.monotonic() - stopped_at < TTL


# What a publisher goes on from


def served(*bundles):
    served_bundles = ServedBundles()
    for bundle in bundles:
        served_bundles.put(bundle)
    return served_bundles


def indexed(served_bundles, *, at=0.0):
    from bundles.cluster.index import Index

    index = Index()
    for name in served_bundles.names():
        index = index.with_bundle(served_bundles.get(name), "etag", at=at)
    return index


def test_publisher_adopts_what_the_last_one_published(tmp_path, bundles):
    store = Store(tmp_path)
    store.save(bundles.base("00", 2))
    store.save(bundles.live(3))
    store.save_published(Published(1, {"00": 2}, {"00": 2}))
    base, live = bundles.base("00", 7), bundles.live(9, since={"00": 6})
    served_bundles = served(base, live, bundles.heartbeat(10, 9))

    assert adopt(served_bundles, store, indexed(served_bundles))

    assert store.load("base-00") == base
    assert store.load("live") == live
    published = store.published()
    assert (published.epoch, published.since, published.bases) == (1, {"00": 6}, {"00": 7})


def test_newer_store_or_incomplete_catalogue_is_not_adopted(tmp_path, bundles):
    store = Store(tmp_path)
    store.save(mine := bundles.live(30))
    older = served(bundles.base("00", 7), bundles.live(9, since={"00": 6}))
    assert not adopt(older, store, indexed(older))
    part = served(bundles.base("00", 7), bundles.live(40, since={"00": 6, "01": 6}))
    assert not adopt(part, store, indexed(part))
    assert store.load("live") == mine


@pytest.mark.parametrize("built", ["before", "since"])
def test_policy_built_here_since_is_kept(tmp_path, bundles, built):
    store = Store(tmp_path)
    store.save(mine := bundles.policy("mine"))
    served_bundles = served(theirs := bundles.policy("theirs"))
    at = time.time() + (3600 if built == "before" else -3600)
    adopt(served_bundles, store, indexed(served_bundles, at=at))
    assert store.load("policy").revision == (theirs if built == "before" else mine).revision


def test_fenced_bundles_after_the_term_refuse_bundles(bundles):
    under, reported, now = ServedBundles(), [], [0.0]
    term = LeaseTerm(1, owner="x", until=1.0, clock=lambda: now[0])
    fenced = FencedBundles(under, term, on_put=reported.append)
    fenced.put(first := bundles.live(1))
    now[0] = 1.0
    with pytest.raises(LeaseLostError):
        fenced.put(bundles.live(2))
    assert under.get("live") == fenced.get("live") == first
    assert reported == [first]
