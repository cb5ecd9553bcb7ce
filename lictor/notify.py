"""Publishes a command's writes to Redis before the command returns."""

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
    """Notifies Redis after each write; an error is kept, so that the result is printed first.

    Attributes:
        error: why Redis does not know of a write; empty if it does, or if none is configured.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._settled_at = 0.0
        self.error = ""

    async def notify(self, registry: Registry) -> None:
        """Publish the registry's revision. A failure is stored in `error`."""
        if not self._settings.redis_url:
            return
        try:
            async with aclosing(cluster.announcer(self._settings)) as announcer:
                caching = await announcer.announce(registry)
        except (BundleError, LictorError, PDPError, RegistryError) as error:
            self.error = f"{error.code}: {error}"
        except Exception as error:  # noqa: BLE001 - the write is committed, and its result not shown yet
            self.error = f"fault: {type(error).__name__}"
        else:
            self._settled_at = time.monotonic() + caching

    async def settle(self) -> None:
        """Wait until no cache can hold the state before the write."""
        await asyncio.sleep(max(0.0, self._settled_at - time.monotonic()))
