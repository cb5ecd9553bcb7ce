"""Conversion of rows, which other programs may have written, to records and published data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from registry.interface import Fault, Published
from registry.model import RECORD_TYPES, Kind, Record, Team, Token
from registry.neo4j.queries import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

R = TypeVar("R", bound=Record)

TWICE = Fault("there is more than one of this id")
TYPES: Mapping[Kind, type[Record]] = {type_.kind: type_ for type_ in RECORD_TYPES}

_ONE_OF = {Kind.TEAMS: ("owners", "owner"), Kind.TOKENS: ("users", "user")}
_SETS = ("workspaces", "libraries", "tags", "tools")


def record(type_: type[R], row: Sequence[Any]) -> R:
    """Convert a row to a record, whatever its values; several owners, or none, become None."""
    values = _values(type_.kind, row)
    if type_ in {Team, Token}:
        column, field = _ONE_OF[type_.kind]
        owner = _only(values.pop(column), field)
        values[field] = None if isinstance(owner, Fault) else owner
    values = {
        name: tuple(_in_order(value)) if name in _SETS and isinstance(value, list) else value
        for name, value in values.items()
    }
    return type_(**{type_.key: row[0], **values})


def published(kind: Kind, row: Sequence[Any], *, libraries: Sequence[Any] = ()) -> Published | None:
    """Convert a row to the shape that bundles carry, or to the fault that prevents it.

    Args:
        kind: any kind except settings.
        row: the columns of `kind`'s file.
        libraries: for a workspace, the uids of its libraries, in any order.

    Returns:
        None for a library without tags: no rule reads it.
    """
    values = _values(kind, row)
    match kind:
        case Kind.WORKSPACES:
            values["libraries"] = _in_order(libraries)
        case Kind.LIBRARIES:
            workspace = values.pop("workspace_id")
            if not isinstance(workspace, str) or not workspace.strip():
                return Fault("has no workspace")
            if values["tags"] == []:
                return None
        case Kind.TEAMS | Kind.TOKENS:
            column, field = _ONE_OF[kind]
            owner = _only(values.pop(column), field)
            if isinstance(owner, Fault):
                return owner
            values[field] = owner
            if kind is Kind.TEAMS:
                values["workspaces"] = _in_order(values["workspaces"])
    return values


def _values(kind: Kind, row: Sequence[Any]) -> dict[str, Any]:
    names = COLUMNS[kind][1:]
    return {name: _json(value) for name, value in zip(names, row[1:], strict=True)}


def _json(value: Any) -> Any:
    """Return a property's value; dates, points and bytes become a listable, invalid value."""
    match value:
        case str() | bool() | float() | int() | None:
            return value
        case list():
            return [_json(one) for one in value]
        case _:
            return {type(value).__name__: str(value)}


def _only(values: Any, what: str) -> Any:
    match values:
        case [one, *others] if all(other == one for other in others):
            return one
        case [_, *_]:
            return Fault(f"has more than one {what}")
        case _:
            return Fault(f"has no {what}")


def _in_order(values: Any) -> Any:
    """Return texts sorted and unique, as lictor writes them; anything else unchanged."""
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return sorted(set(values))
    return values
