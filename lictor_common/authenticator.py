"""Authenticated messages, for stores that others may write."""

import hmac
from typing import Final

NAMESPACE: Final = "lictor"
"""The default namespace of messages, and the prefix of every key in Redis."""


class MessageAuthenticator:
    """Signs and verifies messages with a key that all writers and readers share.

    A signed message is the HMAC-SHA256 in hexadecimal, a space, and the body.
    """

    def __init__(self, key: bytes, *, namespace: str) -> None:
        """Create the authenticator; messages of another namespace are refused."""
        self._key = key
        self._namespace = namespace.encode()

    def sign(self, kind: str, body: bytes) -> bytes:
        """Return a signed message; a message of one kind is not valid as another."""
        return self._mac(kind, body) + b" " + body

    def verify(self, kind: str, message: bytes) -> bytes | None:
        """Return the body of a signed message; None if its HMAC is wrong."""
        mac, _, body = message.partition(b" ")
        return body if hmac.compare_digest(mac, self._mac(kind, body)) else None

    def _mac(self, kind: str, body: bytes) -> bytes:
        message = b"\0".join([b"lictor", kind.encode(), self._namespace, body])
        return hmac.digest(self._key, message, "sha256").hex().encode()
