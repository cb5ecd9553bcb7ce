"""One `lictor serve` that is alone, and writes what it publishes into a store for static hosts."""

from collections.abc import Mapping
from typing import Any

from bundles.catalogue import Catalogue
from bundles.shared.artefacts import Artefacts
from bundles.shared.guarded import Guarded
from bundles.shared.mirror import Mirror
from registry import Stamp


class Fed:
    """See `bundles.current.Others`.

    Attributes:
        catalogue: what is put here is served, and written into the store.
    """

    def __init__(self, artefacts: Artefacts, catalogue: Catalogue, *, unheard: bool) -> None:
        """Tie the parts together; nothing is written before `run`.

        Args:
            artefacts: the store.
            catalogue: what this server serves.
            unheard: there are OPAs that nobody hears of.
        """
        self._unheard = unheard
        self._mirror = Mirror(artefacts)
        self.catalogue = Guarded(catalogue, None, told=self._mirror.offer)

    alone = True

    async def run(self) -> None:
        """Write until cancelled."""
        await self._mirror.run()

    async def wake(self) -> None:
        """Nobody else is there."""

    def unheard(self, stamp: Stamp) -> bool:  # noqa: ARG002 - whatever state it is
        """Whether an OPA may run an older state, of which nothing was heard here."""
        return self._unheard

    def told(self) -> Mapping[str, Any]:
        """What `lictor status` shows of it."""
        return {"waiting": len(self._mirror.waiting)}

    def problems(self) -> list[str]:
        """What is wrong with it, a line each."""
        return [f"store: {line}" for line in self._mirror.problems()]

    def numbers(self) -> Mapping[str, float]:
        """What `/metrics` shows of it; see `bundles.metrics`."""
        return {"waiting": len(self._mirror.waiting), "problems": len(self.problems())}
