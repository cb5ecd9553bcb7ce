"""How faults begin and end: each is a function of a deployment and of the trial's random numbers."""

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
from .proxy import ProxyFault, bundle_answer, flipped

NEWEST = "{lictor}:newest"


def begin_on_proxy(proxy, make):
    async def begin(deployment, rng):
        deployment.proxies[proxy].begin(make(rng))

    return begin


def end_on_proxy(proxy):
    async def end(deployment):
        return deployment.proxies[proxy].end()

    return end


async def nothing(deployment):
    """It ends by itself."""


def kill(name):
    async def begin(deployment, rng):
        deployment.kill(name)

    return begin


def start(name):
    async def end(deployment):
        getattr(deployment, f"start_{name}")()

    return end


def freeze(name):
    async def begin(deployment, rng):
        deployment.signal(name, signal.SIGSTOP)

    return begin


def thaw(name):
    async def end(deployment):
        deployment.signal(name, signal.SIGCONT)

    return end


def fill(name):
    """No file of it can grow: as a full disk."""

    async def begin(deployment, rng):
        deployment.limit_files(name, 0)

    return begin


def empty(name):
    async def end(deployment):
        deployment.limit_files(name, -1)

    return end


def clock(seconds):
    """Begins and ends."""

    async def act(deployment, rng=None):
        deployment.set_clock(seconds)

    return act


def die_at(step, *, compact):
    """The publisher dies when it next gets to a step; a compaction gets to some."""

    async def begin(deployment, rng):
        (deployment.folder / "died").unlink(missing_ok=True)
        (deployment.folder / "die").write_text(step)

        async def fold():
            # Of what the trial has written by now, or will have.
            while True:
                with contextlib.suppress(ServeUnavailableError):
                    await deployment.admin.compact()
                await asyncio.sleep(0.05)

        if compact:
            deployment.background(fold())

    return begin


async def restart_dead(deployment):
    """Start it again once it is dead."""
    await deployment.end_background()
    (deployment.folder / "die").unlink(missing_ok=True)
    died = (deployment.folder / "died").exists()
    if died:
        await asyncio.to_thread(deployment._started["serve"].wait, 5)
        deployment.start_serve()
    return int(died)


def fill_record_disk(*, full):
    async def act(deployment, rng=None):
        deployment.fill_disk(full=full)

    return act


fill_record, empty_record = fill_record_disk(full=True), fill_record_disk(full=False)


async def lose_persisted(deployment, rng):
    """A file stands where OPA's folder was, and OPA is killed, so that it starts with nothing."""
    persisted = deployment.state / "opa" / "persisted"
    persisted.rename(persisted.with_name("aside"))
    persisted.write_text("")
    if rng.random() < 0.5:
        deployment.kill("opa")
        deployment.start_opa()


async def find_persisted(deployment):
    persisted = deployment.state / "opa" / "persisted"
    persisted.unlink()
    persisted.with_name("aside").rename(persisted)


async def kill_redis(deployment, rng):
    deployment.redis.kill()


async def start_redis(deployment):
    await asyncio.to_thread(deployment.redis.start)


async def freeze_redis(deployment, rng):
    deployment.redis.freeze()


async def thaw_redis(deployment):
    deployment.redis.thaw()


def _config(deployment, **values):
    with deployment.redis.client() as client:
        for name, value in values.items():
            client.config_set(name.replace("_", "-"), value)


async def fill_redis(deployment, rng):
    _config(deployment, maxmemory=1)


async def empty_redis(deployment):
    _config(deployment, maxmemory=0)


async def fill_redis_disk(deployment, rng):
    """It cannot save, and so takes no writes (MISCONF), as Redis does by default."""
    # Where the file is to be is a folder that is not empty.
    (deployment.folder / "redis" / "dump.rdb").unlink(missing_ok=True)
    (deployment.folder / "redis" / "dump.rdb" / "x").mkdir(parents=True)
    _config(deployment, save="3600 1")
    await _saved(deployment, "err")


async def empty_redis_disk(deployment):
    shutil.rmtree(deployment.folder / "redis" / "dump.rdb")
    await _saved(deployment, "ok")
    _config(deployment, save="")


async def _saved(deployment, wanted):
    with deployment.redis.client() as client:
        latest = time.monotonic() + 5
        while client.info("persistence")["rdb_last_bgsave_status"] != wanted:
            assert time.monotonic() < latest
            with contextlib.suppress(redis.ResponseError):
                client.bgsave()
            await asyncio.sleep(0.05)


async def flush(deployment, rng):
    with deployment.redis.client() as client:
        client.flushall()


async def back_up(deployment, rng):
    """What will be put back."""
    with deployment.redis.client() as client:
        deployment.backup = client.get(NEWEST)


async def restore(deployment):
    deployment.redis.kill()
    deployment.redis.start()
    with deployment.redis.client() as client:
        client.set(NEWEST, deployment.backup)


def write_newest(what):
    """An attacker who can write Redis does so, many times a second."""

    async def begin(deployment, rng):
        with deployment.redis.client() as client:
            before = client.get(NEWEST)
        authenticator = RevisionAuthenticator.from_file(
            deployment.settings.newest_key, namespace="lictor"
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
            with deployment.redis.client() as client:
                client.delete(NEWEST) if value is None else client.set(NEWEST, value)

        async def again():
            while True:
                once()
                await asyncio.sleep(0.02)

        once()
        deployment.background(again())

    return begin


def changed_bundle(name, change):
    """One bundle is handed out as something else."""

    async def begin(deployment, rng):
        made = change(deployment, name, rng)
        # Records to compact: a base that cannot be fetched must not delay what it holds.
        if name == "base-00":
            with contextlib.suppress(ServeUnavailableError, BundleError):
                await deployment.admin.compact()
        deployment.bundles.begin(ProxyFault("change", names=(name,), change=made, rng=rng))

    return begin


def flip(deployment, name, rng):
    """Another bit each time: in what is sent, or in what is packed in it."""

    def change(_, head, content):
        if rng.random() < 0.5:
            damaged = flipped(content, rng)
        else:
            damaged = forging.packed(flipped(forging.plain(content), rng))
        return bundle_answer(damaged, forging.etag(damaged))

    return change


def other_key(deployment, name, rng):
    """The same, and more, signed by a key of the same name that OPA does not know."""

    def change(_, head, content):
        forged = forging.resigned(
            name, content, forging.foreign_key(name), edit=forging.revive(deployment, rng)
        )
        return bundle_answer(forged, forging.etag(forged))

    return change


def older(deployment, name, rng):
    """What was valid once, its ETag with it."""
    if name in {"policy", "site"}:
        key = forging.genuine(deployment, "policy")
        content = forging.resigned(
            name, deployment.bundles.seen[name][1], key, revision="of-last-year"
        )
        tag = forging.etag(content)
    else:
        tag, content = (deployment.older if name == "base-00" else deployment.bundles.seen)[name]
    return lambda *_: bundle_answer(content, tag)


def swapped(deployment, name, rng):
    """Genuine, and for something else."""
    tag, content = deployment.bundles.seen["live"]
    return lambda *_: bundle_answer(content, tag)
