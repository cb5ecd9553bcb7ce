"""The `.cypher` files that read records: lictor's own, and a site's replacements for some."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from neo4j.exceptions import ClientError

from registry.exceptions import UnreadableRegistryError, UnsupportedRegistryError
from registry.model import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from registry.neo4j.session import Open

COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **{f"{kind}.ids": ("id",) for kind in Kind if kind is not Kind.SETTINGS},
        "libraries.published.ids": ("id",),
        "tokens.labelled.ids": ("id",),
        "counts": ("kind", "count"),
        "users": ("id", "name", "active"),
        "workspaces": ("id", "name"),
        "workspaces.libraries": ("id", "libraries"),
        "libraries": ("uid", "name", "workspace_id", "tags"),
        "teams": ("id", "name", "owners", "active", "active_jti", "workspaces", "tools"),
        "tokens": ("digest", "label", "users", "active", "expires_at", "libraries", "tools"),
        "tokens.usage": ("digest", "uses", "last_used_at"),
        "keys": ("kid", "alg", "active"),
    }
)
"""The queries, each a file `NAME.cypher`, and the columns that it returns."""

PARAMETERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        name: ("label",)
        if name == "tokens.labelled.ids"
        else ("after", "limit")
        if name.endswith(".ids")
        else ()
        if name == "counts"
        else ("ids",)
        for name in COLUMNS
    }
)
"""The parameters of each query."""

_SUFFIX = ".cypher"


class Queries:
    """The queries of one registry."""

    def __init__(self, folder: Path | None) -> None:
        """Read the files.

        Args:
            folder: a site's own queries; each file replaces lictor's of the same name.

        Raises:
            UnsupportedRegistryError: the folder has a file with an unknown name, or cannot be read.
        """
        ours = files(__package__) / "cypher"
        texts = {name: (ours / f"{name}{_SUFFIX}").read_text("utf-8") for name in COLUMNS}
        self.replaced = _read(folder) if folder is not None else {}
        self._texts = {
            name: _in_one_row(text, COLUMNS[name])
            for name, text in {**texts, **self.replaced}.items()
        }

    async def rows(
        self, opened: Open, name: str, *, seconds: float, **parameters: Any
    ) -> list[list[Any]]:
        """Run a query, and return its rows, each with the values of its columns.

        Raises:
            UnreadableRegistryError: the query does not fit the graph, or lacks a column.
        """
        with _named(name):
            rows: list[list[Any]] = await opened.run(
                self._texts[name], seconds=seconds, **parameters
            )
        return rows

    async def explain(self, opened: Open, name: str, **parameters: Any) -> str | None:
        """Plan a query without running it: `r` if it only reads.

        Raises:
            UnreadableRegistryError: as `rows` does.
        """
        with _named(name):
            return await opened.explain(self._texts[name], **parameters)


def _in_one_row(text: str, columns: Sequence[str]) -> str:
    # One list of lists is unpacked several times as fast as separate rows, and a missing column is
    # an error of the query.
    return f"CALL () {{\n{text}\n}}\nRETURN collect([{', '.join(columns)}])"


def _read(folder: Path) -> dict[str, str]:
    try:
        found = {
            path.name.removesuffix(_SUFFIX): path.read_text("utf-8").strip().removesuffix(";")
            for path in sorted(folder.iterdir())
            if path.name.endswith(_SUFFIX)
        }
    except OSError as error:
        raise UnsupportedRegistryError(f"{folder} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnsupportedRegistryError(f"{folder} has a query that is not UTF-8") from error
    for name in found:
        if name not in COLUMNS:
            known = ", ".join(sorted(COLUMNS))
            raise UnsupportedRegistryError(
                f"{folder}: {name}{_SUFFIX} is not a query; the queries are: {known}"
            )
    return found


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Name the query in errors about it."""
    try:
        yield
    except ClientError as error:
        code = error.code or ""
        if not code.startswith("Neo.ClientError.Statement."):
            raise
        # Only syntax errors keep their message: it is about the query's text; others quote values.
        reason = f"{code}: {error.message}" if code.endswith(".SyntaxError") else code
        raise UnreadableRegistryError(f"{name}{_SUFFIX} cannot be run: {reason}") from error
