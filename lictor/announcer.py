"""Publishes the registry's latest revision to Redis, for MCP servers that must not be behind.

A command that writes the registry publishes the revision before it returns, and `lictor serve`
confirms it every second. The announcer identifies the Redis process first and reads the registry
afterwards, so a Redis that came back with old data is not trusted until the revision is written
again.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from bundles.serve.served_bundles import ServedBundles
from lictor_common.redis import NAMESPACE, key
from pdp_client.freshness.revision import LatestRevision, RevisionAuthenticator
from pdp_client.shared.connection import connect, redis_errors
from pdp_client.shared.exceptions import SharedStateUnavailableError
from pdp_client.shared.revision import LEASE
from registry import Registry, RegistryError

_CONFIRM_EVERY = 1.0
_TIMEOUT = 1.0
_ALONE = 3000
"""Milliseconds."""

_TRIES = 50
"""Attempts; each writer that was faster has published at least the same revision."""

_log = logging.getLogger(__name__)

# Replaces only the value that was read, and only in the process that it was read from.
_ANNOUNCE = """
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if run ~= ARGV[1] or (redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then return -1 end
redis.call('SET', KEYS[1], ARGV[3])
redis.call('PUBLISH', KEYS[1], ARGV[3])
return redis.call('EXISTS', KEYS[2])
"""


class Announcer:
    """Publishes the latest revision to one Redis; it connects on first use.

    Attributes:
        error: why the last confirmation failed; empty if it succeeded.
    """

    def __init__(
        self,
        url: str,
        authenticator: RevisionAuthenticator,
        *,
        namespace: str = NAMESPACE,
    ) -> None:
        """Create the announcer.

        Args:
            url: of Redis or Valkey.
            authenticator: made with the key in `newest.key`, and the same namespace.
            namespace: before every key.

        Raises:
            ConfigurationError: the URL cannot be used.
        """
        self._redis = connect(url, timeout=_TIMEOUT)
        self._authenticator = authenticator
        self._value, self._caching = key(namespace, "newest"), key(namespace, "caching")
        self._alone, self._id = key(namespace, "alone"), secrets.token_hex(8)
        self._announce = self._redis.register_script(_ANNOUNCE)
        self.error = ""

    async def announce(self, registry: Registry, *, rules: tuple[str, str] | None = None) -> float:
        """Publish the registry's current revision.

        Args:
            registry: its revision is published.
            rules: the revisions of the product's and the site's rules that are served; None
                leaves them unchanged.

        Returns:
            Seconds for which caches may still hold the earlier state; 0 if no process caches.

        Raises:
            SharedStateUnavailableError: the revision could not be written to Redis.
            RegistryError: the registry cannot be read.
        """
        for _ in range(_TRIES):
            with redis_errors():
                async with self._redis.pipeline(transaction=False) as pipeline:
                    pipeline.info("server")
                    pipeline.get(self._value)
                    pipeline.exists(self._caching)
                    info, stored, caching = await pipeline.execute()
            run = str(info["run_id"])
            before = self._authenticator.verify(stored)
            if before is not None and before.run != run:
                before = None
            # Read after `run_id`, so this includes every write from before that process started.
            version = await registry.version()
            policy, site = rules or (before and (before.policy, before.site)) or (None, None)
            newest = LatestRevision(version.epoch, version.revision, policy, site, time.time(), run)
            if before is not None and before.version > newest.version:
                newest = LatestRevision(*before.version, policy, site, time.time(), run)
            if rules is None and before is not None and before.version >= newest.version:
                return LEASE if caching else 0.0
            with redis_errors():
                done = await self._announce(
                    keys=[self._value, self._caching],
                    args=[run, stored or b"", self._authenticator.sign(newest)],
                )
            if done >= 0:
                return LEASE if done else 0.0
        raise SharedStateUnavailableError("other writers were faster each time")

    async def confirm(
        self,
        registry: Registry,
        served_bundles: ServedBundles,
        *,
        publishing: Callable[[], bool],
        alone: bool,
    ) -> None:
        """Confirm the revision every second, and after each publication, until cancelled.

        Args:
            registry: its revision is confirmed.
            served_bundles: the bundles that are served; they name the rules.
            publishing: whether this server publishes: only then does it know the current rules.
            alone: whether this must be the only server.
        """
        etags = frozenset[str]()
        while True:
            live = await served_bundles.changed("live", etags, seconds=_CONFIRM_EVERY)
            etags = frozenset([live.etag] if live else [])
            policy, site = served_bundles.get("policy"), served_bundles.get("site")
            if not (publishing() and policy and site):
                await asyncio.sleep(_CONFIRM_EVERY)
                continue
            try:
                await self.announce(registry, rules=(policy.revision, site.revision))
                self.error = await self._another() if alone else ""
            except (SharedStateUnavailableError, RegistryError) as error:
                if not self.error:
                    _log.warning("announcer.failed code=%s error=%s", error.code, error)
                self.error = f"{error.code}: {error}"
                await asyncio.sleep(_CONFIRM_EVERY)

    async def _another(self) -> str:
        """Describe the conflict if an unconnected server uses this Redis; empty if none does."""
        with redis_errors():
            holder = await self._redis.set(self._alone, self._id, nx=True, get=True, px=_ALONE)
            if holder not in (None, self._id.encode()):
                return (
                    "another lictor serve uses this Redis, but shares no store with this one: set "
                    "LICTOR_ARTEFACTS_URL, or neither knows of the other's OPAs"
                )
            await self._redis.pexpire(self._alone, _ALONE)
        return ""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
