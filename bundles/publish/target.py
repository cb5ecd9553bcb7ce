"""The target to which a publisher writes bundles."""

from typing import Protocol

from bundles.publish.signing import Bundle


class PublishTarget(Protocol):
    """Bundles by name; `ServedBundles` and `FencedBundles` are such targets."""

    def get(self, name: str) -> Bundle | None:
        """Return the bundle of that name, or None."""

    def put(self, bundle: Bundle) -> None:
        """Serve a bundle from now on, in place of an older one of its name."""
