"""What tests need from npm: installed once into the cache, with a Node of its own."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from support.downloads import DownloadUnavailableError

from bundles.opa.binary import cache_folder

PATIENCE = 240
"""Seconds after which npm, or a program of Node's, counts as hung."""


def find_packages(package, *, name, what, environ=os.environ):
    """Return the folder with what a package.json pins; npm installs it if it is not in the cache.

    Args:
        package: the package.json, which has to pin `node` too.
        name: how the folder's name begins; the digest of the package.json follows.
        what: what is missing without it, for the error.
        environ: says where the cache is.

    Raises:
        DownloadUnavailableError: npm is missing, or it fails.
    """
    pinned = hashlib.sha256(package.read_bytes()).hexdigest()[:8]
    folder = cache_folder(environ) / f"{name}-{pinned}"
    if not folder.exists():
        _install(package, folder, what)
    try:
        _run(node_in(folder), "--version")
    except (OSError, subprocess.SubprocessError) as error:
        raise DownloadUnavailableError(f"no {what}: the Node in {folder}: {_said(error)}") from None
    return folder


def node_in(folder):
    """Return the Node that npm installed there."""
    return folder / "node_modules" / ".bin" / "node"


def _install(package, target, what):
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadUnavailableError(f"no {what}: not in the cache, and no npm on PATH")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="npm-") as made:
        folder = Path(made) / "packages"
        folder.mkdir()
        shutil.copy(package, folder)
        try:
            _run(npm, "install", "--no-package-lock", "--no-audit", "--no-fund", cwd=folder)
        except (OSError, subprocess.SubprocessError) as error:
            raise DownloadUnavailableError(f"no {what}: npm install: {_said(error)}") from None
        # Renamed into place, so that two test runs that install at once never run half of it.
        if not target.exists():
            folder.rename(target)


def _run(*command, **kwargs):
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE, **kwargs)


def _said(error):
    lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return lines[-1][:200] if lines else type(error).__name__
