"""Coordination of retries: the version an OPA has reached, and one query at a time to it.

If every waiting caller kept querying, OPA would spend its time responding that it is behind.
"""

import asyncio

from lictor_common.version import RegistryVersion


class RetryCoordinator:
    """The version that one OPA has reached, and the turn to query it. For one event loop.

    Attributes:
        observed_version: the newest version that a response was made from.
    """

    def __init__(self) -> None:
        self.observed_version = RegistryVersion(0, 0)
        self._is_taken = False
        self._waiting: dict[asyncio.Future[None], RegistryVersion] = {}

    def observe(self, version: RegistryVersion) -> None:
        """Note the version that a response was made from, and wake the callers waiting for it."""
        self.observed_version = max(self.observed_version, version)
        for future, wanted in self._waiting.items():
            if wanted <= self.observed_version and not future.done():
                future.set_result(None)

    async def acquire(self, wanted: RegistryVersion, *, latest: float) -> bool:
        """Wait until OPA has reached a version, or it is the caller's turn to query it.

        Args:
            wanted: the version.
            latest: when to give up, by the event loop's clock.

        Returns:
            True when it is the caller's turn, which it must `release`. False when the version was
            reached, or time is up.
        """
        while self._is_taken and self.observed_version < wanted:
            future = asyncio.get_running_loop().create_future()
            self._waiting[future] = wanted
            try:
                async with asyncio.timeout_at(latest):
                    await future
            except TimeoutError:
                return False
            finally:
                del self._waiting[future]
        if self.observed_version >= wanted:
            return False
        self._is_taken = True
        return True

    def release(self) -> None:
        """Give the turn to the next waiting caller."""
        self._is_taken = False
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
                return
