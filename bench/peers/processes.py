"""Peers in processes and environments of their own, with versions and hashes pinned."""

import asyncio
import fcntl
import json
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from bench.cases import Outcome
from bench.floors import UnavailableError
from bundles.opa.binary import cache_folder

_HERE = Path(__file__).parent
_MINUTES = 5 * 60
_PATIENCE = 120


def environment(name, environ):
    """The Python of a peer's environment; it is made in the cache if it is not there.

    Raises:
        UnavailableError: its packages cannot be installed.
    """
    pinned = _HERE / "pinned" / f"{name}.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = sha256(pinned.read_bytes() + version.encode()).hexdigest()[:8]
    folder = cache_folder(environ) / f"peer-{name}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".peer-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            _install(folder, pinned)
            (folder / "ready").touch()
    return folder / "bin" / "python"


def _install(folder, pinned):
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{Path('/usr/local/bin')}")
    uv = uv or shutil.which("uv")
    if uv is None:
        raise UnavailableError("uv is not installed (make setup installs it)")
    python = folder / "bin" / "python"
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder],
        [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", pinned],
    ):
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True, text=True, check=False, timeout=_MINUTES,
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["uv failed"]
            raise UnavailableError(f"uv: {said[0].strip()[:150]}")


class Peer:
    """A peer's process that runs `worker.run`."""

    def __init__(self, process):
        self._process = process

    async def request(self, **command):
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), _PATIENCE)
        if not line:
            raise UnavailableError("its process has ended")
        reply = json.loads(line)
        if "error" in reply:
            raise UnavailableError(" ".join(reply["error"].split())[:250])
        return reply["result"]

    async def outcomes(self):
        return [Outcome(*one) for one in await self.request(do="outcome")]

    def batch(self, case):
        async def batch(n):
            return await self.request(do="batch", case=case, n=n)

        return batch


@asynccontextmanager
async def running(script, settings, folder, environ, *, packages, log):
    """A peer's script in the environment of its packages, until the context ends."""
    python = await asyncio.to_thread(environment, packages, environ)
    given = Path(folder) / f"{Path(script).stem}.json"
    given.write_text(json.dumps(settings))
    with Path(log).open("ab") as errors:  # noqa: ASYNC230 - a small local file
        process = await asyncio.create_subprocess_exec(
            str(python), str(_HERE / script), str(given),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
            limit=1 << 24,
        )  # fmt: skip
    try:
        yield Peer(process)
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
