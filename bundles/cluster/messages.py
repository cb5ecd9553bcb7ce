"""The messages that go through Redis, each authenticated with an HMAC."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from bundles.publish.signing import SigningKey, canonical_json
from lictor_common.authenticator import MessageAuthenticator
from lictor_common.typed import from_json


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
    """Derive the key of the HMACs from the key that signs data, which all publishers have."""
    return key.secret("bus 1")


_Message = TypeVar("_Message", Announcement, Report)


class BusAuthenticator:
    """Signs and verifies the messages of one namespace.

    Attributes:
        rejected: number of values that were not written with the key, or not by this version.
    """

    def __init__(self, key: bytes, namespace: str) -> None:
        self._authenticator = MessageAuthenticator(key, namespace=namespace)
        self.rejected = 0

    def sign(self, message: Announcement | Report) -> bytes:
        """Return a message as a value for Redis, with canonical JSON as its body."""
        return self._authenticator.sign(type(message).__name__, canonical_json(asdict(message)))

    def verify(self, kind: type[_Message], value: object) -> _Message | None:
        """Return a signed message; None for no value, or for one that is not such."""
        if not isinstance(value, bytes):
            return None
        body = self._authenticator.verify(kind.__name__, value)
        message = None if body is None else from_json(kind, body)
        if message is None:
            self.rejected += 1
        return message
