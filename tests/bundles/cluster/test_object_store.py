"""Objects that are replaced as a whole, in a directory and in a real S3."""

import asyncio
import hashlib
import random
import subprocess
import sys

import obstore
import pytest

from bundles.cluster.object_store import ANY, ObjectChangedError, ObjectStore
from bundles.exceptions import LocationInvalidError, ObjectStoreUnavailableError
from bundles.publish.signing import CONTENT_TYPE

pytestmark = pytest.mark.anyio

WRITES = """
import asyncio, hashlib, sys
from bundles.cluster.object_store import ANY, ObjectStore

async def write():
    store, n = ObjectStore(sys.argv[1]), 0
    while True:
        n += 1
        body = str(n).encode() * 1_000_000
        await store.put("live.tar.gz", hashlib.sha256(body).digest() + body, replaces=ANY)
        print(n, flush=True)

asyncio.run(write())
"""


async def test_object_is_read_listed_and_not_read_again_when_unchanged(object_store):
    etag = await object_store.put("live.tar.gz", b"one", replaces="")

    found = await object_store.get("live.tar.gz")

    assert (found.content, found.etag) == (b"one", etag)
    assert await object_store.get("live.tar.gz", unless=etag) is None
    assert await object_store.get("heartbeat.tar.gz") is None
    assert await object_store.etags() == {"live.tar.gz": etag}


async def test_object_is_replaced_only_while_its_etag_is_known(object_store):
    first = await object_store.put("live.tar.gz", b"one", replaces="")
    with pytest.raises(ObjectChangedError):
        await object_store.put("live.tar.gz", b"zero", replaces="")
    second = await object_store.put("live.tar.gz", b"twoo", replaces=first)

    with pytest.raises(ObjectChangedError):
        await object_store.put("live.tar.gz", b"late", replaces=first)

    assert (await object_store.get("live.tar.gz")).content == b"twoo"
    await object_store.put("live.tar.gz", b"three", replaces=ANY)
    assert second not in (await object_store.etags()).values()


async def test_s3_serves_a_bundle_with_its_type_and_no_caching(object_store):
    if not object_store.conditional:
        return  # a directory has no attributes
    await object_store.put("live.tar.gz", b"one", replaces="")
    stored = await obstore.get_async(object_store._store, "bundles/live.tar.gz")
    assert stored.attributes["Content-Type"] == CONTENT_TYPE
    assert stored.attributes["Cache-Control"] == "max-age=1, must-revalidate"


async def test_writer_that_is_killed_leaves_a_whole_object(object_store, artefacts_url):
    for _ in range(4):
        writer = subprocess.Popen(  # noqa: ASYNC220 - it is killed, and waited for
            [sys.executable, "-c", WRITES, artefacts_url], stdout=subprocess.PIPE
        )
        writer.stdout.readline()
        await asyncio.sleep(random.uniform(0, 0.05))
        writer.kill()
        writer.wait()
        writer.stdout.close()
        content = (await object_store.get("live.tar.gz")).content
        assert content[:32] == hashlib.sha256(content[32:]).digest()


async def test_half_written_object_is_not_listed_and_is_swept(directory):
    object_store, folder = directory
    await object_store.put("live.tar.gz", b"one", replaces="")
    (folder / "live.tar.gz#1").write_bytes(b"ha")
    (folder / "notes#1x").write_bytes(b"unrelated")

    assert (await object_store.etags()).keys() >= {"live.tar.gz"}
    assert "live.tar.gz#1" not in await object_store.etags()
    object_store.sweep()
    assert sorted(file.name for file in folder.iterdir()) == ["live.tar.gz", "notes#1x"]


@pytest.mark.parametrize("what", ["a folder in the way", "no server listens"])
async def test_unwritable_store_is_an_outage_that_names_only_the_key(what, directory, monkeypatch):
    object_store, folder = directory
    if what == "no server listens":
        for name, value in {
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_REGION": "x",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        object_store = ObjectStore("s3://bucket/prefix", timeout=2)
    else:
        (folder / "live.tar.gz" / "x").mkdir(parents=True)
    with pytest.raises(ObjectStoreUnavailableError) as outage:
        await object_store.put("live.tar.gz", b"one", replaces=ANY)
    assert outage.value.code == "artefacts_unavailable"
    assert str(outage.value).startswith("live.tar.gz: ")
    assert "hunter2" not in str(outage.value)
    assert "127.0.0.1" not in str(outage.value)


async def test_bucket_with_unconditional_writes_is_an_outage(monkeypatch):
    for name, value in {
        "AWS_CONDITIONAL_PUT": "disabled", "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    object_store = ObjectStore("s3://bucket/prefix")
    # What obstore raises for what a store is set not to do: it has no error of its own for that.
    for replaces in ("", '"an-etag"'):
        with pytest.raises(ObjectStoreUnavailableError, match="live: NotImplementedError"):
            await object_store.put("live", b"x", replaces=replaces)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "http://x/y",
        "file://host/x",
        "s3://",
        "s3://u:hunter2@bucket",
        "file:///proc/no",
    ],
)
def test_invalid_location_is_refused_unquoted(url):
    with pytest.raises(LocationInvalidError) as invalid:
        ObjectStore(url)
    assert "hunter2" not in str(invalid.value)
