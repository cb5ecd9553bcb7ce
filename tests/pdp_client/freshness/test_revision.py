"""The newest revision: believed only where it is authentic, fresh, not lower, and of this Redis."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, replace

import pytest
from redis.asyncio.client import PubSub
from support.waiting import until

from lictor.announcer import Announcer
from pdp_client.exceptions import ConfigurationError
from pdp_client.freshness.revision import LatestRevision, RevisionAuthenticator
from pdp_client.shared.connection import SharedStateUnavailableError
from pdp_client.shared.revision import LEASE, SharedNewest
from registry import RegistryVersion

pytestmark = pytest.mark.anyio

KEY = bytes(range(32))
RULES = ("rules-1", "site-1")


class Somewhere:
    """A registry, as far as announcing goes: it has got somewhere."""

    def __init__(self, epoch, revision):
        self.at = RegistryVersion(epoch, revision)

    async def version(self):
        return self.at


@pytest.fixture
def authenticator(namespace):
    return RevisionAuthenticator(KEY, namespace=namespace)


@pytest.fixture
def key_file(tmp_path):
    file = tmp_path / "newest.key"
    file.write_text(KEY.hex())
    return file


@pytest.fixture
async def make_newest(server, namespace, key_file):
    async with AsyncExitStack() as exit_:

        def make(**changes):
            made = SharedNewest(
                server.url, key_file=key_file, **{"namespace": namespace, "timeout": 5, **changes}
            )
            exit_.push_async_callback(made.aclose)
            return made

        yield make


@pytest.fixture
async def announcer(server, authenticator, namespace):
    made = Announcer(server.url, authenticator, namespace=namespace)
    yield made
    await made.aclose()


@pytest.fixture
def value(namespace):
    """The key that holds it."""
    return f"{{{namespace}}}:newest"


@pytest.fixture
def stored(server, value):
    """Write a value as anybody with access to Redis could."""

    def write(content):
        with server.client() as client:
            client.set(value, content)

    return write


async def refused(newest):
    with pytest.raises(SharedStateUnavailableError) as raised:
        await newest.read()
    return str(raised.value)


async def test_revision_read_is_the_revision_announced(make_newest, announcer):
    newest = make_newest()
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    assert (await newest.read()).state == (1, 7, *RULES)
    await announcer.announce(Somewhere(1, 8))
    found = await newest.read()
    assert found.state == (1, 8, *RULES), "a command leaves the rules as they were"


async def test_command_before_any_server_knows_no_rules(make_newest, announcer):
    await announcer.announce(Somewhere(1, 7))
    found = await make_newest().read()
    assert (found.version, found.state) == ((1, 7), None)


async def test_revision_never_decreases_whoever_announces_it(make_newest, announcer):
    newest = make_newest()
    await announcer.announce(Somewhere(2, 9), rules=RULES)
    await announcer.announce(Somewhere(2, 8), rules=RULES)
    await announcer.announce(Somewhere(1, 99))
    assert (await newest.read()).version == (2, 9)


ODD = {
    "epoch": ["five", None, True, [], 1.5, 10**400],
    "revision": ["five", None, True, {}, 1.5, 10**400],
    "policy": [7, [], True, "\ud800"],
    "site": [7, {}, 1.5, "\ud800"],
    "at": ["now", None, [], True, 10**400],
    "run": [7, None, [], "\ud800"],
}


@pytest.mark.parametrize("field", ODD)
async def test_sealed_value_of_another_type_is_refused_and_replaced(
    make_newest, announcer, authenticator, stored, field
):
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    good = await make_newest().read()
    for odd in ODD[field]:
        body = json.dumps({**asdict(good), field: odd}).encode()
        stored(authenticator._authenticator.sign("newest", body))
        assert await refused(make_newest()) == "latest revision is forged", odd
        # A command that has just written the registry does not fail on it.
        await announcer.announce(Somewhere(1, 8))
        assert (await make_newest().read()).version == (1, 8)


@pytest.mark.parametrize("forgery", ["low", "high", "other key", "other namespace", "no mac"])
async def test_forged_value_is_refused(make_newest, announcer, server, value, forgery):
    newest = make_newest()
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    real = await newest.read()
    with server.client() as client:
        raw = client.get(value)
        mac, _, body = raw.partition(b" ")
        forged = {
            "low": mac + b" " + body.replace(b'"revision":7', b'"revision":3'),
            "high": mac + b" " + body.replace(b'"revision":7', b'"revision":70'),
            "other key": RevisionAuthenticator(bytes(32), namespace="x").sign(real),
            "other namespace": RevisionAuthenticator(KEY, namespace="elsewhere").sign(real),
            "no mac": body,
        }[forgery]
        client.set(value, forged)
    assert await refused(newest) == "latest revision is forged"


async def test_revision_lower_than_before_is_refused(make_newest, announcer, server, value):
    newest = make_newest()
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    await newest.read()
    with server.client() as client:
        old = client.get(value)
        await announcer.announce(Somewhere(1, 8), rules=RULES)
        assert (await newest.read()).version == (1, 8)
        client.set(value, old)
    assert (
        await refused(newest)
        == "latest revision moved backwards; was Redis restored from a backup?"
    )


@pytest.mark.parametrize("off", [-31, 6])
async def test_revision_without_confirmation_is_refused(make_newest, announcer, off):
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    newest = make_newest(clock=lambda: time.time() - off)
    assert await refused(newest) == "latest revision is unconfirmed"


@pytest.mark.parametrize("garbage", [None, b"", b"garbage", b"x" * 10_000, b"{}"])
async def test_garbage_is_refused(make_newest, server, value, garbage):
    if garbage is not None:
        with server.client() as client:
            client.set(value, garbage)
    assert await refused(make_newest())


async def test_revision_of_another_type_is_refused(make_newest, server, value):
    with server.client() as client:
        client.rpush(value, "x")
    assert await refused(make_newest()) == "ResponseError"


async def test_revision_of_a_redis_restored_from_a_backup_is_refused(
    make_newest, announcer, server, value
):
    """It may have been restored from a backup, or be a replica that had not heard the last."""
    server.must_be_ours()
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    with server.client() as client:
        remembered = client.get(value)
    server.kill()
    server.start()
    with server.client() as client:
        client.set(value, remembered)
    fresh = make_newest()
    assert await refused(fresh) == "latest revision was written for another Redis"
    await announcer.announce(Somewhere(1, 9))
    assert (await fresh.read()).version == (1, 9)


async def test_revision_connection_to_a_replaced_redis_is_noticed(make_newest, announcer, server):
    server.must_be_ours()
    newest = make_newest()
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    await newest.read()
    server.kill()
    assert await refused(newest) == "ConnectionError"
    server.start()
    assert await refused(newest) == "Redis has no latest revision"
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    assert (await newest.read()).version == (1, 7)


async def test_revision_read_that_is_late_fails(make_newest, announcer, server):
    server.must_be_ours()
    newest = make_newest(timeout=0.05)
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    await newest.read()
    server.freeze()
    assert await refused(newest) == "TimeoutError"
    server.thaw()
    assert (await newest.read()).version == (1, 7)


async def test_revision_response_of_a_cancelled_read_is_discarded(make_newest, announcer, server):
    server.must_be_ours()
    newest = make_newest()
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    await newest.read()
    for revision in range(8, 12):
        server.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await newest.read()
        server.thaw()
        await announcer.announce(Somewhere(1, revision))
        assert (await newest.read()).version == (1, revision)


async def test_revision_waiters_share_one_read_never_an_older_one(make_newest, announcer, server):
    newest = make_newest()
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    await newest.read()

    def reads():
        with server.client() as client:
            return client.info("commandstats")["cmdstat_get"]["calls"]

    before = reads()
    found = await asyncio.gather(*(newest.read() for _ in range(200)))
    assert {one.version for one in found} == {(1, 7)}
    assert reads() - before <= 3
    for revision in range(8, 60):
        # Other reads go on all the time; a read after a write must return it.
        others = [asyncio.ensure_future(newest.read()) for _ in range(3)]
        await announcer.announce(Somewhere(1, revision))
        assert (await newest.read()).version == (1, revision)
        await asyncio.gather(*others)


async def test_revision_announced_concurrently_is_the_highest(
    make_newest, server, authenticator, namespace
):
    newest = make_newest()
    announcers = [Announcer(server.url, authenticator, namespace=namespace) for _ in range(4)]
    await asyncio.gather(
        *(
            one.announce(Somewhere(1, 10 * n + k), rules=RULES if k % 2 else None)
            for n in range(6)
            for k, one in enumerate(announcers)
        )
    )
    assert (await newest.read()).version == (1, 53)
    for one in announcers:
        await one.aclose()


async def test_revision_that_is_watched_is_known_without_a_read(make_newest, announcer):
    newest = make_newest()
    assert newest.cached() is None
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    newest.start_watching()
    found = await until(newest.cached, "it is known")
    assert found.version == (1, 7)
    await announcer.announce(Somewhere(1, 8))
    await until(lambda: (one := newest.cached()) and one.version == (1, 8), "the next is known")


async def test_revision_is_unknown_without_redis(make_newest, announcer, server):
    server.must_be_ours()
    newest = make_newest(timeout=0.1)
    await announcer.announce(Somewhere(1, 7), rules=RULES)
    newest.start_watching()
    await until(newest.cached, "it is known")
    server.freeze()
    await until(lambda: newest.cached() is None, "nothing is known")
    server.thaw()
    await until(newest.cached, "it is known again")


async def test_announcer_learns_whether_a_pdp_caches(make_newest, announcer):
    assert await announcer.announce(Somewhere(1, 7), rules=RULES) == 0
    newest = make_newest()
    newest.start_watching()
    await until(newest.cached, "it is known")
    assert await announcer.announce(Somewhere(1, 8)) == LEASE
    assert await announcer.announce(Somewhere(1, 8)) == LEASE, "also when it was announced already"


async def test_password_of_redis_is_in_no_error(key_file):
    newest = SharedNewest("redis://:hunter2@127.0.0.1:1", key_file=key_file)
    assert "hunter2" not in await refused(newest)
    await newest.aclose()
    with pytest.raises(ConfigurationError) as raised:
        SharedNewest("http://:hunter2@h", key_file=key_file)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("content", [None, "", "zz" * 32, "00" * 31])
def test_invalid_revision_key_is_refused(tmp_path, content):
    file = tmp_path / "newest.key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError):
        RevisionAuthenticator.from_file(file, namespace="x")


def test_revision_signed_by_a_later_version_is_unknown(authenticator):
    newest = LatestRevision(1, 7, "p", "s", 1_790_000_000.5, "run")
    for body in (b'{"epoch":1}', b'{"more":1}', b"[]", b"garbage"):
        assert authenticator.verify(authenticator._authenticator.sign("newest", body)) is None
    assert authenticator.verify(authenticator.sign(newest)) == newest


def test_signed_revision_round_trips(authenticator):
    newest = LatestRevision(1, 7, "p", None, 1_790_000_000.5, "run")
    assert authenticator.verify(authenticator.sign(newest)) == newest
    assert authenticator.verify(authenticator.sign(replace(newest, revision=8))) != newest


async def test_watcher_ends_although_redis_py_loses_a_cancellation(
    make_newest, announcer, monkeypatch
):
    # As it may before Python 3.12, when one comes together with a result: it closed for ever.
    await announcer.announce(Somewhere(1, 1), rules=RULES)
    lost = []

    async def loses(self, **limits):
        try:
            await asyncio.sleep(limits["timeout"])
        except asyncio.CancelledError:
            lost.append(self)

    monkeypatch.setattr(PubSub, "get_message", loses)
    newest = make_newest()
    newest.start_watching()
    await until(newest.cached, "it is known")
    closing = asyncio.ensure_future(newest.aclose())
    assert (await asyncio.wait([closing], timeout=5))[0]
    assert lost
