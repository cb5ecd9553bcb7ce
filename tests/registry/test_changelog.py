from __future__ import annotations

from dataclasses import replace

import pytest

from registry import Kind, Ref
from registry.changelog import GENESIS, LogEntry, read_entry, verify
from registry.exceptions import LogBrokenError


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
        entries.append(entry.with_hash())
    return entries


def test_whole_chain_holds(log):
    assert verify(log, revision=3) == 3
    assert verify([], revision=0) == 0


def test_entry_altered_and_signed_again_breaks_the_chain(log):
    log[1] = replace(log[1], actor="eve").with_hash()
    with pytest.raises(LogBrokenError) as caught:
        verify(log, revision=3)
    assert caught.value.revision == 3


def test_hash_is_over_canonical_json(log):
    # A fixed value: receipts that were given out must stay checkable.
    assert log[0].hash == "e4ddf8ffadc9f17ac69a18f915f459fe8a53fa4059111409c8ade50c03cd4bb0"


ROW = [2, 1.5, "ada", "user add", '[["users", "u1"]]', GENESIS, "h"]


def test_entry_is_read_as_stored():
    entry = read_entry(tuple(ROW))
    assert (entry.revision, entry.at, entry.hash) == (2, 1.5, "h")
    assert entry.touched == (Ref(Kind.USERS, "u1"),)


@pytest.mark.parametrize(
    ("column", "odd"),
    [(1, "noon"), (1, None), (2, 7), (3, b""), (5, None), (6, 0)]
    + [(4, odd) for odd in (None, "", "{", "7", "[7]", '[["ghosts", "x"]]', '[["users"]]', "[" * 9999)],
)  # fmt: skip
def test_column_of_another_type_breaks_the_log_there(column, odd):
    with pytest.raises(LogBrokenError) as caught:
        read_entry([*ROW[:column], odd, *ROW[column + 1 :]])
    assert caught.value.revision == 2
