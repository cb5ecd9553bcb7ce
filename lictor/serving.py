"""`lictor serve`: the publisher, and the two HTTP faces that it has."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette

from bundles.admin import admin_app
from bundles.catalogue import Catalogue
from bundles.effect import Effects
from bundles.exceptions import StoreUnusable
from bundles.fleet import Fleet
from bundles.instances import Instances
from bundles.publisher import Publisher, forever
from bundles.reconciler import Reconciler
from bundles.scan import Progress, Reader
from bundles.server import bundle_app
from bundles.signing import SigningKey
from bundles.store import Store
from lictor.exceptions import AlreadyRunning, InvalidArgument, NotInitialised
from lictor.settings import Settings, read_secret
from registry import Registry, open_registry


@dataclass(frozen=True, slots=True)
class Serving:
    """A running `lictor serve`.

    Attributes:
        url: where OPA finds it.
        publisher: publishes the registry.
        reconciler: finds what others wrote into it.
        effects: says when a change is effective.
        registry: what is published.
        fleet: who reports what.
        finished: done when a part has ended, which none does by itself.
    """

    url: str
    publisher: Publisher
    reconciler: Reconciler
    effects: Effects
    registry: Registry
    fleet: Fleet
    finished: "asyncio.Future[None]"


@asynccontextmanager
async def serving(
    settings: Settings, *, progress: Progress = lambda *_: None
) -> AsyncIterator[Serving]:
    """Publish and serve until the context ends.

    Args:
        settings: of the state directory.
        progress: told how a publication of everything goes on.

    Raises:
        AlreadyRunning: another one serves this state directory.
        NotInitialised: no policy bundle has been built.
        StoreUnusable: the address or the folder of bundles cannot be used.
        RegistryError: the registry cannot be opened.
    """
    store = Store(settings.bundles)
    for name in ("policy", "site"):
        if store.load(name) is None:
            raise NotInitialised(f"no {name} bundle; run: lictor policies build --sign")
    fleet, catalogue = Fleet(), Catalogue()
    key = SigningKey.load(settings.bundle_keys / "data.pem")
    opener = partial(open_registry, settings.registry)
    async with aclosing(await opener()) as registry:
        publisher = Publisher(
            registry,
            store=store,
            catalogue=catalogue,
            key=key,
            fleet=fleet,
            shards=settings.shards,
            reader=Reader(registry, opener=opener, progress=progress),
        )
        reconciler = Reconciler(publisher, registry, store)
        effects = Effects(publisher, fleet)
        await publisher.start()
        bundles = bundle_app(
            publisher, catalogue, fleet,
            instances=Instances.load(settings.instances_key),
            reader=read_secret(settings.bundles_token_file),
        )  # fmt: skip
        admin = admin_app(
            registry=registry, publisher=publisher, reconciler=reconciler,
            fleet=fleet, effects=effects, key=key,
        )  # fmt: skip
        with _tcp(settings.bundles_url) as tcp, _unix(settings.admin_socket) as unix:
            host, port = tcp.getsockname()[:2]
            servers = [_server(bundles), _server(admin)]
            publishing = [
                asyncio.ensure_future(publisher.run()),
                asyncio.ensure_future(forever(reconciler.due, every=1.0)),
            ]
            parts = [
                *publishing,
                *(
                    asyncio.ensure_future(server.serve(sockets=[listener]))
                    for server, listener in zip(servers, (tcp, unix), strict=True)
                ),
            ]
            finished = asyncio.ensure_future(_first(parts))
            try:
                yield Serving(
                    url=f"http://{host}:{port}",
                    publisher=publisher,
                    reconciler=reconciler,
                    effects=effects,
                    registry=registry,
                    fleet=fleet,
                    finished=finished,
                )
            finally:
                # Long polls first: a server that stops waits for the requests that it has.
                catalogue.close()
                for server in servers:
                    server.should_exit = True
                for task in (finished, *publishing):
                    task.cancel()
                await asyncio.gather(finished, *parts, return_exceptions=True)


async def _first(parts: Sequence["asyncio.Future[None]"]) -> None:
    done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    for part in done:
        part.result()


class _Server(uvicorn.Server):
    """uvicorn, leaving signals to the command that runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: Starlette) -> _Server:
    return _Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
    )


def listens(path: Path) -> bool:
    """Whether a process accepts connections at a unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@contextmanager
def _tcp(url: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise InvalidArgument("LICTOR_BUNDLES_URL is http://host:port where lictor serve listens")
    try:
        family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
        listener = socket.create_server((parts.hostname, parts.port or 0), family=family)
    except OSError as error:
        raise StoreUnusable(f"cannot listen at {parts.netloc}: {error.strerror}") from None
    # asyncio sets it only where a socket names its protocol; without it, small answers wait 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener


@contextmanager
def _unix(path: Path) -> Iterator[socket.socket]:
    if listens(path):
        raise AlreadyRunning(f"a lictor serve listens at {path} already")
    with suppress(FileNotFoundError):
        path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(str(path))
            path.chmod(0o600)
        except OSError as error:
            raise StoreUnusable(f"cannot listen at {path}: {error.strerror or error}") from None
        listener.listen()
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
