"""The index of the bundles in the store: one small object that followers poll."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from bundles.publish.signing import Bundle, canonical_json

NAME = "index.json"
KIND = "application/json"

_HIGHEST = 1 << 52
"""Above, Lua no longer counts in ones."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One bundle in the store.

    Attributes:
        revision: as its manifest has it.
        sha256: the bundle's own ETag: its bytes' digest, quoted.
        etag: which version of the object that is, to the store.
        at: when it was written, in seconds since 1970.
    """

    revision: str
    sha256: str
    etag: str
    at: float


@dataclass(frozen=True, slots=True)
class Index:
    """All bundles in the store.

    Attributes:
        fence: that of the lease holder that wrote this; see `Lease`.
        sequence: one more with each change.
        bundles: by name.
    """

    fence: int = 0
    sequence: int = 0
    bundles: Mapping[str, Entry] = field(default_factory=dict)

    def with_bundle(self, bundle: Bundle, etag: str, *, at: float) -> "Index":
        """Return the index with one bundle added or replaced."""
        entry = Entry(bundle.revision, bundle.etag, etag, at)
        bundles = {**self.bundles, bundle.name: entry}
        return replace(self, sequence=self.sequence + 1, bundles=bundles)

    def encode(self) -> bytes:
        """Return the index as canonical JSON."""
        return canonical_json(asdict(self))


def decode_index(content: bytes) -> Index | None:
    """Parse an index; return None for any other content."""
    try:
        document = json.loads(content)
        bundles = {
            str(name): Entry(
                str(one["revision"]), str(one["sha256"]), str(one["etag"]), float(one["at"])
            )
            for name, one in document["bundles"].items()
        }
        fence, sequence = document["fence"], document["sequence"]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    counted = all(type(n) is int and 0 <= n < _HIGHEST for n in (fence, sequence))
    return Index(fence, sequence, bundles) if counted else None
