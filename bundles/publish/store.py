"""The folder of published bundles: what a publisher goes on from after a restart.

Each file is replaced as a whole, and `published.json`, which names them all, last: a publisher that
is killed at any moment leaves the older or the newer state, never a mixture.
"""

import gzip
import io
import json
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundles.exceptions import StoreUnusableError
from bundles.publish.signing import Bundle, canonical_json, etag_of
from lictor_common.private_files import BEGUN, replace_private

_STATE = "published.json"
_WITH_RULES = frozenset({"policy", "site"})


@dataclass(frozen=True, slots=True)
class Published:
    """The published state of the base.

    Attributes:
        epoch: the registry's epoch that all of it belongs to.
        since: shard to the revision from which on `live` holds its changes.
        bases: shard to the revision of the base bundle that is served.
        reconciled_at: when the newest read of everything began that was published whole, in
            seconds since 1970.
    """

    epoch: int
    since: Mapping[str, int]
    bases: Mapping[str, int] = field(default_factory=dict)
    reconciled_at: float = 0.0


class Store:
    """A folder that holds `<name>.tar.gz` for each bundle, and `published.json`."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, readable by its owner only, if it is not there.

        Raises:
            StoreUnusableError: it cannot be made or written.
        """
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreUnusableError(f"{folder}: {error.strerror}") from None

    def sweep(self) -> None:
        """Remove what a publisher that was killed had begun to write. Only for the one publisher.

        Raises:
            StoreUnusableError: it cannot be removed.
        """
        try:
            for begun in self._folder.glob(f"{BEGUN}*"):
                shutil.rmtree(begun) if begun.is_dir() else begun.unlink()
        except OSError as error:
            raise StoreUnusableError(f"{self._folder}: {error.strerror}") from None

    @contextmanager
    def spool(self) -> Iterator[Path]:
        """An empty folder for a scan, on the same disk; gone at the end.

        Raises:
            StoreUnusableError: the disk is full, or the folder is gone.
        """
        try:
            with tempfile.TemporaryDirectory(prefix=BEGUN, dir=self._folder) as folder:
                yield Path(folder)
        except OSError as error:
            raise StoreUnusableError(f"{self._folder}: {error.strerror}") from None

    def path(self, name: str) -> Path:
        """The path of a bundle's file, whether it exists or not."""
        return self._folder / f"{name}.tar.gz"

    def save(self, bundle: Bundle, *, durable: bool = True) -> None:
        """Write a bundle's file.

        Args:
            bundle: what to write.
            durable: wait until the disk has it. What can be made again from the registry need not
                survive a power cut; half a file is detected.

        Raises:
            StoreUnusableError: the disk is full, or the folder is gone.
        """
        self._replace(self.path(bundle.name), bundle.content, durable=durable)

    def load(self, name: str) -> Bundle | None:
        """Read a bundle's file; None if it is missing or damaged.

        Damage is what changes a file in the bundle. A flipped bit that gzip ignores, such as one of
        its header's time, does not: OPA verifies the signature of the files, and the ETag is that
        of the bytes as they are.
        """
        try:
            content = self.path(name).read_bytes()
            # All of it, to the checksum at its end: tarfile stops at the last member.
            with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content)), mode="r:") as tar:
                members = {member.name.lstrip("/") for member in tar.getmembers()}
                file = tar.extractfile("/.manifest")
                manifest = json.load(file) if file else {}
                revision = manifest["revision"]
        except (
            OSError,
            EOFError,
            LookupError,
            TypeError,
            ValueError,
            zlib.error,
            tarfile.TarError,
        ):
            return None
        if not isinstance(revision, str) or ".signatures.json" not in members:
            return None
        if name not in _WITH_RULES and manifest.get("rego_version") != 0:
            # Written by a version of lictor whose data bundles no OPA may answer from any more.
            return None
        return Bundle(name, revision, etag_of(content), content)

    def saved_at(self, name: str) -> float:
        """When a bundle's file was written, in seconds since 1970; 0 if it is missing."""
        try:
            return self.path(name).stat().st_mtime
        except OSError:
            return 0.0

    def published(self) -> Published | None:
        """Return the earlier published state; None if it is missing or cannot be trusted."""
        try:
            stored: dict[str, Any] = json.loads((self._folder / _STATE).read_bytes())
            published = Published(
                stored["epoch"],
                dict(stored["since"]),
                dict(stored["bases"]),
                float(stored["reconciled_at"]),
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        shards = [f"{n:02x}" for n in range(len(published.since))]
        numbers = [published.epoch, *published.since.values(), *published.bases.values()]
        whole = sorted(published.since) == sorted(published.bases) == shards
        return published if whole and all(type(number) is int for number in numbers) else None

    def save_published(self, published: Published) -> None:
        """Remember what has been published.

        Raises:
            StoreUnusableError: as `save`.
        """
        document = {
            "epoch": published.epoch,
            "since": dict(published.since),
            "bases": dict(published.bases),
            "reconciled_at": published.reconciled_at,
        }
        self._replace(self._folder / _STATE, canonical_json(document))

    def _replace(self, path: Path, content: bytes, *, durable: bool = True) -> None:
        try:
            replace_private(path, content, durable=durable)
        except OSError as error:
            raise StoreUnusableError(f"{path}: {error.strerror}") from None
