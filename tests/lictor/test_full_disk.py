"""What the operator reads when the disk under the registry is full."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from support.small_disk import MountRefusedError, small_disk

from lictor.cli import run


@pytest.fixture
def disk(short_path):
    try:
        with small_disk(short_path / "disk", 2) as disk:
            yield disk
    except MountRefusedError as reason:
        # Only root mounts, and nothing else has a disk that is really full.
        pytest.skip(str(reason))


@pytest.fixture
def lictor(settings, disk, capsys):
    shutil.copy(settings.state / "registry.db", disk.path)

    def call(*arguments):
        where = (f"--state={settings.state}", f"--registry=sqlite:///{disk.path / 'registry.db'}")
        return run([*arguments, *where]), *capsys.readouterr()

    return call


def users(lictor):
    code, out, err = lictor("user", "list", "--format=json")
    assert code == 0, err
    return [one["id"] for one in json.loads(out)]


WRITES = [
    ("user", "add", "x"),
    ("token", "create", "--user=ada", "--tool=*"),
    ("team", "create", "Docs", "--owner=ada"),
    ("lockdown", "on"),
]


@pytest.mark.parametrize("command", WRITES)
def test_write_on_a_full_disk_fails_in_one_line_without_secrets(lictor, disk, command):
    assert lictor("user", "add", "ada")[1]  # written, and not published
    # As `lictor serve` has it open.
    with closing(sqlite3.connect(disk.path / "registry.db", isolation_level=None)) as other:
        other.execute("SELECT count(*) FROM users").fetchone()
        disk.fill()
        code, out, err = lictor(*command)
        assert (code, out) == (1, "")
        path = disk.path / "registry.db"
        assert err == f"lictor: {path} cannot be written: its disk is full\n"
        assert users(lictor) == ["ada"]
        disk.empty()
        assert lictor(*command)[1]


def test_closed_registry_on_a_full_disk_is_unreadable_with_reason(lictor, disk):
    disk.fill()
    for command in (["user", "add", "x"], ["user", "list"]):
        code, out, err = lictor(*command)
        assert (code, out) == (1, "")
        path = disk.path / "registry.db"
        assert err == f"lictor: {path} cannot be opened: its disk is full\n"
    disk.empty()
    assert users(lictor) == []


def test_init_leaves_no_half_registry(disk, short_path, capsys):
    state, place = short_path / "new", disk.path / "new.db"
    where = [f"--state={state}", f"--registry=sqlite:///{place}"]
    disk.fill(leave=5)
    assert run(["init", *where]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"lictor: {place} cannot be ")
    assert "full" in err
    assert [one.name for one in disk.path.iterdir()] == ["filler"]
