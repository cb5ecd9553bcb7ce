"""What instances share, through Redis or Valkey: the newest revision, jtis seen, use of tokens.

It needs the extra `redis`; nothing else of `pdp_client` does.
"""

import time
from collections.abc import Callable
from pathlib import Path

from pdp_client.shared.connection import NAMESPACE, TIMEOUT, connect
from pdp_client.shared.replay import SharedReplay
from pdp_client.shared.revision import SharedNewest
from pdp_client.shared.usage import SharedUsage

__all__ = ["Shared", "SharedNewest", "SharedReplay", "SharedUsage"]


class Shared:
    """All that one MCP server shares with the others; see `pdp_client.pdp.SharedState`."""

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
        """Connect nothing yet.

        Args:
            url: `redis://`, `rediss://` or `unix://`; may hold a password.
            key_file: `newest.key` of the state directory: what authenticates the newest revision.
            leeway: seconds that clocks may differ, as of the verifier.
            namespace: before every key.
            timeout: seconds for a connection, and for an answer.
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
        """Hand on what is counted, and close the connections."""
        await self.usage.aclose()
        await self.newest.aclose()
        await self._redis.aclose()
