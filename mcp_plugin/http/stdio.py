"""Who calls over stdio, where there is no header: whoever the server's operator says.

MCP authorization leaves it to the environment. The one caller is the process that started the
server, and it may do what the bearer may that was put there for it; without one it is nobody.
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
"""Bytes of a file that are read; a bearer is half as long at most."""

_log = logging.getLogger(__name__)


class StdioBearer:
    """The bearer of whoever calls over stdio; other transports never use it."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._told = ""

    @classmethod
    def from_environment(cls, name: str) -> Self:
        """Take it out of the environment, now: what the server starts does not inherit it.

        Args:
            name: of the variable.

        Raises:
            ConfigurationError: there is no such variable, or it is empty.
        """
        bearer = os.environ.pop(name, "").strip()
        if not bearer:
            raise ConfigurationError(f"{name}: no bearer in the environment")
        return cls(lambda: bearer)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read it from a file at each request, so that a new one takes effect at once.

        Args:
            path: a file that is this user's or root's, and that nobody else may read or write.

        Raises:
            ConfigurationError: it cannot be used as it is now.
        """
        _read_private(Path(path))
        return cls(lambda: _read_private(Path(path)))

    def read(self) -> str:
        """The bearer; empty, which no bearer is, where its file cannot be used any more."""
        try:
            bearer, self._told = self._read(), ""
        except ConfigurationError as error:
            if str(error) != self._told:
                self._told = str(error)
                _log.warning("mcp_auth.stdio detail=%s", error)
            return ""
        return bearer


def _read_private(path: Path) -> str:
    try:
        # A pipe in its place must not keep everybody waiting.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    try:
        # Of what was opened, and not of what has the name by now.
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path}: is no file")
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
