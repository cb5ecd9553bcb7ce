"""A target for a publisher that refuses bundles once the publisher's lease is over."""

from collections.abc import Callable
from typing import Protocol

from bundles.publish.signing import Bundle
from bundles.publish.target import PublishTarget


class LeaseHolder(Protocol):
    """The right to publish.

    Attributes:
        fence: higher than that of every holder before.
    """

    @property
    def fence(self) -> int:
        """See the class."""

    @property
    def held(self) -> bool:
        """Whether the lease is still held; cheap enough to check before each step."""

    def check(self) -> None:
        """Raise `LeaseLostError` if the lease is not held any more."""


class FencedBundles:
    """A `PublishTarget` that passes bundles on for as long as the lease is held."""

    def __init__(
        self,
        target: PublishTarget,
        holder: LeaseHolder | None,
        *,
        on_put: Callable[[Bundle], object],
    ) -> None:
        """Wrap another target.

        Args:
            target: what is served.
            holder: the lease; None where there is only one `lictor serve`.
            on_put: called with each bundle that was put.
        """
        self._target = target
        self._holder = holder
        self._on_put = on_put

    def get(self, name: str) -> Bundle | None:
        """Return the bundle of that name, or None."""
        return self._target.get(name)

    def put(self, bundle: Bundle) -> None:
        """Serve a bundle from now on.

        Raises:
            LeaseLostError: another server may publish by now.
        """
        if self._holder is not None:
            self._holder.check()
        self._target.put(bundle)
        self._on_put(bundle)
