"""Libraries as bounds that hold: of arguments, and of queries to a real database."""

import sqlite3

import pytest
from fastmcp import FastMCP

from mcp_plugin import AllowedLibraries, allowed, checks_libraries, cypher, sql
from mcp_plugin.context import decision_scope
from pdp_client import Decision, Principal, Reason
from pdp_client.bearer.verifier import Credential

pytestmark = pytest.mark.anyio

NONE_SUCH = "No such library."
NEEDS = "This tool needs the libraries of an authenticated caller."


def shelves():
    mcp = FastMCP("shelves")
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("CREATE TABLE document (title, library)")
    rows = [(f"of {uid}", uid) for uid in ("lib-a", "lib-b", "lib-c", "it's", "")]
    database.executemany("INSERT INTO document VALUES (?, ?)", rows)

    @mcp.tool
    @checks_libraries("library")
    async def add(library: str, title: str = "") -> str:
        return f"{title} to {library}"

    @mcp.tool
    @checks_libraries("source", "targets")
    def copy(
        targets: list[str], source: str = "lib-a", libraries: list[str] = AllowedLibraries()
    ) -> list[str]:
        return [source, *targets, *libraries]

    @mcp.tool
    @checks_libraries("library")
    def either(library: str | None = None) -> str:
        return "all of them"

    @mcp.tool
    def may(library: str) -> bool:
        return allowed(library)

    @mcp.tool
    def titles(like: str = "%") -> list[str]:
        query = "SELECT title FROM document WHERE library IN (:libraries) AND title LIKE :like"
        return sorted(title for (title,) in database.execute(*sql(query, like=like)))

    return mcp


@pytest.fixture
async def served(serve_plain, grants):
    grants.a = grants.token("*", libraries=["lib-a"])
    grants.ab = grants.token("*", libraries=["lib-a", "lib-b", "it's"])
    grants.none = grants.token("*")
    grants.lay()
    return await serve_plain(shelves(), public_tools={"may", "add", "titles"})


@pytest.fixture
async def guarded(serve_plain, served):
    return await serve_plain(shelves())


async def test_argument_has_to_be_a_library_of_the_caller_s(guarded, grants):
    arguments = {"library": "lib-b", "title": "x"}
    assert await guarded.call("add", arguments, bearer=grants.ab) == "x to lib-b"
    for bearer, library in ((grants.a, "lib-b"), (grants.ab, "no-such"), (grants.none, "")):
        said = await guarded.refusal("add", {"library": library}, bearer=bearer)
        assert said == NONE_SUCH


async def test_named_argument_and_its_default_are_checked(guarded, grants):
    call = guarded.call
    assert await call("copy", {"targets": ["lib-b"]}, bearer=grants.ab) == [
        "lib-a", "lib-b", "it's", "lib-a", "lib-b"
    ]  # fmt: skip
    assert await call("copy", {"targets": []}, bearer=grants.a) == ["lib-a", "lib-a"]
    for bearer, given in (
        (grants.ab, {"targets": ["lib-b", "lib-c"]}),
        (grants.ab, {"targets": [], "source": "lib-c"}),
        (grants.none, {"targets": []}),
    ):
        assert await guarded.refusal("copy", given, bearer=bearer) == NONE_SUCH


async def test_no_library_is_not_any_library(guarded, grants):
    assert await guarded.refusal("either", bearer=grants.ab) == NONE_SUCH


async def test_checked_tool_keeps_its_schema_for_clients(guarded, grants):
    async with guarded.client(grants.a) as client:
        tools = {tool.name: tool.input_schema for tool in await client.list_tools()}
    assert set(tools["copy"]["properties"]) == {"targets", "source"}
    assert tools["add"]["required"] == ["library"]


async def test_single_library_can_be_checked(guarded, grants):
    assert await guarded.call("may", {"library": "lib-a"}, bearer=grants.a) is True
    assert await guarded.call("may", {"library": "lib-b"}, bearer=grants.a) is False


async def test_query_returns_rows_of_the_callers_libraries(guarded, grants):
    assert await guarded.call("titles", bearer=grants.a) == ["of lib-a"]
    assert await guarded.call("titles", bearer=grants.ab) == ["of it's", "of lib-a", "of lib-b"]
    assert await guarded.call("titles", {"like": "%-b"}, bearer=grants.ab) == ["of lib-b"]
    assert await guarded.call("titles", bearer=grants.none) == []


async def test_query_without_a_decision_allows_and_binds_nothing(served, grants):
    """Public tools run without a check of the bearer, so also without its libraries."""
    for tool, given in (
        ("may", {"library": "lib-a"}),
        ("add", {"library": "lib-a"}),
        ("titles", {}),
    ):
        assert NEEDS in await served.refusal(tool, given, bearer=grants.ab)


@pytest.fixture
def decided():
    """A decision for two libraries, current for the test."""
    decision = Decision(
        allow=True, reason=Reason.OK, reasons=("ok",), message="",
        principal=Principal(type="token", id="t"), libraries=("lib-a", "lib-b"),
        credential=Credential(kind="token", digest="d"),
    )  # fmt: skip
    with decision_scope(decision):
        yield


