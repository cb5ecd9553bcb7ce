"""Uses of all instances add up; losing what is shared loses counts, and nothing is counted twice."""

import asyncio
import sqlite3
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing
from urllib.parse import urlsplit

import pytest
from support.waiting import until

from lictor_common.redis import key
from lictor_common.signed_exchange import USES
from pdp_client.bearer.verifier import Credential
from pdp_client.decision import Decision
from pdp_client.freshness.revision import read_revision_key
from pdp_client.reasons import Reason
from pdp_client.shared.connection import connect
from pdp_client.shared.http_client import ServeClient
from pdp_client.shared.http_usage import HTTPUsage
from pdp_client.shared.usage import SharedUsage, take_uses

pytestmark = pytest.mark.anyio

A, B = "a" * 64, "b" * 64


def use(digest=A, reason=Reason.OK):
    return Decision(
        allow=reason is Reason.OK,
        reason=reason,
        reasons=(reason.value,),
        message="",
        credential=Credential(kind="token", digest=digest),
    )


REDIS_ONLY = pytest.mark.parametrize("through", ["redis"], indirect=True)


@pytest.fixture
async def new_counter(through, source, share_options):
    """Another instance's counter. It hands on at once, so that tests need not wait."""
    made = []
    key = read_revision_key(share_options["key_file"])

    def new(to=None, **changes):
        options = {"every": 0.01, **changes}
        if through == "redis":
            namespace = share_options["namespace"]
            client = to or connect(source.url, timeout=5)
            clients.append(client)
            made.append(SharedUsage(client, namespace=namespace, **options))
        else:
            client = ServeClient(to or source.url, key=key, timeout=options.pop("timeout", 5))
            clients.append(client)
            made.append(HTTPUsage(client, **options))
        return made[-1]

    clients = []
    yield new
    for counter in made:
        await counter.aclose()
    for client in clients:
        await client.aclose()


@pytest.fixture
def stored_uses(through, source, settings, namespace):
    """What Redis, or the server's file, knows: digest -> (count, last)."""

    def read_file():
        if not settings.shared_state.exists():
            return {}
        with closing(sqlite3.connect(f"file:{settings.shared_state}?mode=ro", uri=True)) as db:
            try:
                return {name: (n, at) for name, n, at in db.execute("SELECT * FROM uses")}
            except sqlite3.OperationalError:
                return {}

    if through == "http":
        return read_file
    server = source

    def read():
        with server.client() as client:
            counts = client.hgetall(key(namespace, "usage:count"))
            lasts = client.hgetall(key(namespace, "usage:last"))
        return {name.decode(): (int(n), float(lasts[name])) for name, n in counts.items()}

    return read


async def handed_on(counter):
    await until(lambda: not counter._uses, "all is handed on")


async def test_usage_of_all_instances_adds_up_with_the_latest_time(new_counter, stored_uses):
    here, there = new_counter(), new_counter()
    for at in (30.0, 10.0):
        here.count(use(A), at)
    there.count(use(A, Reason.TOOL_NOT_ALLOWED), 20.5)
    there.count(use(B), 5.25)
    await until(lambda: stored_uses() == {A: (3, 30.0), B: (1, 5.25)}, "both are there")
    here.count(use(B), 6.0)
    await until(lambda: stored_uses()[B] == (2, 6.0), "the next batch is added")
    there.count(use(A), 1.0)
    await until(lambda: stored_uses()[A] == (4, 30.0), "a late one is not the last")
    assert here.unavailable == here.lost == here.dropped == 0


async def test_usage_ignores_decisions_that_are_no_use(new_counter, stored_uses):
    counter = new_counter()
    counter.count(use(reason=Reason.TOKEN_DEACTIVATED), 1.0)
    counter.count(use(reason=Reason.LOCKDOWN), 1.0)
    counter.count(Decision.refused(Reason.UNAVAILABLE), 1.0)
    await counter.aclose()
    assert stored_uses() == {}


