"""How faults begin and end: each is a function of a world, and of the cell's chance."""

import asyncio
import contextlib
import shutil
import signal
import time

import redis

from bundles.exceptions import BundleError
from lictor.exceptions import ServeUnavailableError
from pdp_client.freshness.revision import RevisionAuthenticator

from . import forging
from .proxy import Fault as Road
from .proxy import bundle_answer, flipped

NEWEST = "{lictor}:newest"


def on_road(road, make):
    async def begin(world, rng):
        world.roads[road].begin(make(rng))

    return begin


def off_road(road):
    async def end(world):
        return world.roads[road].end()

    return end


async def nothing(world):
    """It ends by itself."""


def kill(name):
    async def begin(world, rng):
        world.kill(name)

    return begin


def start(name):
    async def end(world):
        getattr(world, f"start_{name}")()

    return end


def freeze(name):
    async def begin(world, rng):
        world.signal(name, signal.SIGSTOP)

    return begin


def thaw(name):
    async def end(world):
        world.signal(name, signal.SIGCONT)

    return end


def fill(name):
    """No file of it can grow: as a full disk."""

    async def begin(world, rng):
        world.limit_files(name, 0)

    return begin


def empty(name):
    async def end(world):
        world.limit_files(name, -1)

    return end


def clock(seconds):
    """Begins and ends."""

    async def act(world, rng=None):
        world.set_clock(seconds)

    return act


def die_at(step, *, compact):
    """The publisher dies when it next gets to a step; a compaction gets to some."""

    async def begin(world, rng):
        (world.folder / "died").unlink(missing_ok=True)
        (world.folder / "die").write_text(step)

        async def fold():
            # Of what the cell has written by now, or will have.
            while True:
                with contextlib.suppress(ServeUnavailableError):
                    await world.admin.compact()
                await asyncio.sleep(0.05)

        if compact:
            world.background(fold())

    return begin


async def restart_dead(world):
    """Start it again once it is dead."""
    await world.end_background()
    (world.folder / "die").unlink(missing_ok=True)
    died = (world.folder / "died").exists()
    if died:
        await asyncio.to_thread(world.processes["serve"].wait, 5)
        world.start_serve()
    return int(died)


def fill_record_disk(*, full):
    async def act(world, rng=None):
        world.fill_disk(full=full)

    return act


fill_record, empty_record = fill_record_disk(full=True), fill_record_disk(full=False)


async def lose_persisted(world, rng):
    """A file stands where OPA's folder was, and OPA is killed, so that it starts with nothing."""
    persisted = world.state / "opa" / "persisted"
    persisted.rename(persisted.with_name("aside"))
    persisted.write_text("")
    if rng.random() < 0.5:
        world.kill("opa")
        world.start_opa()


async def find_persisted(world):
    persisted = world.state / "opa" / "persisted"
    persisted.unlink()
    persisted.with_name("aside").rename(persisted)


async def kill_redis(world, rng):
    world.redis.kill()


async def start_redis(world):
    await asyncio.to_thread(world.redis.start)


async def freeze_redis(world, rng):
    world.redis.freeze()


async def thaw_redis(world):
    world.redis.thaw()


def _config(world, **values):
    with world.redis.client() as client:
        for name, value in values.items():
            client.config_set(name.replace("_", "-"), value)


async def fill_redis(world, rng):
    _config(world, maxmemory=1)


async def empty_redis(world):
    _config(world, maxmemory=0)


async def fill_redis_disk(world, rng):
    """It cannot save, and so takes no writes (MISCONF), as Redis does by default."""
    # Where the file is to be is a folder that is not empty.
    (world.folder / "redis" / "dump.rdb").unlink(missing_ok=True)
    (world.folder / "redis" / "dump.rdb" / "x").mkdir(parents=True)
    _config(world, save="3600 1")
    await _saved(world, "err")


async def empty_redis_disk(world):
    shutil.rmtree(world.folder / "redis" / "dump.rdb")
    await _saved(world, "ok")
    _config(world, save="")


async def _saved(world, wanted):
    with world.redis.client() as client:
        latest = time.monotonic() + 5
        while client.info("persistence")["rdb_last_bgsave_status"] != wanted:
            assert time.monotonic() < latest
            with contextlib.suppress(redis.ResponseError):
                client.bgsave()
            await asyncio.sleep(0.05)


async def flush(world, rng):
    with world.redis.client() as client:
        client.flushall()


async def back_up(world, rng):
    """What will be put back."""
    with world.redis.client() as client:
        world.backup = client.get(NEWEST)


async def restore(world):
    world.redis.kill()
    world.redis.start()
    with world.redis.client() as client:
        client.set(NEWEST, world.backup)


def write_newest(what):
    """Somebody who can write Redis does so, many times a second."""

    async def begin(world, rng):
        with world.redis.client() as client:
            before = client.get(NEWEST)
        authenticator = RevisionAuthenticator.from_file(
            world.settings.newest_key, namespace="lictor"
        )
        mac, _, body = before.partition(b" ")
        value = {
            "forged": mac + b" " + body.replace(b'"revision":', b'"revision":1'),
            "other key": RevisionAuthenticator(bytes(32), namespace="lictor").sign(
                authenticator.verify(before)
            ),
            "older": before,
            "deleted": None,
        }[what]

        def once():
            with world.redis.client() as client:
                client.delete(NEWEST) if value is None else client.set(NEWEST, value)

        async def again():
            while True:
                once()
                await asyncio.sleep(0.02)

        once()
        world.background(again())

    return begin


def changed_bundle(name, change):
    """One bundle is handed out as something else."""

    async def begin(world, rng):
        made = change(world, name, rng)
        # What is to be folded: a base that cannot be had must keep nobody from what it holds.
        if name == "base-00":
            with contextlib.suppress(ServeUnavailableError, BundleError):
                await world.admin.compact()
        world.bundles.begin(Road("change", names=(name,), change=made, rng=rng))

    return begin


def flip(world, name, rng):
    """Another bit each time: in what is sent, or in what is packed in it."""

    def change(_, head, content):
        if rng.random() < 0.5:
            damaged = flipped(content, rng)
        else:
            damaged = forging.packed(flipped(forging.plain(content), rng))
        return bundle_answer(damaged, forging.etag(damaged))

    return change


def other_key(world, name, rng):
    """The same, and more, signed by a key of the same name that OPA does not know."""

    def change(_, head, content):
        forged = forging.resigned(
            name, content, forging.stranger(name), edit=forging.revive(world, rng)
        )
        return bundle_answer(forged, forging.etag(forged))

    return change


def older(world, name, rng):
    """What was valid once, its ETag with it."""
    if name in {"policy", "site"}:
        key = forging.genuine(world, "policy")
        content = forging.resigned(name, world.bundles.seen[name][1], key, revision="of-last-year")
        tag = forging.etag(content)
    else:
        tag, content = (world.older if name == "base-00" else world.bundles.seen)[name]
    return lambda *_: bundle_answer(content, tag)


def swapped(world, name, rng):
    """Genuine, and for something else."""
    tag, content = world.bundles.seen["live"]
    return lambda *_: bundle_answer(content, tag)
