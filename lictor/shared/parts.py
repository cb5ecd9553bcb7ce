"""The parts of `lictor serve` that MCP servers share their state through."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from starlette.routing import Route

from bundles.fleet.caches import CacheTracker
from bundles.fleet.tracker import FleetTracker
from bundles.serve.served_bundles import ServedBundles
from bundles.serve.server_role import ServerRole
from lictor.exceptions import InvalidArgumentError
from lictor.settings import Settings
from lictor.shared.app import SharedStateApp
from lictor.shared.revision import RevisionFeed
from lictor.shared.store import SharedStateStore
from lictor.state_dir import require_newest_key
from lictor_common.authenticator import NAMESPACE
from lictor_common.signed_exchange import SignedExchange
from pdp_client import ConfigurationError
from pdp_client.freshness.revision import RevisionAuthenticator, read_revision_key
from registry import Registry


@dataclass(frozen=True, slots=True)
class SharedStateParts:
    """What `lictor serve` needs for it.

    Attributes:
        routes: for the application that OPA talks to.
        caches: the caches of MCP servers.
        store: remembers jtis and use counts.
    """

    routes: list[Route]
    caches: CacheTracker
    store: SharedStateStore


@asynccontextmanager
async def shared_state(
    settings: Settings,
    registry: Registry,
    *,
    role: ServerRole,
    served_bundles: ServedBundles,
    fleet: FleetTracker,
) -> AsyncIterator[SharedStateParts]:
    """Open what MCP servers share through this server.

    Raises:
        InvalidArgumentError: `newest.key` does not hold a key.
        KeyUnusableError: the key is missing, and cannot be made.
    """
    try:
        key = read_revision_key(require_newest_key(settings))
        authenticator = RevisionAuthenticator(key, namespace=NAMESPACE)
    except ConfigurationError as error:
        raise InvalidArgumentError(str(error)) from None
    async with aclosing(SharedStateStore(settings.shared_state)) as store:
        caches = CacheTracker(notify=fleet.notify, forgot=await store.may_have_caches())
        app = SharedStateApp(
            SignedExchange(key, namespace=NAMESPACE),
            role=role,
            feed=RevisionFeed(
                registry, role=role, served_bundles=served_bundles, authenticator=authenticator
            ),
            caches=caches,
            store=store,
        )
        yield SharedStateParts(app.routes, caches, store)
