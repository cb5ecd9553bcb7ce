"""What tests of several packages share: a real OPA, and a deployment around it."""

import asyncio
import shutil
import tempfile
import uuid
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import hypothesis
import pytest
from support.canaries import secrets_in, secrets_under
from support.deployment import Deployment, copy_state
from support.downloads import DownloadUnavailableError
from support.plain_opa import PlainOPA
from support.redis import redis_server

from bundles.build.policies import build_policy
from bundles.opa.binary import find_opa
from bundles.publish.signing import SigningKey
from lictor.settings import Settings
from lictor.state_dir import initialise, publish_policies

_TIERS = {
    "tests/system/model": "model",
    "tests/system/conformance": "conformance",
    "tests/system/clients": "conformance",
    "tests/system/docs": "docs",
    "tests/system": "system",
    "tests/bundles/cluster/test_leader_loop.py": "system",
}
_TIERS_BY_FIXTURE = {"neo4j_server": "neo4j"}
_TIERS_BY_PARAMETER = {"neo4j": "neo4j", "s3": "system"}


def pytest_collection_modifyitems(items):
    """Put each test into its tier: `make test` runs those of none, and those marked `quick`."""
    root = Path(__file__).parents[1]
    for item in items:
        path = item.path.relative_to(root).as_posix()
        callspec = getattr(item, "callspec", None)
        parameters = list(callspec.params.values()) if callspec else []
        tiers = [
            *(t for start, t in _TIERS.items() if path == start or path.startswith(f"{start}/")),
            *(t for name, t in _TIERS_BY_FIXTURE.items() if name in item.fixturenames),
            *(
                t
                for name, t in _TIERS_BY_PARAMETER.items()
                if any(one == name for one in parameters if isinstance(one, str))
            ),
        ]
        for tier in tiers[:1]:
            item.add_marker(tier)


# How long an example may take depends on what else the machine does.
hypothesis.settings.register_profile("lictor", deadline=None)
hypothesis.settings.load_profile("lictor")


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in (
        "STATE", "REGISTRY", "KEYS", "SITE", "OPA_URL", "BUNDLES_URL", "SHARDS",
        "REDIS_URL", "ARTEFACTS_URL", "UNHEARD",
    ):  # fmt: skip
        monkeypatch.delenv(f"LICTOR_{name}", raising=False)


@pytest.fixture(autouse=True)
def _no_secret_in_a_log(caplog):
    yield
    records = [one for when in ("setup", "call") for one in caplog.get_records(when)]
    said = "\n".join(caplog.handler.format(one) for one in records)
    assert secrets_in(said.encode(errors="surrogatepass")) == []


@pytest.fixture
def tmp_path(tmp_path):
    """pytest's, where no file may be left with a bearer in it."""
    yield tmp_path
    assert secrets_under(tmp_path) == []


@pytest.fixture(scope="session")
def opa_binary():
    """The real OPA; without one there is nothing to test."""
    return find_opa()


@pytest.fixture(scope="session")
def plain_opa(opa_binary):
    """A real OPA with the product's rules and no bundles, on a unix socket and on TCP; shared."""
    with tempfile.TemporaryDirectory(prefix="lt-", dir="/tmp") as folder:
        opa = PlainOPA(opa_binary, Path(folder)).start()
        yield opa
        opa.kill()


@pytest.fixture(scope="session")
def neo4j_server():
    """A real Neo4j, which a test empties; without one the test is skipped, with the reason."""
    from support.neo4j import Neo4jUnavailableError, running_neo4j

    try:
        with running_neo4j() as server:
            yield server
    except Neo4jUnavailableError as error:
        # It wants a JDK and a download, which not every machine has; SQLite has the same contract.
        pytest.skip(str(error))


@pytest.fixture
def redis_process():
    """A Redis of the test's own; the one that `LICTOR_TEST_REDIS_URL` names, if it names one."""
    with ExitStack() as exit_:
        try:
            server = exit_.enter_context(redis_server())
        except DownloadUnavailableError as reason:
            # Not on PATH, no wheel for this machine, and not Debian: there is none to test with.
            pytest.skip(str(reason))
        yield server


@pytest.fixture
def namespace():
    """A namespace of the test's own in a Redis that it may share."""
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def state_template(opa_binary, tmp_path_factory):
    """A state directory as `lictor init` and `lictor policies build` leave it."""
    folder = tmp_path_factory.mktemp("template") / "state"
    settings = Settings(state=folder, bundles_url="http://127.0.0.1:0")
    asyncio.run(initialise(settings, actor="tests"))
    publish_policies(settings, opa_binary)
    return folder


@pytest.fixture
def short_path():
    """A folder whose path leaves room for a unix socket's name."""
    with tempfile.TemporaryDirectory(prefix="lt-", dir="/tmp") as folder:
        yield Path(folder)
        assert secrets_under(Path(folder)) == []


@pytest.fixture
def settings(state_template, short_path):
    """The settings of a fresh, initialised state directory."""
    return copy_state(state_template, short_path / "s")


@pytest.fixture
async def make_deployment(settings, opa_binary):
    """Start a registry, its publisher and an OPA; `site` is Rego for the rules of the site."""
    async with AsyncExitStack() as exit_:

        async def start(*, kind=Deployment, site=None, redis=None, **changes):
            if site is not None:
                shutil.rmtree(settings.site)
                settings.site.mkdir()
                (settings.site / "rules.rego").write_text(site)
                publish_policies(settings, opa_binary)
            deployment = await exit_.enter_async_context(kind(settings, opa_binary, redis=redis))
            return await deployment.start(**changes)

        yield start


@pytest.fixture
async def deployment(make_deployment):
    """A SQLite registry, its publisher, and an OPA on a unix socket."""
    return await make_deployment()


@pytest.fixture(scope="session")
def bundle_keys():
    """The keys that sign the bundles of a test's own making."""
    return {keyid: SigningKey.generate(keyid) for keyid in ("policy", "data")}


@pytest.fixture(scope="session")
def policy_bundle(opa_binary, bundle_keys):
    """The product's own rules."""
    return build_policy(opa_binary, bundle_keys["policy"])


@pytest.fixture
async def signed(opa_binary, short_path, bundle_keys, policy_bundle):
    """Bundles of the test's own making, and an OPA that will fetch them; see `start_signed`."""
    async with Deployment(Settings(state=short_path), opa_binary) as deployment:
        await deployment.start_signed_bundles(policy=policy_bundle, keys=bundle_keys)
        yield deployment


@pytest.fixture
def lictor_processes(short_path, opa_binary):
    """Make a `LictorProcesses` over a new state directory, with what settings a test wants."""
    with ExitStack() as exit_:

        def make(**settings):
            made = Deployment(Settings(state=short_path / "state", **settings), opa_binary)
            exit_.callback(made.processes.stop_all)
            return made.processes

        yield make
