"""Parsing of a Neo4j registry's URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from registry.exceptions import UnsupportedRegistryError

if TYPE_CHECKING:
    from pathlib import Path


_FORM = "the registry's URL is invalid; write neo4j://[user@]host[:port][/database], or bolt://…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The graph's address and credentials.

    Attributes:
        place: scheme, host and port, for the driver and for messages.
        database: None for the user's own.
        auth: user and password, or None.
    """

    place: str
    database: str | None
    auth: tuple[str, str] | None = field(repr=False)


def read_target(url: str, *, password_file: Path | None) -> Target:
    """Parse a URL: `scheme://[user@]host[:port][/database]`.

    Args:
        url: the configured URL; messages never quote it, as it may hold a password.
        password_file: the user's password, on one line.

    Raises:
        UnsupportedRegistryError: the URL has an unexpected part, or the password is missing.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its message quotes parts of the URL
        raise UnsupportedRegistryError(_FORM) from None
    if parts.password is not None:
        raise UnsupportedRegistryError(
            "the registry's URL must not hold a password; put it into a password file"
        )
    if parts.query or parts.fragment or "/" in parts.path.removeprefix("/") or not parts.hostname:
        raise UnsupportedRegistryError(_FORM)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    user = unquote(parts.username or "")
    return Target(
        place=f"{parts.scheme}://{host}:{7687 if port is None else port}",
        database=unquote(parts.path.removeprefix("/")) or None,
        auth=_auth(user, password_file),
    )


def _auth(user: str, file: Path | None) -> tuple[str, str] | None:
    if not user and file is None:
        return None
    if not user:
        raise UnsupportedRegistryError(
            "a password file is set, but the registry's URL names no user; add user@"
        )
    if file is None:
        raise UnsupportedRegistryError(
            "the registry's URL names a user, but no password file is set; set one"
        )
    try:
        return user, file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise UnsupportedRegistryError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:  # it would quote the password
        raise UnsupportedRegistryError(f"{file} is not UTF-8") from None
