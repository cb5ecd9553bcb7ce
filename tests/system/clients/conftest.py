"""Clients that are not Python's: the TypeScript SDK and the Inspector, from npm."""

import itertools
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from support.downloads import DownloadUnavailableError

from mcp_plugin import PolicyMiddleware
from tests.mcp_plugin.conftest import grants, plain_pdp  # noqa: F401 - fixtures
from tests.system.conformance.npm import find_packages

from .server import bookshop, served
from .typescript import NodeProcess, SDKClient

FOLDER = Path(__file__).parent

CLIENTS = {
    "sdk 1": ("sdk_v1.mjs", {}),
    "sdk 2, 2025-11-25": ("sdk_v2.mjs", {"mode": "legacy"}),
    "sdk 2, 2026-07-28": ("sdk_v2.mjs", {"mode": "auto"}),
}
"""By what a test calls it: the script, and the settings of its clients."""

OLDER = [name for name in CLIENTS if "2026" not in name]
"""Those with sessions and the server's own requests."""

GRANTED = (
    "list_*", "get_*", "report", "narrate", "reconnect", "survey*", "think",
    "resources/read:data://open", "resources/read:data://shelf/*", "resources/read:file:*",
    "resources/read:data://x*", "prompts/get:ask", "completion/complete:ask",
)  # fmt: skip


@pytest.fixture(scope="session")
def packages():
    """The folder with the clients, installed by npm."""
    try:
        return find_packages(FOLDER / "package.json", name="clients", what="clients from npm")
    except DownloadUnavailableError as reason:
        pytest.skip(str(reason))  # no npm here, or no registry to install from: the reason says so


@pytest.fixture(scope="session")
def nodes(packages, tmp_path_factory):
    """Return the process that runs a script, which is started once."""
    folder, running = tmp_path_factory.mktemp("clients"), {}
    # A module finds packages from the folder that it is in.
    (folder / "node_modules").symlink_to(packages / "node_modules")
    for script in FOLDER.glob("*.mjs"):
        shutil.copy(script, folder)

    def node(script):
        if script not in running:
            running[script] = NodeProcess(packages, folder / script)
        return running[script]

    yield node
    for process in running.values():
        process.stop()


@pytest.fixture(params=CLIENTS)
def client_name(request):
    """Which client: parametrize it to have fewer of them."""
    return request.param


_numbers = itertools.count()


@pytest.fixture
async def make_client(nodes, client_name, serve):
    """Make a client that is not connected yet; it is closed before the server is."""
    script, settings = CLIENTS[client_name]
    made = []

    class Made(SDKClient):
        async def connect(self, url, **changes):
            return await super().connect(url, **{**settings, **changes})

    def make():
        made.append(Made(nodes(script), f"client-{next(_numbers)}"))
        return made[-1]

    yield make
    for client in made:
        await client.close()


@pytest.fixture
def connect(make_client):
    """Connect a client."""

    async def connect(url, bearer=None, **settings):
        return await make_client().connect(url, bearer=bearer, **settings)

    return connect


@pytest.fixture
async def serve(grants, plain_pdp):  # noqa: F811 - fixtures
    """Guard and serve a bookshop, and return its URL."""
    async with AsyncExitStack() as exit_:

        async def serve(mcp=None, *, auth=True, http=None, **settings):
            settings.setdefault("public_tools", {"get_health"})
            policy = PolicyMiddleware(plain_pdp, registry=CollectorRegistry(), **settings)
            return await exit_.enter_async_context(
                served(mcp or bookshop(), policy, auth=auth, **(http or {}))
            )

        yield serve


@pytest.fixture
def ada(grants):  # noqa: F811 - a fixture
    """A bearer with two libraries, for some of what there is."""
    bearer = grants.token(*GRANTED, libraries=["poe", "shelley"])
    grants.lay()
    return bearer
