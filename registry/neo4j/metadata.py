"""The metadata of a registry in a graph: its version, settings and log; and the locks.

Neo4j's readers do not lock, and may see part of a commit in progress. So a writer holds
`WriteLock` from its beginning, and writers wait for each other; it locks the `Registry` node at its
end, with the new revision. A reader that needs one state holds that node: it waits for a commit,
but not for a long write.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lictor_common.version import RegistryVersion
from registry.changelog import GENESIS, LogEntry, read_entry
from registry.checks import validate
from registry.exceptions import (
    InvalidRecordError,
    RegistryUnavailableError,
    SchemaVersionError,
    UnreadableRegistryError,
)
from registry.model import Kind, Ref, Setting
from registry.neo4j.session import LONG_SECONDS

if TYPE_CHECKING:
    from registry.neo4j.session import Open

LAYOUT = 1
NO_REGISTRY = (
    "has no registry: no (:Registry) node. `lictor registry check --fix` makes one, in a graph"
    " that never had one"
)
BEFORE_ALL = -(2**63)
"""As a revision; an entry written by another program may have any number."""

# What follows the `WITH` reads the state under the lock.
_WRITE_LOCK = "MERGE (l:WriteLock {one: 1}) SET l.held = true REMOVE l.held WITH count(l) AS held"
_HOLD = "MATCH (r:Registry) SET r.held = true REMOVE r.held WITH count(r) AS held"
_STATE = """
RETURN [
  COLLECT { MATCH (r:Registry) RETURN [r.layout, r.epoch, r.revision] },
  COLLECT {
    MATCH (e:LogEntry) WHERE e.revision >= 0 RETURN e.hash ORDER BY e.revision DESC LIMIT 1
  }
]
"""
_SETTINGS = "MATCH (s:Setting) RETURN [s.name, s.value]"
_LOG = """
MATCH (e:LogEntry) WHERE $after < e.revision <= $until
WITH e ORDER BY e.revision LIMIT $limit
RETURN collect([e.revision, e.at, e.actor, e.action, e.touched, e.previous, e.hash])
"""
_CHANGES = f"""
RETURN [
  COLLECT {{
    MATCH (c:Change) WHERE c.revision > $revision AND c.kind <> $settings
    RETURN [c.kind, c.id, c.revision] LIMIT $limit
  }},
  COLLECT {{ {_SETTINGS} }}
]
"""
_WRITE_CHANGES = """
UNWIND $touched AS ref
MERGE (c:Change {kind: ref[0], id: ref[1]})
SET c.revision = $revision
"""
_WRITE_ENTRY = """
MATCH (r:Registry)
SET r.epoch = $epoch, r.revision = $entry.revision
CREATE (e:LogEntry)
SET e = $entry
FOREACH (ref IN $touched |
  MERGE (c:Change {kind: ref[0], id: ref[1]})
  SET c.revision = $entry.revision
)
RETURN true
"""
_FIND_ENTRY = "RETURN EXISTS { MATCH (:LogEntry {revision: $revision, hash: $hash}) }"

_ALL = 2**63 - 1
_BATCH = 10_000
_KINDS = {kind.value: kind for kind in Kind}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """A registry's version, and the hash of its newest log entry."""

    version: RegistryVersion
    head: str


async def read_state(opened: Open) -> State:
    """Read the registry's state.

    Raises:
        UnreadableRegistryError: the graph does not hold a registry, or its node lacks the state.
        SchemaVersionError: the registry has another version's layout.
    """
    return await _read_state(opened, "")


async def take_write_lock(opened: Open) -> State:
    """Wait for other writers to end, block them, and read the state; raises as above."""
    return await _read_state(opened, _WRITE_LOCK)


async def hold_state(opened: Open) -> State:
    """Wait for a commit to end, block others, and read the state; raises as above."""
    return await _read_state(opened, _HOLD)


