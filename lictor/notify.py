"""What a command that has written the registry tells Redis before it returns."""

import asyncio
import time
from contextlib import aclosing

from bundles.exceptions import BundleError
from lictor import cluster
from lictor.exceptions import LictorError
from lictor.settings import Settings
from pdp_client import PDPError
from registry import Registry, RegistryError


class RevisionNotifier:
    """Tells it after each write; what goes wrong is kept, since what is shown once comes first.

    Attributes:
        error: why Redis does not know of a write; empty where it does, or there is none.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._settled_at = 0.0
        self.error = ""

    async def notify(self, registry: Registry) -> None:
        """Tell how far the registry has got. What goes wrong is in `error`."""
        if not self._settings.redis_url:
            return
        try:
            async with aclosing(cluster.announcer(self._settings)) as announcer:
                caching = await announcer.announce(registry)
        except (BundleError, LictorError, PDPError, RegistryError) as error:
            self.error = f"{error.code}: {error}"
        else:
            self._settled_at = time.monotonic() + caching

    async def settle(self) -> None:
        """Wait until no cache holds any more what was before the write."""
        await asyncio.sleep(max(0.0, self._settled_at - time.monotonic()))
