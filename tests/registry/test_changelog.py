from __future__ import annotations

from dataclasses import replace

import pytest

from registry import Kind, Ref
from registry.changelog import GENESIS, LogEntry, verify
from registry.exceptions import LogBroken


@pytest.fixture
def log():
    entries = []
    for revision in (1, 2, 3):
        entry = LogEntry(
            revision=revision,
            at=1.5,
            actor="ada",
            action="user add",
            touched=(Ref(Kind.USERS, f"u\u2028{revision}"),),
            previous=entries[-1].hash if entries else GENESIS,
        )
        entries.append(entry.sealed())
    return entries


def test_a_whole_chain_holds(log):
    assert verify(log, revision=3) == 3
    assert verify([], revision=0) == 0


def test_an_entry_that_was_altered_and_sealed_again_breaks_the_chain_at_the_next(log):
    log[1] = replace(log[1], actor="eve").sealed()
    with pytest.raises(LogBroken) as caught:
        verify(log, revision=3)
    assert caught.value.revision == 3


def test_the_hash_is_over_canonical_json(log):
    # A fixed value: receipts that were given out must stay checkable.
    assert log[0].hash == "e4ddf8ffadc9f17ac69a18f915f459fe8a53fa4059111409c8ade50c03cd4bb0"
