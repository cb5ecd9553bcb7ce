"""`lictor serve`: the publisher, alone or one of several, and its two HTTP servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from bundles.exceptions import StoreUnusableError
from bundles.fleet.credentials import InstanceCredentials
from bundles.fleet.last_seen import LastSeenStore
from bundles.fleet.propagation import PropagationTracker
from bundles.fleet.tracker import FleetTracker
from bundles.publish.policy_releases import NAMES
from bundles.publish.publisher import Publisher, log_failure
from bundles.publish.reconciler import Reconciler
from bundles.publish.scan import Opener, RegistryReader, ReportProgress
from bundles.publish.signing import SigningKey
from bundles.publish.store import Store
from bundles.publish.target import PublishTarget
from bundles.serve.admin_app import admin_app
from bundles.serve.bundle_app import bundle_app
from bundles.serve.served_bundles import ServedBundles
from bundles.serve.server_role import ActivePublisher, ServerRole
from lictor import cluster
from lictor.exceptions import NotInitialisedError
from lictor.settings import Settings, read_secret
from lictor.shared.parts import shared_state
from lictor.shared.store import SharedStateStore
from lictor.sockets import require_unused, server, tcp, unix
from lictor.state_dir import registry_opener
from lictor.usage import Usages
from lictor_common.periodic import run_periodically
from registry import Registry

Part = Callable[[], Awaitable[None]]
"""Runs until cancelled."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A running `lictor serve`.

    Attributes:
        url: where OPA finds it.
        role: whether it publishes, and how far things are.
        registry: what is published.
        fleet: the OPAs, and what they have reported.
        finished: done when a part has ended, which none does by itself.
    """

    url: str
    role: ServerRole
    registry: Registry
    fleet: FleetTracker
    finished: "asyncio.Future[None]"

    @property
    def publisher(self) -> Publisher:
        """The local publisher; raises `NotPublishingError` while another server does."""
        return self.role.here.publisher


@asynccontextmanager
async def serving(
    settings: Settings, *, progress: ReportProgress = lambda *_: None
) -> AsyncIterator[Serving]:
    """Serve until the context ends, and publish: always, or while this server holds the lease.

    Args:
        settings: of the state directory.
        progress: receives the progress of a full publication.

    Raises:
        AlreadyRunningError: another one serves this state directory.
        NotInitialisedError: no policy bundle has been built.
        InvalidArgumentError: a setting cannot be used.
        StoreUnusableError: the address or the folder of bundles cannot be used.
        RegistryError: the registry cannot be opened.
    """
    key = SigningKey.load(settings.bundle_keys / "data.pem")
    opener = registry_opener(settings)
    async with AsyncExitStack() as exit_:
        require_unused(settings.admin_socket)
        # From now on the kernel keeps what OPAs request, until everything is published. One that
        # starts beside this server, as after a reboot, would retry a refused connection less and
        # less often: a base after a minute.
        for_opa = exit_.enter_context(tcp(settings.bundles_url))
        registry = await exit_.enter_async_context(aclosing(await opener()))
        served = _Served(settings, registry, opener=opener, key=key, progress=progress)
        several = settings.redis_url and settings.artefacts_url
        parts = await (served.several(exit_) if several else served.alone())
        shared = await exit_.enter_async_context(
            shared_state(
                settings, registry, role=served.role, served_bundles=served.served_bundles,
                fleet=served.fleet,
            )
        )  # fmt: skip
        parts |= await served.shared(exit_, shared.store, alone=not several)
        bundles = bundle_app(
            served.role, served.served_bundles, served.fleet,
            instances=InstanceCredentials.load(settings.instances_key),
            reader=read_secret(settings.bundles_token_file), signed=shared.routes,
        )  # fmt: skip
        propagation = PropagationTracker(served.role, served.fleet, caches=shared.caches)
        admin = admin_app(
            registry=registry, role=served.role, fleet=served.fleet, propagation=propagation,
            key=key,
        )  # fmt: skip
        for_lictor = exit_.enter_context(unix(settings.admin_socket))
        host, port = for_opa.getsockname()[:2]
        servers = [server(bundles), server(admin)]
        publishing = [
            asyncio.ensure_future(served.role.faults.keep_running(name, part))
            for name, part in parts.items()
        ]
        listening = [
            asyncio.ensure_future(one.serve(sockets=[listener]))
            for one, listener in zip(servers, (for_opa, for_lictor), strict=True)
        ]
        finished = asyncio.ensure_future(_first([*publishing, *listening]))
        try:
            yield Serving(
                url=f"http://{host}:{port}",
                role=served.role,
                registry=registry,
                fleet=served.fleet,
                finished=finished,
            )
        finally:
            # Long polls first: a stopping server waits for its open requests.
            served.served_bundles.close()
            for one in servers:
                one.should_exit = True
            for task in (finished, *publishing):
                task.cancel()
            await asyncio.gather(finished, *publishing, *listening, return_exceptions=True)


class _Served:
    """The served bundles, and the parts that make them."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        *,
        opener: Opener,
        key: SigningKey,
        progress: ReportProgress,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._opener = opener
        self._key = key
        self._progress = progress
        self._store = Store(settings.bundles)
        self.fleet, self.served_bundles = (
            FleetTracker(LastSeenStore(settings.bundles / "fleet.json")),
            ServedBundles(),
        )
        self.role = ServerRole(self.served_bundles, registry)

    async def alone(self) -> dict[str, Part]:
        """Start to publish permanently; return the tasks to run, by name."""
        if missing := self._missing():
            raise NotInitialisedError(missing)
        parts: dict[str, Part] = {}
        into: PublishTarget = self.served_bundles
        if self._settings.artefacts_url:
            standalone = cluster.standalone(self._settings, self.served_bundles)
            self.role.cluster, into = standalone, standalone.served_bundles
            parts["upload"] = standalone.run
        publishing = self.role.publishing = await self._start(into)
        return {**parts, "publisher": partial(self._publish, publishing)}

    async def several(self, exit_: AsyncExitStack) -> dict[str, Part]:
        """Create the node of a cluster; return the tasks to run, by name."""

        async def one_term(into: PublishTarget, _: object) -> None:
            if missing := self._missing():
                raise StoreUnusableError(missing)
            await self._publish(await self._start(into))

        cluster_node = await exit_.enter_async_context(
            cluster.cluster_node(
                self._settings,
                role=self.role,
                served_bundles=self.served_bundles,
                fleet=self.fleet,
                store=self._store,
                key=self._key,
                publish=one_term,
            )
        )
        self.role.cluster = cluster_node
        return {"cluster": cluster_node.run}

    async def shared(
        self, exit_: AsyncExitStack, store: SharedStateStore, *, alone: bool
    ) -> dict[str, Part]:
        """Prepare the exchange with MCP servers; return the tasks to run, by name."""
        settings = self._settings
        usages = Usages(
            self._registry,
            store=store,
            redis_url=settings.redis_url,
            record=settings.record,
            place=settings.usage_place,
        )
        if not settings.redis_url:
            return {"usage": usages.run}
        announcer = await exit_.enter_async_context(aclosing(cluster.announcer(self._settings)))
        self.role.notices = lambda: [announcer.error] if announcer.error else []
        return {
            "usage": usages.run,
            "announcer": partial(
                announcer.confirm,
                self._registry,
                self.served_bundles,
                publishing=lambda: self.role.publishing is not None,
                alone=alone,
            ),
        }

    async def _start(self, into: PublishTarget) -> ActivePublisher:
        publisher = Publisher(
            self._registry,
            store=self._store,
            served_bundles=into,
            key=self._key,
            fleet=self.fleet,
            shards=self._settings.shards,
            reader=RegistryReader(self._registry, opener=self._opener, progress=self._progress),
        )
        await publisher.start()
        return ActivePublisher(publisher, Reconciler(publisher, self._registry, self._store))

    async def _publish(self, publishing: ActivePublisher) -> None:
        self.role.publishing = publishing
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(publishing.publisher.run())
                due = publishing.reconciler.due
                group.create_task(run_periodically(due, every=1.0, on_error=log_failure))
        finally:
            self.role.publishing = None

    def _missing(self) -> str:
        for name in NAMES:
            if self._store.load(name) is None:
                return f"no {name} bundle; run: lictor policies build --sign"
        return ""


async def _first(parts: Sequence["asyncio.Future[None]"]) -> None:
    done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    for part in done:
        part.result()
