"""The registry's file: create it, and recognise an existing one without changing it."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from registry.exceptions import SchemaVersionError, UnreadableRegistryError
from registry.model import DEFAULT_SETTINGS

APPLICATION_ID = 0x6C696374  # "lict"
LAYOUT = 1

_HEADER = 100  # https://www.sqlite.org/fileformat2.html#the_database_header


def prepare(path: Path) -> None:
    """Make sure that there is a registry of this layout at `path`; an existing file is only read.

    Raises:
        SchemaVersionError: the file has another layout.
        UnreadableRegistryError: the file is not a registry, or cannot be read or created.
    """
    try:
        if not path.exists():
            _create(path)
        if path.stat().st_size < _HEADER:
            raise UnreadableRegistryError(f"{path} is not an SQLite file")
        try:
            application, layout = _marks(path, "mode=ro&immutable=1")
        except sqlite3.DatabaseError:
            # Without its log, a file is torn when a process was killed as it moved the log into it.
            application, layout = _marks(path, "mode=rw")
    except (OSError, sqlite3.OperationalError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UnreadableRegistryError(f"{path} cannot be opened: {why}") from error
    except sqlite3.DatabaseError as error:
        raise UnreadableRegistryError(f"{path} is not an SQLite file") from error
    if application != APPLICATION_ID:
        raise UnreadableRegistryError(f"{path} is not a registry; correct the URL")
    if layout != LAYOUT:
        raise SchemaVersionError(str(path), found=layout, expected=LAYOUT)


def _marks(path: Path, how: str) -> tuple[int, int]:
    """Read the file's `application_id` and `user_version`, as a rule without a lock or its log.

    SQLite reads them, not this module: a process that opens and closes the file itself drops the
    locks of all its connections to it. The next process to close the registry would then delete its
    log, and this process would never see later writes.
    https://www.sqlite.org/howtocorrupt.html (2.2)
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as db:
        return (
            db.execute("PRAGMA application_id").fetchone()[0],
            db.execute("PRAGMA user_version").fetchone()[0],
        )


def _create(path: Path) -> None:
    """Create a registry beside its path and link it there, so that it only appears complete."""
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
