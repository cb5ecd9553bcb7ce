"""Everything between `lictor` and a decision, on one machine."""

import shutil
from contextlib import AsyncExitStack
from functools import cached_property

from bundles.opa.server import client_token_file
from lictor import cluster
from lictor.keys import KeyFolder
from lictor.server import serving
from lictor.settings import Settings
from pdp_client import PDP, Action, BearerVerifier
from pdp_client.bearer.opaque import digest, mint_opaque
from pdp_client.shared import Shared
from registry import Key, Workspace
from registry.operations import Operator

from .lictor_processes import LictorProcesses
from .opa_process import OPAProcess, opa_settings
from .signed_bundles import SignedBundles
from .tcp_relay import TCPRelay
from .waiting import until


class Deployment:
    """A registry, its publisher, OPAs, and what a test wants besides, in one state directory.

    A test starts the parts that it needs; they listen on unix sockets and free ports, and end with the deployment.

    - `start_server` runs the parts of `lictor serve` in this process: `registry`, `publisher`, `operator`.
    - `start_signed_bundles` serves bundles that the test signs itself instead: `bundles`.
    - `start_opa` starts an OPA; the first is `opa`.
    - `pdp` and `shared` are clients, as an MCP server has them.
    - `processes` runs `lictor` itself, as an operator does.
    """

    def __init__(self, settings, opa_binary, *, redis=None):
        """Describe a deployment; nothing is started yet.

        Args:
            settings: of the state directory.
            opa_binary: the OPA to run.
            redis: a `RedisServer` that the PDPs share; without one they share through the server.
        """
        self.settings = settings if redis is None else with_redis(settings, redis)
        self.redis = redis
        self.opa = None
        self.bundles = None
        self.serving = None
        self._binary = opa_binary
        self._exit = AsyncExitStack()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        await self._exit.aclose()

    # Parts

    async def start(self, *, opa_url=None, opa_bundles=None):
        """Start the server and an OPA, and wait until it answers from what is published."""
        await self.start_server()
        self.start_opa(address=opa_url or self.settings.opa_url, bundles=opa_bundles)
        await self.settle()
        return self

    async def start_server(self):
        """Run the parts of `lictor serve` in this process."""
        self.serving = await self._exit.enter_async_context(serving(self.settings))
        self.registry = self.serving.registry
        self.publisher = self.serving.publisher
        self.operator = Operator(self.registry, actor="tests")

    async def start_signed_bundles(self, *, policy, keys):
        """Serve bundles that the test signs, to an OPA that is not started yet."""
        self.bundles = SignedBundles(policy=policy, keys=keys)
        await self._exit.enter_async_context(self.bundles)
        self.opa = OPAProcess(self._binary, None)
        self._exit.callback(self.opa.kill)
        self.fetch_shards(1)

    def start_opa(self, id_="opa-1", *, address=None, bundles=None):
        """Start an OPA that fetches what the server publishes."""
        opa = self.new_opa(id_, address=address, bundles=bundles)
        opa.start()
        return opa

    def new_opa(self, id_="opa-1", *, address=None, bundles=None):
        """Another OPA of the server's, which the test starts."""
        shards = range(len(self.publisher.bases.published.since))
        names = ["policy", "site", "live", "heartbeat", *(f"base-{n:02x}" for n in shards)]
        opa_config = opa_settings(
            self.settings, id_, bundles_url=self.serving.url, bundles=bundles or names,
            address=address,
        )  # fmt: skip
        opa = OPAProcess(self._binary, opa_config)
        self._exit.callback(opa.kill)
        self.opa = self.opa or opa
        return opa

    def fetch_shards(self, count):
        """Have the OPA fetch so many base shards of the test's own bundles, once it is started."""
        self.bundles.use_shards(count)
        self.opa.settings = self.bundles.opa_settings(self.settings.state / "opa")

    @cached_property
    def keys(self):
        """The keys that sign JWTs."""
        return KeyFolder(self.settings.keys)

    @cached_property
    def processes(self):
        """`lictor` as processes of its own."""
        processes = LictorProcesses(self.settings, self._binary)
        self._exit.callback(processes.stop_all)
        return processes

    # Clients

    def pdp(self, opa=None, **kwargs):
        """A PDP for an OPA of this deployment; closed with it."""
        opa = opa or self.opa
        kwargs.setdefault("opa_url", opa.settings.address)
        kwargs.setdefault("opa_token_file", client_token_file(opa.settings.folder))
        kwargs.setdefault("deadline", 5)
        if "verifier" not in kwargs:
            kwargs["verifier"] = BearerVerifier([]) if self.bundles else self.keys.verifier()
        pdp = PDP(**kwargs)
        self._exit.push_async_callback(pdp.aclose)
        return pdp

    @cached_property
    def source(self):
        """What PDPs share their state through, which a test may kill, freeze and start again."""
        if self.redis is not None:
            return self.redis
        relay = TCPRelay(self.serving.url).start()
        self._exit.callback(relay.kill)
        return relay

    def shared(self, **changes):
        """What PDPs share."""
        return Shared(
            self.source.url, key_file=self.settings.newest_key, **{"timeout": 5, **changes}
        )

    async def announce(self):
        """Announce the registry's revision, as a command does that has written; publish nothing."""
        if self.redis is not None:
            await self._announcer.announce(self.registry)

    @cached_property
    def _announcer(self):
        announcer = cluster.announcer(self.settings)
        self._exit.push_async_callback(announcer.aclose)
        return announcer

    # Conditions

    async def settle(self, opa=None):
        """Publish what the registry holds, and wait until OPA answers from it."""
        await self.publisher.sync()
        version = self.publisher.version
        pdp = self.pdp(opa)

        async def caught_up():
            seen = await pdp.visible(None, actions=[Action(name="x")])
            return seen.reason in {"missing_token", "lockdown"} and (seen.epoch, seen.revision) >= (
                version.epoch,
                version.revision,
            )

        await until(caught_up, f"OPA answers from {version}")

    async def start_signed(self, patch=None, **kwargs):
        """Serve the table's dataset in bundles, start OPA, and wait until it answers from them."""
        self.bundles.put_dataset(patch, **kwargs)
        self.opa.start()
        await self.wait_until_activated()
        return await self.wait_until_answering()

    async def wait_until_activated(self):
        """Wait until OPA runs every bundle of the test's own."""
        served = self.bundles.served_bundles
        for name in served.names():
            await self.bundles.wait_for_report(name, revision=served.get(name).revision)

    async def wait_until_answering(self):
        """A PDP, once OPA answers at all."""
        pdp = self.pdp()

        async def answers():
            return (await pdp.visible(None, actions=[Action(name="x")])).reason != "unavailable"

        await until(answers, "OPA answers")
        return pdp

    # Records

    async def add_user(self, user_id, **kwargs):
        return (await self.operator.add_user(user_id, **kwargs)).record

    async def add_library(self, uid, workspace, **kwargs):
        """A library, in a workspace that is made if it is not there."""
        if await self.registry.get(Workspace, workspace) is None:
            await self.operator.add_workspace(workspace)
        return (await self.operator.add_library(uid, workspace=workspace, **kwargs)).record

    async def create_token(self, user="ada", *, tools=("*",), libraries=(), expires_at=None):
        """A new opaque token's bearer."""
        bearer = mint_opaque()
        await self.operator.create_token(
            digest(bearer), user=user, tools=tools, libraries=libraries, expires_at=expires_at
        )
        return bearer

    async def create_team(self, name="Docs", *, owner="ada", workspaces=(), tools=("*",)):
        """A new team, and its JWT."""
        done = await self.operator.create_team(
            name, owner=owner, workspaces=workspaces, tools=tools
        )
        return done.record, await self.mint_jwt(done.record)

    async def mint_jwt(self, team, **kwargs):
        """Another JWT of a team."""
        active = [key.kid for key in await self.registry.all(Key) if key.active]
        return self.keys.mint_team(team.id, jti=team.active_jti, active_kids=active, **kwargs)


def with_redis(settings, redis):
    """The same settings, with a Redis."""
    return settings.model_copy(update={"redis_url": redis.url})


def copy_state(template, folder, **changes):
    """Copy an initialised state directory, and return the settings for the copy."""
    shutil.copytree(template, folder)
    return Settings(state=folder, bundles_url="http://127.0.0.1:0", **changes)
