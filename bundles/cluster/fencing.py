"""Where one puts what it publishes: into what is served here, for as long as it may, and no longer.

Who may is said by a `LeaseHolder`; a server that is alone may always.
"""

from collections.abc import Callable
from typing import Protocol

from bundles.publish.signing import Bundle
from bundles.serve.served_bundles import ServedBundles


class LeaseHolder(Protocol):
    """Who may publish.

    Attributes:
        fence: higher than that of everybody who was allowed to before.
    """

    @property
    def fence(self) -> int:
        """See the class."""

    @property
    def held(self) -> bool:
        """Whether it still may; cheap enough to ask before each step."""

    def check(self) -> None:
        """Raise `LeaseLostError` where it may no longer."""


class FencedBundles(ServedBundles):
    """A catalogue into which one publishes for as long as it may."""

    def __init__(
        self,
        under: ServedBundles,
        holder: LeaseHolder | None,
        *,
        on_put: Callable[[Bundle], object],
    ) -> None:
        """Put into another catalogue.

        Args:
            under: the one that is served.
            holder: says for how long; None where there is only one `lictor serve`.
            on_put: called with each bundle that was put.
        """
        super().__init__()
        self._under = under
        self._holder = holder
        self._on_put = on_put

    def names(self) -> list[str]:
        """As of the catalogue below."""
        return self._under.names()

    def get(self, name: str) -> Bundle | None:
        """As of the catalogue below."""
        return self._under.get(name)

    def put(self, bundle: Bundle) -> None:
        """Serve a bundle from now on.

        Raises:
            LeaseLostError: somebody else may publish by now.
        """
        if self._holder is not None:
            self._holder.check()
        self._under.put(bundle)
        self._on_put(bundle)

    async def changed(self, name: str, etags: frozenset[str], *, seconds: float) -> Bundle | None:
        """As of the catalogue below."""
        return await self._under.changed(name, etags, seconds=seconds)
