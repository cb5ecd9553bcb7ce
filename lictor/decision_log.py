"""Uses of tokens, read on from where it was left in a file of decisions.

The offset is on disk before the lines before it are counted: a process that is killed between the
two has lost some uses, and counts none twice.
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from lictor_common.private_files import replace_private
from lictor_common.text import is_digest
from pdp_client.usage import is_use

_PIECE = 1 << 20
"""Bytes read at a time: some thousand decisions, and a few milliseconds."""

Uses = dict[str, tuple[int, float]]
"""Token digest to how often it was used, and when last, in seconds since 1970."""


class DecisionLogReader:
    """A file as `pdp_client.FileRecord` writes it. It may grow, be cut, and be put aside."""

    def __init__(self, path: Path, *, place: Path, piece: int = _PIECE) -> None:
        """Create the reader; it opens the file on the first read.

        Args:
            path: the file; it need not be there yet.
            place: where it is noted how far it was read.
            piece: bytes read at a time.
        """
        self._path = path
        self._place = place
        self._piece = piece

    def take_uses(self) -> Uses:
        """Read on until there is a use, or the end. Blocks.

        Returns:
            Some of the uses that were not returned before; empty when none are left.

        Raises:
            OSError: it cannot be read, or it cannot be noted how far it was.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return {}
        with file:
            status = os.fstat(file.fileno())
            which = [status.st_dev, status.st_ino]
            offset = self._offset(which, status.st_size)
            while True:
                file.seek(offset)
                piece = file.read(self._piece)
                # The last line may not be whole yet. One longer than a piece is not ours.
                whole = piece.rfind(b"\n") + 1 or (len(piece) if len(piece) == self._piece else 0)
                if not whole:
                    return {}
                offset += whole
                self._note(which, offset)
                if uses := _sum_uses(piece[:whole]):
                    return uses

    def _offset(self, which: list[int], size: int) -> int:
        try:
            noted = json.loads(self._place.read_bytes())
            file, offset = noted["file"], int(noted["offset"])
        except FileNotFoundError:
            return 0
        except (ValueError, LookupError, TypeError, RecursionError):
            # All that is there may have been counted.
            self._note(which, size)
            return size
        # Another file, or the same begun anew.
        return offset if file == which and 0 <= offset <= size else 0

    def _note(self, which: list[int], offset: int) -> None:
        place = {"file": which, "offset": offset}
        replace_private(self._place, json.dumps(place).encode())


def _sum_uses(lines: bytes) -> Uses:
    uses: Uses = {}
    for digest, at in _used(lines):
        count, last = uses.get(digest, (0, 0.0))
        uses[digest] = count + 1, max(last, at)
    return uses


def _used(lines: bytes) -> Iterator[tuple[str, float]]:
    for line in lines.split(b"\n"):
        try:
            entry: Any = orjson.loads(line)
            credential, at = entry["credential"], float(entry["at"])
            digest, use = credential["digest"], is_use(credential["kind"], entry["reason"])
        except (ValueError, LookupError, TypeError):
            # Torn, or about a bearer that is not a token.
            continue
        if use and isinstance(digest, str) and is_digest(digest) and 0 <= at < math.inf:
            yield digest, at
