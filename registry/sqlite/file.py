"""The file: making a new one, and telling one of ours from anything else without touching it."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from registry.exceptions import SchemaVersion, Unreadable
from registry.model import DEFAULT_SETTINGS

APPLICATION_ID = 0x6C696374  # "lict"
LAYOUT = 1

_HEADER = 100  # https://www.sqlite.org/fileformat2.html#the_database_header
_MAGIC = b"SQLite format 3\x00"


def prepare(path: Path) -> None:
    """Make sure that there is a registry of this layout at `path`; an existing file is only read.

    Raises:
        SchemaVersion: the file has another layout.
        Unreadable: it is no registry, or cannot be read or made.
    """
    try:
        if not path.exists():
            _create(path)
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError as error:
        raise Unreadable(f"{path} cannot be opened: {error.strerror}") from error
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        raise Unreadable(f"{path} is not an SQLite file")
    if int.from_bytes(header[68:72]) != APPLICATION_ID:
        raise Unreadable(f"{path} is an SQLite file, but not a registry")
    found = int.from_bytes(header[60:64], signed=True)
    if found != LAYOUT:
        raise SchemaVersion(str(path), found=found, expected=LAYOUT)


def _create(path: Path) -> None:
    """Make a new registry beside its place and link it there: nobody ever sees half of one."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as directory:
        draft = Path(directory, "registry")
        draft.touch(mode=0o600)
        with closing(sqlite3.connect(draft, isolation_level=None)) as db:
            db.executescript(files(__package__).joinpath("schema.sql").read_text(encoding="utf-8"))
            db.execute("INSERT INTO registry (one, epoch, revision) VALUES (1, 1, 0)")
            db.executemany(
                "INSERT INTO settings (name, value) VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in DEFAULT_SETTINGS.items()],
            )
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {LAYOUT}")
            db.execute("PRAGMA journal_mode = WAL")
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return  # another process was first, and its registry is as good
