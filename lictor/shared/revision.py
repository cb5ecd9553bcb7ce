"""The registry's latest revision, for MCP servers that poll `lictor serve`.

It is read from the registry itself after the request has arrived, so it holds every write that had
returned by then, whichever process wrote.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from bundles.serve.served_bundles import ServedBundles
from bundles.serve.server_role import ServerRole
from pdp_client.freshness.revision import LatestRevision, RevisionAuthenticator
from registry import Registry, RegistryVersion


@dataclass(frozen=True, slots=True)
class KnownState:
    """The state of registry and rules that a cache knows.

    Attributes:
        version: the registry's; below every other for a cache that knows nothing.
        policy: the revision of the product's rules; None if unknown.
        site: the revision of the site's rules, likewise.
    """

    version: RegistryVersion = RegistryVersion(-1, -1)  # noqa: RUF009 - a tuple
    policy: str | None = None
    site: str | None = None


class RevisionFeed:
    """Reads the latest revision, and waits for the next one."""

    def __init__(
        self,
        registry: Registry,
        *,
        role: ServerRole,
        served_bundles: ServedBundles,
        authenticator: RevisionAuthenticator,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the feed.

        Args:
            registry: its revision is read.
            role: knows what has been published, which an earlier registry must not undo.
            served_bundles: the bundles that are served; they name the rules.
            authenticator: signs the revision.
            clock: seconds since 1970.
        """
        self._registry = registry
        self._role = role
        self._served_bundles = served_bundles
        self._authenticator = authenticator
        self._clock = clock
        self._reading = asyncio.Lock()
        self._begun = self._finished = 0
        self._highest = RegistryVersion(-1, -1)

    async def read(self) -> KnownState:
        """Return the latest state, read after this call began; concurrent calls share one read.

        Raises:
            RegistryError: the registry cannot be read.
        """
        # The read that is under way may have been answered before the write it must know of.
        needed = self._begun + 1
        async with self._reading:
            if self._finished < needed:
                self._begun += 1
                version = await self._registry.version()
                self._finished = self._begun
                self._highest = max(self._highest, version, self._role.version)
        policy, site = self._served_bundles.get("policy"), self._served_bundles.get("site")
        return KnownState(
            self._highest, policy.revision if policy else None, site.revision if site else None
        )

    async def changed(self, known: KnownState, *, seconds: float) -> KnownState:
        """Wait for a state that the caller lacks; after `seconds`, return the current one.

        Raises:
            RegistryError: the registry cannot be read.
        """
        deadline = time.monotonic() + seconds
        while True:
            # The event of before the read: what is published meanwhile sets it.
            news = self._served_bundles.news
            state = await self.read()
            left = deadline - time.monotonic()
            if state != known or left <= 0 or self._served_bundles.closed:
                return state
            try:
                async with asyncio.timeout(left):
                    await news.wait()
            except TimeoutError:
                continue

    def sign(self, state: KnownState, nonce: str) -> bytes:
        """Return a state as the response to the request with this nonce, and to no other."""
        latest = LatestRevision(*state.version, state.policy, state.site, self._clock(), nonce)
        return self._authenticator.sign(latest)
