"""The records as the contract has them, and the refusal of those that are not.

OPA's schemas do not reach below dynamic keys, so a record is checked here, on its way out. One that
does not fit is published as `null`, which every rule takes for a record that is not there.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic takes typing's only from Python 3.12 on

from registry.globs import glob_fault
from registry.model import Kind, Ref

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _glob(pattern: str) -> str:
    if fault := glob_fault(pattern):
        raise ValueError(fault)
    return pattern


Glob = Annotated[str, AfterValidator(_glob)]


@with_config(_STRICT)
class TokenRecord(TypedDict):
    """`tokens[digest]`; `expires_at` in seconds since 1970."""

    label: str
    user: str
    active: bool
    expires_at: float | None
    libraries: list[str]
    tools: list[Glob]


@with_config(_STRICT)
class TeamRecord(TypedDict):
    """`teams[id]`."""

    name: str
    owner: str
    active: bool
    active_jti: str
    workspaces: list[str]
    tools: list[Glob]


@with_config(_STRICT)
class UserRecord(TypedDict):
    """`users[id]`."""

    name: str
    active: bool


@with_config(_STRICT)
class KeyRecord(TypedDict):
    """`keys[kid]`."""

    alg: str
    active: bool


@with_config(_STRICT)
class WorkspaceRecord(TypedDict):
    """`workspaces[id]`."""

    name: str
    libraries: list[str]


@with_config(_STRICT)
class LibraryRecord(TypedDict):
    """`libraries[uid]`, for libraries that have tags."""

    name: str
    tags: list[str]


_ADAPTERS: Mapping[Kind, TypeAdapter[Any]] = {
    Kind.TOKENS: TypeAdapter(TokenRecord),
    Kind.TEAMS: TypeAdapter(TeamRecord),
    Kind.USERS: TypeAdapter(UserRecord),
    Kind.KEYS: TypeAdapter(KeyRecord),
    Kind.WORKSPACES: TypeAdapter(WorkspaceRecord),
    Kind.LIBRARIES: TypeAdapter(LibraryRecord),
}


def problem(ref: Ref, record: Mapping[str, Any] | None) -> str | None:
    """What is wrong with a record, as `kind/id: field: why`; None when it may be published.

    The record's values are not in the text: a field of the wrong kind may hold anything.
    """
    if record is None:
        return None
    try:
        _ADAPTERS[ref.kind].validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        return f"{ref}: {field}: {first['msg']}"
    return None


def shard_of(ref: Ref, shards: int) -> str:
    """The shard that a record falls into, as two hexadecimal digits.

    The first byte of a token's digest, or of the SHA-256 of any other id, modulo the number of
    shards; `lictor.registry.shard` in the Rego is the same.
    """
    if ref.kind is Kind.TOKENS:
        first = int(ref.id[:2], 16)
    else:
        first = hashlib.sha256(ref.id.encode()).digest()[0]
    return f"{first % shards:02x}"