@pytest.mark.usefixtures("decided")
@pytest.mark.parametrize(
    "where",
    [
        "d.library IN $libraries",
        "d.library in\n$libraries",
        "NOT d.old AND d.library IN $libraries",
        "(d.a = 1 OR d.b = 2) AND (d.library IN $libraries)",
        "d.`library` IN $libraries AND d.title CONTAINS 'NOT'",
        "d.library IN $libraries AND ALL(x IN d.tags WHERE x <> 'y')",
        "d.library IN $libraries RETURN d UNION MATCH (d) WHERE d.library IN $libraries",
        "d.x = 1 WITH d WHERE d.library IN $libraries",
        "d.x = 1 WITH d, d.library AS l WHERE l IN $libraries",
        "d.x = 1 WITH DISTINCT d AS e, count(*) AS n WHERE e.library IN $libraries",
        "d.x = 1 CALL (d) { MATCH (e WHERE e.library IN $libraries) RETURN e }",
    ],
)
def test_cypher_binds_a_list(where):
    query = f"MATCH (d) WHERE {where} RETURN d"
    assert cypher(query, title="x") == (query, {"title": "x", "libraries": ["lib-a", "lib-b"]})


@pytest.mark.usefixtures("decided")
@pytest.mark.parametrize(
    "query",
    [
        "MATCH (d) RETURN d",
        "MATCH (d) WHERE d.library IN $librarie RETURN d",
        "MATCH (d) WHERE d.library IN $libraries2 RETURN d",
        "MATCH (d) RETURN 'IN $libraries'",
        'MATCH (d) RETURN "a\\" IN $libraries"',
        "MATCH (d) // IN $libraries\nRETURN d",
        "MATCH (d) /* IN\n$libraries */ RETURN d",
        "MATCH (d) WHERE NOT d.library IN $libraries RETURN d",
        "MATCH (d) WHERE $libraries = [] RETURN d",
        "MATCH (d) WHERE NOT (d.library IN $libraries) RETURN d",
        "MATCH (d) WHERE NOT NOT d.library IN $libraries RETURN d",
        "MATCH (d) WHERE (d.library IN $libraries) = false RETURN d",
        "MATCH (d) WHERE d.library IN $libraries = false RETURN d",
        "MATCH (d) WHERE d.library IN $libraries IS NULL RETURN d",
        "MATCH (d) WHERE d.library IN $libraries + ['x'] RETURN d",
        "MATCH (d) WHERE NONE(x IN $libraries WHERE x = d.library) RETURN d",
        "MATCH (d) WHERE any(x IN d.libraries WHERE x IN $libraries) RETURN d",
        "MATCH (d) WHERE size([x IN d.l WHERE x IN $libraries]) = 0 RETURN d",
        "MATCH (d) WHERE d.library IN $libraries OR true RETURN d",
        "MATCH (d) WHERE (d.x = 1 OR d.library IN $libraries) RETURN d",
        "MATCH (d) WHERE d.library IN $libraries XOR true RETURN d",
        "MATCH (d) WHERE NOT (d.x = 1 AND d.library IN $libraries) RETURN d",
        "MATCH (d) WHERE NOT EXISTS { MATCH (e) WHERE e.library IN $libraries } RETURN d",
        "MATCH (d) WHERE COUNT { MATCH (e) WHERE e.library IN $libraries } = 0 RETURN d",
        "MATCH (d) WHERE CASE WHEN d.library IN $libraries THEN false ELSE true END RETURN d",
        "MATCH (d) OPTIONAL MATCH (e) WHERE e.library IN $libraries RETURN d",
        "MATCH (d) WHERE d.library IN $libraries RETURN d UNION MATCH (e) RETURN e",
        "MATCH (d) RETURN d.library IN $libraries",
        "MATCH (d) WHERE d.library IN $`libraries` RETURN d",
        "MATCH (d) WHERE d.a = 'x AND d.library IN $libraries RETURN d",
        "MATCH (d) WITH d, 'mine' AS l WHERE l IN $libraries RETURN d",
        "MATCH (d) WITH d, $mine AS l WHERE l IN $libraries RETURN d",
        "MATCH (d) WITH d, {library: 'mine'} AS m WHERE m.library IN $libraries RETURN d",
        "MATCH (d) UNWIND ['mine'] AS l WITH d, l WHERE l IN $libraries RETURN d",
        "MATCH (d) WITH d, coalesce(d.library, 'mine') AS l WHERE l IN $libraries RETURN d",
        "MATCH (d) WHERE d.library IN $libraries RETURN d; MATCH (e) RETURN e",
    ],
)
def test_cypher_not_restricted_to_its_libraries_is_refused(query):
    with pytest.raises(ValueError, match="libraries"):
        cypher(query)


