"""The errors of a registry.

No message holds a value that might be a secret: fields are named, never quoted.
"""

from __future__ import annotations

from typing import ClassVar


class RegistryError(Exception):
    """The base of this package's errors, never raised itself; `code` is stable."""

    code: ClassVar[str]


class NotFoundError(RegistryError):
    """No such record: its `kind` (plural, as in paths) and `id`, None where that may be secret."""

    code = "not_found"

    def __init__(self, kind: str, id_: str | None) -> None:
        super().__init__(f"{kind}: no record {id_!r}" if id_ is not None else f"{kind}: no match")
        self.kind = kind
        self.id = id_


class AlreadyExistsError(RegistryError):
    """A record of that kind and id exists."""

    code = "already_exists"

    def __init__(self, kind: str, id_: str) -> None:
        super().__init__(f"{kind}: {id_!r} already exists")
        self.kind = kind
        self.id = id_


class StillReferencedError(RegistryError):
    """A record cannot be deleted while others name it."""

    code = "still_referenced"

    def __init__(self, kind: str, id_: str) -> None:
        super().__init__(f"{kind}: {id_!r} cannot be deleted while other records name it")
        self.kind = kind
        self.id = id_


class AmbiguousLabelError(RegistryError):
    """A label fits several tokens; their digests tell them apart."""

    code = "ambiguous"

    def __init__(self, label: str, digests: tuple[str, ...]) -> None:
        super().__init__(f"{label} is the label of {len(digests)} tokens; give the full digest")
        self.digests = digests


class InvalidRecordError(RegistryError):
    """A field of a record is invalid.

    Attributes:
        record: `kind/id`, or the kind alone if the id itself is invalid.
        field: the field's name, with an index where it is a list.
    """

    code = "invalid_record"

    def __init__(self, record: str, field: str, reason: str) -> None:
        super().__init__(f"{record}: {field} {reason}")
        self.record = record
        self.field = field


class InvalidDocumentError(RegistryError):
    """A document cannot be imported; `path` is where, such as `teams[0].owner`."""

    code = "invalid_document"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


class UnsupportedRegistryError(RegistryError):
    """A registry URL that this version cannot open."""

    code = "unsupported_registry"


class SchemaVersionError(RegistryError):
    """The store has another version's layout; it was not changed."""

    code = "schema_version"

    def __init__(self, place: str, *, found: int, expected: int) -> None:
        super().__init__(
            f"{place} has registry layout {found}, this version of lictor reads layout {expected}; "
            "use the version that wrote it"
        )
        self.found = found
        self.expected = expected


class UnreadableRegistryError(RegistryError):
    """The store is not a registry, or is damaged; it was not changed."""

    code = "unreadable"


class RegistryUnavailableError(RegistryError):
    """The store could not be reached, or stayed locked too long; trying again may help."""

    code = "unavailable"


class LogBrokenError(RegistryError):
    """The change log was altered: `revision` is the first that does not match."""

    code = "log_broken"

    def __init__(self, revision: int) -> None:
        super().__init__(f"the change log was altered at revision {revision}; restore a backup")
        self.revision = revision
