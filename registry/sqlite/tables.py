"""Records and their rows. Every function runs inside a transaction that its caller began."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from lictor_common.version import RegistryVersion
from registry import model
from registry.checks import validate
from registry.exceptions import InvalidRecordError, NotFoundError, StillReferencedError
from registry.model import (
    RECORD_TYPES,
    Key,
    Kind,
    Library,
    Record,
    Ref,
    Setting,
    Team,
    Token,
    User,
    Workspace,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

R = TypeVar("R", bound=Record)

_TEAM_WORKSPACES = """(
  SELECT json_group_array(workspace) FROM (
    SELECT workspace FROM team_workspaces WHERE team = teams.id ORDER BY workspace
  )
)"""


@dataclass(frozen=True, slots=True)
class _Table:
    """The storage of one type: its own columns, and the joined columns read with them."""

    type: type[Record]
    columns: tuple[str, ...]
    joined: tuple[tuple[str, str], ...] = ()

    @property
    def select(self) -> str:
        joined = "".join(f", {sql}" for _, sql in self.joined)
        return f"SELECT {', '.join(self.columns)}{joined} FROM {self.type.kind}"

    @property
    def upsert(self) -> str:
        names, marks = ", ".join(self.columns), ", ".join("?" for _ in self.columns)
        updates = ", ".join(f"{name} = excluded.{name}" for name in self.columns)
        return (
            f"INSERT INTO {self.type.kind} ({names}) VALUES ({marks})"
            f" ON CONFLICT ({self.type.key}) DO UPDATE SET {updates}"
        )

    def record(self, row: Sequence[Any]) -> Record:
        names = (*self.columns, *(name for name, _ in self.joined))
        return self.type(
            **{name: _DECODE.get(name, _same)(cell) for name, cell in zip(names, row, strict=True)}
        )

    def row(self, record: Record) -> list[Any]:
        return [_ENCODE.get(name, _same)(getattr(record, name)) for name in self.columns]


def _same(value: Any) -> Any:
    return value


@lru_cache  # a registry has few different lists, and its tokens are many
def _array(cell: str) -> tuple[Any, ...]:
    return tuple(json.loads(cell))


_ARRAYS = ("tools", "tags", "libraries", "workspaces")
_DECODE: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_ARRAYS, _array),
    "active": bool,
    "value": json.loads,
}
_ENCODE: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_ARRAYS, json.dumps),
    "value": json.dumps,
}

_TABLES: dict[type[Record], _Table] = {
    table.type: table
    for table in (
        _Table(Setting, ("name", "value")),
        _Table(User, ("id", "name", "active")),
        _Table(Workspace, ("id", "name")),
        _Table(Library, ("uid", "name", "workspace_id", "tags")),
        _Table(
            Team,
            ("id", "name", "owner", "active", "active_jti", "tools"),
            joined=(("workspaces", _TEAM_WORKSPACES),),
        ),
        _Table(Token, ("digest", "label", "user", "active", "expires_at", "libraries", "tools")),
        _Table(Key, ("kid", "alg", "active")),
    )
}
_TYPES = {type_.kind: type_ for type_ in RECORD_TYPES}


def version(db: sqlite3.Connection) -> RegistryVersion:
    """Return the registry's epoch and revision."""
    return RegistryVersion(*db.execute("SELECT epoch, revision FROM registry").fetchone())


def settings(db: sqlite3.Connection) -> dict[str, Any]:
    """Return all settings, by name."""
    return {setting.name: setting.value for setting in select(db, Setting)}


def get(db: sqlite3.Connection, type_: type[R], id_: str) -> R | None:
    """Return a record, or None."""
    return next(select(db, type_, f"WHERE {type_.key} = ?", (id_,)), None)


def select(
    db: sqlite3.Connection, type_: type[R], where: str = "", values: tuple[Any, ...] = ()
) -> Iterator[R]:
    """Yield records of a type, sorted by id."""
    table = _TABLES[type_]
    try:
        rows = db.execute(f"{table.select} {where} ORDER BY {type_.key}", values)
    except UnicodeEncodeError:  # a command line may hold lone surrogates; no record does
        return
    for row in rows:
        yield table.record(row)  # type: ignore[misc]  # _TABLES maps a type to its own table


