"""A real Redis, a real S3, a directory, and small signed bundles to move between them."""

import uuid

import pytest
from support.downloads import DownloadUnavailableError
from support.s3 import BUCKET, s3_server

from bundles.cluster.lease import Lease
from bundles.cluster.message_bus import MessageBus
from bundles.cluster.messages import bus_key
from bundles.cluster.object_store import ObjectStore
from bundles.cluster.redis_connection import connect
from bundles.cluster.verify import BundleVerifier
from bundles.publish.signing import sign


@pytest.fixture
def server(redis_process):
    return redis_process


@pytest.fixture
async def redis(server):
    """A client as the product makes it."""
    client = connect(server.url)
    yield client
    await client.aclose()


@pytest.fixture
def new_lease(redis, namespace):
    """Another process's lease, as Redis sees it."""
    return lambda **kwargs: Lease(redis, namespace=namespace, **{"ttl": 1.5, **kwargs})


@pytest.fixture
def new_bus(redis, namespace, bundle_keys):
    """Another process's end of the bus."""
    return lambda key=None: MessageBus(
        redis, key=key or bus_key(bundle_keys["data"]), namespace=namespace
    )


@pytest.fixture(scope="session")
def _s3():
    try:
        with s3_server() as variables:
            yield variables
    except DownloadUnavailableError as reason:
        # Without Go there is none to build; the same tests run against a directory.
        pytest.skip(str(reason))


@pytest.fixture(params=["directory", "s3"])
def artefacts_url(request, tmp_path, monkeypatch):
    """Where artefacts go, in each kind of store."""
    if request.param == "directory":
        return (tmp_path / "artefacts").as_uri()
    for name, value in request.getfixturevalue("_s3").items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def object_store(artefacts_url):
    return ObjectStore(artefacts_url)


@pytest.fixture
def directory(tmp_path):
    """A store in a directory, and that directory."""
    return ObjectStore((tmp_path / "artefacts").as_uri()), tmp_path / "artefacts" / "bundles"


@pytest.fixture
def verifier(bundle_keys):
    return BundleVerifier(
        policy_key=bundle_keys["policy"].public_pem, data_key=bundle_keys["data"].public_pem
    )


class Bundles:
    """Signed bundles with just what the order of things rests on."""

    def __init__(self, keys):
        self.keys = keys

    def base(self, shard, revision, *, epoch=1, **more):
        document = {"epoch": epoch, "revision": revision, **more}
        return self._sign(f"base-{shard}", f"{epoch}:{revision}", document)

    def live(self, revision, *, epoch=1, since=None, **more):
        document = {"epoch": epoch, "revision": revision, "since": since or {"00": 1}, **more}
        return self._sign("live", f"{epoch}:{revision}", document)

    def heartbeat(self, synced_at, revision=0, *, epoch=1, policy=(), site=()):
        document = {
            "epoch": epoch,
            "revision": revision,
            "synced_at_ns": int(synced_at * 1e9),
            "reconciled_at_ns": 0,
            "policy": list(policy),
            "site": list(site),
        }
        return self._sign("heartbeat", f"{synced_at:.3f}", document)

    def policy(self, revision):
        data = {"lictor": {"manifest": {"revision": revision}}}
        return sign(
            "policy", revision=revision, roots=["lictor"], key=self.keys["policy"], data=data
        )

    def _sign(self, name, revision, document, key=None):
        path = name.split("-")
        data = document
        for part in reversed(path):
            data = {part: data}
        roots = ["/".join(["registry", *path])]
        return sign(
            name, revision=revision, roots=roots, key=self.keys["data"], data={"registry": data}
        )


@pytest.fixture
def bundles(bundle_keys):
    return Bundles(bundle_keys)
