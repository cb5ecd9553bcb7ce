"""The records as the contract has them, and the refusal of those that are not.

OPA's schemas do not reach below dynamic keys, so a record is checked here, on its way out. One that
does not fit is published as `null`, which every rule takes for a record that is not there.
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic takes typing's only from Python 3.12 on

from bundles.publish.signing import canonical_json
from lictor_common.text import is_digest
from registry.globs import glob_fault
from registry.interface import Fault, Published
from registry.model import Kind, Ref

REFUSED_LIBRARY: Mapping[str, Any] = {"name": "", "tags": None}
"""What is published of a library whose record does not fit. Without a record it would have no
tags, and no rule about tags would hide it."""

_MOST_PROBLEMS = 1000
"""Records that are named; where more are malformed, something else is wrong."""

_log = logging.getLogger(__name__)
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _text(text: str) -> str:
    if not _is_unicode(text):
        raise ValueError("is not Unicode text")
    return text


def _glob(pattern: str) -> str:
    if fault := glob_fault(pattern):
        raise ValueError(fault)
    return pattern


Text = Annotated[str, AfterValidator(_text)]
Glob = Annotated[Text, AfterValidator(_glob)]


@with_config(_STRICT)
class TokenRecord(TypedDict):
    """`tokens[digest]`; `expires_at` in seconds since 1970."""

    label: Text
    user: Text
    active: bool
    expires_at: float | None
    libraries: list[Text]
    tools: list[Glob]


@with_config(_STRICT)
class TeamRecord(TypedDict):
    """`teams[id]`."""

    name: Text
    owner: Text
    active: bool
    active_jti: Text
    workspaces: list[Text]
    tools: list[Glob]


@with_config(_STRICT)
class UserRecord(TypedDict):
    """`users[id]`."""

    name: Text
    active: bool


@with_config(_STRICT)
class KeyRecord(TypedDict):
    """`keys[kid]`."""

    alg: Text
    active: bool


@with_config(_STRICT)
class WorkspaceRecord(TypedDict):
    """`workspaces[id]`."""

    name: Text
    libraries: list[Text]


@with_config(_STRICT)
class LibraryRecord(TypedDict):
    """`libraries[uid]`, for libraries that have tags."""

    name: Text
    tags: list[Text]


_ADAPTERS: Mapping[Kind, TypeAdapter[Any]] = {
    Kind.TOKENS: TypeAdapter(TokenRecord),
    Kind.TEAMS: TypeAdapter(TeamRecord),
    Kind.USERS: TypeAdapter(UserRecord),
    Kind.KEYS: TypeAdapter(KeyRecord),
    Kind.WORKSPACES: TypeAdapter(WorkspaceRecord),
    Kind.LIBRARIES: TypeAdapter(LibraryRecord),
}


def find_problem(ref: Ref, record: Published | None) -> str | None:
    """Describe a record's fault as `kind/id: field: why`; None if it may be published.

    The record's values are not in the text: a field of the wrong kind may hold anything.
    """
    if not has_valid_id(ref):
        # The message omits the id: it may be a bearer in place of a digest.
        return f"{ref.kind}: an id that is not a digest, or not text"
    if record is None:
        return None
    if isinstance(record, Fault):
        return f"{ref}: {record.why}"
    try:
        _ADAPTERS[ref.kind].validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        return ": ".join(filter(None, (str(ref), field, first["msg"])))
    return None


def has_valid_id(ref: Ref) -> bool:
    """Return whether a bundle can hold a record of this id; no query can name any other."""
    return is_digest(ref.id) if ref.kind is Kind.TOKENS else _is_unicode(ref.id)


def _is_unicode(text: str) -> bool:
    # A lone surrogate is not: JSON can spell it, UTF-8 cannot.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shard_of(ref: Ref, shards: int) -> str:
    """The shard that a record falls into, as two hexadecimal digits.

    The first byte of a token's digest, or of the SHA-256 of any other id, modulo the number of
    shards; `lictor.registry.shard` in the Rego is the same. What has no place falls into the first.
    """
    if not has_valid_id(ref):
        first = 0
    elif ref.kind is Kind.TOKENS:
        first = int(ref.id[:2], 16)
    else:
        first = hashlib.sha256(ref.id.encode()).digest()[0]
    return f"{first % shards:02x}"


def shards_of_bytes(shards: int) -> dict[str, str]:
    """The shard of each first byte: what `shard_of` says, for rules to look up."""
    return {f"{first:02x}": f"{first % shards:02x}" for first in range(256)}


class RecordValidator:
    """Validates records for bundles. `problems` names the refused records, and why."""

    def __init__(self) -> None:
        self.problems: dict[Ref, str] = {}

    def validate(self, ref: Ref, record: Published | None) -> dict[str, Any] | None:
        """The record if it fits; else None, and it is named among the problems.

        A library that does not fit has `null` for tags: rules that read libraries hide it.
        """
        fault = find_problem(ref, record)
        self._note(ref, fault)
        if fault and ref.kind is Kind.LIBRARIES:
            return dict(REFUSED_LIBRARY)
        return None if fault or isinstance(record, Fault) else record

    def insert(self, document: dict[str, Any], ref: Ref, record: dict[str, Any] | None) -> None:
        """Put a record that has passed into a document of records by kind and id."""
        if has_valid_id(ref):
            document.setdefault(ref.kind.value, {})[ref.id] = record

    def valid_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that JSON can hold. Without one of them OPA answers `stale_data`."""
        valid = {}
        for name, value in settings.items():
            ref, fault = Ref(Kind.SETTINGS, name), None
            try:
                canonical_json({name: value})
            except ValueError:
                fault = f"{ref}: is not a JSON value"
            else:
                valid[name] = value
            self._note(ref, fault)
        return valid

    def _note(self, ref: Ref, fault: str | None) -> None:
        if fault is None:
            self.problems.pop(ref, None)
        elif self.problems.get(ref) != fault and len(self.problems) < _MOST_PROBLEMS:
            _log.warning("publisher.record_refused %s", fault)
            self.problems[ref] = fault
