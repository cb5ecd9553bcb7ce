"""What others may have written into the graph: no crash, and the record is named."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from registry import (
    Fault,
    Kind,
    Library,
    Ref,
    Team,
    Token,
    User,
    Workspace,
)
from registry.exceptions import (
    InvalidRecordError,
    LogBrokenError,
    UnreadableRegistryError,
)
from registry.neo4j import reader, store
from registry.operations import Operator

from .conftest import TEAM

pytestmark = pytest.mark.anyio

STORES = ["neo4j"]


MALFORMED = [
    ("CREATE (:User {id: 'x', active: true})", "users/x", {"name": None, "active": True}),
    ("CREATE (:User {id: 'x', name: 5, active: 'yes'})", "users/x", {"name": 5, "active": "yes"}),
    (
        "CREATE (:User {id: 7, name: 'Seven', active: true})",
        "users/7",
        Fault("its id is not a text"),
    ),
    ("CREATE (:User {id: true, name: 'T'})", "users/true", Fault("its id is not a text")),
    (
        "CREATE (:Team {id: 'x', name: 'X', active: true, active_jti: 'j', tools: ['*']})",
        "teams/x",
        Fault("has no owner"),
    ),
    (
        "CREATE (:User {id: 'a'})<-[:OWNED_BY]-(:Team {id: 'x'})-[:OWNED_BY]->(:User {id: 'b'})",
        "teams/x",
        Fault("has more than one owner"),
    ),
    (
        (
            "CREATE (t:Team {id: 'x', tools: 'all'})-[:OWNED_BY]->(:User {id: 'a'})"
            " CREATE (t)-[:ASSIGNED_TO]->(:Workspace {id: 'w'}),"
            " (t)-[:ASSIGNED_TO]->(:Workspace {id: 'v'}), (t)-[:ASSIGNED_TO]->(:Workspace)"
        ),
        "teams/x",
        {
            "name": None,
            "owner": "a",
            "active": None,
            "active_jti": None,
            "workspaces": ["v", "w"],
            "tools": "all",
        },
    ),
    ("CREATE (:Token {digest: 'x'})", "tokens/x", Fault("has no user")),
    (
        "CREATE (:Token {digest: 'x', tools: [1], expires_at: 5})-[:BELONGS_TO]->(:User)",
        "tokens/x",
        {
            "label": None,
            "user": None,
            "active": None,
            "expires_at": 5,
            "libraries": None,
            "tools": [1],
        },
    ),
    (
        "CREATE (:User {id: 'x', name: date('2026-01-02'), active: [date('2026-01-02')]})",
        "users/x",
        {"name": {"Date": "2026-01-02"}, "active": [{"Date": "2026-01-02"}]},
    ),
    ("CREATE (:Library {uid: 'x', name: 'X'})", "libraries/x", Fault("has no workspace")),
    ("CREATE (:Library {uid: 'x', workspace_id: ' '})", "libraries/x", Fault("has no workspace")),
    ("CREATE (:Library {uid: 'x', workspace_id: 5})", "libraries/x", Fault("has no workspace")),
    (
        "CREATE (:Library {uid: 'x', tags: 'secret', workspace_id: 'w'})",
        "libraries/x",
        {"name": None, "tags": "secret"},
    ),
    (
        "CREATE (:SigningKey {kid: 'x', alg: ['EdDSA']})",
        "keys/x",
        {"alg": ["EdDSA"], "active": None},
    ),
]


@pytest.mark.parametrize("malformed", MALFORMED)
async def test_foreign_malformed_record_is_exported_as_is_or_as_a_fault(
    exported, registry, sample_records, cypher, malformed
):
    query, ref, expected = malformed
    good = await exported(registry)
    cypher(query)
    found = await exported(registry)
    assert found[ref] == expected
    assert good.items() <= found.items()
    kind, _, id_ = ref.partition("/")
    async with registry.transaction(actor="tests", action="touch") as tx:
        await tx.touch(Ref(Kind(kind), id_))
    delta = await registry.changed_since(tx.version.revision - 1)
    if expected != Fault("its id is not a text"):
        assert delta.changes[Ref(Kind(kind), id_)].record == expected


@pytest.mark.parametrize("malformed", MALFORMED)
async def test_foreign_malformed_record_can_be_listed_and_is_reported(
    registry, sample_records, cypher, malformed
):
    query, ref, _ = malformed
    cypher(query)
    for type_ in (User, Team, Token, Library, Workspace):
        json.dumps([asdict(record) for record in await registry.all(type_)])
    kind = ref.partition("/")[0]
    label = {"users": "User", "teams": "Team"}.get(kind)
    named = [str(f) for f in await registry.check(fix=True)]
    # A digest that is none may be a bearer: it is not repeated.
    wanted = ("tokens: ",) if kind == "tokens" else (f"{ref}: ", f"(:{label}): id is")
    assert [text for text in named if text.startswith(wanted)]


async def test_library_with_a_non_text_id_leaves_its_workspace_intact(
    exported, registry, sample_records, cypher
):
    cypher("CREATE (:Library {uid: 5, name: 'Five', workspace_id: 'docs'})")
    cypher("CREATE (:Library {name: 'None', workspace_id: 'docs'})")
    found = await exported(registry)
    assert found["workspaces/docs"] == {"name": "Docs", "libraries": ["lib-a"]}
    assert found["libraries/5"] == Fault("its id is not a text")


async def test_non_text_id_takes_nothing_from_a_similar_text_id(exported, registry, write, cypher):
    await write(User(id="7", name="Seven"))
    cypher("CREATE (:User {id: 7, name: 'Other', active: true})")
    assert (await exported(registry))["users/7"] == {"name": "Seven", "active": True}


async def test_library_without_an_existing_workspace_is_reported(
    exported, registry, sample_records, cypher
):
    cypher("CREATE (:Library {uid: 'x', name: 'X', workspace_id: 'gone'})")
    assert [str(finding) for finding in await registry.check()] == [
        "libraries/x: workspace_id names a workspace that does not exist"
    ]
    assert "libraries/x" not in await exported(registry)


async def test_nodes_without_an_id_are_counted_and_harmless(
    exported, registry, sample_records, cypher
):
    cypher(
        "CREATE (:Workspace {id: ''}) WITH 1 AS n UNWIND range(1, 9) AS m CREATE (:Team), (:Token)"
    )
    findings = [str(finding) for finding in await registry.check()]
    assert [text.partition(",")[0] for text in findings] == [
        "(:Workspace): id is missing or no text in 1",
        "(:Team): id is missing or no text in 9",
        "(:Token): digest is missing or no text in 9",
    ]
    assert len(await exported(registry)) == 4


async def test_team_without_an_owner_is_read_but_not_writable(
    registry, sample_records, write, cypher
):
    await write(TEAM)
    cypher("MATCH (:Team)-[r:OWNED_BY]->() DELETE r")
    assert (await registry.get(Team, TEAM.id)).owner is None
    with pytest.raises(InvalidRecordError, match="owner"):
        await Operator(registry, actor="tests").rotate_team(TEAM.id)
    await write(TEAM)
    assert (await registry.get(Team, TEAM.id)) == TEAM


@pytest.fixture
async def without_constraints(registry, cypher):
    """A graph in which ids may be there twice; afterwards they may not, as before."""
    for (name,) in cypher("SHOW CONSTRAINTS YIELD name"):
        cypher(f"DROP CONSTRAINT {name}")
    for (name,) in cypher("SHOW INDEXES YIELD name, type WHERE type = 'RANGE' RETURN name"):
        cypher(f"DROP INDEX {name}")
    yield registry
    cypher("MATCH (n) DETACH DELETE n")
    await registry.check(fix=True)


async def test_duplicate_ids_are_a_fault_and_not_writable(
    exported, without_constraints, sample_records, write, cypher
):
    cypher("CREATE (:User {id: 'ada', name: 'Eve', active: true})")
    assert (await exported(without_constraints))["users/ada"] == Fault(
        "there is more than one of this id"
    )
    # Neo4j gives two of one id in any order.
    assert sorted(user.name for user in await without_constraints.all(User)) == ["Ada", "Eve"]
    with pytest.raises(UnreadableRegistryError, match="users/ada"):
        await without_constraints.get(User, "ada")
    with pytest.raises(UnreadableRegistryError, match="users/ada"):
        await Operator(without_constraints, actor="tests").disable_user("ada")
    findings = [str(finding) for finding in await without_constraints.check(fix=True)]
    assert [text for text in findings if "fixed" not in text] == [
        (
            "(:User {id}): no uniqueness constraint; none can be made:"
            " Neo.DatabaseError.Schema.ConstraintCreationFailed"
        ),
        "users/ada: there is more than one of this id",
    ]
    cypher("MATCH (n:User {name: 'Eve'}) DELETE n")
    assert [str(finding) for finding in await without_constraints.check(fix=True)] == [
        "(:User {id}): no uniqueness constraint (fixed)"
    ]


async def test_odd_ids_come_page_by_page_with_and_without_an_index(
    exported, without_constraints, write, cypher, monkeypatch
):
    monkeypatch.setattr(reader, "PAGE", 2)
    ids = ["z", "B", "a", "é", "😀", "\uff5e", "\u2028", " ", "\U0010ffff", "a" * 256, "b\\'\"`$"]
    await write(*(User(id=id_, name="n") for id_ in ids))
    assert list(await exported(without_constraints)) == [f"users/{id_}" for id_ in sorted(ids)]
    await without_constraints.check(fix=True)
    assert list(await exported(without_constraints)) == [f"users/{id_}" for id_ in sorted(ids)]
    assert [user.id for user in await without_constraints.all(User)] == sorted(ids)


async def test_workspace_of_a_hundred_thousand_libraries_is_published(
    exported, registry, sample_records, cypher
):
    cypher(
        "UNWIND range(1, 100000) AS n"
        " CREATE (:Library {uid: 'l' + n, name: 'L', workspace_id: 'docs', tags: []})"
    )
    found = await exported(registry)
    assert len(found["workspaces/docs"]["libraries"]) == 100_001
    assert len(found) == 4


async def test_malformed_setting_is_left_out(registry, cypher, caplog):
    cypher("MATCH (s:Setting {name: 'lockdown'}) SET s.value = '\"lct_hunter2\"'")
    cypher("MATCH (s:Setting {name: 'issuers'}) SET s.value = 5")
    cypher("CREATE (:Setting {name: 'color', value: '1'}), (:Setting)")
    settings = (await registry.changed_since(0)).settings
    assert set(settings) == {"listable", "reconcile_limit", "staleness_limit"}
    assert "lockdown" in caplog.text
    assert "hunter2" not in caplog.text
    found = [str(finding).partition(":")[0] for finding in await registry.check(fix=True)]
    assert found == ["settings/issuers", "settings/lockdown"]


@pytest.mark.parametrize(
    ("query", "revision"),
    [
        ("MATCH (e:LogEntry {revision: 2}) SET e.actor = 'nobody'", 2),
        ("MATCH (e:LogEntry {revision: 1}) SET e.at = e.at + 1", 1),
        ("MATCH (e:LogEntry {revision: 1}) SET e.at = datetime()", 1),
        ("MATCH (e:LogEntry {revision: 3}) SET e.touched = '[]'", 3),
        ("MATCH (e:LogEntry {revision: 3}) SET e.touched = '[7]'", 3),
        ("MATCH (e:LogEntry {revision: 3}) REMOVE e.touched", 3),
        ("MATCH (e:LogEntry {revision: 2}) SET e.hash = e.previous", 2),
        ("MATCH (e:LogEntry {revision: 1}) DELETE e", 1),
        ("MATCH (e:LogEntry {revision: 2}) DELETE e", 2),
        ("MATCH (e:LogEntry {revision: 3}) DELETE e", 3),
        ("MATCH (e:LogEntry) DELETE e", 1),
        ("MATCH (e:LogEntry {revision: 3}) REMOVE e.revision", 3),
        ("MATCH (r:Registry) SET r.revision = 2", 3),
        ("MATCH (r:Registry) SET r.revision = 4", 4),
        ("MATCH (e:LogEntry {revision: 1}) CREATE (f:LogEntry) SET f = e {.*, revision: -5}", 1),
        ("MATCH (e:LogEntry {revision: 1}) CREATE (f:LogEntry) SET f = e {.*, revision: '1'}", 4),
    ],
)
async def test_log_that_was_tampered_with_is_noticed(registry, write, cypher, query, revision):
    for name in ("ada", "bob", "eve"):
        await write(User(id=name, name=name))
    assert await registry.verify_log() == 3
    cypher(query)
    with pytest.raises(LogBrokenError) as caught:
        await registry.verify_log()
    assert caught.value.revision == revision


async def test_long_log_is_read_and_verified_in_pages(registry, write, monkeypatch):
    monkeypatch.setattr(store, "_LOG_PAGE", 2)
    for n in range(5):
        await write(User(id=f"u{n}", name="n"))
    assert [entry.revision for entry in await registry.log()] == [1, 2, 3, 4, 5]
    assert [entry.revision for entry in await registry.log(after=1, limit=3)] == [2, 3, 4]
    assert await registry.verify_log() == 5


async def test_graph_has_no_property_for_a_secret(registry, sample_records, write, token, cypher):
    await write(TEAM, token)
    assert {key for (key,) in cypher("MATCH (n) UNWIND keys(n) AS key RETURN DISTINCT key")} == {
        *("one", "layout", "epoch", "revision", "id", "name", "value", "active", "uid"),
        *("workspace_id", "tags", "active_jti", "tools", "digest", "label", "libraries"),
        *("kind", "at", "actor", "action", "touched", "previous", "hash"),
    }
