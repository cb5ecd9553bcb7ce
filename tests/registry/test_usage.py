"""How often tokens were used, in every store; and that it is no change of the registry."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing, closing
from dataclasses import replace

import pytest

from registry import Finding, Token, Usage, open_registry, token_label
from registry.document import export_document, import_document
from registry.model import MOST_USES

pytestmark = pytest.mark.anyio

OTHER = "2bd806c9" + 56 * "b"


@pytest.fixture
async def used(sample_records, write, token):
    """Two tokens, at revision 2: their digests."""
    await write(token, replace(token, digest=OTHER, label=token_label(OTHER)))
    return token.digest, OTHER


async def test_token_that_was_never_used_has_no_usage(registry, used):
    assert await registry.usage(used) == {}


async def test_uses_are_added_up_and_the_latest_is_the_last(registry, used):
    first, second = used
    await registry.record_usage({first: Usage(3, 100.5)})
    await registry.record_usage({first: Usage(2, 50.0), second: Usage(1, 7.25)})
    assert await registry.usage(used) == {first: Usage(5, 100.5), second: Usage(1, 7.25)}
    assert await registry.usage([second]) == {second: Usage(1, 7.25)}
    assert await registry.usage(iter(used)) == await registry.usage(used)


async def test_digest_that_no_token_has_is_ignored(registry, used):
    first, _ = used
    await registry.record_usage({"c" * 64: Usage(1, 1.0), first: Usage(1, 2.0)})
    assert await registry.usage([*used, "c" * 64, "\udcff", ""]) == {first: Usage(1, 2.0)}
    await registry.record_usage({})


async def test_usage_makes_no_revision(registry, used, exported):
    before = await registry.changed_since(0), await registry.log(), await exported(registry)
    version, document = await registry.version(), await export_document(registry, actor="tests")
    await registry.record_usage(dict.fromkeys(used, Usage(3, 100.5)))
    assert await registry.version() == version
    assert before == (
        await registry.changed_since(0),
        await registry.log(),
        await exported(registry),
    )
    assert await export_document(registry, actor="tests") == document
    assert await registry.verify_log() == version.revision
    assert await registry.check() == []
    assert await registry.get(Token, used[0]) is not None


async def test_usage_outlives_token_changes_but_not_the_token(registry, used, write, token):
    await registry.record_usage(dict.fromkeys(used, Usage(3, 100.5)))
    document = await export_document(registry, actor="tests")
    await write(replace(token, active=False, tools=("a",)))
    await import_document(registry, document, actor="tests")
    assert await registry.usage(used) == dict.fromkeys(used, Usage(3, 100.5))
    async with registry.transaction(actor="tests", action="delete") as tx:
        await tx.delete(Token, token.digest)
    await write(token)
    assert await registry.usage(used) == {OTHER: Usage(3, 100.5)}


async def test_usage_recorded_concurrently_loses_nothing(registry, url, used, write, token):
    first, second = used
    async with aclosing(await open_registry(url)) as other:
        await asyncio.gather(
            *(
                one.record_usage({a: Usage(1, float(n)), b: Usage(2, float(n))})
                for n in range(10)
                for one, a, b in ((registry, first, second), (other, second, first))
            ),
            write(replace(token, active=False)),
        )
    assert await registry.usage(used) == {first: Usage(30, 9.0), second: Usage(30, 9.0)}


async def test_usage_count_stops_at_the_largest_portable_number(registry, used):
    first, _ = used
    for _ in range(5):
        await registry.record_usage({first: Usage(MOST_USES - 1, 1.0)})
    count = (await registry.usage(used))[first].uses
    assert MOST_USES <= count < 2 * MOST_USES


async def test_usage_of_more_tokens_than_a_page_is_returned(registry, sample_records, write, token):
    digests = [f"{number:064x}" for number in range(6000)]
    await write(*(replace(token, digest=one, label=token_label(one)) for one in digests))
    await registry.record_usage(dict.fromkeys(digests, Usage(1, 1.0)))
    assert await registry.usage(digests) == dict.fromkeys(digests, Usage(1, 1.0))


async def test_usage_read_does_not_alter_the_file(sqlite_url, tmp_path):
    file = tmp_path / "registry.db"
    async with aclosing(await open_registry(sqlite_url)) as registry:
        before = file.read_bytes()
        assert await registry.usage(["a" * 64]) == {}
        assert file.read_bytes() == before


async def test_usage_table_is_added_to_an_older_file(sqlite_url, tmp_path):
    async with aclosing(await open_registry(sqlite_url)) as registry:
        with closing(sqlite3.connect(tmp_path / "registry.db")) as db:
            tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            assert ("usage",) not in tables, "made by the first use"
            db.execute("INSERT INTO users VALUES ('ada', 'Ada', 1)")
            db.execute(
                "INSERT INTO tokens VALUES (?, 'l', 'ada', 1, NULL, '[]', '[]')", ("a" * 64,)
            )
            db.commit()
        await registry.record_usage({"a" * 64: Usage(1, 1.0)})
        assert await registry.usage(["a" * 64]) == {"a" * 64: Usage(1, 1.0)}
    async with aclosing(await open_registry(sqlite_url)) as registry:
        assert await registry.usage(["a" * 64]) == {"a" * 64: Usage(1, 1.0)}


@pytest.mark.parametrize("value", ["'many'", "-1.5", "[1]", "null", "true"])
async def test_usage_written_by_others_is_ignored_when_malformed(neo4j_url, cypher, value, token):
    cypher(
        "CREATE (u:User {id: 'ada', name: 'Ada', active: true})"
        "<-[:BELONGS_TO]-(:Token {digest: $digest, label: 'l', active: true, libraries: [],"
        f" tools: [], uses: {value}, last_used_at: {value}}})",
        digest=token.digest,
    )
    async with aclosing(await open_registry(neo4j_url)) as registry:
        assert await registry.usage([token.digest]) == {}
        assert await registry.check() == []
        await registry.record_usage({token.digest: Usage(2, 5.0)})
        assert await registry.usage([token.digest]) == {token.digest: Usage(2, 5.0)}


async def test_usage_may_come_from_a_site_query(neo4j_url, tmp_path, cypher, token):
    query = "UNWIND $ids AS id RETURN id AS digest, 7 AS uses, 8.0 AS last_used_at"
    (tmp_path / "tokens.usage.cypher").write_text(query)
    async with aclosing(await open_registry(neo4j_url, cypher=tmp_path)) as registry:
        assert await registry.usage([token.digest]) == {token.digest: Usage(7, 8.0)}
        (tmp_path / "tokens.usage.cypher").write_text("RETURN 1 AS digest")
    async with aclosing(await open_registry(neo4j_url, cypher=tmp_path)) as registry:
        findings = await registry.check()
        assert [one for one in findings if isinstance(one, Finding) and "tokens.usage" in one.what]
