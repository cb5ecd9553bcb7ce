"""State that instances share: the latest revision, jtis seen, uses of tokens.

It is shared through the `lictor serve` that all of them have, or through Redis or Valkey, which
needs the extra `redis`.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lictor_common.authenticator import NAMESPACE
from pdp_client.bearer.replay import ReplayGuard
from pdp_client.exceptions import ConfigurationError
from pdp_client.freshness.revision import (
    RevisionAuthenticator,
    RevisionSource,
    read_revision_key,
)
from pdp_client.usage import UsageCounter

if TYPE_CHECKING:
    from pdp_client.shared.replay import SharedReplay
    from pdp_client.shared.revision import SharedNewest
    from pdp_client.shared.usage import SharedUsage

__all__ = ["Shared", "SharedNewest", "SharedReplay", "SharedUsage"]

_REDIS_ONLY = {"SharedNewest": "revision", "SharedReplay": "replay", "SharedUsage": "usage"}


def __getattr__(name: str) -> Any:
    # The package redis is imported only where it is used.
    if name not in _REDIS_ONLY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{_REDIS_ONLY[name]}"), name)


class Shared:
    """The state one MCP server shares with others; see `pdp_client.evaluator.SharedState`.

    Attributes:
        newest: the source of the registry's latest revision.
        replay: remembers per-turn tokens.
        usage: counts the use of tokens.
    """

    newest: RevisionSource
    replay: ReplayGuard
    usage: UsageCounter

    def __init__(
        self,
        url: str,
        *,
        key_file: str | Path,
        leeway: float = 30,
        namespace: str = NAMESPACE,
        timeout: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the client; it connects on first use.

        Args:
            url: `http://` or `https://` and the address of the one `lictor serve`; or `redis://`,
                `rediss://` or `unix://`, which may hold a password.
            key_file: `newest.key` of the state directory, which authenticates what is shared.
            leeway: seconds that clocks may differ, as in the verifier.
            namespace: the namespace of messages, and the prefix of every key in Redis.
            timeout: seconds for a connection, and for a response; by default 0.1 with Redis, 0.25
                in all with `lictor serve`.
            clock: seconds since 1970.

        Raises:
            ConfigurationError: the URL or the key cannot be used, or the package redis is missing.
        """
        open_ = self._over_http if url.startswith(("http://", "https://")) else self._over_redis
        open_(
            url,
            key_file=key_file,
            leeway=leeway,
            namespace=namespace,
            timeout=timeout,
            clock=clock,
        )

    async def aclose(self) -> None:
        """Send what has been counted, and close the connections."""
        await self.usage.aclose()
        await self.newest.aclose()
        await self._client.aclose()

    def _over_http(
        self,
        url: str,
        *,
        key_file: str | Path,
        leeway: float,
        namespace: str,
        timeout: float | None,
        clock: Callable[[], float],
    ) -> None:
        # Its dependencies load more slowly than everything else here.
        from pdp_client.shared.http_client import TIMEOUT, ServeClient  # noqa: PLC0415
        from pdp_client.shared.http_replay import HTTPReplay  # noqa: PLC0415
        from pdp_client.shared.http_revision import HTTPNewest  # noqa: PLC0415
        from pdp_client.shared.http_usage import HTTPUsage  # noqa: PLC0415

        key = read_revision_key(key_file)
        authenticator = RevisionAuthenticator(key, namespace=namespace)
        client = ServeClient(
            url,
            key=key,
            namespace=namespace,
            timeout=TIMEOUT if timeout is None else timeout,
            clock=clock,
        )
        self._client: Any = client
        self.newest = HTTPNewest(client, authenticator, clock=clock)
        self.replay = HTTPReplay(client, leeway=leeway, clock=clock)
        self.usage = HTTPUsage(client)

    def _over_redis(
        self,
        url: str,
        *,
        key_file: str | Path,
        leeway: float,
        namespace: str,
        timeout: float | None,
        clock: Callable[[], float],
    ) -> None:
        try:
            from pdp_client.shared.connection import TIMEOUT, connect  # noqa: PLC0415
            from pdp_client.shared.replay import SharedReplay  # noqa: PLC0415
            from pdp_client.shared.revision import SharedNewest  # noqa: PLC0415
            from pdp_client.shared.usage import SharedUsage  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "redis":
                raise
            raise ConfigurationError(
                "sharing through Redis needs the package redis: install lictor[redis], or share "
                "through http:// and the address of lictor serve"
            ) from None
        timeout = TIMEOUT if timeout is None else timeout
        self._client = connect(url, timeout=timeout)
        self.newest = SharedNewest(
            url, key_file=key_file, namespace=namespace, timeout=timeout, clock=clock
        )
        self.replay = SharedReplay(
            self._client, leeway=leeway, namespace=namespace, timeout=timeout, clock=clock
        )
        self.usage = SharedUsage(self._client, namespace=namespace)
