"""A filled registry, `lictor serve` and an OPA as processes, for benchmarks of any size."""

import asyncio
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.fleet import Fleet, bundle_names, free_port, until
from bench.generated import GeneratedRegistry, fill_sqlite
from bundles.opa.binary import find_opa
from lictor.admin import Admin
from lictor.keys import KeyFolder
from lictor.settings import Settings
from lictor.state_dir import initialise, publish_policies
from pdp_client.shared import Shared
from registry import Key, open_registry


@dataclass
class FilledDeployment:
    """What was started.

    Attributes:
        generated: the records.
        opa: the settings of its OPA.
        opa_process: the OPA.
        tcp: the OPA's other address, `127.0.0.1` and a port.
        redis_url: what PDPs share, or empty.
        publish_seconds: until everything was published.
        ready_seconds: until the OPA had all of it.
    """

    generated: GeneratedRegistry
    settings: Settings
    fleet: Fleet
    admin: Admin
    kids: list
    redis_url: str = ""
    opa: object = None
    opa_process: object = None
    tcp: int = 0
    publish_seconds: float = 0.0
    ready_seconds: float = 0.0
    names: list = field(default_factory=list)
    exit: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def database(self):
        return self.settings.registry.removeprefix("sqlite:///")

    @property
    def socket(self):
        return self.opa.address.removeprefix("unix://")

    def mint_team(self, team_id, jti):
        return KeyFolder(self.settings.keys).mint_team(team_id, jti=jti, active_kids=self.kids)

    def pdp(self, **changes):
        """A PDP, closed with this; with `cache` or `strict`, one that shares in Redis."""
        if changes.get("cache") or changes.get("consistency") == "strict":
            changes["shared"] = Shared(self.redis_url, key_file=self.settings.newest_key, timeout=5)
        pdp = self.fleet.pdp(self.opa, **changes)
        self.exit.push_async_callback(pdp.aclose)
        return pdp


@asynccontextmanager
async def filled(folder, tokens, *, redis_url="", change=lambda *_: None):
    """Start all of it in a folder, and end it with the context.

    Args:
        folder: for the state directory; its path must be short, for the sockets.
        tokens: how many there are; everything else is in proportion.
        redis_url: the Redis that `lictor serve` announces revisions in.
        change: called with the path of the registry and the generated records before anything is
            published.
    """
    generated = GeneratedRegistry(tokens)
    async with AsyncExitStack() as exit_:
        url = f"http://127.0.0.1:{free_port()}"
        settings = Settings(state=Path(folder) / "s", bundles_url=url, redis_url=redis_url)
        binary = find_opa()
        await initialise(settings, actor="bench")
        publish_policies(settings, binary)
        (settings.state / "lictor.toml").write_text(
            f'bundles_url = "{url}"\nregistry = "{settings.registry}"\n'
            + (f'redis_url = "{redis_url}"\n' if redis_url else "")
        )
        database = settings.registry.removeprefix("sqlite:///")
        await asyncio.to_thread(fill_sqlite, database, generated)
        change(database, generated)
        fleet = Fleet(settings, binary, exit_)
        publish_seconds, _ = await fleet.serve()
        registry = await exit_.enter_async_context(aclosing(await open_registry(settings.registry)))
        kids = [key.kid for key in await registry.all(Key) if key.active]
        made = FilledDeployment(
            generated, settings, fleet, Admin(settings.admin_socket), kids, redis_url
        )
        await exit_.enter_async_context(made.exit)
        made.publish_seconds = publish_seconds
        began = time.monotonic()
        made.names = bundle_names(await made.admin.status())
        made.tcp = free_port()
        made.opa = fleet.opa(0, url, made.names, tcp=made.tcp)
        made.opa_process = fleet.opas[-1][1]
        pdp = made.pdp()

        async def is_ready():
            reached = {name for one in await _instances(made) for name in one["revisions"]}
            return (
                set(made.names) <= reached
                and (await pdp.authorize(generated.bearer(1), tool="search")).allow
            )

        async def listens():
            return await asyncio.to_thread(Path(made.socket).exists)

        await until(listens, "OPA listens")
        await until(is_ready, "OPA has everything")
        made.ready_seconds = time.monotonic() - began
        yield made


async def _instances(made):
    return (await made.admin.status())["instances"]
