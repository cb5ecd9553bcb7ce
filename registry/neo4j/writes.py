"""The statements that write records. Each runs in a transaction that the caller has opened."""

from __future__ import annotations

import json
from dataclasses import fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from registry.model import Key, Library, Record, Setting, Team, Token, User, Workspace
from registry.neo4j.session import LONG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry.neo4j.session import Open

LABELS: Mapping[type[Record], str] = MappingProxyType(
    {
        Setting: "Setting",
        User: "User",
        Workspace: "Workspace",
        Library: "Library",
        Team: "Team",
        Token: "Token",
        Key: "SigningKey",
    }
)

_PROPERTIES: Mapping[type[Record], tuple[str, ...]] = MappingProxyType(
    {
        Setting: ("value",),
        User: ("name", "active"),
        Workspace: ("name",),
        Library: ("name", "workspace_id", "tags"),
        Team: ("name", "active", "active_jti", "tools"),
        Token: ("label", "active", "expires_at", "libraries", "tools"),
        Key: ("alg", "active"),
    }
)

# Only a site's own queries may know a workspace: its node is created when it is needed.
_LINK: Mapping[type[Record], str] = MappingProxyType(
    {
        Team: """
UNWIND $rows AS row
MATCH (n:Team {id: row.id})
CALL (n) { MATCH (n)-[old:OWNED_BY|ASSIGNED_TO]->() DELETE old }
CALL (n, row) { MATCH (u:User {id: row.owner}) CREATE (n)-[:OWNED_BY]->(u) }
CALL (n, row) {
  UNWIND row.workspaces AS id
  MERGE (w:Workspace {id: id})
  CREATE (n)-[:ASSIGNED_TO]->(w)
}
""",
        Token: """
UNWIND $rows AS row
MATCH (n:Token {digest: row.digest})
CALL (n) { MATCH (n)-[old:BELONGS_TO]->() DELETE old }
MATCH (u:User {id: row.user})
CREATE (n)-[:BELONGS_TO]->(u)
""",
    }
)
_NAMED: Mapping[type[Record], str] = MappingProxyType(
    {
        User: "MATCH (n:User {id: $id}) RETURN EXISTS { (n)<-[:OWNED_BY|BELONGS_TO]-() }",
        Workspace: (
            "RETURN EXISTS { (:Workspace {id: $id})<-[:ASSIGNED_TO]-() }"
            " OR EXISTS { (:Library {workspace_id: $id}) }"
        ),
    }
)


async def write_nodes(opened: Open, type_: type[Record], records: Sequence[Record]) -> None:
    """Create or replace the nodes of records of one type; their relationships are unchanged."""
    names = _PROPERTIES[type_]
    rows = [
        {"id": record.ref.id, "properties": {name: _property(record, name) for name in names}}
        for record in records
    ]
    query = (
        f"UNWIND $rows AS row MERGE (n:{LABELS[type_]} {{{type_.key}: row.id}})"
        " SET n += row.properties"
    )
    await opened.run(query, rows=rows, seconds=LONG_SECONDS)


async def write_links(opened: Open, type_: type[Record], records: Sequence[Record]) -> None:
    """Replace the relationships of records of one type, whose nodes exist already."""
    query = _LINK.get(type_)
    if query is None or not records:
        return
    names = [field.name for field in fields(type_)]
    rows = [{name: getattr(record, name) for name in names} for record in records]
    await opened.run(query, rows=rows, seconds=LONG_SECONDS)


async def is_named(opened: Open, type_: type[Record], id_: str) -> bool:
    """Return whether other records name a record."""
    query = _NAMED.get(type_)
    return query is not None and bool(await opened.run(query, id=id_))


async def delete_node(opened: Open, type_: type[Record], id_: str) -> None:
    """Delete a record's node and its relationships."""
    query = f"MATCH (n:{LABELS[type_]} {{{type_.key}: $id}}) DETACH DELETE n"
    await opened.run(query, id=id_)


def _property(record: Record, name: str) -> Any:
    value = getattr(record, name)
    return json.dumps(value) if isinstance(record, Setting) else value
