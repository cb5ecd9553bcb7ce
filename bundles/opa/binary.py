"""The OPA binary: where it comes from, and how one command is run.

The order is `LICTOR_OPA_BIN`, `PATH`, the cache, Docker, the Go toolchain. Docker is a way to get
the binary, not a way to run it: the image's static binary is copied out into the cache, so that
sockets, signals and files are the same wherever it came from (docs/adr/0002).
"""

import io
import logging
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bundles.exceptions import OPAFailedError, OPAUnavailableError

PINNED = "1.22.2"
"""The version that is built or fetched. Older ones are refused: 1.21.0-1.22.0 evaluate some
`in {…}` sets wrongly, and before 1.21.3 bundle signatures could be skipped."""

IMAGE = f"openpolicyagent/opa:{PINNED}-static"
_MODULE = f"github.com/open-policy-agent/opa@v{PINNED}"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OPA:
    """An OPA binary whose version is known.

    Attributes:
        path: the executable.
        version: such as `1.22.2`.
        origin: where it was found, for people.
    """

    path: Path
    version: str
    origin: str

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        cwd: Path | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """Run one command to its end and return its standard output.

        Args:
            arguments: the command and its flags.
            stdin: what it reads.
            cwd: the folder that it runs in.
            timeout: seconds after which it is killed.

        Raises:
            OPAFailedError: it exited with another code than 0, or took too long; the message is
                what it printed.
        """
        done = self.attempt(*arguments, stdin=stdin, cwd=cwd, timeout=timeout)
        if done.returncode:
            said = (done.stderr + done.stdout).decode(errors="replace").strip()
            raise OPAFailedError(said or f"opa {arguments[0]} exited with {done.returncode}")
        return done.stdout

    def attempt(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        cwd: Path | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one command to its end, as `run` does, whatever its exit code is.

        Raises:
            OPAFailedError: it took too long.
        """
        try:
            return subprocess.run(
                [self.path, *arguments],
                input=stdin,
                capture_output=True,
                check=False,
                cwd=cwd,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise OPAFailedError(
                f"opa {arguments[0]} took longer than {timeout:g} seconds"
            ) from None


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CACHE_HOME/lictor`, by default `~/.cache/lictor`."""
    base = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lictor"


def find_opa(environ: Mapping[str, str] = os.environ) -> OPA:
    """Find an OPA that can serve, fetching or building it once if need be (about 90 s with Go).

    Raises:
        OPAUnavailableError: none was found; the message lists what was tried and what to install.
    """
    tried: list[str] = []
    cached = cache_folder(environ) / f"opa-{PINNED}"

    if named := environ.get("LICTOR_OPA_BIN"):
        # A named binary that cannot serve is an error: to use another would hide the mistake.
        return _probe(Path(named), "LICTOR_OPA_BIN")

    for path, origin in [
        (shutil.which("opa", path=environ.get("PATH")), "PATH"),
        (cached if cached.exists() else None, "cache"),
    ]:
        if path is None:
            tried.append(f"{origin}: no opa there")
            continue
        try:
            return _probe(Path(path), origin)
        except OPAUnavailableError as refused:
            _log.warning("%s", refused)
            tried.append(f"{origin}: {refused}")

    for fetch, origin in [(_from_docker, "Docker"), (_from_go, "Go")]:
        try:
            fetch(cached, environ)
            return _probe(cached, origin)
        except OPAUnavailableError as refused:
            tried.append(f"{origin}: {refused}")
    raise OPAUnavailableError(_advice(tried))


def _probe(path: Path, origin: str) -> OPA:
    try:
        said = subprocess.run(
            [path, "version"],
            capture_output=True,
            timeout=20,
            check=True,
            encoding="utf-8",
            errors="replace",
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise OPAUnavailableError(f"{path} cannot be run ({type(error).__name__})") from None
    found = re.search(r"^Version: v?((\d+)\.(\d+)\.(\d+)\S*)", said, re.MULTILINE)
    if not found:
        raise OPAUnavailableError(f"{path} does not print an OPA version")
    if tuple(map(int, found.group(2, 3, 4))) < tuple(map(int, PINNED.split("."))):
        raise OPAUnavailableError(f"OPA {found[1]} at {path} refused: {PINNED} or newer is needed")
    return OPA(path, found[1], origin)


def _from_docker(target: Path, _: Mapping[str, str]) -> None:
    # Here, since it takes longer to import than most commands to run, and is hardly ever needed.
    import docker
    from docker.errors import DockerException

    if platform.system() != "Linux":
        raise OPAUnavailableError("the image's binary runs on Linux only")
    try:
        with closing(docker.from_env()) as client:
            try:
                client.images.get(IMAGE)
            except docker.errors.ImageNotFound:
                client.images.pull(IMAGE)
            container = client.containers.create(IMAGE)
            try:
                stream, _stat = container.get_archive("/opa")
                _unpack(stream, target)
            finally:
                container.remove()
    except (DockerException, OSError, tarfile.TarError) as error:
        raise OPAUnavailableError(f"{IMAGE} is not to be had ({type(error).__name__})") from None


def _unpack(stream: Iterable[bytes], target: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        binary = archive.extractfile("opa") if "opa" in archive.getnames() else None
        if binary is None:
            raise OPAUnavailableError(f"{IMAGE} holds no file /opa")
        _install(binary.read(), target)


def _from_go(target: Path, environ: Mapping[str, str]) -> None:
    go = shutil.which("go", path=environ.get("PATH"))
    if go is None:
        raise OPAUnavailableError("no Go toolchain on PATH")
    _log.warning("building OPA %s with %s; this takes a minute or two, once", PINNED, go)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [go, "install", _MODULE],
            env={**environ, "GOBIN": folder, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no output"]
            raise OPAUnavailableError(f"go install failed: {last[0]}")
        _install((Path(folder) / "opa").read_bytes(), target)


def _install(binary: bytes, target: Path) -> None:
    # Renamed into place, so that two processes that fetch at once never run half a file.
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(binary)
        Path(file.name).chmod(0o755)
    Path(file.name).replace(target)


def _advice(tried: list[str]) -> str:
    return "\n".join(
        [
            f"No OPA {PINNED} or newer was found.",
            *(f"  {line}" for line in tried),
            "Do one of these:",
            f"  put an opa {PINNED} on PATH, or its path into LICTOR_OPA_BIN",
            f"  start Docker and pull {IMAGE}",
            "  install Go 1.26 or newer; lictor then builds OPA by itself",
        ]
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(find_opa().path)  # noqa: T201 - for the Makefile, which wants a path
