"""The records of a registry: users, teams, tokens and the rest, and what is granted to them.

Records are plain values. They are checked when they are written (`registry.checks`), not when they
are created or read: records written by other programs must still be readable, and `bundles/`
decides which may be published. Every tuple of a record is a set: stored sorted, each entry once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Kind(StrEnum):
    """The kinds of records, spelt as in the paths of published data."""

    USERS = "users"
    TEAMS = "teams"
    TOKENS = "tokens"
    WORKSPACES = "workspaces"
    LIBRARIES = "libraries"
    KEYS = "keys"
    SETTINGS = "settings"


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """The name of one record, whether it exists or not."""

    kind: Kind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.id}"


@dataclass(frozen=True, slots=True)
class Record:
    """The base of all records; `key` names the field that identifies one among its kind."""

    kind: ClassVar[Kind]
    key: ClassVar[str]

    @property
    def ref(self) -> Ref:
        """The record's kind and id."""
        return Ref(self.kind, getattr(self, self.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Record):
    """A person or a service account; owns teams and tokens."""

    kind = Kind.USERS
    key = "id"

    id: str
    name: str
    active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace(Record):
    """A group of libraries that teams are assigned to."""

    kind = Kind.WORKSPACES
    key = "id"

    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Library(Record):
    """A library, in exactly one workspace."""

    kind = Kind.LIBRARIES
    key = "uid"

    uid: str
    name: str
    workspace_id: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Team(Record):
    """A team; its JWT is valid while `active_jti` is that JWT's `jti`. `id` is a canonical UUID."""

    kind = Kind.TEAMS
    key = "id"

    id: str
    name: str
    owner: str
    active_jti: str
    active: bool = True
    workspaces: tuple[str, ...] = ()
    tools: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Record):
    """An opaque token, known by its digest: SHA-256 of the bearer in lowercase hex.

    `expires_at` is in seconds since 1970, None for never; no libraries and no tools mean none.
    """

    kind = Kind.TOKENS
    key = "digest"

    digest: str
    label: str
    user: str
    active: bool = True
    expires_at: float | None = None
    libraries: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Key(Record):
    """The public data of a signing key; the key itself is in the keyring file, never here."""

    kind = Kind.KEYS
    key = "kid"

    kid: str
    alg: str
    active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Record):
    """A setting that rules read; `value` is a JSON value. `DEFAULT_SETTINGS` lists them all."""

    kind = Kind.SETTINGS
    key = "name"

    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class Usage:
    """A token's number of uses, above 0, and the time of the last, in seconds since 1970.

    It is not part of any record: it is never published, logged or exported.
    """

    uses: int
    last_used_at: float


MOST_USES = 2**53
"""About where counting ends: the largest integer that every JSON parser reads exactly."""


DEFAULT_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "lockdown": False,
        "staleness_limit": 30,
        "reconcile_limit": 600,
        "listable": {"anonymous": ["*"], "rejected": []},
        "issuers": ["daedalus", "mnemosyne"],
    }
)
"""The settings of a new registry; there are no others. Limits are in seconds."""

# A kind comes after those that its records may name.
RECORD_TYPES: tuple[type[Record], ...] = (Setting, User, Workspace, Library, Team, Token, Key)


def references(record: Record) -> tuple[Ref, ...]:
    """Return the records that must exist for `record` to be stored."""
    match record:
        case Team():
            return (
                Ref(Kind.USERS, record.owner),
                *(Ref(Kind.WORKSPACES, workspace) for workspace in record.workspaces),
            )
        case Token():
            return (Ref(Kind.USERS, record.user),)
        case Library():
            return (Ref(Kind.WORKSPACES, record.workspace_id),)
        case _:
            return ()


def published(record: Record, *, libraries: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return a record in the shape that bundles carry, not validated.

    Args:
        record: any record except a setting.
        libraries: for a workspace, the sorted uids of its libraries.

    Returns:
        A JSON object without the record's id; None for a library without tags: no rule reads it.
    """
    match record:
        case Workspace():
            return {"name": record.name, "libraries": list(libraries)}
        case Library():
            return {"name": record.name, "tags": list(record.tags)} if record.tags else None
        case _:
            return {
                field.name: list(value) if isinstance(value, tuple) else value
                for field in fields(record)
                if field.name != record.key
                for value in (getattr(record, field.name),)
            }
