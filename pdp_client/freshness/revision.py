"""The registry's latest revision: `strict` reads it before each decision, caches depend on it.

It is exchanged through a store that others may write, so it carries an HMAC. Writers of the
registry raise it before they return; `lictor serve` confirms it every second. `lictor` writes it
(`lictor.announcer`), and MCP servers read it (`pdp_client.shared.revision`).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from lictor_common.authenticator import MessageAuthenticator
from lictor_common.typed import from_json
from lictor_common.version import RegistryVersion
from pdp_client.exceptions import ConfigurationError

_KIND = "newest"
_SHORTEST_KEY = 32
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class LatestRevision:
    """The registry's latest known revision.

    Attributes:
        epoch: the registry's epoch.
        revision: the registry's revision; it includes every write that had returned by then.
        policy: the revision of the product's rules that are served; None if unknown.
        site: the revision of the site's rules, likewise.
        at: when this was known, in seconds since 1970 by the writer's clock.
        run: what it was written for: the id of a Redis process, or the nonce of a request to
            `lictor serve`. A Redis restored from a backup, a replica in its place, or a proxy that
            repeats a response, may hold values from before the last writes.
    """

    epoch: int
    revision: int
    policy: str | None
    site: str | None
    at: float
    run: str

    @property
    def version(self) -> RegistryVersion:
        """Epoch and revision, in the order of comparison."""
        return RegistryVersion(self.epoch, self.revision)

    @property
    def state(self) -> tuple[int, int, str, str] | None:
        """All that a response depends on except time; None if the rules are unknown."""
        if self.policy is None or self.site is None:
            return None
        return self.epoch, self.revision, self.policy, self.site


class RevisionSource(Protocol):
    """A source of the registry's latest revision."""

    async def read(self) -> LatestRevision:
        """Return the latest revision, read after this call began.

        Raises:
            PDPError: it cannot be read, or the value is not trustworthy.
        """
        ...

    def cached(self) -> LatestRevision | None:
        """Return the latest revision without a read; None if it may have changed unnoticed."""
        ...

    def start_watching(self) -> None:
        """Keep `cached` up to date from now on; further calls have no effect."""
        ...

    async def aclose(self) -> None:
        """Release all resources."""
        ...


def read_revision_key(path: str | Path) -> bytes:
    """Read the key in `newest.key`, as `lictor init` writes it: hexadecimal text.

    Raises:
        ConfigurationError: the file cannot be read, or does not hold a key.
    """
    try:
        return bytes.fromhex(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: no readable key ({type(error).__name__})") from None


class RevisionAuthenticator:
    """Signs and verifies the latest revision."""

    def __init__(self, key: bytes, *, namespace: str) -> None:
        """Create the authenticator.

        Args:
            key: at least 32 bytes.
            namespace: the namespace of the values; values of another are refused.

        Raises:
            ConfigurationError: the key is too short.
        """
        if len(key) < _SHORTEST_KEY:
            raise ConfigurationError("the key that authenticates the newest revision is too short")
        self._authenticator = MessageAuthenticator(key, namespace=namespace)

    @classmethod
    def from_file(cls, path: str | Path, *, namespace: str) -> "RevisionAuthenticator":
        """Create the authenticator with the key of `read_revision_key`.

        Raises:
            ConfigurationError: the file cannot be read, or does not hold a key.
        """
        return cls(read_revision_key(path), namespace=namespace)

    def sign(self, newest: LatestRevision) -> bytes:
        """Return a value for the store, with JSON as its body."""
        body = json.dumps(asdict(newest), separators=(",", ":"), allow_nan=False).encode()
        return self._authenticator.sign(_KIND, body)

    def verify(self, value: object) -> LatestRevision | None:
        """Return the signed revision; None if the value is missing or not signed with the key.

        Also None if another version of this program signed a format that this one does not know.
        """
        if not isinstance(value, bytes) or len(value) > _LONGEST:
            return None
        body = self._authenticator.verify(_KIND, value)
        return None if body is None else from_json(LatestRevision, body)