async def test_usage_close_sends_the_rest_and_counts_no_more(new_counter, stored_uses):
    counter = new_counter(every=3600)
    counter.count(use(), 7.0)
    await asyncio.sleep(0)
    assert stored_uses() == {}
    await counter.aclose()
    assert stored_uses() == {A: (1, 7.0)}
    counter.count(use(B), 8.0)
    await counter.aclose()
    assert stored_uses() == {A: (1, 7.0)}


async def test_more_than_a_batch_is_handed_on_whole(new_counter, stored_uses):
    counter = new_counter(every=3600)
    for number in range(2500):
        counter.count(use(f"{number:064x}"), float(number))
    await counter.aclose()
    assert stored_uses() == {f"{n:064x}": (1, float(n)) for n in range(2500)}


async def test_usage_over_the_limit_is_dropped_and_reported(new_counter, stored_uses):
    counter = new_counter(every=3600, most_tokens=2)
    for digest in (A, B, "c" * 64, "d" * 64, A):
        counter.count(use(digest), 1.0)
    assert counter.dropped == 2
    await counter.aclose()
    assert stored_uses() == {A: (2, 1.0), B: (1, 1.0)}


async def test_usage_unsent_counts_survive_an_outage(source, new_counter, stored_uses, caplog):
    source.must_be_ours()
    counter = new_counter()
    source.kill()
    for at in (1.0, 2.0, 3.0):
        missed = counter.unavailable
        counter.count(use(), at)
        await until(lambda missed=missed: counter.unavailable > missed + 1, "it tries again")
    source.start()
    await until(lambda: stored_uses() == {A: (3, 3.0)}, "it is handed on")
    assert counter.lost == 0
    assert len(caplog.records) == 1, "once a minute is enough"
    assert "_unavailable detail=" in caplog.text
    assert A not in caplog.text


@REDIS_ONLY
async def test_usage_batch_without_a_reply_is_given_up(server, connected, new_counter, stored_uses):
    counter = new_counter(connected(timeout=0.2), every=0.05)
    counter.count(use(B), 1.0)
    await until(stored_uses, "it is connected")
    with server.client() as client:
        client.client_pause(60_000, all=False)  # it still answers a PING
        try:
            counter.count(use(A), 2.0)
            counter.count(use(A), 3.0)
            await until(lambda: counter.lost == 2, "it is given up")
        finally:
            client.client_unpause()
    counter.count(use(A), 4.0)
    await until(lambda: stored_uses().get(A, (0, 0))[1] == 4.0, "it goes on")
    await counter.aclose()
    assert stored_uses()[A][0] in {1, 3}, "the batch whole, or not at all"


class Lossy:
    """Between a client and what is shared; it can lose the answer to a batch, and the connection with it."""

    def __init__(self, url, marks):
        self._parts = urlsplit(url)
        self._marks = marks
        self.answers_to_lose = 0

    async def handle(self, reader, writer):
        up_reader, up_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        asked = asyncio.Event()

        async def answers():
            while answer := await up_reader.read(65536):
                if asked.is_set() and self.answers_to_lose:
                    self.answers_to_lose -= 1
                    return
                asked.clear()
                writer.write(answer)

        async def queries():
            while query := await reader.read(65536):
                if self._marks in query:
                    asked.set()
                up_writer.write(query)

        both = {asyncio.ensure_future(answers()), asyncio.ensure_future(queries())}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for end in (up_writer, writer):
                end.close()
                await asyncio.gather(end.wait_closed(), return_exceptions=True)

    @asynccontextmanager
    async def listening(self):
        tasks = set()

        def accept(reader, writer):
            tasks.add(asyncio.ensure_future(self.handle(reader, writer)))

        listener = await asyncio.start_server(accept, "127.0.0.1", 0)
        try:
            port = listener.sockets[0].getsockname()[1]
            yield self._parts._replace(netloc=f"127.0.0.1:{port}").geturl()
        finally:
            listener.close()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("lost", [1, 2])
