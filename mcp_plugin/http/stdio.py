"""The identity of callers over stdio, which has no headers; the server's operator configures it.

MCP authorization leaves it to the environment. The one caller is the process that started the
server. It has the rights of the bearer that the operator provides; without one it is anonymous.
"""

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from pdp_client import ConfigurationError

NO_IDENTITY: Final = (
    "Callers over stdio have no identity here; the server's operator can give them one "
    "(PolicyMiddleware: stdio)."
)

_MOST: Final = 16 * 1024
"""Bytes read from a file; a bearer has at most half as many."""

_log = logging.getLogger(__name__)


class StdioBearer:
    """The bearer of the caller over stdio; other transports never use it."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._warned = ""

    @classmethod
    def from_environment(cls, name: str) -> Self:
        """Read the bearer from the environment and remove it, so that child processes lack it.

        Args:
            name: the variable's name.

        Raises:
            ConfigurationError: the variable is not set, or empty.
        """
        bearer = os.environ.pop(name, "").strip()
        if not bearer:
            raise ConfigurationError(f"{name}: no bearer in the environment")
        return cls(lambda: bearer)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read the bearer from a file on each request, so that a new one takes effect at once.

        Args:
            path: a file owned by this user or root, and not accessible to other users.

        Raises:
            ConfigurationError: the file cannot be used as it is now.
        """
        _read_private(Path(path))
        return cls(lambda: _read_private(Path(path)))

    def read(self) -> str:
        """Return the bearer; empty, which is never valid, if its file has become unusable."""
        try:
            bearer, self._warned = self._read(), ""
        except ConfigurationError as error:
            if str(error) != self._warned:
                self._warned = str(error)
                _log.warning("mcp_auth.stdio detail=%s", error)
            return ""
        return bearer


def _read_private(path: Path) -> str:
    try:
        # A pipe in its place must not block all requests.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    try:
        # Of the opened file, not of a file that may have replaced it.
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path}: is not a regular file")
        if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o077:
            raise ConfigurationError(f"{path}: others may read or write it; wants mode 0600")
        bearer = os.read(file, _MOST).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    finally:
        os.close(file)
    if not bearer:
        raise ConfigurationError(f"{path}: holds no bearer")
    return bearer
