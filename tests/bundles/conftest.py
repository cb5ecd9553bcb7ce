"""A publisher with a clock that the test moves, over a real registry and a real folder."""

import sqlite3
import time
from contextlib import AsyncExitStack

import orjson
import pytest

from bundles.build.policies import build_site
from bundles.fleet.tracker import FleetTracker
from bundles.publish.publisher import Publisher
from bundles.publish.signing import data_of
from bundles.publish.store import Store
from bundles.serve import server_role
from bundles.serve.served_bundles import ServedBundles
from registry import RegistryVersion, open_registry
from registry.operations import Operator


class Publishing:
    """A registry and what is published of it."""

    def __init__(self, folder, keys, *, served_bundles=None, fleet=None, now=None):
        self.now = time.time() if now is None else now
        self.path = folder / "registry.db"
        self.store = Store(folder / "published")
        self.keys = keys
        self.served_bundles = served_bundles or ServedBundles()
        self.fleet = fleet or FleetTracker(clock=self.clock)
        self.publisher = None
        self._exit = AsyncExitStack()

    def clock(self):
        return self.now

    async def open(self, **kwargs):
        self.registry = await open_registry(f"sqlite:///{self.path}")
        self._exit.push_async_callback(self.registry.aclose)
        self.operator = Operator(self.registry, actor="tests")
        return await self.restart(**kwargs)

    async def restart(self, *, served_bundles=None, registry=None, **kwargs):
        """Another publisher over the same folder, as after a restart."""
        self.served_bundles = served_bundles or self.served_bundles
        self.publisher = Publisher(
            registry or self.registry,
            store=self.store,
            served_bundles=self.served_bundles,
            key=self.keys["data"],
            fleet=self.fleet,
            clock=self.clock,
            **kwargs,
        )
        await self.publisher.start()
        self.role = server_role.ServerRole(self.served_bundles, self.registry, clock=self.clock)
        self.role.publishing = server_role.ActivePublisher(self.publisher, None)
        return self

    async def sync(self):
        """Sync, as each second; then compact what `live` has too much of."""
        await self.publisher.sync()
        while await self.publisher.compact():
            pass

    def document(self, name):
        """The document of a bundle that is signed; the records of a base are decoded."""
        data = data_of(self.served_bundles.get(name).content)["registry"]
        kind, _, shard = name.partition("-")
        if not shard:
            return data[kind]
        return {
            kind: {id_: record and orjson.loads(record) for id_, record in part.items()}
            if isinstance(part, dict)
            else part
            for kind, part in data[kind][shard].items()
        }

    def bases(self):
        return [name for name in self.served_bundles.names() if name.startswith("base-")]

    def run_by(self, id_, **bases):
        """An OPA reports the bases that it runs."""
        bundles = {f"base-{s[1:]}": {"active_revision": revision} for s, revision in bases.items()}
        status = {"labels": {"instance": id_}, "bundles": bundles}
        self.fleet.report(id_, status, published=RegistryVersion(1 << 50, 0))

    def scribble(self, *statements, touched=()):
        """Write into the registry's file past all checks, as another program might."""
        db = sqlite3.connect(self.path)
        with db:
            for statement in statements:
                db.execute(statement)
            for kind, id_ in touched:
                db.execute("UPDATE registry SET revision = revision + 1")
                db.execute(
                    "INSERT OR REPLACE INTO changes SELECT ?, ?, revision FROM registry",
                    (kind, id_),
                )
        db.close()

    async def aclose(self):
        await self._exit.aclose()


@pytest.fixture
async def publishing(tmp_path, bundle_keys):
    """Open one with `await publishing.open(...)`."""
    publishing = Publishing(tmp_path, bundle_keys)
    yield publishing
    await publishing.aclose()


@pytest.fixture
async def published(signed, short_path, bundle_keys, policy_bundle, opa_binary):
    """A publisher whose bundles a real OPA fetches; see `Deployment`. Its clock starts ten minutes ago."""
    (short_path / "site").mkdir()
    publishing = Publishing(
        short_path,
        bundle_keys,
        served_bundles=signed.bundles.served_bundles,
        fleet=signed.bundles.fleet,
        now=time.time() - 600,
    )
    publishing.store.save(policy_bundle)
    publishing.store.save(build_site(opa_binary, short_path / "site", bundle_keys["policy"]))
    publishing.deployment = signed
    yield publishing
    await publishing.aclose()
