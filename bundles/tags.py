"""ETags that say which revision they are of: two servers can tell which of two bundles is newer."""

import re
from dataclasses import dataclass

from bundles.fleet import stamp_of
from bundles.signing import Bundle
from registry import Stamp


@dataclass(frozen=True, slots=True)
class Tag:
    """An ETag, as it stands in a header (RFC 9110, 8.8.3).

    Attributes:
        revision: of the bundle; empty where it is none of ours.
        etag: the bundle's own, of its content.
    """

    revision: str
    etag: str

    @property
    def text(self) -> str:
        """As it stands in a header."""
        return f'"{self.revision}.{self.etag[1:]}' if self.revision else self.etag

    @property
    def stamp(self) -> Stamp:
        """The state of the registry; below every other where the revision is none."""
        return stamp_of(self.revision)


def tag_of(bundle: Bundle) -> Tag:
    """The ETag under which a bundle is served."""
    return Tag(bundle.revision, bundle.etag)


def tags_in(header: str) -> list[Tag]:
    """The ETags in an `If-None-Match`."""
    quoted = (text.rpartition(".") for text in re.findall(r'"([^"]*)"', header))
    return [Tag(revision, f'"{etag}"') for revision, _, etag in quoted]
