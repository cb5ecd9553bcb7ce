"""One `lictor serve` that is alone, and writes what it publishes into a store for static hosts."""

from collections.abc import Mapping
from typing import Any

from bundles.cluster.fencing import FencedBundles
from bundles.cluster.object_store import ObjectStore
from bundles.cluster.uploader import StoreUploader
from bundles.serve.served_bundles import ServedBundles
from registry import RegistryVersion


class StandalonePublisher:
    """See `bundles.serve.server_role.Cluster`.

    Attributes:
        served_bundles: what is put here is served, and written into the store.
    """

    def __init__(
        self,
        object_store: ObjectStore,
        served_bundles: ServedBundles,
        *,
        has_unreported_instances: bool,
    ) -> None:
        """Create the publisher; it writes nothing before `run`.

        Args:
            object_store: the store.
            served_bundles: what this server serves.
            has_unreported_instances: there are OPAs that report to no server.
        """
        self._has_unreported_instances = has_unreported_instances
        self._uploader = StoreUploader(object_store)
        self.served_bundles = FencedBundles(served_bundles, None, on_put=self._uploader.enqueue)

    alone = True

    async def run(self) -> None:
        """Write until cancelled."""
        await self._uploader.run()

    async def request_sync(self) -> None:
        """Do nothing: a standalone server has no peers."""

    def has_unreported_instances(self, version: RegistryVersion) -> bool:  # noqa: ARG002 - whatever state it is
        """Whether an OPA that does not report here may run an older state."""
        return self._has_unreported_instances

    def status(self) -> Mapping[str, Any]:
        """The fields for `lictor status`."""
        return {"waiting": len(self._uploader.waiting)}

    def problems(self) -> list[str]:
        """The problems, one per line."""
        return [f"store: {line}" for line in self._uploader.problems()]

    def metrics(self) -> Mapping[str, float]:
        """The values for `/metrics`; see `bundles.serve.metrics`."""
        return {"waiting": len(self._uploader.waiting), "problems": len(self.problems())}
