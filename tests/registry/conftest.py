from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from neo4j import GraphDatabase

from registry import Library, Team, Token, User, Workspace, open_registry, token_label

# Every store that the contract holds for: the fixture with the URL of an empty one.
BACKENDS = {"sqlite": "sqlite_url", "neo4j": "neo4j_url"}

NOW = 1_795_000_000.0
DIGEST = "9f86d081" + 56 * "a"
TEAM = Team(
    id="7f0c1a52-6f0e-4d2c-9a53-0d8a4a1f5f10",
    name="Readers",
    owner="ada",
    active_jti="j",
    workspaces=("docs",),
)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture(scope="session")
def cypher(neo4j_server):
    """Write into the graph as others do, past the registry: `cypher(query, **parameters)` -> rows."""
    with GraphDatabase.driver(neo4j_server.url, notifications_min_severity="OFF") as driver:
        yield lambda query, **parameters: [
            row.values() for row in driver.execute_query(query, parameters).records
        ]


@pytest.fixture
def empty_graph(neo4j_server, cypher):
    """The URL of a graph with nothing in it, not even a registry; its indexes stay from before."""
    cypher("MATCH (n) DETACH DELETE n")
    return neo4j_server.url


@pytest.fixture
def neo4j_url(empty_graph):
    async def init():
        async with aclosing(await open_registry(empty_graph)) as registry:
            await registry.check(fix=True)

    asyncio.run(init())
    return empty_graph


def pytest_generate_tests(metafunc):
    """Each store, unless a module has `STORES`: those that it is about."""
    if "store" in metafunc.fixturenames:
        metafunc.parametrize("store", getattr(metafunc.module, "STORES", BACKENDS))


@pytest.fixture
def url(request, store):
    return request.getfixturevalue(BACKENDS[store])


@pytest.fixture
async def registry(url):
    async with aclosing(await open_registry(url, clock=lambda: NOW)) as registry:
        yield registry


@pytest.fixture
def write(registry):
    """Put records in one transaction, and return the version after it."""

    async def write(*records):
        async with registry.transaction(actor="tests", action="write") as tx:
            await tx.put(*records)
        return tx.version

    return write


@pytest.fixture
def exported():
    """All that a registry publishes, by `kind/id`."""

    async def exported(registry):
        async with registry.export_records() as export:
            return {str(ref): record async for ref, record in export.records}

    return exported


@pytest.fixture
async def sample_records(write):
    """A user, two workspaces, and a library in the first: revision 1."""
    await write(
        User(id="ada", name="Ada"),
        Workspace(id="docs", name="Docs"),
        Workspace(id="lab", name="Lab"),
        Library(uid="lib-a", name="A", workspace_id="docs", tags=("public",)),
    )


@pytest.fixture
def token():
    return Token(digest=DIGEST, label=token_label(DIGEST), user="ada", tools=("*",))
