"""A graph that another system made, read by queries of a site's own: those of the how-to."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from pathlib import Path

import pytest

from registry import Fault, Kind, Library, Ref, Workspace, open_registry
from registry.exceptions import (
    AlreadyExistsError,
    NotFoundError,
    StillReferencedError,
    UnreadableRegistryError,
    UnsupportedRegistryError,
)
from registry.neo4j import reader
from registry.neo4j.queries import COLUMNS, PARAMETERS
from registry.neo4j.schema import INDEXED, UNIQUE
from registry.operations import Operator

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[2] / "docs"
FILES = dict(
    re.findall(
        r"^<!-- file: (\S+) -->\n```cypher\n(.*?)^```$",
        (DOCS / "how-to" / "use-your-own-graph.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
)


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path / "cypher"


@pytest.fixture
def graph(empty_graph, cypher):
    """What the how-to begins with."""
    cypher(FILES["sample.cypher"])
    return empty_graph


@pytest.fixture
async def registry(graph, folder):
    async with aclosing(await open_registry(graph, cypher=folder)) as registry:
        await registry.check(fix=True)
        yield registry


@pytest.fixture
def operator(registry):
    return Operator(registry, actor="ops")


async def test_how_to_ships_the_files_it_names():
    assert set(FILES) == {
        "sample.cypher", "cypher/workspaces.ids.cypher", "cypher/workspaces.cypher",
    }  # fmt: skip


async def test_workspaces_are_those_that_libraries_name(registry, exported, cypher):
    assert await registry.check() == []
    assert await registry.all(Workspace) == [
        Workspace(id="books", name="books"),
        Workspace(id="papers", name="papers"),
    ]
    assert await exported(registry) == {
        "workspaces/books": {"name": "books", "libraries": ["poe", "shelley"]},
        "workspaces/papers": {"name": "papers", "libraries": ["hopper"]},
    }
    assert cypher("MATCH (w:Workspace) RETURN count(w)") == [[0]]


async def test_team_may_use_a_workspace_that_only_libraries_name(
    registry, operator, exported, cypher
):
    await operator.add_user("ada")
    team = (await operator.create_team("Docs", owner="ada", workspaces=["books"])).record
    assert (await operator.assign(team.id, "papers")).changed
    assert (await operator.unassign(team.id, "books")).record.workspaces == ("papers",)
    assert (await exported(registry))[f"teams/{team.id}"]["workspaces"] == ["papers"]
    assert (await exported(registry))["workspaces/papers"]["libraries"] == ["hopper"]
    assert sorted(cypher("MATCH (w:Workspace) RETURN properties(w)"), key=str) == [
        [{"id": "books"}],
        [{"id": "papers"}],
    ]
    assert await registry.check() == []
    with pytest.raises(NotFoundError, match="'nowhere'"):
        await operator.assign(team.id, "nowhere")


async def test_workspace_may_be_added_before_it_has_libraries(registry, operator):
    with pytest.raises(AlreadyExistsError):
        await operator.add_workspace("books")
    await operator.add_workspace("maps", name="Maps")
    await operator.add_library("tolkien", workspace="maps", tags=["draft"])
    assert await registry.get(Workspace, "maps") == Workspace(id="maps", name="Maps")
    assert [w.id for w in await registry.all(Workspace)] == ["books", "maps", "papers"]
    changes = (await registry.changed_since(1)).changes
    assert changes[Ref(Kind.WORKSPACES, "maps")].record == {
        "name": "Maps",
        "libraries": ["tolkien"],
    }
    with pytest.raises(StillReferencedError):
        async with registry.transaction(actor="ops", action="delete") as tx:
            await tx.delete(Workspace, "books")


async def test_foreign_libraries_can_be_read_and_changed(registry, operator):
    assert await registry.get(Library, "poe") == Library(
        uid="poe", name="Poe", workspace_id="books"
    )
    assert len(await registry.all(Library)) == 3
    async with registry.transaction(actor="ops", action="move") as tx:
        await tx.put(Library(uid="poe", name="Poe", workspace_id="papers", tags=("draft",)))
    assert set((await registry.changed_since(0)).changes) == {
        Ref(Kind.LIBRARIES, "poe"), Ref(Kind.WORKSPACES, "books"), Ref(Kind.WORKSPACES, "papers"),
    }  # fmt: skip


async def test_many_derived_workspaces_come_page_by_page(registry, exported, cypher, monkeypatch):
    monkeypatch.setattr(reader, "PAGE", 3)
    cypher(
        "UNWIND range(10, 39) AS n"
        " CREATE (:Library {uid: 'l' + n, name: 'L', workspace_id: 'w' + n % 10}), (:Library {uid: 'x' + n})"
        " WITH n WHERE n < 20 CREATE (:Workspace {id: 'v' + n})"
    )
    found = await exported(registry)
    assert sum(ref.startswith("workspaces/") for ref in found) == 22
    assert found["workspaces/w3"]["libraries"] == ["l13", "l23", "l33"]
    assert found["libraries/x10"] == Fault("has no workspace")


# Files that do not fit


async def test_unknown_query_file_is_refused_by_name(graph, folder):
    (folder / "workspace.cypher").write_text("RETURN 1")
    with pytest.raises(
        UnsupportedRegistryError, match=r"workspace\.cypher is not a query.*workspaces"
    ):
        await open_registry(graph, cypher=folder)
    with pytest.raises(UnsupportedRegistryError, match="cannot be read"):
        await open_registry(graph, cypher=folder / "nowhere")


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("UNWIND $ids AS id RETURN id", r"workspaces\.cypher cannot be run.*SyntaxError.*`name`"),
        ("MATCH (w:Workspace RETURN w", r"workspaces\.cypher cannot be run.*SyntaxError"),
        (
            "UNWIND $ids AS id RETURN id, $no AS name",
            r"workspaces\.cypher cannot be run.*Parameter",
        ),
        (
            "UNWIND $ids AS id RETURN id, 1 / 0 AS name",
            r"workspaces\.cypher cannot be run.*Arithmetic",
        ),
    ],
)
async def test_query_that_does_not_fit_is_named(graph, folder, query, problem):
    (folder / "workspaces.cypher").write_text(query)
    async with aclosing(await open_registry(graph, cypher=folder)) as registry:
        await registry.check(fix=True)
        with pytest.raises(UnreadableRegistryError, match=problem):
            await registry.all(Workspace)
        found = [str(finding) for finding in await registry.check()]
        assert re.search(problem, found[0])


async def test_query_that_writes_is_named_by_a_check(graph, folder):
    (folder / "users.cypher").write_text(
        "UNWIND $ids AS id MERGE (u:User {id: id}) RETURN id, u.name AS name, u.active AS active;"
    )
    async with aclosing(await open_registry(graph, cypher=folder)) as registry:
        await registry.check(fix=True)
        assert [str(f) for f in await registry.check()] == ["users.cypher: does not only read"]


async def test_query_that_pages_wrongly_does_not_go_round_for_ever(graph, folder, exported):
    (folder / "users.ids.cypher").write_text("MATCH (u:User) RETURN u.id AS id LIMIT $limit")
    async with aclosing(await open_registry(graph, cypher=folder)) as registry:
        await registry.check(fix=True)
        await Operator(registry, actor="ops").add_user("ada")
        found = await asyncio.wait_for(exported(registry), 60)
    assert found["users/ada"] == {"name": "ada", "active": True}


# The reference


def rows(heading):
    below = (DOCS / "reference" / "graph.md").read_text().split(f"\n## {heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)[0].splitlines()[2:]
    return [[re.findall(r"`([^`]+)`", cell) for cell in row.split("|")[1:-1]] for row in table]


def test_queries_and_their_columns_are_listed():
    listed = {file.removesuffix(".cypher"): (p, c) for [file], p, c, _ in rows("Queries")}
    assert listed == {
        name: ([f"${parameter}" for parameter in PARAMETERS[name]], list(COLUMNS[name]))
        for name in COLUMNS
    }


def test_constraints_and_indexes_are_listed():
    [[_, unique], [_, indexed]] = rows("Constraints and indexes")
    assert sorted(unique) == sorted(f"{label}.{key}" for label, keys in UNIQUE for key in keys)
    assert sorted(indexed) == sorted(f"{label}.{key}" for label, key in INDEXED)
