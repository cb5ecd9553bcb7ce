"""The messages that go through Redis, each authenticated with an HMAC."""

import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bundles.publish.signing import SigningKey, canonical


@dataclass(frozen=True, slots=True)
class Announcement:
    """The holder's latest announcement.

    Attributes:
        fence: the holder's.
        sequence: of the store's index.
        epoch: of the registry.
        revision: of the registry.
    """

    fence: int
    sequence: int
    epoch: int
    revision: int


@dataclass(frozen=True, slots=True)
class Report:
    """An OPA's report to one `lictor serve`.

    Attributes:
        id: the OPA's.
        at: when it was received, in seconds since 1970 by that server's clock.
        told: a JSON object; its name is part of the message format.
    """

    id: str
    at: float
    told: Mapping[str, Any]


def bus_key(key: SigningKey) -> bytes:
    """The key of the HMACs, from the one that signs data: all who publish have that one."""
    return key.secret("bus 1")


class MessageAuthenticator:
    """Signs and verifies the messages of one namespace.

    Attributes:
        rejected: number of values that were not written with the key.
    """

    def __init__(self, key: bytes, namespace: str) -> None:
        self._key = key
        self._namespace = namespace.encode()
        self.rejected = 0

    def sign(self, message: Announcement | Report) -> bytes:
        """Return a message as a value for Redis: the HMAC in hex, a space, canonical JSON."""
        body = canonical(asdict(message))
        return self._mac(type(message), body) + b" " + body

    def verify_announcement(self, value: object) -> Announcement | None:
        """Return a signed announcement; None for no value, or for one with a wrong HMAC."""
        message = self._verified(Announcement, value)
        return Announcement(**message) if message else None

    def verify_report(self, value: object) -> Report | None:
        """Return a signed report; None for no value, or for one with a wrong HMAC."""
        message = self._verified(Report, value)
        return Report(**message) if message else None

    def _verified(self, kind: type, value: object) -> dict[str, Any] | None:
        if not isinstance(value, bytes):
            return None
        mac, _, body = value.partition(b" ")
        if not hmac.compare_digest(mac, self._mac(kind, body)):
            self.rejected += 1
            return None
        return dict(json.loads(body))

    def _mac(self, kind: type, body: bytes) -> bytes:
        message = b"\0".join([b"lictor", kind.__name__.encode(), self._namespace, body])
        return hmac.digest(self._key, message, "sha256").hex().encode()
