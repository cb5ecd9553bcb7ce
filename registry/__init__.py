"""The registry: users, teams, tokens, keys, workspaces and libraries, and what is granted to them.

`open_registry` opens the registry that a URL names; `registry.operations` has the operator's verbs,
and `registry.document` imports and exports a whole registry as YAML.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lictor_common.text import token_label
from lictor_common.version import RegistryVersion
from registry.exceptions import RegistryError, UnsupportedRegistryError
from registry.interface import (
    Change,
    Delta,
    Export,
    Fault,
    Finding,
    Published,
    Registry,
    Transaction,
)
from registry.model import (
    Key,
    Kind,
    Library,
    Record,
    Ref,
    Setting,
    Team,
    Token,
    Usage,
    User,
    Workspace,
)
from registry.sqlite.file import prepare
from registry.sqlite.store import SQLiteRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Change",
    "Delta",
    "Export",
    "Fault",
    "Finding",
    "Key",
    "Kind",
    "Library",
    "Published",
    "Record",
    "Ref",
    "Registry",
    "RegistryError",
    "RegistryVersion",
    "Setting",
    "Team",
    "Token",
    "Transaction",
    "Usage",
    "User",
    "Workspace",
    "open_registry",
    "token_label",
]


async def open_registry(
    url: str,
    *,
    clock: Callable[[], float] = time.time,
    password_file: Path | None = None,
    cypher: Path | None = None,
) -> Registry:
    """Open a registry; close it with its `aclose`, or `contextlib.aclosing`.

    Args:
        url: `sqlite:///relative/path` or `sqlite:////absolute/path`: a missing file is created,
            readable by its owner only. Or `neo4j://[user@]host[:port][/database]`, also with `bolt`
            and, for TLS, `+s` or `+ssc`: nothing is created there, and the registry connects on
            first use; `Registry.check` creates what is missing.
        clock: seconds since 1970, for the change log.
        password_file: holds the password of the URL's user, on one line. Not for SQLite.
        cypher: a folder of `.cypher` files that replace ours of the same name. Not for SQLite.

    Raises:
        UnsupportedRegistryError: the URL does not name a store that this version supports, or
            the other arguments do not fit it.
        SchemaVersionError: the registry was written by another version.
        UnreadableRegistryError: the store exists, but is not a registry.
    """
    scheme, _, rest = url.partition("://")
    match scheme:
        case "sqlite" if rest.startswith("/") and rest != "/":
            path = Path(rest[1:])
            await asyncio.to_thread(prepare, path)
            return SQLiteRegistry(path, clock=clock)
        case "sqlite":
            raise UnsupportedRegistryError(
                "the registry's URL is invalid; write sqlite:/// and the file's path"
            )
        case "neo4j" | "neo4j+s" | "neo4j+ssc" | "bolt" | "bolt+s" | "bolt+ssc":
            try:  # only a registry in Neo4j needs its driver
                from registry.neo4j.store import open_graph  # noqa: PLC0415
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] != "neo4j":
                    raise
                raise UnsupportedRegistryError(
                    "a registry in Neo4j needs its driver: pip install 'lictor[neo4j]'"
                ) from error
            return open_graph(url, clock=clock, password_file=password_file, cypher=cypher)
        case _:  # not quoted: a URL may hold a password
            raise UnsupportedRegistryError("the URL must begin with sqlite:/// or neo4j://")
