"""A graph that others write too, as a publisher sees it: what is wrong is named, nothing crashes."""

from contextlib import aclosing

import pytest
from neo4j import GraphDatabase

from bundles.publish.reconciler import Reconciler
from registry import Kind, RegistryError, open_registry
from registry.operations import Operator

pytestmark = pytest.mark.anyio

TEAM = "7f000000-0000-4000-8000-000000000001"


@pytest.fixture
async def graph(neo4j_server, publishing):
    """A registry in an empty graph, and its publisher; `write` writes past both."""

    def write(query, **parameters):
        with GraphDatabase.driver(neo4j_server.url, notifications_min_severity="OFF") as driver:
            driver.execute_query(query, parameters)

    write("MATCH (n) DETACH DELETE n")
    publishing.write, publishing.server = write, neo4j_server
    async with aclosing(await open_registry(neo4j_server.url)) as publishing.registry:
        await publishing.registry.check(fix=True)
        publishing.operator = Operator(publishing.registry, actor="tests")
        for n in range(10):
            await publishing.operator.add_user(f"u-{n}")
        await publishing.operator.add_workspace("w")
        await publishing.restart()
        publishing.reconciler = Reconciler(
            publishing.publisher, publishing.registry, publishing.store, clock=publishing.clock
        )
        yield publishing


async def test_graph_change_by_others_is_found_and_published(graph):
    await graph.operator.disable_user("u-1")
    await graph.sync()
    assert graph.document("live")["users"] == {"u-1": {"name": "u-1", "active": False}}
    graph.write("MATCH (u:User {id: 'u-2'}) SET u.active = false")
    graph.write("CREATE (:Library {uid: 'lib-a', name: 'A', workspace_id: 'w'})")
    made = await graph.reconciler.run()
    assert made.differed == 2
    live = graph.document("live")
    assert live["users"]["u-2"]["active"] is False
    assert live["workspaces"]["w"]["libraries"] == ["lib-a"]
    assert await graph.registry.verify_log() == live["revision"]


WRONG = {
    "a name that is null": ("MATCH (u:User {id: 'u-3'}) REMOVE u.name", "users/u-3: "),
    "a wrongly typed flag": ("MATCH (u:User {id: 'u-4'}) SET u.active = 'yes'", "users/u-4: active"),
    "a team without owner": (f"CREATE (:Team {{id: '{TEAM}', name: 'T', active: true, active_jti: 'j', tools: []}})", f"teams/{TEAM}: "),
    "a library with no workspace": ("CREATE (:Library {uid: 'lib-x', name: 'X'})", "libraries/lib-x: "),
    "a library with a blank workspace": ("CREATE (:Library {uid: 'lib-y', name: 'Y', workspace_id: ''})", "libraries/lib-y: "),
    "tags of another type": ("CREATE (:Library {uid: 'lib-z', name: 'Z', workspace_id: 'w', tags: [1]})", "libraries/lib-z: "),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
async def test_malformed_graph_record_is_named_and_stops_nothing(graph, fault):
    query, named = WRONG[fault]
    graph.write(query)
    await graph.reconciler.run()
    (problem,) = graph.publisher.problems.values()
    assert problem.startswith(named)
    await graph.operator.disable_user("u-9")
    await graph.sync()
    assert graph.document("live")["users"]["u-9"]["active"] is False
    # Published anew it is the same.
    graph.store.path("base-00").unlink()
    await graph.restart()
    assert list(graph.publisher.problems.values()) == [problem]


async def test_graph_that_is_emptied_by_mistake_is_not_published(graph):
    before = {name: graph.served_bundles.get(name).etag for name in graph.served_bundles.names()}
    graph.write("MATCH (n) DETACH DELETE n")
    graph.now += 5
    for job in (graph.publisher.sync, graph.reconciler.run):
        with pytest.raises(RegistryError):
            await job()
    assert {
        name: graph.served_bundles.get(name).etag for name in graph.served_bundles.names()
    } == before
    assert "registry" in graph.publisher.failing
    graph.publisher.publish_heartbeat()
    assert graph.document("heartbeat")["synced_at_ns"] <= (graph.now - 4) * 1e9


async def test_graph_without_users_is_held_and_named(graph):
    graph.write("MATCH (u:User) DETACH DELETE u")
    made = await graph.reconciler.run()
    assert made.held == {Kind.USERS: (10, 10)}
    assert "10 of 10 users" in graph.reconciler.held
    assert "users" not in graph.document("live")


async def test_neo4j_that_is_gone_for_a_while_is_said_and_outlived(graph):
    await graph.operator.disable_user("u-1")
    graph.server.must_be_ours()
    graph.server.kill()
    graph.now += 60
    with pytest.raises(RegistryError):
        await graph.sync()
    assert graph.publisher.failing.startswith("unavailable")
    graph.publisher.publish_heartbeat()
    assert graph.document("heartbeat")["synced_at_ns"] <= (graph.now - 59) * 1e9
    # A publisher that is started meanwhile serves what was published before.
    await graph.restart(served_bundles=type(graph.served_bundles)())
    assert graph.served_bundles.names() == ["base-00", "heartbeat", "live"]
    graph.server.start()
    await graph.sync()
    assert graph.publisher.failing == ""
    assert graph.document("live")["users"]["u-1"]["active"] is False
