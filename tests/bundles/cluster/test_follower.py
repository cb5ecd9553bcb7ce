"""A server without the lease serves what lies in the store: whole, signed, and never older."""

import asyncio
import gzip
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support.waiting import until

from bundles.cluster.follower import Follower
from bundles.cluster.index import NAME, Index, decode_index
from bundles.cluster.object_store import ANY
from bundles.cluster.uploader import StoreUploader
from bundles.exceptions import ObjectStoreUnavailableError
from bundles.publish.signing import Bundle, SigningKey, etag_of, sign
from bundles.serve.served_bundles import ServedBundles

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0


@pytest.fixture
async def follow(object_store, verifier):
    """A follower of the store, and what it serves; it syncs when the test says so."""
    served_bundles = ServedBundles()
    follower = Follower(object_store, served_bundles, verifier=verifier, clock=lambda: NOW)
    follower.serves = lambda bundle: (
        served_bundles.get(bundle.name) and served_bundles.get(bundle.name).etag == bundle.etag
    )
    follower.served_bundles = served_bundles
    return follower


@pytest.fixture
async def publish(object_store):
    """Have a holder write bundles."""
    uploader = StoreUploader(object_store, repair_every=3600)
    running = asyncio.ensure_future(uploader.run())

    async def publish(*given):
        for bundle in given:
            uploader.enqueue(bundle)
        await until(lambda: not uploader.waiting, "all bundles are written")

        async def listed():
            # The stored index: the uploader's own is ahead of it while it is being written.
            found = await object_store.get(NAME)
            listed = (found and decode_index(found.content)) or Index()
            return all(
                bundle.name in listed.bundles and listed.bundles[bundle.name].sha256 == bundle.etag
                for bundle in given
            )

        await until(listed, "the stored index lists them")

    publish.uploader = uploader
    yield publish
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def start(bundles):
    return [bundles.base("00", 1), bundles.live(5), bundles.heartbeat(NOW, 5)]


async def lay(object_store, bundle, content=None):
    """Put something where a bundle belongs, past the holder."""
    await object_store.put(f"{bundle.name}.tar.gz", content or bundle.content, replaces=ANY)


async def test_follower_serves_published_then_newer_bundles(follow, publish, bundles, start):
    await publish(*start)
    await follow.sync()
    assert all(follow.serves(bundle) for bundle in start)
    assert (follow.synced_at, follow.error, follow.refused) == (NOW, "", {})

    await publish(newer := bundles.live(6), later := bundles.heartbeat(NOW + 4, 6))
    await follow.sync()

    assert follow.serves(newer)
    assert follow.serves(later)


async def test_follower_syncs_within_a_second_without_a_message(
    object_store, verifier, publish, bundles, start
):
    served_bundles = ServedBundles()
    running = asyncio.ensure_future(Follower(object_store, served_bundles, verifier=verifier).run())
    await publish(*start)
    await until(lambda: len(served_bundles.names()) == 3, "it has started")

    await publish(newer := bundles.live(6))
    began = time.monotonic()
    await served_bundles.changed("live", frozenset([start[1].etag]), seconds=20)

    assert served_bundles.get("live").etag == newer.etag
    assert time.monotonic() - began < 1.9  # a second, and a slow machine
    running.cancel()


async def test_follower_syncs_at_once_on_request(object_store, verifier, publish, bundles, start):
    served_bundles = ServedBundles()
    follower = Follower(object_store, served_bundles, verifier=verifier, sync_every=3600)
    running = asyncio.ensure_future(follower.run())
    await publish(*start)

    follower.request_sync()

    await until(lambda: len(served_bundles.names()) == 3, "it has synced")
    running.cancel()


@pytest.mark.parametrize("what", ["cut off", "garbage", "empty", "trailing", "wrong key", "name",
                                  "changed", "no signature", "policy key"])  # fmt: skip
async def test_follower_invalid_bundle_is_not_served_and_is_named(
    what, follow, publish, bundles, start
):
    await publish(*start)
    await follow.sync()
    newer, object_store = bundles.live(6), follow._object_store
    plain = gzip.decompress(newer.content)
    same = {"revision": "1:6", "roots": ["registry/live"], "data": {}}
    content = {
        "cut off": newer.content[:-20],
        "garbage": b"garbage",
        "empty": b"",
        "trailing": newer.content + b"x",
        "wrong key": sign("live", key=SigningKey.generate("data"), **same).content,
        "name": bundles.base("00", 6).content,
        "changed": gzip.compress(plain.replace(b'"00":1', b'"00":2')),
        "no signature": gzip.compress(plain.replace(b".signatures.json", b".signatures.jsoX")),
        "policy key": sign("live", key=bundles.keys["policy"], **same).content,
    }[what]
    assert content != newer.content

    await publish(Bundle("heartbeat", "x", start[2].etag, start[2].content), newer)
    await object_store.put("live.tar.gz", content, replaces=ANY)
    await follow.sync()

    assert follow.serves(start[1])
    assert follow.refused["live"].startswith("live: ")
    # It stays refused until another one lies there.
    await follow.sync()
    await lay(object_store, newer)
    await follow.sync()
    assert follow.serves(newer)
    assert follow.refused == {}


