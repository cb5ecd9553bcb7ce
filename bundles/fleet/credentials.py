"""The bearer of each OPA: by it `lictor serve` knows which instance fetches, and which reports.

An acknowledgement makes a revocation count as effective, so an instance must not be able to
acknowledge in another's name. A bearer is the instance's id and an HMAC of it, so the server does
not store anything for each instance.
"""

import base64
import binascii
import hmac
import re
import secrets
from pathlib import Path

from bundles.exceptions import KeyUnusableError
from lictor_common.private_files import write_private

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_DOMAIN = b"lictor instance\0"


class InstanceCredentials:
    """Makes and recognises the bearers of OPA instances."""

    def __init__(self, secret: str) -> None:
        """Create it from the secret of all bearers, of at least 32 characters.

        Raises:
            KeyUnusableError: it is shorter.
        """
        if len(secret) < 32:  # noqa: PLR2004 - said above
            raise KeyUnusableError(
                "the secret of the instances' bearers has 32 characters at least"
            )
        self._secret = secret.encode()

    @classmethod
    def load(cls, path: Path) -> "InstanceCredentials":
        """Read the secret from a file; create the file if it is missing.

        Raises:
            KeyUnusableError: it cannot be read or made.
        """
        try:
            if not path.exists():
                write_private(path, secrets.token_urlsafe(32))
            return cls(path.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise KeyUnusableError(f"{path}: no readable secret ({type(error).__name__})") from None

    def bearer(self, id_: str) -> str:
        """The bearer of an instance.

        Raises:
            ValueError: the id is empty, too long or of other characters than a host's name.
        """
        if not _ID.fullmatch(id_):
            raise ValueError("an instance's id is 1 to 128 letters, digits and . _ : -")
        name = base64.urlsafe_b64encode(id_.encode()).decode().rstrip("=")
        return f"{name}.{self._mac(id_)}"

    def id_of(self, bearer: str) -> str | None:
        """Return the instance that a bearer belongs to; None if the bearer is invalid."""
        name, _, mac = bearer.partition(".")
        try:
            id_ = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode("ascii")
        except (binascii.Error, ValueError):
            return None
        expected = self._mac(id_) if _ID.fullmatch(id_) else ""
        known = hmac.compare_digest(mac.encode(), expected.encode()) and bool(expected)
        return id_ if known else None

    def _mac(self, id_: str) -> str:
        mac = hmac.digest(self._secret, _DOMAIN + id_.encode(), "sha256")
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")
