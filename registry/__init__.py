"""Who exists, and what is granted to them: users, teams, tokens, keys, workspaces and libraries.

`open_registry` opens the registry that a URL names; `registry.operations` has the operator's verbs,
and `registry.document` brings a whole registry in and out as YAML.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from registry.exceptions import RegistryError, UnsupportedRegistry
from registry.interface import Change, Delta, Export, Fault, Published, Registry, Transaction
from registry.model import (
    Key,
    Kind,
    Library,
    Record,
    Ref,
    Setting,
    Stamp,
    Team,
    Token,
    User,
    Workspace,
    token_label,
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
    "Key",
    "Kind",
    "Library",
    "Published",
    "Record",
    "Ref",
    "Registry",
    "RegistryError",
    "Setting",
    "Stamp",
    "Team",
    "Token",
    "Transaction",
    "User",
    "Workspace",
    "open_registry",
    "token_label",
]


async def open_registry(url: str, *, clock: Callable[[], float] = time.time) -> Registry:
    """Open a registry; close it with its `aclose`, or `contextlib.aclosing`.

    Args:
        url: `sqlite:///relative/path` or `sqlite:////absolute/path`. A file that does not exist is
            made, readable by its owner only.
        clock: seconds since 1970, for the change log.

    Raises:
        UnsupportedRegistry: the URL names no store that this version knows.
        SchemaVersion: another version's registry is there.
        Unreadable: something else is there.
    """
    scheme, _, rest = url.partition("://")
    match scheme:
        case "sqlite" if rest.startswith("/") and rest != "/":
            path = Path(rest[1:])
            await asyncio.to_thread(prepare, path)
            return SQLiteRegistry(path, clock=clock)
        case "sqlite":
            raise UnsupportedRegistry("an SQLite registry is sqlite:/// and then the file's path")
        case "neo4j" | "neo4j+s" | "neo4j+ssc" | "bolt" | "bolt+s" | "bolt+ssc":
            raise UnsupportedRegistry("a registry in Neo4j is not built into this version yet")
        case _:  # not quoted: a URL may hold a password
            raise UnsupportedRegistry("a registry's URL begins with sqlite:/// or neo4j://")
