"""Files that only their owner may read."""

import os
import tempfile
from pathlib import Path

BEGUN = ".begun-"
"""The prefix of incomplete files; a killed process leaves them behind."""


def write_private(path: Path, text: str) -> None:
    """Write a file, made with mode 0600 if it is not there."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)


def replace_private(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file as a whole: a reader gets the older or the newer one.

    Args:
        path: it need not be there; its folder must.
        content: all of it.
        durable: wait until the disk has it.

    Raises:
        OSError: the disk is full, or the folder is gone; the older one stays.
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
            # A disk that is full must not fill with the beginnings of files.
            written.unlink(missing_ok=True)
            raise
