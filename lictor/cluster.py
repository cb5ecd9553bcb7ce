"""What `lictor serve` shares with others, by its settings: a Redis, and an object store.

Both need packages of an extra, which are imported only if a setting needs them.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from bundles.exceptions import LocationInvalidError
from bundles.fleet.tracker import FleetTracker
from bundles.publish.signing import SigningKey
from bundles.publish.store import Store
from bundles.publish.target import PublishTarget
from bundles.serve.served_bundles import ServedBundles
from bundles.serve.server_role import ServerRole
from lictor.exceptions import InvalidArgumentError, NotInitialisedError
from lictor.settings import Settings
from lictor.state_dir import require_newest_key
from pdp_client import ConfigurationError

if TYPE_CHECKING:
    from bundles.cluster.node import ClusterNode
    from bundles.cluster.standalone import StandalonePublisher
    from lictor.announcer import Announcer

_EXTRAS = {
    "redis": "LICTOR_REDIS_URL needs the package redis; install lictor[redis]",
    "obstore": "LICTOR_ARTEFACTS_URL needs the package obstore; install lictor[store]",
}

Publish = Callable[[PublishTarget, object], Awaitable[None]]


def standalone(settings: Settings, served_bundles: ServedBundles) -> "StandalonePublisher":
    """A server that is alone, and writes into a store.

    Raises:
        InvalidArgumentError: the URL cannot be used, or a package is missing.
    """
    with _explained():
        from bundles.cluster.object_store import ObjectStore
        from bundles.cluster.standalone import StandalonePublisher

        return StandalonePublisher(
            ObjectStore(settings.artefacts_url),
            served_bundles,
            has_unreported_instances=settings.has_unreported_instances,
        )


@asynccontextmanager
async def cluster_node(
    settings: Settings,
    *,
    role: ServerRole,
    served_bundles: ServedBundles,
    fleet: FleetTracker,
    store: Store,
    key: SigningKey,
    publish: Publish,
) -> AsyncIterator["ClusterNode"]:
    """One of several servers; see `bundles.cluster.node`.

    Raises:
        InvalidArgumentError: a URL cannot be used, one is missing, or a package is.
        NotInitialisedError: a key is missing.
    """
    policy_key = settings.bundle_keys / "policy.pub.pem"
    try:
        policy_pem = policy_key.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise NotInitialisedError(f"{policy_key}: not readable ({type(error).__name__})") from None
    with _explained():
        from bundles.cluster.node import ClusterNode
        from bundles.cluster.object_store import ObjectStore
        from bundles.cluster.redis_connection import connect

        redis, object_store = connect(settings.redis_url), ObjectStore(settings.artefacts_url)
    async with aclosing(redis):
        yield ClusterNode(
            redis,
            object_store,
            role=role,
            served_bundles=served_bundles,
            fleet=fleet,
            store=store,
            key=key,
            policy_key=policy_pem,
            publish=publish,
            name=f"{socket.gethostname()}:{settings.state}",
            has_unreported_instances=settings.has_unreported_instances,
        )


def announcer(settings: Settings) -> "Announcer":
    """Create the announcer, which publishes the latest revision to MCP servers.

    Raises:
        InvalidArgumentError: the URL cannot be used, or the package is missing.
        KeyUnusableError: the key that says so is missing.
    """
    with _explained():
        from lictor.announcer import Announcer
        from lictor_common.redis import NAMESPACE
        from pdp_client.freshness.revision import RevisionAuthenticator

        authenticator = RevisionAuthenticator.from_file(
            require_newest_key(settings), namespace=NAMESPACE
        )
        return Announcer(settings.redis_url, authenticator)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (LocationInvalidError, ConfigurationError) as error:
        raise InvalidArgumentError(str(error)) from None
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        raise InvalidArgumentError(_EXTRAS[package]) from None
