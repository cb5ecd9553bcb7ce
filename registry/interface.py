"""What every registry can do, whichever store it is in; the contract tests run against each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from registry.model import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from registry.changelog import LogEntry
    from registry.model import Kind, Ref, RegistryVersion, Token, Usage

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Fault:
    """In place of a record that is there but cannot be told, such as one of two with one id."""

    why: str


Published: TypeAlias = dict[str, Any] | Fault
"""A record in the shape that bundles carry, not validated: others may have written it."""


@dataclass(frozen=True, slots=True)
class Change:
    """The revision that last touched a record, and the record as published: None if absent."""

    revision: int
    record: Published | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What changed after a revision, as of `stamp`. Settings are whole, and not in `changes`.

    Attributes:
        head: the hash of the log's newest entry as of `stamp`. A registry that went back to an
            earlier state, and on from there, can have the same stamp; it has another head.
    """

    stamp: RegistryVersion
    head: str
    changes: Mapping[Ref, Change]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Every record as published, by kind and id. `records` can be read once.

    Each record is as it was at `stamp` or later: whoever lays `changed_since(stamp.revision)` over
    it, once it is read, has one state.
    """

    stamp: RegistryVersion
    records: AsyncIterator[tuple[Ref, Published]]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the store that is not as it should be; `fixed` if it is by now.

    `what` names the record as `kind/id` where there is one, and holds no value of any field.
    """

    what: str
    fixed: bool = False

    def __str__(self) -> str:
        return f"{self.what} (fixed)" if self.fixed else self.what


class Transaction(Protocol):
    """Reads and writes that happen together or not at all."""

    @property
    def stamp(self) -> RegistryVersion:
        """The registry's state when the transaction began; once committed, the state it made."""
        ...

    async def get(self, type_: type[R], id_: str, /) -> R | None:
        """A record as this transaction sees it, or None."""
        ...

    async def all(self, type_: type[R], /) -> list[R]:
        """All records of a kind, sorted by id."""
        ...

    async def tokens_labelled(self, label: str, /) -> list[Token]:
        """The tokens that have a label, sorted by digest."""
        ...

    async def put(self, *records: Record) -> None:
        """Insert or replace records, in order; one that is already stored as it is changes nothing.

        Raises:
            InvalidRecord: a record does not hold what its kind requires.
            NotFound: a record names another that does not exist.
        """
        ...

    async def touch(self, *refs: Ref) -> None:
        """Count records as changed, whether they exist or not: others changed them in the store."""
        ...

    async def next_epoch(self) -> None:
        """Start the next epoch: what was published of this registry before no longer counts."""
        ...

    async def delete(self, type_: type[Record], id_: str, /) -> None:
        """Delete a record. Settings cannot be deleted.

        Raises:
            NotFound: there is none.
            StillReferenced: others name it.
        """
        ...


class Registry(Protocol):
    """The registry. All of its methods raise `Unavailable` when the store does not answer."""

    async def stamp(self) -> RegistryVersion:
        """The state of the registry now."""
        ...

    def transaction(self, *, actor: str, action: str) -> AbstractAsyncContextManager[Transaction]:
        """One write: at its end it is committed, as one revision with one entry in the log.

        Nothing touched, no revision. An exception undoes all of it. A task that is cancelled during
        the commit cannot know whether it took place. Transactions of one registry wait for each
        other: do not open one inside another.

        Args:
            actor: who writes, for the log.
            action: what for, such as `user disable`.
        """
        ...

    async def get(self, type_: type[R], id_: str, /) -> R | None:
        """A record, or None."""
        ...

    async def all(self, type_: type[R], /) -> list[R]:
        """All records of a kind, sorted by id."""
        ...

    async def changed_since(self, revision: int) -> Delta:
        """Everything touched after `revision`, all read from one state."""
        ...

    def export_records(self) -> AbstractAsyncContextManager[Export]:
        """Everything, in bounded memory, a batch at a time; writers do not wait for it."""
        ...

    async def counts(self) -> Mapping[Kind, int]:
        """About how many records there are of each kind, for a progress bar; no settings."""
        ...

    async def record_usage(self, uses: Mapping[str, Usage], /) -> None:
        """Add to how often tokens were used, and note when last.

        It is no change of the registry: no revision, no log entry, nothing to publish. A digest
        that no token has is ignored.

        Args:
            uses: by the token's digest: what comes to what is known.

        Raises:
            Unavailable: nothing was added, or nobody knows; to be on the safe side, do not try the
                same again.
        """
        ...

    async def usage(self, digests: Iterable[str], /) -> Mapping[str, Usage]:
        """How often tokens were used, by digest; none of a token that never was."""
        ...

    async def log(self, *, after: int = 0, limit: int | None = None) -> list[LogEntry]:
        """The log's entries with a revision above `after`, oldest first, at most `limit`."""
        ...

    async def verify_log(self) -> int:
        """Check the whole log and return the number of its entries.

        Raises:
            LogBroken: an entry was altered, removed or added.
        """
        ...

    async def check(self, *, fix: bool = False) -> list[Finding]:
        """Look for what is wrong in the store, in all of it; the log is `verify_log`'s.

        Args:
            fix: make what a registry needs and the store lacks, such as its indexes. What others
                wrote is never altered.
        """
        ...

    async def aclose(self) -> None:
        """Give back what the registry holds; it cannot be used afterwards."""
        ...
