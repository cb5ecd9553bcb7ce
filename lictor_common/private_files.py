"""Files that only their owner may read."""

import os
import tempfile
from pathlib import Path

BEGUN = ".begun-"
"""The prefix of incomplete files; a killed process leaves them behind."""


def write_private(path: Path, text: str) -> None:
    """Write a file; create it with mode 0600 if it does not exist."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)


def replace_private(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file atomically: a reader gets the older or the newer content.

    Args:
        path: the file; its folder must exist.
        content: the whole content.
        durable: wait until it is on the disk.

    Raises:
        OSError: the disk is full, or the folder is missing; the older content stays.
    """
    with tempfile.NamedTemporaryFile(prefix=BEGUN, dir=path.parent, delete=False) as file:
        written = Path(file.name)
        try:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            written.replace(path)
        except OSError:
            # Incomplete files must not fill a full disk.
            written.unlink(missing_ok=True)
            raise
