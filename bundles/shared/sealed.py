"""What is said through Redis, with an HMAC that tells who may have said it."""

import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bundles.signing import SigningKey, canonical


@dataclass(frozen=True, slots=True)
class Announcement:
    """What the holder has written last.

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
    """What an OPA has told one `lictor serve`.

    Attributes:
        id: the OPA's.
        at: when it was told, in seconds since 1970 by that server's clock.
        told: a JSON object.
    """

    id: str
    at: float
    told: Mapping[str, Any]


def bus_key(key: SigningKey) -> bytes:
    """The key of the HMACs, from the one that signs data: all who publish have that one."""
    return key.secret("bus 1")


class Seal:
    """Makes and checks values of one namespace.

    Attributes:
        rejected: values that somebody without the key has written.
    """

    def __init__(self, key: bytes, namespace: str) -> None:
        self._key = key
        self._namespace = namespace.encode()
        self.rejected = 0

    def seal(self, said: Announcement | Report) -> bytes:
        """A value for Redis: the HMAC in hex, a space, canonical JSON."""
        body = canonical(asdict(said))
        return self._mac(type(said), body) + b" " + body

    def announcement(self, value: object) -> Announcement | None:
        """What was sealed; None when nothing was, or it is not to be believed."""
        said = self._opened(Announcement, value)
        return Announcement(**said) if said else None

    def report(self, value: object) -> Report | None:
        """The same, of a report."""
        said = self._opened(Report, value)
        return Report(**said) if said else None

    def _opened(self, kind: type, value: object) -> dict[str, Any] | None:
        if not isinstance(value, bytes):
            return None
        mac, _, body = value.partition(b" ")
        if not hmac.compare_digest(mac, self._mac(kind, body)):
            self.rejected += 1
            return None
        return dict(json.loads(body))

    def _mac(self, kind: type, body: bytes) -> bytes:
        said = b"\0".join([b"lictor", kind.__name__.encode(), self._namespace, body])
        return hmac.digest(self._key, said, "sha256").hex().encode()
