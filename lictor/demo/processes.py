"""The demo's processes, as a user runs them: `lictor serve`, `lictor opa`, the example server."""

import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from bundles.build.policies import product_folder
from bundles.opa.binary import find_opa
from lictor.demo.people import TURN_ISSUER, People, populate
from lictor.exceptions import DemoFailedError
from lictor.keys import TEAM_ISSUER
from lictor.settings import Settings
from lictor.state_dir import initialise, publish_policies
from pdp_client import PDP, Action, BearerVerifier, Reason

_PATIENCE = 60.0
LICTOR = (sys.executable, "-m", "lictor")


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo.

    Attributes:
        url: the example server's MCP endpoint.
        people: who will call.
        record: the example server's decision record.
        environment: in which the `lictor` command works on the same state.
    """

    url: str
    people: People
    record: Path
    environment: Mapping[str, str]


@asynccontextmanager
async def running(folder: Path, *, progress: Callable[[str], None]) -> AsyncIterator[Demo]:
    """Set everything up in a fresh folder and run it until the context ends.

    Raises:
        DemoFailedError: a part did not come up; the message holds the last of its log.
    """
    bundles, server = _free_port(), _free_port()
    settings = Settings(state=folder / "state", bundles_url=f"http://127.0.0.1:{bundles}")
    progress("finding OPA (built once with Go, if there is none)")
    opa = await asyncio.to_thread(find_opa)
    progress(f"OPA {opa.version} from {opa.origin}; state in {settings.state}")
    await initialise(settings, actor="demo")
    shutil.rmtree(settings.site)
    shutil.copytree(product_folder() / "site", settings.site)
    await asyncio.to_thread(publish_policies, settings, opa)
    people = await populate(settings)

    environment = {
        **os.environ,
        "LICTOR_STATE": str(settings.state),
        "LICTOR_OPA_BIN": str(opa.path),
    }
    record = folder / "decisions.jsonl"
    for_server = {
        **environment,
        "LICTOR_OPA_URL": settings.opa_url,
        "LICTOR_OPA_TOKEN_FILE": str(settings.opa_token_file),
        "LICTOR_TEAM_JWKS": str(settings.keys / f"{TEAM_ISSUER}.public.jwks"),
        "LICTOR_TURN_JWKS": str(settings.keys / f"{TURN_ISSUER}.public.jwks"),
        "LICTOR_RECORD": str(record),
        "LICTOR_SHARED_URL": settings.bundles_url,
        "LICTOR_SHARED_KEY": str(settings.newest_key),
    }
    example = str(_examples() / "library_server" / "server.py")
    progress("starting lictor serve, lictor opa and the example server")
    async with AsyncExitStack() as stack:
        parts = [
            await stack.enter_async_context(_Part.started(name, folder, arguments, env))
            for name, arguments, env in [
                ("serve", [*LICTOR, "serve"], environment),
                ("opa", [*LICTOR, "opa", "--id=demo"], environment),
                ("example", [sys.executable, example, f"--port={server}"], for_server),
            ]
        ]
        url = f"http://127.0.0.1:{server}/mcp"
        await _until(lambda: _is_up(url), parts)
        await _until(lambda: _decides(settings), parts)
        yield Demo(url, people, record, environment)


@dataclass
class _Part:
    name: str
    log: Path
    process: asyncio.subprocess.Process

    @classmethod
    @asynccontextmanager
    async def started(
        cls, name: str, folder: Path, arguments: list[str], env: Mapping[str, str]
    ) -> AsyncIterator["_Part"]:
        log = folder / f"{name}.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *arguments, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file
            )
        try:
            yield cls(name, log, process)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    def check(self) -> None:
        if self.process.returncode is not None:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise DemoFailedError(f"{self.name} ended with {self.process.returncode}:\n{last}")


async def _until(condition: Callable[[], Awaitable[bool]], parts: list[_Part]) -> None:
    latest = time.monotonic() + _PATIENCE
    while not await condition():
        for part in parts:
            part.check()
        if time.monotonic() > latest:
            logs = ", ".join(str(part.log) for part in parts)
            raise DemoFailedError(f"the demo did not come up in {_PATIENCE:.0f} s; see {logs}")
        await asyncio.sleep(0.05)


async def _is_up(url: str) -> bool:
    try:
        async with httpx2.AsyncClient() as client:
            await client.get(url)
    except httpx2.TransportError:
        return False
    return True


async def _decides(settings: Settings) -> bool:
    async with PDP(
        opa_url=settings.opa_url,
        opa_token_file=settings.opa_token_file,
        verifier=BearerVerifier([]),
    ) as pdp:
        seen = await pdp.visible(None, actions=[Action(name="search")])
    return seen.reason is Reason.MISSING_TOKEN


def _examples() -> Path:
    """In the wheel beside this package, in a checkout at its top."""
    packed = Path(__file__).parent.parent / "_examples"
    return packed if packed.is_dir() else Path(__file__).parent.parent.parent / "examples"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
