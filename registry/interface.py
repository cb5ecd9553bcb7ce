"""What every registry can do, whichever store it is in; the contract tests run against each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from registry.model import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from registry.changelog import LogEntry
    from registry.model import Ref, Stamp, Token

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Change:
    """The revision that last touched a record, and the record as published: None if absent."""

    revision: int
    record: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What changed after a revision, as of `stamp`. Settings are whole, and not in `changes`."""

    stamp: Stamp
    changes: Mapping[Ref, Change]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Every record as published, as of `stamp`, by kind and id. `records` can be read once."""

    stamp: Stamp
    settings: Mapping[str, Any]
    records: AsyncIterator[tuple[Ref, dict[str, Any]]]


class Transaction(Protocol):
    """Reads and writes that happen together or not at all."""

    @property
    def stamp(self) -> Stamp:
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

    async def delete(self, type_: type[Record], id_: str, /) -> None:
        """Delete a record. Settings cannot be deleted.

        Raises:
            NotFound: there is none.
            StillReferenced: others name it.
        """
        ...


class Registry(Protocol):
    """The registry. All of its methods raise `Unavailable` when the store does not answer."""

    async def stamp(self) -> Stamp:
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
        """Everything, all read from one state, a batch at a time; writers do not wait for it."""
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

    async def aclose(self) -> None:
        """Give back what the registry holds; it cannot be used afterwards."""
        ...
