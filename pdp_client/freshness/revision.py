"""How far the registry has got: what `strict` asks before each decision, and a cache lives by.

A value of it travels through a store that others may write, so it carries an HMAC. Writers of the
registry raise it before they return; `lictor serve` confirms it every second. It is `lictor` that
writes it (`lictor.announcer`) and an MCP server that reads it (`pdp_client.shared.revision`).
"""

import hmac
import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from pdp_client.exceptions import ConfigurationError

_SHORTEST_KEY = 32
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class LatestRevision:
    """How far the registry is known to have got.

    Attributes:
        epoch: of the registry.
        revision: of the registry; every write that had returned by then is in it.
        policy: the revision of the product's rules that are handed out; None when not known.
        site: of the site's rules, likewise.
        at: when that was known, in seconds since 1970 by the writer's clock.
        run: the id of the Redis process that it was written for. One that has come back from a
            backup, or a replica in its place, may hold values from before the last writes.
    """

    epoch: int
    revision: int
    policy: str | None
    site: str | None
    at: float
    run: str

    @property
    def version(self) -> tuple[int, int]:
        """Epoch and revision, in the order in which they count."""
        return self.epoch, self.revision

    @property
    def state(self) -> tuple[int, int, str, str] | None:
        """All that an answer is made from but time; None where the rules are not known."""
        if self.policy is None or self.site is None:
            return None
        return self.epoch, self.revision, self.policy, self.site


class RevisionSource(Protocol):
    """What knows the newest revision."""

    async def read(self) -> LatestRevision:
        """The newest revision, asked for after this was called.

        Raises:
            PDPError: it cannot be told, or what was told is not to be believed.
        """
        ...

    def cached(self) -> LatestRevision | None:
        """The newest revision, without asking; None where it may have moved unheard."""
        ...

    def start_watching(self) -> None:
        """Keep `cached` up to date from now on. Once is enough."""
        ...

    async def aclose(self) -> None:
        """Let go of what is held."""
        ...


class MessageAuthenticator:
    """Makes and checks values, under a key that all who write and read them have."""

    def __init__(self, key: bytes, *, namespace: str) -> None:
        """Take the key.

        Args:
            key: at least 32 bytes.
            namespace: of the values; those of another are refused.

        Raises:
            ConfigurationError: the key is too short.
        """
        if len(key) < _SHORTEST_KEY:
            raise ConfigurationError("the key that authenticates the newest revision is too short")
        self._key = key
        self._context = b"\0".join([b"lictor", b"newest", namespace.encode(), b""])

    @classmethod
    def from_file(cls, path: str | Path, *, namespace: str) -> "MessageAuthenticator":
        """Read the key as `lictor init` writes it: hexadecimal text.

        Raises:
            ConfigurationError: it cannot be read, or is none.
        """
        try:
            key = bytes.fromhex(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: no readable key ({type(error).__name__})") from None
        return cls(key, namespace=namespace)

    def sign(self, newest: LatestRevision) -> bytes:
        """A value for the store: the HMAC-SHA256 in hex, a space, JSON."""
        body = json.dumps(asdict(newest), separators=(",", ":"), allow_nan=False).encode()
        return self._mac(body) + b" " + body

    def verify(self, value: object) -> LatestRevision | None:
        """What was sealed; None where nothing was, or by somebody without the key.

        Also where another version of this program has sealed what this one does not know.
        """
        if not isinstance(value, bytes) or len(value) > _LONGEST:
            return None
        mac, _, body = value.partition(b" ")
        if not hmac.compare_digest(mac, self._mac(body)):
            return None
        try:
            return LatestRevision(**json.loads(body))
        except (TypeError, ValueError):
            return None

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, self._context + body, sha256).hex().encode()
