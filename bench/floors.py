"""What no decision over a socket can be faster than: an echo in Go, and one in asyncio.

Both get the bytes that lictor sends to OPA, and are called by the same bare exchange.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from bench.cost import Bare
from bundles.opa.binary import cache_folder
from tests.support.waiting import until

_SOURCE = Path(__file__).parent / "echo.go"
_MINUTES = 5 * 60


class UnavailableError(Exception):
    """Something that a row needs cannot be had here; the message says why."""


def build_echo(environ):
    """The path of the Go program, built once into the cache.

    Raises:
        UnavailableError: Go is missing, or does not build it.
    """
    digest = sha256(_SOURCE.read_bytes()).hexdigest()[:8]
    built = cache_folder(environ) / f"bench-echo-{digest}"
    if built.exists():
        return built
    go = shutil.which("go")
    if go is None:
        raise UnavailableError("Go is not installed")
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        made = Path(folder) / "echo"
        done = subprocess.run(
            [go, "build", "-o", str(made), str(_SOURCE)],
            env={**environ, "CGO_ENABLED": "0"},
            capture_output=True, text=True, check=False, timeout=_MINUTES,
        )  # fmt: skip
        if done.returncode:
            raise UnavailableError(f"go build: {done.stderr.strip().splitlines()[-1][:150]}")
        made.replace(built)
    return built


@asynccontextmanager
async def go_echo(folder, environ):
    """A bare connection to a Go server on a unix socket."""
    path = Path(folder) / "go.sock"
    async with _program([build_echo(environ), f"-unix={path}"], path) as bare:
        yield bare


@asynccontextmanager
async def asyncio_echo(folder):
    """A bare connection to an asyncio server on a unix socket, in a process of its own."""
    path = Path(folder) / "py.sock"
    async with _program([sys.executable, "-m", "bench.floors", path], path) as bare:
        yield bare


@asynccontextmanager
async def _program(arguments, path):
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments), stdin=asyncio.subprocess.PIPE
    )
    try:
        await until(path.exists, f"{path.name} is there")
        bare = Bare(str(path))
        await bare.connect()
        yield bare
        bare.close()
    finally:
        process.stdin.close()
        await process.wait()


class _Echo(asyncio.Protocol):
    """Send back the body of each request, as soon as all of it is there."""

    def connection_made(self, transport):
        self._transport = transport
        self._request = b""

    def data_received(self, data):
        self._request += data
        head, end, body = self._request.partition(b"\r\n\r\n")
        length = int(head.rpartition(b"Content-Length: ")[2].partition(b"\r")[0]) if end else None
        if length is not None and len(body) >= length:
            self._request = b""
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + body)


async def _serve(path):
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(_Echo, path)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
