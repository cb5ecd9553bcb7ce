"""ETags that begin with a revision: any server can compare which of two bundles is newer."""

import re
from dataclasses import dataclass

from bundles.fleet.tracker import version_of
from bundles.publish.signing import Bundle
from registry import RegistryVersion


@dataclass(frozen=True, slots=True)
class ETag:
    """An ETag, as it stands in a header (RFC 9110, 8.8.3).

    Attributes:
        revision: of the bundle; empty for an ETag that is not ours.
        etag: the bundle's own, of its content.
    """

    revision: str
    etag: str

    @property
    def text(self) -> str:
        """As it stands in a header."""
        return f'"{self.revision}.{self.etag[1:]}' if self.revision else self.etag

    @property
    def version(self) -> RegistryVersion:
        """The registry's version; below every other for any other revision."""
        return version_of(self.revision)


def as_etag(bundle: Bundle) -> ETag:
    """The ETag under which a bundle is served."""
    return ETag(bundle.revision, bundle.etag)


def parse_etags(header: str) -> list[ETag]:
    """The ETags in an `If-None-Match`."""
    quoted = (text.rpartition(".") for text in re.findall(r'"([^"]*)"', header))
    return [ETag(revision, f'"{etag}"') for revision, _, etag in quoted]