async def test_older_bundle_is_not_served_again(follow, publish, object_store, bundles, start):
    first = bundles.live(4)
    await publish(*start)
    await publish(bundles.live(6), bundles.heartbeat(NOW + 1, 6))
    await follow.sync()
    held = {name: follow.served_bundles.get(name).etag for name in follow.served_bundles.names()}

    # A holder that was put back, whose index and bundles are all older.
    await publish(first, bundles.heartbeat(NOW - 60, 4))
    await publish(bundles.base("00", 0))  # apart: with it, `live` would wait for a later base
    await follow.sync()

    assert held == {
        name: follow.served_bundles.get(name).etag for name in follow.served_bundles.names()
    }
    assert follow.refused["live"] == "live: older than what is served"
    assert follow.refused["heartbeat"] == "heartbeat: older than what is served"


async def test_bundle_with_the_etag_of_the_one_before_is_served(
    follow, publish, object_store, bundles, start
):
    """A directory's ETags are coarse: two writes within a tick of the clock may share one."""
    get = object_store.get

    async def coarse(name, *, unless=""):
        if unless == "same":
            return None
        found = await get(name)
        return found and replace(found, etag="same")

    follow._object_store = SimpleNamespace(get=coarse, conditional=False)
    await publish(*start)
    await follow.sync()
    later = [bundles.live(6), bundles.heartbeat(NOW + 1, 6)]
    await publish(*later)
    await follow.sync()
    assert all(follow.serves(bundle) for bundle in later)


async def test_follower_next_epoch_is_newer_despite_lower_revision(follow, publish, bundles, start):
    await publish(*start)
    await follow.sync()
    anew = [bundles.base("00", 2, epoch=2), bundles.live(2, epoch=2),
            bundles.heartbeat(NOW + 1, 2, epoch=2)]  # fmt: skip
    await publish(*anew)
    await follow.sync()
    assert all(follow.serves(bundle) for bundle in anew)


async def test_heartbeat_from_the_future_does_not_bar_the_way(follow, publish, bundles, start):
    await publish(*start[:2], bundles.heartbeat(NOW + 3600, 5))
    await follow.sync()
    await publish(now := bundles.heartbeat(NOW, 5))
    await follow.sync()
    assert follow.serves(now)


async def test_follower_bundle_waits_until_its_dependencies_are_served(
    follow, publish, object_store, bundles, start
):
    await publish(*start)
    await follow.sync()
    base, live = bundles.base("00", 6), bundles.live(7, since={"00": 6})
    demanding = bundles.heartbeat(NOW + 1, 7, policy=["p-2"])
    await publish(base, live, demanding, policy := bundles.policy("p-2"))
    await lay(object_store, base, start[0].content)

    await follow.sync()

    assert follow.serves(start[0])
    assert follow.serves(start[1])
    assert follow.serves(start[2])
    assert follow.refused == {
        "live": "live: waits for another base-00",
        "heartbeat": "heartbeat: waits for another live",
        "policy": "policy: waits for another heartbeat",
    }
    await lay(object_store, base)
    await follow.sync()
    assert all(follow.serves(bundle) for bundle in (base, live, demanding, policy))


async def test_follower_malformed_index_changes_nothing(
    follow, publish, object_store, bundles, start
):
    await publish(*start)
    await follow.sync()
    for garbage in (b"", b"{", b"[]", b'{"bundles":{},"fence":true,"sequence":0}', b"\xff"):
        await object_store.put("index.json", garbage, replaces=ANY)
        await follow.sync()
        assert follow.refused["index.json"] == "index.json: no index"
        assert all(follow.serves(bundle) for bundle in start)


async def test_follower_store_outage_is_reported_and_bundles_stay_served(
    follow, publish, bundles, start, monkeypatch
):
    await publish(*start)
    await follow.sync()

    async def gone(*args, **kwargs):
        raise ObjectStoreUnavailableError("index.json: gone")

    with monkeypatch.context() as patch:
        patch.setattr(follow._object_store, "get", gone)
        with pytest.raises(ObjectStoreUnavailableError):
            await follow.sync()
    assert follow.error == "index.json: gone"
    assert all(follow.serves(bundle) for bundle in start)
    await follow.sync()
    assert not follow.error


async def test_products_own_policy_is_taken(verifier, policy_bundle):
    taken = verifier.bundle("policy", policy_bundle.content)
    assert taken == policy_bundle
    assert taken.etag == etag_of(policy_bundle.content)
