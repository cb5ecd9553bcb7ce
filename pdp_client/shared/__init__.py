"""State shared through Redis or Valkey: the latest revision, jtis seen, uses of tokens.

It needs the extra `redis`; nothing else of `pdp_client` does.
"""

import time
from collections.abc import Callable
from pathlib import Path

from lictor_common.redis import NAMESPACE
from pdp_client.shared.connection import TIMEOUT, connect
from pdp_client.shared.replay import SharedReplay
from pdp_client.shared.revision import SharedNewest
from pdp_client.shared.usage import SharedUsage

__all__ = ["Shared", "SharedNewest", "SharedReplay", "SharedUsage"]


class Shared:
    """The state one MCP server shares with others; see `pdp_client.evaluator.SharedState`."""

    def __init__(
        self,
        url: str,
        *,
        key_file: str | Path,
        leeway: float = 30,
        namespace: str = NAMESPACE,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the client; it connects on the first command.

        Args:
            url: `redis://`, `rediss://` or `unix://`; may hold a password.
            key_file: `newest.key` of the state directory, which authenticates the latest revision.
            leeway: seconds that clocks may differ, as in the verifier.
            namespace: the prefix of every key.
            timeout: seconds for a connection, and for a response.
            clock: seconds since 1970.

        Raises:
            ConfigurationError: the URL or the key cannot be used.
        """
        self._redis = connect(url, timeout=timeout)
        self.newest = SharedNewest(
            url, key_file=key_file, namespace=namespace, timeout=timeout, clock=clock
        )
        self.replay = SharedReplay(
            self._redis, leeway=leeway, namespace=namespace, timeout=timeout, clock=clock
        )
        self.usage = SharedUsage(self._redis, namespace=namespace)

    async def aclose(self) -> None:
        """Send what has been counted, and close the connections."""
        await self.usage.aclose()
        await self.newest.aclose()
        await self._redis.aclose()
