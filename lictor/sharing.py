"""What `lictor serve` shares by its settings: a Redis with other servers, a store with all.

Both need packages that a server which is alone does not; they are imported when they are asked for.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from bundles.catalogue import Catalogue
from bundles.current import Current
from bundles.exceptions import LocationInvalid
from bundles.fleet import Fleet
from bundles.signing import SigningKey
from bundles.store import Store
from lictor.exceptions import InvalidArgument, NotInitialised
from lictor.settings import Settings
from lictor.state import require_newest_key
from pdp_client import ConfigurationError

if TYPE_CHECKING:
    from bundles.shared.fed import Fed
    from bundles.shared.together import Together
    from lictor.announcing import Announcer

_EXTRAS = {
    "redis": "LICTOR_REDIS_URL needs the package redis; install lictor[redis]",
    "obstore": "LICTOR_ARTEFACTS_URL needs the package obstore; install lictor[store]",
}

Publish = Callable[[Catalogue, object], Awaitable[None]]


def fed(settings: Settings, catalogue: Catalogue) -> "Fed":
    """A server that is alone, and writes into a store.

    Raises:
        InvalidArgument: the URL cannot be used, or a package is missing.
    """
    with _explained():
        from bundles.shared.artefacts import Artefacts  # noqa: PLC0415 - see above
        from bundles.shared.fed import Fed  # noqa: PLC0415 - see above

        return Fed(Artefacts(settings.artefacts_url), catalogue, unheard=settings.has_unheard)


@asynccontextmanager
async def together(
    settings: Settings,
    *,
    current: Current,
    catalogue: Catalogue,
    fleet: Fleet,
    store: Store,
    key: SigningKey,
    publish: Publish,
) -> AsyncIterator["Together"]:
    """One of several servers; see `bundles.shared.together`.

    Raises:
        InvalidArgument: a URL cannot be used, one is missing, or a package is.
        NotInitialised: a key is missing.
    """
    policy_key = settings.bundle_keys / "policy.pub.pem"
    try:
        policy_pem = policy_key.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise NotInitialised(f"{policy_key}: not readable ({type(error).__name__})") from None
    with _explained():
        from bundles.shared.artefacts import Artefacts  # noqa: PLC0415 - see above
        from bundles.shared.connection import connect  # noqa: PLC0415 - see above
        from bundles.shared.together import Together  # noqa: PLC0415 - see above

        redis, artefacts = connect(settings.redis_url), Artefacts(settings.artefacts_url)
    async with aclosing(redis):
        yield Together(
            redis,
            artefacts,
            current=current,
            catalogue=catalogue,
            fleet=fleet,
            store=store,
            key=key,
            policy_key=policy_pem,
            publish=publish,
            name=f"{socket.gethostname()}:{settings.state}",
            unheard=settings.has_unheard,
        )


def announcer(settings: Settings) -> "Announcer":
    """What tells MCP servers how far the registry has got.

    Raises:
        InvalidArgument: the URL cannot be used, or the package is missing.
        KeyUnusable: the key that says so is missing.
    """
    with _explained():
        from lictor.announcing import Announcer  # noqa: PLC0415 - see above
        from pdp_client.freshness.revision import MessageAuthenticator  # noqa: PLC0415 - beside the other
        from pdp_client.shared.connection import NAMESPACE  # noqa: PLC0415 - see above

        authenticator = MessageAuthenticator.from_file(
            require_newest_key(settings), namespace=NAMESPACE
        )
        return Announcer(settings.redis_url, authenticator)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (LocationInvalid, ConfigurationError) as error:
        raise InvalidArgument(str(error)) from None
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        raise InvalidArgument(_EXTRAS[package]) from None
