"""The schema of a graph: constraints, indexes, the registry's own nodes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from neo4j.exceptions import Neo4jError

from registry.interface import Finding
from registry.model import DEFAULT_SETTINGS
from registry.neo4j.errors import store_errors
from registry.neo4j.metadata import LAYOUT, count_log, read_settings, read_state
from registry.neo4j.session import LONG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.neo4j.session import Graph, Open

UNIQUE = (
    ("Registry", ("one",)),
    ("WriteLock", ("one",)),
    ("Setting", ("name",)),
    ("User", ("id",)),
    ("Workspace", ("id",)),
    ("Library", ("uid",)),
    ("Team", ("id",)),
    ("Token", ("digest",)),
    ("SigningKey", ("kid",)),
    ("Change", ("kind", "id")),
    ("LogEntry", ("revision",)),
)
"""Uniqueness constraints: label and properties."""

INDEXED = (("Library", "workspace_id"), ("Token", "label"), ("Change", "revision"))
"""Other indexes: label and property."""

_UNIQUE_NOW = """
SHOW CONSTRAINTS YIELD type, labelsOrTypes, properties
WHERE type IN ['UNIQUENESS', 'NODE_KEY', 'NODE_PROPERTY_UNIQUENESS']
RETURN collect([labelsOrTypes[0], properties])
"""
_INDEXED_NOW = """
SHOW INDEXES YIELD type, entityType, labelsOrTypes, properties
WHERE type = 'RANGE' AND entityType = 'NODE' AND size(labelsOrTypes) = 1
RETURN collect([labelsOrTypes[0], properties])
"""
_MAKE = """
MERGE (l:WriteLock {one: 1})
MERGE (r:Registry {one: 1})
ON CREATE SET r.layout = $layout, r.epoch = 1, r.revision = 0
WITH r
UNWIND $settings AS setting
MERGE (s:Setting {name: setting[0]})
ON CREATE SET s.value = setting[1]
"""


async def check_schema(graph: Graph, *, fix: bool) -> list[Finding]:
    """Return the missing constraints and indexes; if `fix`, create those that can be created."""
    unique = await graph.read(lambda opened: opened.run(_UNIQUE_NOW))
    indexed = await graph.read(lambda opened: opened.run(_INDEXED_NOW))
    findings = []
    for what, statement in _missing(unique, indexed):
        refused = await _make(graph, statement) if fix else None
        text = f"{what}; none can be made: {refused}" if refused else what
        findings.append(Finding(text, fixed=fix and refused is None))
    if any(finding.fixed for finding in findings):
        await graph.read(
            lambda opened: opened.run("CALL db.awaitIndexes(100)", seconds=LONG_SECONDS),
            seconds=LONG_SECONDS,
        )
    return findings


async def check_registry(graph: Graph, *, fix: bool) -> list[Finding]:
    """Check the registry's own nodes; if `fix`, create them, unless a registry existed before.

    Raises:
        UnreadableRegistryError: the registry exists, but cannot be read.
        SchemaVersionError: the registry has another version's layout.
    """
    lacking, had_one = await graph.read(_lacking)
    left = lacking
    if lacking and fix and not had_one:
        opened, _ = await graph.begin(_make_registry)
        try:
            with store_errors(graph.place):
                await opened.commit()
        finally:
            await opened.end()
        left, _ = await graph.read(_lacking)
    return [Finding(what, fixed=what not in left) for what in lacking]


async def _make_registry(opened: Open) -> None:
    settings = [[name, json.dumps(value)] for name, value in DEFAULT_SETTINGS.items()]
    await opened.run(_MAKE, layout=LAYOUT, settings=settings)


async def _make(graph: Graph, statement: str) -> str | None:
    """Create a constraint or an index; return the code of Neo4j's error if it fails."""
    with store_errors(graph.place):
        try:
            await graph.run_alone(statement)
        except Neo4jError as error:
            if ".Schema." in (error.code or ""):
                return error.code  # the message quotes the duplicate value
            raise
    return None


async def _lacking(opened: Open) -> tuple[list[str], bool]:
    """Return the registry's missing nodes, and whether a registry existed before."""
    nodes = await opened.run("MATCH (r:Registry) RETURN count(r)")
    had_one = await count_log(opened) > 0
    lacking = []
    if nodes:
        await read_state(opened)
    elif had_one:
        lacking.append("(:Registry): is missing, but there is a log; restore a backup")
    else:
        lacking.append("(:Registry): is missing")
    usable = {setting.name for setting in await read_settings(opened)}
    lacking += [
        f"settings/{name}: is missing or unusable; `lictor registry import` can set it"
        for name in sorted(set(DEFAULT_SETTINGS) - usable)
    ]
    return lacking, had_one


def _missing(unique: list[list[object]], indexed: list[list[object]]) -> Iterator[tuple[str, str]]:
    """Yield what is missing, and the statement that creates it."""
    for label, properties in UNIQUE:
        if [label, list(properties)] not in unique:
            name = f"lictor_{label}_{'_'.join(properties)}".lower()
            keys = ", ".join(f"n.{key}" for key in properties)
            what = f"(:{label} {{{', '.join(properties)}}}): no uniqueness constraint"
            rule = f"FOR (n:{label}) REQUIRE ({keys}) IS UNIQUE"
            yield what, f"CREATE CONSTRAINT {name} IF NOT EXISTS {rule}"
    for label, key in INDEXED:
        if [label, [key]] not in indexed:
            name = f"lictor_{label}_{key}".lower()
            yield (
                f"(:{label} {{{key}}}): no index",
                f"CREATE INDEX {name} IF NOT EXISTS FOR (n:{label}) ON (n.{key})",
            )
