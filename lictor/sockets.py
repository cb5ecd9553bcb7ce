"""The sockets of `lictor serve`: TCP for OPA, a unix socket for the `lictor` command."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette

from bundles.exceptions import StoreUnusableError
from lictor.exceptions import AlreadyRunningError, InvalidArgumentError

_BACKLOG = 2048
"""Connections that wait while a server starts: 68 for each OPA with 64 shards."""


class Server(uvicorn.Server):
    """uvicorn, leaving signals to the command that runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them."""
        yield


def server(app: Starlette) -> Server:
    """A server for an application, that stops within two seconds of the request to stop."""
    return Server(
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


def require_unused(path: Path) -> None:
    """Check that no `lictor serve` listens at a unix socket.

    Raises:
        AlreadyRunningError: one does.
    """
    if listens(path):
        raise AlreadyRunningError(f"a lictor serve listens at {path} already")


@contextmanager
def tcp(url: str) -> Iterator[socket.socket]:
    """Listen at an HTTP URL.

    Raises:
        InvalidArgumentError: it is not one.
        StoreUnusableError: it is in use.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise InvalidArgumentError(
            "LICTOR_BUNDLES_URL is http://host:port where lictor serve listens"
        )
    try:
        family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
        listener = socket.create_server(
            (parts.hostname, parts.port or 0), family=family, backlog=_BACKLOG
        )
    except OSError as error:
        raise StoreUnusableError(f"cannot listen at {parts.netloc}: {error.strerror}") from None
    # asyncio sets it only where a socket names its protocol; without it, small answers wait 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener


@contextmanager
def unix(path: Path) -> Iterator[socket.socket]:
    """Listen at a unix socket that its owner alone may open; it is gone at the end.

    Raises:
        AlreadyRunningError: another one serves this state directory.
        StoreUnusableError: it cannot be made.
    """
    require_unused(path)
    with suppress(FileNotFoundError):
        path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(str(path))
            path.chmod(0o600)
        except OSError as error:
            raise StoreUnusableError(
                f"cannot listen at {path}: {error.strerror or error}"
            ) from None
        listener.listen()
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