async def test_batch_whose_answer_is_lost_is_counted_once(
    source, through, new_counter, stored_uses, lost
):
    lossy = Lossy(source.url, b"EVALSHA" if through == "redis" else USES.encode())
    async with AsyncExitStack() as exit_:
        url = await exit_.enter_async_context(lossy.listening())
        if through == "redis":
            url = await exit_.enter_async_context(connect(url, timeout=5))
        counter = new_counter(url)
        counter.count(use(B), 1.0)
        await until(stored_uses, "it is connected")
        await handed_on(counter)
        lossy.answers_to_lose = lost  # the client asks once more by itself
        counter.count(use(A), 2.0)
        await until(lambda: A in stored_uses() and not lossy.answers_to_lose, "the answer is lost")
        counter.count(use(B), 3.0)
        await until(lambda: stored_uses()[B] == (2, 3.0), "it goes on")
        await counter.aclose()
    assert stored_uses()[A] == (1, 2.0)
    assert counter.lost == lost - 1


async def test_usage_close_takes_two_seconds_at_most(source, new_counter):
    source.must_be_ours()
    counter = new_counter(every=3600)
    counter.count(use(), 1.0)
    source.freeze()
    began = time.monotonic()
    try:
        await counter.aclose()
    finally:
        source.thaw()
    assert time.monotonic() - began < 4


@REDIS_ONLY
async def test_usage_taken_is_removed(new_counter, stored_uses, connected, namespace):
    counter = new_counter()
    counter.count(use(A), 1.0)
    counter.count(use(B), 2.0)
    await until(lambda: len(stored_uses()) == 2, "both are there")
    redis = connected()
    assert await take_uses(redis, namespace=namespace) == {A: (1, 1.0), B: (1, 2.0)}
    assert await take_uses(redis, namespace=namespace) == {}
    assert stored_uses() == {}


@REDIS_ONLY
async def test_usage_taken_concurrently_is_taken_once(
    new_counter, stored_uses, connected, namespace
):
    counter = new_counter(every=3600)
    for number in range(1000):
        counter.count(use(f"{number:064x}"), 1.0)
    await counter.aclose()

    async def taker():
        redis, taken = connected(), []
        while uses := await take_uses(redis, namespace=namespace, most=7):
            assert len(uses) <= 7
            taken += uses
        return taken

    left, right = await asyncio.gather(taker(), taker())
    assert len(left) + len(right) == 1000
    assert {*left, *right} == {f"{n:064x}" for n in range(1000)}


@REDIS_ONLY
@pytest.mark.parametrize(
    "written",
    [
        ("not-a-digest", "1", "1.0"),
        (A, "many", "1.0"),
        (A, "0", "1.0"),
        (A, "-5", "1.0"),
        (A, str(2**60), "1.0"),
        (A, "1", "never"),
        (A, "1", "nan"),
        (A, "1", None),
        (b"\xff" * 64, "1", "1.0"),
    ],
)
async def test_usage_malformed_entries_are_discarded(
    server, connected, namespace, stored_uses, written
):
    name, count, last = written
    with server.client() as client:
        client.hset(key(namespace, "usage:count"), mapping={name: count, B: 3})
        client.hset(key(namespace, "usage:last"), B, "2.5")
        if last is not None:
            client.hset(key(namespace, "usage:last"), name, last)
    redis = connected()
    assert await take_uses(redis, namespace=namespace) == {B: (3, 2.5)}
    assert stored_uses() == {}


@REDIS_ONLY
async def test_usage_key_of_another_type_is_replaced_soon(
    server, connected, namespace, new_counter, stored_uses
):
    with server.client() as client:
        client.set(key(namespace, "usage:count"), "x")
    counter = new_counter()
    counter.count(use(), 1.0)
    await until(lambda: counter.lost == 1, "it is given up")
    assert await take_uses(connected(), namespace=namespace) == {}
    counter.count(use(), 2.0)
    await until(lambda: stored_uses() == {A: (1, 2.0)}, "it counts again")
