"""What is particular to the SQLite file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from registry import Kind, Ref, User, open_registry
from registry.exceptions import (
    LogBrokenError,
    RegistryUnavailableError,
    SchemaVersionError,
    UnreadableRegistryError,
    UnsupportedRegistryError,
)
from registry.sqlite import connection
from registry.sqlite.file import LAYOUT, _create

pytestmark = pytest.mark.anyio


STORES = ["sqlite"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "registry.db"


def execute(path, sql):
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute(sql).fetchall()
        db.commit()
    return rows


def contents(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}


async def test_database_files_are_private_and_nothing_else_is_left(registry, sample_records, path):
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["registry.db", "registry.db-shm", "registry.db-wal"]
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


async def test_concurrent_creation_keeps_the_first_file(path):
    _create(path)
    before = path.read_bytes(), path.stat().st_ino
    _create(path)
    assert (path.read_bytes(), path.stat().st_ino) == before
    assert contents(path.parent).keys() == {"registry.db"}


async def test_commits_are_durable_and_readers_do_not_block_writers(registry, sample_records):
    pragmas = ("journal_mode", "synchronous", "foreign_keys")
    values = [
        await registry._writer.run(lambda db, p=pragma: db.execute(f"PRAGMA {p}").fetchone()[0])
        for pragma in pragmas
    ]
    assert values == ["wal", 2, 1]


async def test_export_does_not_see_concurrent_writes(registry, sample_records, write):
    async with registry.export_records() as export:
        await write(User(id="bob", name="Bob"))
        refs = [ref async for ref, _ in export.records]
    assert Ref(Kind.USERS, "bob") not in refs


async def test_path_may_be_relative_and_have_odd_characters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry = await open_registry("sqlite:///a b%20?#é.db")
    await registry.version()
    await registry.aclose()
    assert (tmp_path / "a b%20?#é.db").exists()


async def test_file_of_another_version_is_refused_unchanged(tmp_path, path, url):
    await (await open_registry(url)).aclose()
    execute(path, f"PRAGMA user_version = {LAYOUT + 1}")
    before = contents(tmp_path)
    with pytest.raises(SchemaVersionError, match=f"layout {LAYOUT + 1}.*layout {LAYOUT}"):
        await open_registry(url)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("garbage", [b"", b"users:\n- ada\n" * 20, b"SQLite format 3\0"])
async def test_file_that_is_not_sqlite_is_refused_unchanged(tmp_path, path, url, garbage):
    path.write_bytes(garbage)
    with pytest.raises(UnreadableRegistryError, match="not an SQLite file"):
        await open_registry(url)
    assert contents(tmp_path) == {"registry.db": garbage}


async def test_foreign_sqlite_file_is_refused_unchanged(tmp_path, path, url):
    execute(path, "CREATE TABLE users (id)")
    before = contents(tmp_path)
    with pytest.raises(UnreadableRegistryError, match="not a registry"):
        await open_registry(url)
    assert contents(tmp_path) == before


async def test_file_opened_twice_still_sees_other_processes(registry, path, url):
    # https://www.sqlite.org/howtocorrupt.html, 2.2: this once cost the locks, and the log with them.
    writes = f"db = sqlite3.connect({str(path)!r}); db.execute(sql); db.commit(); db.close()"
    program = f"import sqlite3; sql = 'UPDATE registry SET revision = revision + 1'; {writes}"
    seen = [(await registry.version()).revision]
    second = await open_registry(url)
    for _ in range(3):
        subprocess.run([sys.executable, "-c", program], check=True)  # noqa: ASYNC221 - nothing else runs
        seen.append((await registry.version()).revision)
    await second.aclose()
    assert seen == [seen[0] + n for n in range(4)]


async def test_file_torn_by_a_kill_is_opened_with_its_log(registry, write, tmp_path, path):
    for n in range(40):
        await write(User(id=f"u-{n}", name="x" * 200))
    version = await registry.version()
    # As after a kill in a checkpoint: of the log's pages, only the first has been moved into the file, and it says
    # that the file is longer than it is.
    torn = tmp_path / "torn" / path.name
    torn.parent.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        (torn.parent / file.name).write_bytes(file.read_bytes())
    page, log = 4096, torn.with_name(f"{path.name}-wal").read_bytes()
    frames = (log[at : at + 24 + page] for at in range(32, len(log), 24 + page))
    first = [frame[24:] for frame in frames if frame[:4] == b"\0\0\0\1"][-1]
    torn.write_bytes(first + torn.read_bytes()[page:])
    again = await open_registry(f"sqlite:///{torn}")
    assert await again.version() == version
    assert len(await again.all(User)) == 40
    await again.aclose()


async def test_damaged_file_is_unreadable(path, url):
    await (await open_registry(url)).aclose()
    page = 4096
    data = path.read_bytes()
    path.write_bytes(data[:page] + b"\xff" * (len(data) - page))
    registry = await open_registry(url)
    with pytest.raises(UnreadableRegistryError, match="damaged"):
        await registry.all(User)
    await registry.aclose()


@pytest.mark.parametrize("place", [".", "no/such/directory/registry.db"])
async def test_place_where_no_file_can_be_is_unreadable(tmp_path, place):
    with pytest.raises(UnreadableRegistryError):
        await open_registry(f"sqlite:///{tmp_path / place}")


async def test_file_removed_while_open_does_not_return_empty(path, url):
    registry = await open_registry(url)
    path.unlink()
    with pytest.raises(RegistryUnavailableError):
        await registry.version()
    await registry.aclose()
    assert not path.exists()


async def test_programming_error_is_not_blamed_on_the_file(registry):
    with pytest.raises(sqlite3.ProgrammingError):
        await registry._reader.run(lambda db: db.execute("SELECT ?", ()))


async def test_file_that_stays_locked_is_unavailable(monkeypatch, path, url):
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.01)
    registry = await open_registry(url)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryUnavailableError, match="locked"):
            async with registry.transaction(actor="tests", action="write"):
                pass
    async with registry.transaction(actor="tests", action="write") as tx:
        await tx.put(User(id="ada", name="Ada"))
    await registry.aclose()


async def test_write_on_a_full_disk_is_undone_and_reported(registry, sample_records, write):
    async def most(pages):
        await registry._writer.run(lambda db: db.execute(f"PRAGMA max_page_count = {pages}"))

    before = await registry.version()
    await most(1)  # so many that there are
    with pytest.raises(RegistryUnavailableError, match="cannot be written: its disk is full"):
        await write(*(User(id=f"u{n}", name="n" * 200) for n in range(500)))
    assert await registry.version() == before
    assert await registry.get(User, "u0") is None
    await most(1_000_000)
    assert (await write(User(id="u0", name="n"))).revision == before.revision + 1
    assert await registry.verify_log() == before.revision + 1


@pytest.mark.parametrize(
    ("sql", "revision"),
    [
        ("UPDATE log SET actor = 'nobody' WHERE revision = 2", 2),
        ("UPDATE log SET at = at + 1 WHERE revision = 1", 1),
        ("UPDATE log SET touched = '[]' WHERE revision = 3", 3),
        ("UPDATE log SET touched = '[7]' WHERE revision = 3", 3),
        ("UPDATE log SET hash = previous WHERE revision = 2", 2),
        ("DELETE FROM log WHERE revision = 1", 1),
        ("DELETE FROM log WHERE revision = 2", 2),
        ("DELETE FROM log WHERE revision = 3", 3),
        ("DELETE FROM log", 1),
        ("UPDATE registry SET revision = 2", 3),
        ("UPDATE registry SET revision = 4", 4),
        (
            "INSERT INTO log SELECT -5, at, actor, action, touched, previous, hash FROM log LIMIT 1",
            1,
        ),
    ],
)
async def test_log_that_was_tampered_with_is_noticed(registry, write, path, sql, revision):
    for name in ("ada", "bob", "eve"):
        await write(User(id=name, name=name))
    assert await registry.verify_log() == 3
    execute(path, sql)
    with pytest.raises(LogBrokenError) as caught:
        await registry.verify_log()
    assert caught.value.revision == revision


async def test_database_has_no_column_for_a_secret(registry, path):
    tables = [
        name for (name,) in execute(path, "SELECT name FROM sqlite_master WHERE type='table'")
    ]
    columns = {row[1] for table in tables for row in execute(path, f"PRAGMA table_info({table})")}
    assert columns == {
        *(
            "one",
            "epoch",
            "revision",
            "name",
            "value",
            "id",
            "active",
            "uid",
            "workspace_id",
            "tags",
        ),
        *("owner", "active_jti", "tools", "team", "workspace", "digest", "label", "user"),
        *("expires_at", "libraries", "kid", "alg", "kind", "at", "actor", "action", "touched"),
        *("previous", "hash"),
    }


@pytest.mark.parametrize("url", ["sqlite://registry.db", "sqlite:///", "mysql://u:hunter2@h", "x"])
async def test_url_of_an_unknown_store_is_refused_unquoted(url):
    with pytest.raises(UnsupportedRegistryError) as caught:
        await open_registry(url)
    assert "hunter2" not in str(caught.value)


async def test_foreign_changes_in_the_file_are_found_by_a_check(registry, sample_records, path):
    execute(path, "UPDATE users SET name = ''")
    execute(path, "INSERT INTO libraries VALUES ('x', 'X', 'nowhere', '[]')")
    execute(path, "DELETE FROM settings WHERE name = 'lockdown'")
    findings = await registry.check(fix=True)
    assert [str(finding) for finding in findings] == [
        "libraries: a record names one of the workspaces that does not exist",
        "users/ada: name must be text that is not empty",
        "settings/lockdown: is missing",
    ]
    assert not any(finding.fixed for finding in findings)
