"""The change log: one entry for each revision, each holding the hash of the one before.

Anyone able to write the store can also write a whole new chain: the chain detects damage and
careless edits. It proves more if a hash has been kept elsewhere, for example in a receipt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from registry.exceptions import LogBrokenError
from registry.model import Kind, Ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GENESIS = "0" * 64
"""The `previous` of the first entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One write.

    Attributes:
        at: seconds since 1970.
        touched: the records whose published form may differ from before, sorted.
        previous: the hash of the entry before, hex; `GENESIS` in the first.
        hash: SHA-256 in hex over the other fields, as JSON with sorted keys, no blanks, ASCII only.
    """

    revision: int
    at: float
    actor: str
    action: str
    touched: tuple[Ref, ...]
    previous: str
    hash: str = ""

    def with_hash(self) -> LogEntry:
        """Return the entry with its hash."""
        body = {
            "revision": self.revision,
            "at": self.at,
            "actor": self.actor,
            "action": self.action,
            "touched": [[ref.kind, ref.id] for ref in self.touched],
            "previous": self.previous,
        }
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return replace(self, hash=sha256(text.encode()).hexdigest())


def read_entry(row: Sequence[Any]) -> LogEntry:
    """Parse an entry as a store holds it; its hash is not checked.

    Args:
        row: revision, at, actor, action, touched (a JSON list of pairs of a kind and an id),
            previous, hash.

    Raises:
        LogBrokenError: a column has the wrong type.
    """
    match row:
        case [
            int() as revision,
            float() as at,
            str() as actor,
            str() as action,
            str() as touched,
            str() as previous,
            str() as hash_,
        ]:
            try:
                refs = tuple(Ref(Kind(kind), id_) for kind, id_ in json.loads(touched))
            except (TypeError, ValueError, RecursionError) as error:
                raise LogBrokenError(revision) from error
            return LogEntry(
                revision=revision,
                at=at,
                actor=actor,
                action=action,
                touched=refs,
                previous=previous,
                hash=hash_,
            )
        case _:
            raise LogBrokenError(row[0])


class Chain:
    """The check of a whole log, entry by entry, oldest first. `count` is the valid ones so far."""

    def __init__(self) -> None:
        self.count = 0
        self._previous = GENESIS

    def add(self, entry: LogEntry) -> None:
        """Check the next entry.

        Raises:
            LogBrokenError: the entry was altered, or is not the next one.
        """
        expected = self.count + 1
        in_place = entry.revision == expected and entry.previous == self._previous
        if not in_place or entry.with_hash().hash != entry.hash:
            raise LogBrokenError(expected)
        self.count, self._previous = expected, entry.hash

    def end(self, *, revision: int) -> None:
        """Check that the log ends at the registry's revision.

        Raises:
            LogBrokenError: entries at the end are missing or surplus.
        """
        if self.count != revision:
            raise LogBrokenError(min(self.count, revision) + 1)


def verify(entries: Iterable[LogEntry], *, revision: int) -> int:
    """Check a whole log, oldest entry first, against the registry's revision.

    Returns:
        The number of entries.

    Raises:
        LogBrokenError: an entry is missing, altered or surplus; names the first.
    """
    chain = Chain()
    for entry in entries:
        chain.add(entry)
    chain.end(revision=revision)
    return chain.count