@pytest.mark.usefixtures("decided")
@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM d",
        "SELECT * FROM d WHERE l IN (:librariesx)",
        "SELECT * FROM d WHERE l = ':libraries'",
        "SELECT ' IN (:libraries)' FROM d",
        "SELECT * FROM d -- l IN (:libraries)",
        "SELECT * FROM d WHERE l NOT IN (:libraries)",
        "SELECT * FROM d WHERE NOT l IN (:libraries)",
        "SELECT * FROM d WHERE NOT (l IN (:libraries))",
        "SELECT * FROM d WHERE (l IN (:libraries)) = false",
        "SELECT * FROM d WHERE l IN (:libraries) = 0",
        "SELECT * FROM d WHERE l IN (:libraries) IS NOT TRUE",
        "SELECT * FROM d WHERE l IN (:libraries) OR 1 = 1",
        "SELECT * FROM d WHERE CASE WHEN l IN (:libraries) THEN 0 ELSE 1 END",
        "SELECT * FROM d WHERE coalesce(l IN (:libraries), true)",
        "SELECT * FROM d WHERE 'x' IN (:libraries)",
        "SELECT * FROM d WHERE l IN (:libraries, 'x')",
        "SELECT * FROM d LEFT JOIN e ON e.l IN (:libraries)",
        "SELECT * FROM d WHERE NOT EXISTS (SELECT 1 FROM e WHERE e.l IN (:libraries))",
        "SELECT * FROM d WHERE id NOT IN (SELECT id FROM d WHERE l IN (:libraries))",
        "SELECT a FROM d WHERE l IN (:libraries) UNION SELECT a FROM e",
        "WITH x AS (SELECT * FROM d WHERE l IN (:libraries)) SELECT * FROM y",
        "SELECT l IN (:libraries) FROM d",
        "SELECT * FROM d WHERE l IN (:libraries); DROP TABLE d",
        "SELECT * FROM",
        "SELECT * FROM d ANTI JOIN e ON d.l IN (:libraries)",
        "SELECT * FROM d FULL JOIN e ON d.l IN (:libraries)",
        "SELECT * FROM (SELECT 'mine' AS l, a FROM d) x WHERE l IN (:libraries)",
        "WITH x AS (SELECT coalesce(l, 'mine') AS l FROM d) SELECT * FROM x WHERE l IN (:libraries)",
        "WITH x AS (DELETE FROM d RETURNING *) SELECT * FROM d WHERE l IN (:libraries)",
        "WITH x AS (UPDATE d SET a = 1 RETURNING *) SELECT * FROM d WHERE l IN (:libraries)",
        "INSERT INTO d SELECT * FROM e WHERE l IN (:libraries) ON CONFLICT (a) DO UPDATE SET a = 1",
    ],
)
def test_sql_not_restricted_to_its_libraries_is_refused(query):
    with pytest.raises(ValueError, match="libraries"):
        sql(query)


@pytest.mark.usefixtures("decided")
@pytest.mark.parametrize(
    "query",
    [
        "SELECT a FROM d WHERE (a = 1 OR b = 2) AND l IN (:libraries) ORDER BY a LIMIT 3",
        "SELECT a FROM d WHERE a LIKE :like AND l IN (:libraries)",
        "SELECT a FROM d WHERE a::text = 'x' AND l IN (:libraries)",
        "SELECT a FROM d JOIN e ON d.id = e.id AND e.l IN (:libraries)",
        "SELECT a FROM (SELECT * FROM d WHERE l IN (:libraries)) x",
        "WITH x AS (SELECT * FROM d WHERE l IN (:libraries)) SELECT a FROM x",
        "SELECT * FROM (SELECT l, a FROM d) x WHERE l IN (:libraries)",
        "SELECT * FROM (SELECT d.library AS l, a FROM d) x WHERE l IN (:libraries)",
        "SELECT a FROM d WHERE l IN (:libraries) UNION SELECT a FROM e WHERE l IN (:libraries)",
        "DELETE FROM d WHERE l IN (:libraries)",
        "UPDATE d SET a = :a WHERE l IN (:libraries) AND id = :id",
        "INSERT INTO x SELECT * FROM d WHERE l IN (:libraries)",
    ],
)
def test_sql_with_a_bound_of_its_own_is_accepted(query):
    text, bound = sql(query)
    assert text == query.replace(":libraries", ":libraries_0, :libraries_1")
    assert bound == {"libraries_0": "lib-a", "libraries_1": "lib-b"}


@pytest.mark.usefixtures("decided")
def test_query_libraries_come_from_the_decision_alone():
    for bind, query in ((cypher, "WHERE l IN $libraries"), (sql, "WHERE l IN (:libraries)")):
        for name in ("libraries", "libraries_0"):
            with pytest.raises(ValueError, match="do not pass"):
                bind(query, **{name: ["lib-z"]})


@pytest.mark.usefixtures("decided")
def test_query_strings_are_left_unchanged():
    query, bound = sql("SELECT 'IN (:libraries)' FROM d WHERE l IN ( :libraries )")

    assert query == "SELECT 'IN (:libraries)' FROM d WHERE l IN ( :libraries_0, :libraries_1 )"
    assert bound == {"libraries_0": "lib-a", "libraries_1": "lib-b"}


def test_query_missing_its_parameter_is_refused_at_once():
    with pytest.raises(TypeError, match="libary"):
        checks_libraries("libary")(lambda library: library)
    with pytest.raises(TypeError, match="no parameter"):
        checks_libraries()(lambda library: library)
