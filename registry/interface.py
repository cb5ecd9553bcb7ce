"""The interface of all registries, whatever their store; the contract tests run against each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from registry.model import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from lictor_common.version import RegistryVersion
    from registry.changelog import LogEntry
    from registry.model import Kind, Ref, Token, Usage

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Fault:
    """A placeholder for a record that exists but is unusable, such as one of two with one id."""

    why: str


Published: TypeAlias = dict[str, Any] | Fault
"""A record in the shape that bundles carry, not validated: other programs may have written it."""


@dataclass(frozen=True, slots=True)
class Change:
    """The revision that last touched a record, and the record as published: None if absent."""

    revision: int
    record: Published | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The changes between a revision and `version`. `settings` is complete; `changes` omits it.

    Attributes:
        head: the hash of the log's newest entry at `version`. A registry that was reset to an
            earlier state and written again can have the same version, but has another head.
    """

    version: RegistryVersion
    head: str
    changes: Mapping[Ref, Change]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Every record as published, by kind and id. `records` can be read once.

    Each record was read at `version` or later. To get one consistent state, apply
    `changed_since(version.revision)` after reading all records.
    """

    version: RegistryVersion
    records: AsyncIterator[tuple[Ref, Published]]


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem in the store; `fixed` if the check has corrected it.

    `what` names the record as `kind/id` if there is one, and never holds the value of a field.
    """

    what: str
    fixed: bool = False

    def __str__(self) -> str:
        return f"{self.what} (fixed)" if self.fixed else self.what


class Transaction(Protocol):
    """Reads and writes that happen together or not at all."""

    @property
    def version(self) -> RegistryVersion:
        """The registry's state when the transaction began; after the commit, the new state."""
        ...

    async def get(self, type_: type[R], id_: str, /) -> R | None:
        """Return a record as this transaction sees it, or None."""
        ...

    async def all(self, type_: type[R], /) -> list[R]:
        """Return all records of a kind, sorted by id."""
        ...

    async def tokens_labelled(self, label: str, /) -> list[Token]:
        """Return the tokens that have a label, sorted by digest."""
        ...

    async def put(self, *records: Record) -> None:
        """Insert or replace records, in order; an unchanged record has no effect.

        Raises:
            InvalidRecordError: a record does not hold what its kind requires.
            NotFoundError: a record names another that does not exist.
        """
        ...

    async def touch(self, *refs: Ref) -> None:
        """Mark records as changed by other programs in the store, whether they exist or not."""
        ...

    async def next_epoch(self) -> None:
        """Start the next epoch: everything published from this registry before becomes invalid."""
        ...

    async def delete(self, type_: type[Record], id_: str, /) -> None:
        """Delete a record. Settings cannot be deleted.

        Raises:
            NotFoundError: the record does not exist.
            StillReferencedError: other records name it.
        """
        ...


class Registry(Protocol):
    """The registry; each method may raise `RegistryUnavailableError`."""

    async def version(self) -> RegistryVersion:
        """Return the registry's current state."""
        ...

    def transaction(self, *, actor: str, action: str) -> AbstractAsyncContextManager[Transaction]:
        """Open a write; at its end it is committed, as one revision with one entry in the log.

        Without changes, no revision is made. An exception undoes the whole write. A task cancelled
        during the commit cannot know whether it took place. Transactions of one registry wait for
        each other: do not open one inside another.

        Args:
            actor: the actor of the write, for the log.
            action: the operation, such as `user disable`.
        """
        ...

    async def get(self, type_: type[R], id_: str, /) -> R | None:
        """Return a record, or None."""
        ...

    async def all(self, type_: type[R], /) -> list[R]:
        """Return all records of a kind, sorted by id."""
        ...

    async def changed_since(self, revision: int) -> Delta:
        """Return everything changed after `revision`, all read from one state."""
        ...

    def export_records(self) -> AbstractAsyncContextManager[Export]:
        """Export all records in bounded memory, a batch at a time, without blocking writers."""
        ...

    async def counts(self) -> Mapping[Kind, int]:
        """Return the approximate record counts by kind, for a progress bar; no settings."""
        ...

    async def record_usage(self, uses: Mapping[str, Usage], /) -> None:
        """Add to the tokens' numbers of uses, and update the time of the last.

        This does not change the registry: it makes no revision and no log entry, and nothing is
        published. Digests without a token are ignored.

        Args:
            uses: the uses to add, by the token's digest.

        Raises:
            RegistryUnavailableError: nothing was added, or the outcome is unknown; do not retry, as
                that could count the uses twice.
        """
        ...

    async def usage(self, digests: Iterable[str], /) -> Mapping[str, Usage]:
        """Return the tokens' uses, by digest; tokens that were never used are omitted."""
        ...

    async def log(self, *, after: int = 0, limit: int | None = None) -> list[LogEntry]:
        """Return the log's entries with a revision above `after`, oldest first, up to `limit`."""
        ...

    async def verify_log(self) -> int:
        """Check the whole log and return the number of its entries.

        Raises:
            LogBrokenError: an entry was altered, removed or added.
        """
        ...

    async def check(self, *, fix: bool = False) -> list[Finding]:
        """Check the whole store for problems, except for the log; see `verify_log`.

        Args:
            fix: create what a registry needs and the store lacks, such as its indexes. Data written
                by other programs is never altered.
        """
        ...

    async def aclose(self) -> None:
        """Release the registry's resources; it cannot be used afterwards."""
        ...
