"""Requests of MCP servers to `lictor serve` for the state they share, and the responses.

Both sides hold the key in `newest.key`, so each message carries an HMAC. A request also carries the
time and a nonce: an old one is refused, and a response belongs to one request alone.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lictor_common.authenticator import MessageAuthenticator
from lictor_common.version import CLOCK_TOLERANCE

NEWEST: Final = "/shared/newest"
REPLAY: Final = "/shared/replay"
USES: Final = "/shared/uses"
PING: Final = "/shared/ping"

LARGEST: Final = 256 << 10
"""Bytes of a request: a batch of 1,000 use counts is half as large."""

LEASE: Final = 10.0
"""Seconds for which a cache may hold what a poll brought: two polls, and slack. After a restart
`lictor serve` waits as long for the caches that it does not know."""

_OLDEST = 30.0
"""Seconds after which a request counts as repeated by another sender."""

_NONCE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """An authentic request.

    Attributes:
        nonce: what its response has to repeat.
        at: when it was sent, in seconds since 1970 by the sender's clock.
        content: what it says.
    """

    nonce: str
    at: float
    content: Mapping[str, Any]

    def is_timely(self, now: float) -> bool:
        """Whether it was sent just now, as far as two clocks can agree."""
        return -CLOCK_TOLERANCE <= now - self.at <= _OLDEST


class SignedExchange:
    """Signs and verifies requests and responses."""

    def __init__(self, key: bytes, *, namespace: str) -> None:
        """Create it with the key of both sides; messages of another namespace are refused."""
        self._authenticator = MessageAuthenticator(key, namespace=namespace)

    def request(self, path: str, content: Mapping[str, Any], *, at: float) -> tuple[str, bytes]:
        """Return the nonce and the body of a request."""
        nonce = secrets.token_hex(16)
        body = _encode({"nonce": nonce, "at": at, "content": content})
        return nonce, self._authenticator.sign(f"request {path}", body)

    def verify_request(self, path: str, body: bytes) -> SignedRequest | None:
        """Return a request; None if it is not authentic, or not a request to this path."""
        message = _decode(self._authenticator.verify(f"request {path}", body))
        nonce, at, content = message.get("nonce"), message.get("at"), message.get("content")
        if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
            return None
        if type(at) not in {int, float} or not isinstance(content, dict):
            return None
        return SignedRequest(nonce, float(at), content)  # type: ignore[arg-type]

    def response(self, path: str, nonce: str, content: Mapping[str, Any]) -> bytes:
        """Return the body of the response to a request."""
        body = _encode({"nonce": nonce, "content": content})
        return self._authenticator.sign(f"response {path}", body)

    def verify_response(self, path: str, nonce: str, body: bytes) -> dict[str, Any] | None:
        """Return what a response says; None if it is not authentic, or not to this request."""
        message = _decode(self._authenticator.verify(f"response {path}", body))
        content = message.get("content")
        return content if message.get("nonce") == nonce and isinstance(content, dict) else None


def _encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()


def _decode(body: bytes | None) -> dict[str, Any]:
    try:
        message = json.loads(body or b"")
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
