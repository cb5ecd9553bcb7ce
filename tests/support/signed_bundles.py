"""Bundles of a test's own making, signed by the test, served over HTTP to a real OPA."""

import asyncio
import io
import secrets
import tarfile
from contextlib import AsyncExitStack

import uvicorn

from bundles.fleet.credentials import InstanceCredentials
from bundles.fleet.tracker import FleetTracker
from bundles.opa.server import OPASettings
from bundles.publish.signing import Bundle, etag_of, sign
from bundles.serve.bundle_app import bundle_app
from bundles.serve.served_bundles import ServedBundles
from lictor.sockets import Server, tcp
from registry import RegistryVersion

from .plain_opa import make_dataset, union
from .waiting import until

LIMITS = {"staleness_limit": 600, "reconcile_limit": 600}
"""So that what a test has signed once does not grow old under it."""


class SignedBundles:
    """A server of the table's dataset in bundles, until the test replaces some; a part of `Deployment`."""

    def __init__(self, *, policy, keys):
        self._exit = AsyncExitStack()
        self.policy = policy
        self.keys = keys
        self.shards = []
        self.served_bundles, self.fleet = ServedBundles(), FleetTracker()
        self._site = {
            "manifest": {
                "revision": "site-1",
                "clock": False,
                "arguments": False,
                "libraries": False,
            }
        }

    async def horizon(self, _):
        """Believe of OPA whatever the test publishes."""
        return RegistryVersion(1 << 50, 0)

    async def is_behind(self, *_):
        """Serve what the test publishes, however old."""
        return False

    async def __aenter__(self):
        self._instances = InstanceCredentials(secrets.token_urlsafe(32))
        listener = self._exit.enter_context(tcp("http://127.0.0.1:0"))
        app = bundle_app(
            self, self.served_bundles, self.fleet,
            instances=self._instances, reader=secrets.token_urlsafe(),
        )  # fmt: skip
        server = Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))

        async def stop():
            self.served_bundles.close()
            server.should_exit = True
            await serving

        self._exit.push_async_callback(stop)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        return self

    async def __aexit__(self, *exc):
        await self._exit.aclose()

    def use_shards(self, count):
        """Serve so many base shards."""
        self.shards = [f"{n:02x}" for n in range(count)]

    def opa_settings(self, folder):
        """What an OPA of these bundles is started with."""
        return OPASettings(
            id="opa-1",
            folder=folder,
            address=f"unix://{folder / 'opa.sock'}",
            bundles_url=self.url,
            bundles_bearer=self._instances.bearer("opa-1"),
            policy_key=self.keys["policy"].public_pem,
            data_key=self.keys["data"].public_pem,
            bundles=["policy", "site", "live", "heartbeat", *(f"base-{s}" for s in self.shards)],
        )

    def put_dataset(self, patch=None, *, leave_out=()):
        """Serve every bundle of the table's dataset, with the test's changes."""
        accepted = {"policy": [self.policy.revision], "site": ["site-1"]}
        settings = {"live": {"settings": LIMITS}, "heartbeat": accepted}
        registry = make_dataset({"registry": union(settings, patch or {})})["registry"]
        if "policy" not in leave_out:
            self.served_bundles.put(self.policy)
        if "site" not in leave_out:
            self.put_site()
        for name, path in self.paths().items():
            document = registry
            for part in path.split("/"):
                document = document.get(part)
            if name not in leave_out and document is not None:
                self.put(name, document)

    def paths(self):
        bases = {f"base-{shard}": f"base/{shard}" for shard in self.shards}
        return {**bases, "live": "live", "heartbeat": "heartbeat"}

    def put_site(self, rego="", *, revision="site-1", key=None, **manifest):
        data = {"site": union(self._site, {"manifest": {"revision": revision, **manifest}})}
        rules = {"site/rules.rego": rego.encode()} if rego else {}
        key = key or self.keys["policy"]
        self.served_bundles.put(
            sign("site", revision=revision, roots=["site"], key=key, data=data, rego=rules)
        )

    def sign(self, name, document, *, key=None, scope=None, revision=None):
        """Sign a bundle of data; with `scope`, as if it were another."""
        path = self.paths()[name]
        data = document
        for part in reversed(["registry", *path.split("/")]):
            data = {part: data}
        revision = revision or f"{document.get('epoch')}:{document.get('revision')}"
        made = sign(
            scope or name, revision=revision, roots=[f"registry/{path}"],
            key=key or self.keys["data"], data=data,
        )  # fmt: skip
        return Bundle(name, revision, made.etag, made.content)

    def put(self, name, document, **kwargs):
        bundle = self.sign(name, document, **kwargs)
        self.served_bundles.put(bundle)
        return bundle

    def put_raw(self, name, content):
        """Serve exactly these bytes."""
        self.served_bundles.put(Bundle(name, "raw", etag_of(content), content))

    def take_away(self, name):
        """Serve no such bundle any more."""
        self.served_bundles._bundles.pop(name, None)

    def instance(self):
        """What OPA has last reported, or None."""
        return next(iter(self.fleet.instances()), None)

    async def wait_for_report(self, name, *, revision=None, error=None):
        """Wait until OPA reports a bundle's revision, or an error that has these words."""

        def reported():
            one = self.instance()
            if one is None:
                return None
            if error is not None and (name not in one.errors or error not in one.errors[name]):
                return None
            return one if revision in (None, one.revisions.get(name)) else None

        return await until(reported, f"OPA reports {name}: {revision or error}")


def unpack(content):
    """A bundle's files by name."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}
