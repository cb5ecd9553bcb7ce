"""A site's folder, listed once and read once: what is checked, tested and signed afterwards.

OPA's own loader, `opa test` and a glob each list a folder differently (directories that end in
`.rego`, links, dot-folders, colons in a path). Nothing here is read again: OPA gets these bytes in
a folder of its own, under names that mean nothing to it.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bundles.exceptions import PolicyRefusedError
from lictor_common.text import printable

MAX_FILE_BYTES = 1 << 20
MAX_FILES = 2_000
"""Rego files; each costs OPA about 30 ms to parse."""
MAX_ENTRIES = 20_000
"""Entries of any kind below the folder: more is not a folder of rules."""
MAX_DEPTH = 64

_DATA_SUFFIXES = (".json", ".yaml", ".yml")
_SAFE = "/-_.~ +@=,"
"""Characters of a path that stay as they are in a bundle, beside letters and digits."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One Rego file as it was read.

    Attributes:
        path: where it is, for people; control characters are escaped.
        name: its path below the folder as the bundle has it: ASCII, percent-encoded where needed.
        content: its bytes.
        is_test: whether it holds tests, which are never signed.
    """

    path: str
    name: str
    content: bytes
    is_test: bool = False

    def line(self, row: int) -> str:
        """One line of the source, printable; empty where there is none. Rows count from 1."""
        lines = self.content.decode("utf-8", errors="replace").splitlines()
        return printable(lines[row - 1].replace("\t", "    ")) if 0 < row <= len(lines) else ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry of the folder that is not part of the site's rules, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class SiteFolder:
    """Everything that a site's folder holds."""

    rules: tuple[SourceFile, ...]
    tests: tuple[SourceFile, ...]
    left_out: tuple[LeftOut, ...]


def read_site(folder: Path) -> SiteFolder:
    """List and read a site's folder, once.

    Raises:
        PolicyRefusedError: it is not a folder; a file cannot be read, is too large, or is one that
            OPA would load as data; a link leads out of the folder; there are too many entries.
    """
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise PolicyRefusedError(f"{printable(str(folder))}: {what}")
    reading = _Reading(folder)
    reading.read_directory(folder, depth=0)
    rego = sorted(reading.files, key=lambda file: file.name)
    if len(rego) > MAX_FILES:
        raise PolicyRefusedError(
            f"{printable(str(folder))}: {len(rego)} Rego files; a site has {MAX_FILES} at most"
        )
    return SiteFolder(
        rules=tuple(file for file in rego if not file.is_test),
        tests=tuple(file for file in rego if file.is_test),
        left_out=tuple(sorted(reading.left_out, key=lambda one: one.path)),
    )


class _Reading:
    def __init__(self, folder: Path) -> None:
        self.files: list[SourceFile] = []
        self.left_out: list[LeftOut] = []
        self._folder = folder
        self._root = os.path.realpath(folder)
        self._seen: dict[tuple[int, int], str] = {}
        self._entries = 0

    def read_directory(self, directory: Path, *, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise PolicyRefusedError(f"{_shown(directory)}: more than {MAX_DEPTH} folders deep")
        for path, found in self._listed(directory):
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                raise PolicyRefusedError(
                    f"{_shown(self._folder)}: more than {MAX_ENTRIES} entries; "
                    "give the folder that holds the rules alone"
                )
            self._read_entry(path, found, depth=depth)

    def _listed(self, directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
        """The entries that count; those that are not links first, so that links are the copies."""
        try:
            entries = sorted(os.scandir(directory), key=lambda e: (e.is_symlink(), e.name))
        except OSError as error:
            raise PolicyRefusedError(f"{_shown(directory)}: {error.strerror}") from None
        for entry in entries:
            path = directory / entry.name
            if entry.name.startswith("."):
                self._leave_out(path, "its name begins with a dot")
                continue
            if entry.is_symlink():
                self._check_link(path)
            try:
                yield path, path.stat()
            except OSError as error:
                raise PolicyRefusedError(f"{_shown(path)}: {error.strerror}") from None

    def _check_link(self, path: Path) -> None:
        target = os.path.realpath(path)
        if target != self._root and not target.startswith(self._root.rstrip("/") + "/"):
            raise PolicyRefusedError(
                f"{_shown(path)}: a link out of the folder; "
                "copy what it leads to, or give a folder that holds both"
            )

    def _read_entry(self, path: Path, found: os.stat_result, *, depth: int) -> None:
        identity = (found.st_dev, found.st_ino)
        if identity in self._seen:
            self._leave_out(path, f"the same as {self._seen[identity]}")
        elif stat.S_ISDIR(found.st_mode):
            self._seen[identity] = _shown(path)
            self.read_directory(path, depth=depth + 1)
        elif path.name.lower().endswith(".rego"):
            self._seen[identity] = _shown(path)
            self._read_rego(path, found)
        elif path.name.lower().endswith(_DATA_SUFFIXES):
            raise PolicyRefusedError(
                f"{_shown(path)}: only Rego goes into a policy bundle; "
                "write the data as a rule, or keep the file out of this folder"
            )
        else:
            self._leave_out(path, "its name does not end in .rego")

    def _read_rego(self, path: Path, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise PolicyRefusedError(f"{_shown(path)}: not a regular file")
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise PolicyRefusedError(f"{_shown(path)}: {error.strerror}") from None
        if len(content) > MAX_FILE_BYTES:
            raise PolicyRefusedError(f"{_shown(path)}: larger than {MAX_FILE_BYTES // 1024} KiB")
        relative = os.fsencode(path.relative_to(self._folder))
        name = quote(relative, safe=_SAFE)
        if not name.endswith(".rego"):  # `A.REGO`; OPA goes by the ending
            name += ".rego"
        is_test = path.name.lower().endswith("_test.rego")
        self.files.append(SourceFile(_shown(path), name, content, is_test))

    def _leave_out(self, path: Path, reason: str) -> None:
        self.left_out.append(LeftOut(_shown(path), reason))


def _shown(path: Path) -> str:
    return printable(str(path))