async def _read_state(opened: Open, lock: str) -> State:
    try:
        nodes, head = await opened.run(f"{lock}{_STATE}")
    except TimeoutError as error:
        waited = "another's write did not end in time, or " if lock else ""
        raise RegistryUnavailableError(f"{opened.place}: {waited}it does not answer") from error
    match nodes:
        case [[int() | None as layout, int() as epoch, int() as revision]]:
            if layout not in {LAYOUT, None}:
                raise SchemaVersionError(opened.place, found=int(layout), expected=LAYOUT)
            newest = head[0] if head and isinstance(head[0], str) else GENESIS
            return State(RegistryVersion(epoch, revision), newest)
        case []:
            raise UnreadableRegistryError(f"{opened.place} {NO_REGISTRY}")
        case [_]:
            raise UnreadableRegistryError(
                f"{opened.place}: the (:Registry) node has no epoch and revision"
            )
        case _:
            raise UnreadableRegistryError(f"{opened.place} has more than one (:Registry) node")


async def read_settings(opened: Open) -> list[Setting]:
    """Return the existing settings, sorted by name; invalid ones are omitted."""
    return _settings(await opened.run(f"RETURN COLLECT {{ {_SETTINGS} }}"))


def _settings(rows: list[list[Any]]) -> list[Setting]:
    found: dict[str, list[Any]] = {}
    for name, text in rows:
        found.setdefault(str(name), []).append(text)
    return [
        setting
        for name, texts in sorted(found.items())
        if (setting := _setting(name, texts)) is not None
    ]


def _setting(name: str, texts: list[Any]) -> Setting | None:
    """Return a setting from the `value` of its nodes; None, with a warning, if it is unusable."""
    try:
        [text] = texts
        return validate(Setting(name=name, value=json.loads(text)))
    except (ValueError, TypeError, RecursionError, InvalidRecordError):
        _log.warning("registry.setting_left_out name=%s", name[:64])
        return None


async def read_changes(
    opened: Open, *, after: int, limit: int = _ALL
) -> tuple[dict[Ref, int], list[Setting]]:
    """Return the settings, and the other changes after a revision, sorted, up to `limit`."""
    rows, settings = await opened.run(
        _CHANGES, revision=after, settings=Kind.SETTINGS.value, limit=limit, seconds=LONG_SECONDS
    )
    known = [row for row in rows if row[0] in _KINDS and isinstance(row[1], str)]
    changes = {Ref(_KINDS[kind], id_): revision for kind, id_, revision in sorted(known)}
    return changes, _settings(settings)


async def read_log(
    opened: Open, *, after: int, until: int = _ALL, limit: int = _ALL
) -> list[LogEntry]:
    """Read entries of the log, oldest first.

    Raises:
        LogBrokenError: an entry's `touched` is invalid.
    """
    rows = await opened.run(_LOG, after=after, until=until, limit=limit, seconds=LONG_SECONDS)
    return [read_entry(row) for row in rows]


async def count_log(opened: Open) -> int:
    """Return the number of entries in the log, whatever they hold."""
    count: int = await opened.run("MATCH (e:LogEntry) RETURN count(e)")
    return count


async def write_revision(opened: Open, entry: LogEntry, *, epoch: int) -> None:
    """Write an entry, its changes, and its revision; the last statement before the commit."""
    touched = [[ref.kind.value, ref.id] for ref in entry.touched]
    parts = [touched[start : start + _BATCH] for start in range(0, len(touched), _BATCH)] or [[]]
    for part in parts[:-1]:
        await opened.run(
            _WRITE_CHANGES, touched=part, revision=entry.revision, seconds=LONG_SECONDS
        )
    properties = {
        "revision": entry.revision,
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "touched": json.dumps(touched),
        "previous": entry.previous,
        "hash": entry.hash,
    }
    written = await opened.run(
        _WRITE_ENTRY, entry=properties, epoch=epoch, touched=parts[-1], seconds=LONG_SECONDS
    )
    if not written:
        raise UnreadableRegistryError(f"{opened.place} {NO_REGISTRY}")


async def has_entry(opened: Open, entry: LogEntry) -> bool:
    """Return whether an entry is in the log."""
    found: bool = await opened.run(_FIND_ENTRY, revision=entry.revision, hash=entry.hash)
    return found