def put(db: sqlite3.Connection, record: Record) -> set[Ref]:
    """Store a record, and return what it touched."""
    record = validate(record)
    before = get(db, type(record), record.ref.id)
    if before == record:
        return set()
    for ref in model.references(record):
        if not _exists(db, ref):
            raise NotFoundError(ref.kind, ref.id)
    table = _TABLES[type(record)]
    db.execute(table.upsert, table.row(record))
    if isinstance(record, Team):
        db.execute("DELETE FROM team_workspaces WHERE team = ?", (record.id,))
        db.executemany(
            "INSERT INTO team_workspaces (team, workspace) VALUES (?, ?)",
            [(record.id, workspace) for workspace in record.workspaces],
        )
    return {record.ref} | (_home(before) ^ _home(record))


def delete(db: sqlite3.Connection, type_: type[Record], id_: str) -> set[Ref]:
    """Delete a record, and return what that touched."""
    if type_ is Setting:
        raise InvalidRecordError("settings", "name", "cannot be deleted")
    before = get(db, type_, id_)
    if before is None:
        raise NotFoundError(type_.kind, id_)
    try:
        db.execute(f"DELETE FROM {type_.kind} WHERE {type_.key} = ?", (id_,))
    except sqlite3.IntegrityError as error:
        raise StillReferencedError(type_.kind, id_) from error
    return {before.ref} | _home(before)


def counts(db: sqlite3.Connection) -> dict[Kind, int]:
    """Return the number of records of each kind except settings."""
    return {
        type_.kind: db.execute(f"SELECT count(*) FROM {type_.kind}").fetchone()[0]
        for type_ in RECORD_TYPES
        if type_ is not Setting
    }


def published(db: sqlite3.Connection, ref: Ref) -> dict[str, Any] | None:
    """Return what bundles carry of a record; None if they carry nothing."""
    record = get(db, _TYPES[ref.kind], ref.id)
    return None if record is None else _published(db, record)


def faults(db: sqlite3.Connection) -> list[str]:
    """Return the problems of the file and its records."""
    found = [f"integrity: {row}" for (row,) in db.execute("PRAGMA integrity_check") if row != "ok"]
    for table, _rowid, parent, _key in db.execute("PRAGMA foreign_key_check"):
        found.append(f"{table}: a record names one of the {parent} that does not exist")
    for type_ in RECORD_TYPES:
        for record in select(db, type_):
            try:
                validate(record)
            except InvalidRecordError as error:
                found.append(str(error))
    missing = set(model.DEFAULT_SETTINGS) - set(settings(db))
    return found + [f"settings/{name}: is missing" for name in sorted(missing)]


def all_published(
    db: sqlite3.Connection,
) -> Generator[tuple[Ref, dict[str, Any]], None, None]:
    """Yield everything that bundles carry, by kind and id."""
    for type_ in RECORD_TYPES:
        if type_ is Setting:
            continue
        for record in select(db, type_):
            if (shape := _published(db, record)) is not None:
                yield record.ref, shape


def _published(db: sqlite3.Connection, record: Record) -> dict[str, Any] | None:
    if not isinstance(record, Workspace):
        return model.published(record)
    rows = db.execute("SELECT uid FROM libraries WHERE workspace_id = ? ORDER BY uid", (record.id,))
    return model.published(record, libraries=[uid for (uid,) in rows])


def _exists(db: sqlite3.Connection, ref: Ref) -> bool:
    type_ = _TYPES[ref.kind]
    sql = f"SELECT 1 FROM {ref.kind} WHERE {type_.key} = ?"
    return db.execute(sql, (ref.id,)).fetchone() is not None


def _home(record: Record | None) -> set[Ref]:
    """Return the workspace whose published record lists this one."""
    if not isinstance(record, Library):
        return set()
    return {Ref(Kind.WORKSPACES, record.workspace_id)}
