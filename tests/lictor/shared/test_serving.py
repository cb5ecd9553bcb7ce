"""What `lictor serve` does for those that share through it, and for a command that waits for them."""

import pytest
from support.waiting import until

from lictor.admin import Admin
from lictor.exceptions import InvalidArgumentError
from lictor.server import serving
from pdp_client.shared import Shared
from registry.operations import Operator

pytestmark = pytest.mark.anyio


async def effect_of(settings, version):
    return await Admin(settings.admin_socket).effect(
        epoch=version.epoch, revision=version.revision, seconds=0
    )


async def test_command_that_waits_learns_of_caches_and_of_forgotten_ones(settings):
    async with serving(settings) as running:
        version = (await Operator(running.registry, actor="tests").add_user("ada")).version
        assert (await effect_of(settings, version))["caches_missing"] == []
        shared = Shared(running.url, key_file=settings.newest_key, timeout=5)
        shared.newest.start_watching()

        async def known():
            return (await effect_of(settings, version))["caches"]

        (cache,) = await until(known, "it has acknowledged")
        assert len(cache.split(":")) == 3, "host, process, and a part of its own"
        await shared.aclose()
        effect = await effect_of(settings, version)
        assert (effect["caches"], effect["caches_missing"]) == ([], []), "it has left"
    async with serving(settings):
        effect = await effect_of(settings, version)
        assert effect["caches_missing"] == ["of an earlier lictor serve"]
        assert not effect["effective"]


async def test_reads_of_strict_are_not_caches(settings):
    async with serving(settings) as running:
        shared = Shared(running.url, key_file=settings.newest_key, timeout=5)
        version = (await shared.newest.read()).version
        written = (await Operator(running.registry, actor="tests").add_user("ada")).version
        assert written > version
        assert (await effect_of(settings, written))["caches_missing"] == []
        await shared.aclose()


async def test_key_that_is_none_is_an_invalid_setting(settings):
    settings.newest_key.write_text("garbage")
    with pytest.raises(InvalidArgumentError, match=r"newest\.key: no readable key"):
        async with serving(settings):
            pass
