"""What is particular to the registry in Neo4j: opening it, and what a graph must have to be one."""

from __future__ import annotations

import subprocess
import sys
from contextlib import aclosing

import pytest

from registry import (
    RegistryVersion,
    Setting,
    User,
    open_registry,
)
from registry.exceptions import (
    SchemaVersionError,
    UnreadableRegistryError,
    UnsupportedRegistryError,
)
from registry.operations import Operator

pytestmark = pytest.mark.anyio

STORES = ["neo4j"]


# Opening


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("neo4j://u:hunter2@h", "must not hold a password"),
        ("neo4j://u:hunter2@h:x", "write neo4j://|must not hold a password"),
        ("bolt://:hunter2@h", "must not hold a password"),
        ("bolt://h:hunter2", "write neo4j://"),
        ("bolt://", "write neo4j://"),
        ("bolt://h/a/b", "write neo4j://"),
        ("bolt+s://h?policy=x", "write neo4j://"),
        ("neo4j+ssc://u@h", "no password file"),
    ],
)
async def test_invalid_neo4j_url_is_refused_unquoted(url, why):
    with pytest.raises(UnsupportedRegistryError, match=why) as caught:
        await open_registry(url)
    assert "hunter2" not in str(caught.value)


async def test_password_file_is_for_a_user_and_must_be_readable(tmp_path):
    file = tmp_path / "password"
    with pytest.raises(UnsupportedRegistryError, match="password cannot be read"):
        await open_registry("bolt://u@h", password_file=file)
    file.write_bytes(b"hunter2\xff")
    with pytest.raises(UnsupportedRegistryError, match="is not UTF-8"):
        await open_registry("bolt://u@h", password_file=file)
    with pytest.raises(UnsupportedRegistryError, match="names no user"):
        await open_registry("bolt://h", password_file=file)


@pytest.mark.parametrize("scheme", ["neo4j", "bolt"])
async def test_user_password_and_database_may_be_given(url, sample_records, tmp_path, scheme):
    # The server of the tests has no authentication: it takes any.
    (tmp_path / "password").write_text("hunter2\n")
    url = url.replace("bolt://", f"{scheme}://ops@") + "/neo4j"
    opened = await open_registry(url, password_file=tmp_path / "password")
    async with aclosing(opened) as registry:
        assert await registry.get(User, "ada") == User(id="ada", name="Ada")


async def test_missing_database_is_unreadable(url):
    async with aclosing(await open_registry(f"{url}/nowhere")) as registry:
        with pytest.raises(UnreadableRegistryError, match="no such database"):
            await registry.version()


def test_missing_driver_error_names_the_extra():
    script = """
import asyncio, sys
sys.modules["neo4j"] = None
from registry import open_registry
from registry.exceptions import UnsupportedRegistryError
try:
    asyncio.run(open_registry("neo4j://h"))
except UnsupportedRegistryError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "pip install 'lictor[neo4j]'" in done.stdout


# A graph without a registry


async def test_graph_without_a_registry_is_not_an_empty_registry(exported, empty_graph):
    async with aclosing(await open_registry(empty_graph)) as registry:
        for read in (
            registry.version(),
            registry.get(User, "ada"),
            registry.all(User),
            registry.changed_since(0),
            registry.counts(),
            registry.log(),
            registry.verify_log(),
            exported(registry),
            Operator(registry, actor="tests").add_user("ada"),
        ):
            with pytest.raises(UnreadableRegistryError, match=r"no registry.*check --fix"):
                await read
        assert [str(finding) for finding in await registry.check()][:1] == [
            "(:Registry): is missing"
        ]
        with pytest.raises(UnreadableRegistryError):
            await registry.version()


async def test_check_with_fix_creates_a_valid_registry(empty_graph):
    async with aclosing(await open_registry(empty_graph)) as registry:
        fixed = await registry.check(fix=True)
        assert "(:Registry): is missing (fixed)" in map(str, fixed)
        assert all(finding.fixed for finding in fixed)
        assert await registry.check() == []
        assert await registry.version() == RegistryVersion(1, 0)
        assert (await registry.get(Setting, "staleness_limit")).value == 30


async def test_registry_that_was_lost_is_not_made_anew(registry, sample_records, cypher):
    cypher("MATCH (r:Registry) DELETE r")
    findings = await registry.check(fix=True)
    assert [(str(f), f.fixed) for f in findings] == [
        ("(:Registry): is missing, but there is a log; restore a backup", False)
    ]
    with pytest.raises(UnreadableRegistryError):
        await registry.version()


async def test_graph_emptied_during_an_export_is_an_error(registry, sample_records, cypher):
    async with registry.export_records() as export:
        cypher("MATCH (n) DETACH DELETE n")
        with pytest.raises(UnreadableRegistryError):
            _ = [ref async for ref, _ in export.records]


async def test_registry_recreated_during_an_export_is_an_error(registry, sample_records, cypher):
    async with registry.export_records() as export:
        cypher("MATCH (n) DETACH DELETE n")
        await registry.check(fix=True)
        with pytest.raises(UnreadableRegistryError, match="another registry"):
            _ = [ref async for ref, _ in export.records]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("MATCH (r:Registry) SET r.layout = 2", SchemaVersionError),
        ("MATCH (r:Registry) SET r.revision = 'two'", UnreadableRegistryError),
        ("MATCH (r:Registry) REMOVE r.epoch", UnreadableRegistryError),
        ("CREATE (:Registry {epoch: 1, revision: 0})", UnreadableRegistryError),
    ],
)
async def test_ambiguous_registry_is_an_error_and_unchanged(registry, cypher, query, error):
    cypher(query)
    before = cypher("MATCH (r:Registry) RETURN properties(r)")
    for call in (registry.version(), registry.changed_since(0), registry.check(fix=True)):
        with pytest.raises(error):
            await call
    assert cypher("MATCH (r:Registry) RETURN properties(r)") == before
