"""A small file system of a folder's own, so that it can be full: the kernel says ENOSPC, as on a real disk.

Mounting wants root and CAP_SYS_ADMIN.
"""

import errno
import os
import subprocess
from contextlib import contextmanager

PAGE = 4096
"""Bytes: what a tmpfs gives out at a time."""


class MountRefusedError(Exception):
    """No file system can be mounted here; the message says why."""


class SmallDisk:
    """A folder that a filler can fill."""

    def __init__(self, path):
        self.path = path
        self._filler = path / "filler"

    @property
    def full(self):
        """Whether it was filled and not emptied since."""
        return self._filler.exists()

    def fill(self, *, leave=0):
        """Take all of the room that is left, but so many pages."""
        with self._filler.open("ab") as file:
            size, step = file.tell(), os.statvfs(self.path).f_bavail * PAGE
            # Others write as well: less and less, until nothing at all is to be had.
            while step >= PAGE:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step = step // 2 // PAGE * PAGE
            file.truncate(max(0, size - leave * PAGE))

    def empty(self):
        """Give the room back, if it was taken."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(path, mebibytes):
    """Mount one at `path`, a folder that is made and stays; unmounted whatever is still open in it.

    Raises:
        MountRefusedError: it is not allowed here.
    """
    path.mkdir()
    options = f"size={mebibytes}m,mode=0700"
    _run("mount", "-t", "tmpfs", "-o", options, "lictor-tests", path)
    try:
        yield SmallDisk(path)
    finally:
        _run("umount", "--lazy", path)


def _run(*command):
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise MountRefusedError(f"no small disk: {command[0]}: {error.strerror}") from error
    if done.returncode:
        reported = done.stderr.strip().splitlines() or [f"{command[0]} fails"]
        raise MountRefusedError(f"no small disk: {reported[0]}")
