"""The records that changed after the bases were written: those of `live`, by shard."""

from collections.abc import Collection, Mapping
from typing import Any

from bundles.publish.records import RecordValidator, shard_of, shards_of_bytes
from registry import Delta, Ref


class LiveRecords:
    """The newest change of each record that its shard's base does not hold yet.

    Attributes:
        since: shard to the revision after which all of its changes are here.
        settings: the settings that rules read.
    """

    def __init__(self, since: Mapping[str, int], validator: RecordValidator) -> None:
        self.since = dict(since)
        self.settings: dict[str, Any] = {}
        self._validator = validator
        # Shard to record to the revision that touched it and what is published of it.
        self._changes: dict[str, dict[Ref, tuple[int, dict[str, Any] | None]]] = {
            shard: {} for shard in since
        }

    def __len__(self) -> int:
        return sum(map(len, self._changes.values()))

    def apply(self, delta: Delta) -> None:
        """Lay what has changed over what changed before."""
        for ref, change in delta.changes.items():
            record = self._validator.validate(ref, change.record)
            shard = shard_of(ref, len(self.since))
            if change.revision > self.since[shard]:
                self._changes[shard][ref] = change.revision, record
        self.settings = self._validator.valid_settings(delta.settings)

    def drop_through(self, shard: str, revision: int) -> None:
        """Forget what a base of this revision holds."""
        self.since[shard] = revision
        self._changes[shard] = {
            ref: change for ref, change in self._changes[shard].items() if change[0] > revision
        }

    def of_shard(self, shard: str, *, after: int = -1) -> dict[Ref, dict[str, Any] | None]:
        """A shard's records that changed after a revision."""
        changes = self._changes[shard].items()
        return {ref: record for ref, (revision, record) in changes if revision > after}

    def fullest(self, besides: Collection[str]) -> tuple[str, int] | None:
        """The shard with the most records here, and how many all of them have together."""
        counts = {
            shard: len(changes) for shard, changes in self._changes.items() if shard not in besides
        }
        if not counts:
            return None
        return max(counts, key=lambda shard: counts[shard]), sum(counts.values())

    def document(self) -> dict[str, Any]:
        """Settings, `since`, `shards` and the records by kind and id, as in the contract."""
        document: dict[str, Any] = {
            "since": self.since,
            "settings": self.settings,
            "shards": shards_of_bytes(len(self.since)),
        }
        for changes in self._changes.values():
            for ref, (_, record) in changes.items():
                self._validator.insert(document, ref, record)
        return document
