"""A JWK set in a file that changes while bearers are verified with it.

Only looking is done here. When to look, and whether what was found may take effect beside the keys
of other issuers, is for `key_table.KeyTable` to say.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import Final

from pdp_client.bearer.keyring import Keyring, parse_jwks, read_jwks
from pdp_client.exceptions import KeyringError

_SETTLED: Final = 2.0
"""Seconds for which a file that was changed may be changed again and look the same: the coarsest
timestamps that file systems have."""


class KeyringFile:
    """The keyring in a file; the last good one, while the file is not.

    It goes into an `Issuer` in place of a `Keyring`. The verifier looks at the file from time to
    time, and takes over what it finds.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file.

        Args:
            path: A JWK set, as `Keyring.from_jwks` takes it. Replace it by renaming another over
                it; one that is found half written is read again at the next look.

        Raises:
            KeyringError: The file cannot be used now, at the start.
        """
        self._path = Path(path)
        self._problem: KeyringError | None = None
        self._stamp = self._stat()
        self._read_at = time.time()
        raw = read_jwks(self._path)
        self._keyring = parse_jwks(raw, self._path)
        self._digest = hashlib.sha256(raw).digest()

    @property
    def keyring(self) -> Keyring:
        """The last good one."""
        return self._keyring

    @property
    def problem(self) -> KeyringError | None:
        """Why the file, when it was last looked at, was not `keyring`; None if it was."""
        return self._problem

    def reload_if_changed(self) -> Keyring:
        """Read the file again if it has changed, and return the last good keyring.

        Returns:
            The same object as before, unless the content is another, and good.
        """
        stamp = self._stat()
        # What was wrong may be put right without a trace: a folder that was not mounted.
        if stamp != self._stamp or self._problem or not self._is_settled():
            self._stamp, self._read_at = stamp, time.time()
            self._take()
        return self._keyring

    def _take(self) -> None:
        try:
            raw = read_jwks(self._path)
            digest = hashlib.sha256(raw).digest()
            if digest != self._digest:
                self._keyring = parse_jwks(raw, self._path)
                self._digest = digest
        except KeyringError as error:
            # A new one: the frames of this one hold what was read.
            self._problem = KeyringError(str(error))
        else:
            self._problem = None

    def _stat(self) -> tuple[int, int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # ctime too: `cp -p` and rsync set the mtime, and nothing sets this one.
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _is_settled(self) -> bool:
        return self._stamp is None or self._read_at - self._stamp[3] / 1e9 >= _SETTLED
