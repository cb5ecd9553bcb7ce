"""What is shared by which settings, what is refused, and a server that is alone with a store."""

import subprocess
import sys

import pytest
from pydantic import ValidationError
from support.waiting import until

from bundles.cluster.index import decode_index
from bundles.cluster.object_store import ObjectStore
from lictor.exceptions import InvalidArgumentError
from lictor.server import serving
from lictor.settings import Settings
from registry.operations import Operator

pytestmark = pytest.mark.anyio

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("redis", "store", "why"),
    [
        (f"http://:{SECRET}@h", "", "Redis' URL is redis://"),
        (f"http://:{SECRET}@h", "file:///tmp/lictor-x", "LICTOR_REDIS_URL is redis://"),
        (f"redis://:{SECRET}@h", f"s3://{SECRET}@bucket", "LICTOR_ARTEFACTS_URL is file:///"),
        ("", "file://relative", "LICTOR_ARTEFACTS_URL is file:///"),
    ],
)
async def test_invalid_shared_location_is_refused_unquoted(settings, redis, store, why):
    wrong = settings.model_copy(update={"redis_url": redis, "artefacts_url": store})
    with pytest.raises(InvalidArgumentError) as raised:
        async with serving(wrong):
            pass
    assert str(raised.value).startswith(why)
    assert SECRET not in str(raised.value)
    assert f":{SECRET}@h" not in repr(wrong)


@pytest.mark.parametrize(("package", "extra"), [("redis", "redis"), ("obstore", "store")])
def test_without_the_package_the_extra_is_named(settings, package, extra):
    code = (
        f"import sys; sys.modules['{package}'] = None\nfrom lictor.cli import main; main(['serve'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "LICTOR_STATE": str(settings.state),
            "LICTOR_REDIS_URL": "redis://localhost",
            "LICTOR_ARTEFACTS_URL": (settings.state / "a").as_uri(),
        },
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"install lictor[{extra}]" in done.stderr


@pytest.mark.parametrize(
    ("redis", "store", "said", "unheard"),
    [
        ("", "", None, False),
        ("", "file:///x", None, True),
        ("", "file:///x", False, False),
        ("redis://h", "file:///x", None, False),
        ("redis://h", "file:///x", True, True),
    ],
)
def test_store_without_redis_serves_unreporting_opas(redis, store, said, unheard):
    settings = Settings(redis_url=redis, artefacts_url=store, unheard=said)
    assert settings.has_unreported_instances is unheard


def test_unreported_instances_setting_accepts_only_booleans(monkeypatch):
    monkeypatch.setenv("LICTOR_UNHEARD", "true")
    assert Settings().unheard is True
    monkeypatch.setenv("LICTOR_UNHEARD", "perhaps")
    with pytest.raises(ValidationError):
        Settings()


async def test_single_server_publishes_and_updates_the_store(settings):
    url = (settings.state / "artefacts").as_uri()
    store = ObjectStore(url)
    async with serving(settings.model_copy(update={"artefacts_url": url})) as running:
        await Operator(running.registry, actor="tests").add_user("ada")
        await running.publisher.sync()
        version = running.role.version

        async def arrived():
            found = await store.get("index.json")
            index = found and decode_index(found.content)
            live = index and index.bundles.get("live")
            return live and live.revision == f"{version.epoch}:{version.revision}"

        await until(arrived, "it is in the store")
        await until(lambda: running.role.cluster.status() == {"waiting": 0}, "all of it")
        assert running.role.cluster.problems() == []
        assert running.role.has_unreported_instances(version)
    names = {path.name for path in (settings.state / "artefacts" / "bundles").iterdir()}
    assert names >= {"live.tar.gz", "heartbeat.tar.gz", "policy.tar.gz", "base-00.tar.gz"}
