"""Validation of records before they are written."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from lictor_common.text import is_digest
from registry.exceptions import InvalidRecordError
from registry.globs import glob_fault
from registry.model import Key, Library, Record, Setting, Team, Token, User, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R", bound=Record)

MAX_TEXT = 256


def validate(record: R) -> R:
    """Validate a record and return it as it will be stored, its tuples sorted and deduplicated.

    Raises:
        InvalidRecordError: a field is invalid; the error names record and field, without the value.
    """
    faults = _Faults(record)
    match record:
        case User():
            faults.text("id", "name").flag("active")
        case Workspace():
            faults.text("id", "name")
        case Library():
            faults.text("uid", "name", "workspace_id").texts("tags")
        case Team():
            faults.each("id", _uuid_fault).text("name", "owner", "active_jti").flag("active")
            faults.texts("workspaces").globs("tools")
        case Token():
            faults.each("digest", _digest_fault).text("label", "user").flag("active")
            faults.each("expires_at", _moment_fault).texts("libraries").globs("tools")
        case Key():
            faults.text("kid", "alg").flag("active")
        case Setting():
            faults.text("name")
            if (check := _SETTINGS.get(record.name)) is None:
                raise InvalidRecordError("settings", "name", "is not a setting")
            faults.each("value", check)
    return replace(record, **_canonical(record))


def check_origin(*, actor: str, action: str) -> None:
    """Check the actor and the action of a write, which go into the change log.

    Raises:
        InvalidRecordError: the actor or the action is not short, plain text.
    """
    for field, value in (("actor", actor), ("action", action)):
        if fault := _text_fault(value):
            raise InvalidRecordError("log", field, fault)


class _Faults:
    """Checks of one record's fields; the first fault is raised."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def each(self, field: str, fault_of: Callable[[Any], str | None]) -> _Faults:
        if fault := fault_of(getattr(self._record, field)):
            # An invalid id may be anything, even a bearer.
            own = field == self._record.key
            name = str(self._record.kind if own else self._record.ref)
            raise InvalidRecordError(name, field, fault)
        return self

    def text(self, *names: str) -> _Faults:
        for name in names:
            self.each(name, _text_fault)
        return self

    def flag(self, name: str) -> _Faults:
        return self.each(name, _flag_fault)

    def texts(self, name: str) -> _Faults:
        return self.each(name, lambda value: _tuple_fault(value, _text_fault))

    def globs(self, name: str) -> _Faults:
        return self.each(name, lambda value: _tuple_fault(value, _glob_fault))


def _canonical(record: Record) -> dict[str, Any]:
    changes: dict[str, Any] = {
        name: tuple(sorted(set(value)))
        for name in ("tags", "workspaces", "libraries", "tools")
        if (value := getattr(record, name, None)) is not None
    }
    if isinstance(record, Token) and record.expires_at is not None:
        changes["expires_at"] = float(record.expires_at)
    return changes


def _text_fault(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return "must be text that is not empty"
    if len(value) > MAX_TEXT:
        return f"must have at most {MAX_TEXT} characters"
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        return "must not hold control characters or surrogates"
    return None


def _glob_fault(value: Any) -> str | None:
    return _text_fault(value) or glob_fault(value)


def _flag_fault(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _digest_fault(value: Any) -> str | None:
    good = isinstance(value, str) and is_digest(value)
    return None if good else "must be 64 lowercase hexadecimal digits"


def _uuid_fault(value: Any) -> str | None:
    try:
        good = isinstance(value, str) and str(UUID(value)) == value
    except ValueError:
        good = False
    return None if good else "must be a UUID in its canonical lowercase form"


def _number_fault(value: Any) -> str | None:
    try:
        good = not isinstance(value, bool) and math.isfinite(value)
    except (TypeError, OverflowError):
        good = False
    return None if good else "must be a finite number"


def _moment_fault(value: Any) -> str | None:
    return None if value is None else _number_fault(value)


def _limit_fault(value: Any) -> str | None:
    return _number_fault(value) or (None if value > 0 else "must be more than zero seconds")


def _tuple_fault(value: Any, fault_of: Callable[[Any], str | None]) -> str | None:
    if not isinstance(value, tuple):
        return "must be a tuple"
    return next((fault for entry in value if (fault := fault_of(entry))), None)


def _list_fault(value: Any, fault_of: Callable[[Any], str | None]) -> str | None:
    if not isinstance(value, list):
        return "must be a list"
    return next((fault for entry in value if (fault := fault_of(entry))), None)


def _listable_fault(value: Any) -> str | None:
    if not isinstance(value, dict) or set(value) != {"anonymous", "rejected"}:
        return "must have the fields anonymous and rejected, and no other"
    return _list_fault(value["anonymous"], _glob_fault) or _list_fault(
        value["rejected"], _glob_fault
    )


_SETTINGS: dict[str, Callable[[Any], str | None]] = {
    "lockdown": _flag_fault,
    "staleness_limit": _limit_fault,
    "reconcile_limit": _limit_fault,
    "listable": _listable_fault,
    "issuers": lambda value: _list_fault(value, _text_fault),
}
