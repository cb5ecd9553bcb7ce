"""A JWK set in a file that changes while bearers are verified with it.

This module only reads the file. `key_table.KeyTable` decides when to read it, and whether the keys
may take effect beside those of other issuers.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import Final

from pdp_client.bearer.keyring import Keyring, parse_jwks, read_jwks
from pdp_client.exceptions import KeyringError

_SETTLED: Final = 2.0
"""Seconds within which a file may change again with an identical timestamp: the coarsest
resolution of file systems."""


class KeyringFile:
    """The keyring in a file; while the file is invalid, the last valid one.

    A set is valid although some of its keys cannot be used, so a key that it no longer lists is
    withdrawn at once.

    Use it in an `Issuer` in place of a `Keyring`. The verifier checks the file periodically, and
    applies changes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file.

        Args:
            path: A JWK set, as for `Keyring.from_jwks`. Replace it by renaming another file over
                it; a partly written file is read again at the next check.

        Raises:
            KeyringError: The file cannot be used now, at startup.
        """
        self._path = Path(path)
        self._problem: KeyringError | None = None
        self._file_state = self._stat()
        self._read_at = time.time()
        raw = read_jwks(self._path)
        self._keyring = parse_jwks(raw, self._path)
        self._digest = hashlib.sha256(raw).digest()

    @property
    def keyring(self) -> Keyring:
        """The last valid keyring."""
        return self._keyring

    @property
    def problem(self) -> KeyringError | None:
        """Why the file was invalid at the last check; None if it is `keyring`."""
        return self._problem

    def reload_if_changed(self) -> Keyring:
        """Read the file again if it has changed, and return the last valid keyring.

        Returns:
            The same object as before, unless the content has changed and is valid.
        """
        state = self._stat()
        # A problem may end without a change to the file, such as a folder that was not mounted.
        if state != self._file_state or self._problem or not self._is_settled():
            self._file_state, self._read_at = state, time.time()
            self._take()
        return self._keyring

    def _take(self) -> None:
        try:
            raw = read_jwks(self._path)
            digest = hashlib.sha256(raw).digest()
            if digest != self._digest:
                self._keyring = parse_jwks(raw, self._path, at_start=False)
                self._digest = digest
        except KeyringError as error:
            # A new error: the frames of the original hold what was read.
            self._problem = KeyringError(str(error))
        else:
            self._problem = None

    def _stat(self) -> tuple[int, int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # ctime too: `cp -p` and rsync set the mtime, but programs cannot set the ctime.
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _is_settled(self) -> bool:
        return self._file_state is None or self._read_at - self._file_state[3] / 1e9 >= _SETTLED
