"""The newest revision from `lictor serve`: watched by long poll, and disbelieved wherever something is odd."""

import asyncio
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from support.tcp_relay import TCPRelay
from support.waiting import until

from lictor.server import serving
from lictor.sockets import Server, tcp
from lictor_common.signed_exchange import NEWEST, PING, SignedExchange
from pdp_client.exceptions import ConfigurationError
from pdp_client.freshness.revision import RevisionAuthenticator, read_revision_key
from pdp_client.shared import Shared
from pdp_client.shared.exceptions import SharedStateUnavailableError
from pdp_client.shared.http_client import ServeClient
from pdp_client.shared.http_revision import HTTPNewest
from registry.operations import Operator

pytestmark = pytest.mark.anyio

OTHER_KEY = bytes(range(32))
HONEST = "/honest"


@pytest.fixture
async def serve(settings):
    """`lictor serve` behind a relay; `write` is a committed write that nothing has published."""
    async with serving(settings) as running:
        relay = TCPRelay(running.url).start()
        operator = Operator(running.registry, actor="tests")
        numbers = iter(range(10_000))

        async def write():
            return (await operator.add_user(f"u{next(numbers)}")).version

        relay.running, relay.write = running, write
        yield relay
        relay.kill()


@pytest.fixture
async def make_newest(serve, settings):
    """Another instance's source; its polls and leases are short, unless a test says otherwise."""
    key = read_revision_key(settings.newest_key)
    async with AsyncExitStack() as exit_:

        def make(url=None, *, key=key, namespace="lictor", timeout=5, clock=time.time, **changes):
            client = ServeClient(
                url or serve.url, key=key, namespace=namespace, timeout=timeout, clock=clock
            )
            exit_.push_async_callback(client.aclose)
            made = HTTPNewest(
                client, RevisionAuthenticator(key, namespace=namespace), clock=clock, **changes
            )
            exit_.push_async_callback(made.aclose)
            return made

        yield make


async def refused(newest):
    with pytest.raises(SharedStateUnavailableError) as raised:
        await newest.read()
    return str(raised.value)


# What is read


async def test_read_holds_every_write_that_has_returned(serve, make_newest):
    newest = make_newest()
    for _ in range(20):
        others = [asyncio.ensure_future(newest.read()) for _ in range(3)]
        version = await serve.write()
        found = await newest.read()
        assert found.version >= version, "although nothing has published it"
        await asyncio.gather(*others)
    assert found.policy
    assert found.site


async def test_reads_of_all_instances_share_reads_of_the_registry(serve, make_newest, monkeypatch):
    registry = serve.running.registry
    read, reads = registry.version, []

    async def version():
        reads.append(1)
        return await read()

    monkeypatch.setattr(registry, "version", version)
    sources = [make_newest() for _ in range(10)]
    await asyncio.gather(*(one.read() for one in sources))
    await serve.write()
    reads.clear()
    await asyncio.gather(*(one.read() for one in sources for _ in range(20)))
    assert len(reads) < 20


async def test_registry_that_cannot_be_read_gives_no_revision(serve, make_newest, monkeypatch):
    from registry.exceptions import RegistryUnavailableError

    registry = serve.running.registry
    newest = make_newest()
    await newest.read()
    read, fail = registry.version, asyncio.Event()

    async def version():
        await asyncio.sleep(0.01)
        if fail.is_set():
            raise RegistryUnavailableError("away")
        return await read()

    monkeypatch.setattr(registry, "version", version)
    fail.set()
    # Also for those that wait for a read which fails.
    found = await asyncio.gather(
        *(make_newest().read() for _ in range(6)), newest.read(), return_exceptions=True
    )
    assert {type(one).__name__ for one in found} == {"ServeUnreachableError"}
    fail.clear()
    assert (await newest.read()).version == await read()


# What is watched


async def test_watched_revision_is_known_as_soon_as_it_is_published(serve, make_newest):
    newest = make_newest()
    assert newest.cached() is None
    newest.start_watching()
    await until(newest.cached, "it is known")
    for _ in range(5):
        version = await serve.write()
        await serve.running.publisher.sync()
        began = time.monotonic()
        await until(lambda v=version: newest.cached().version >= v, "the next is known")
        assert time.monotonic() - began < 2, "much sooner than a poll's end"


async def test_watching_sends_few_requests(serve, make_newest, monkeypatch):
    newest = make_newest()
    sent, post = [], newest._client.post_raw

    async def post_raw(*args, **kwargs):
        sent.append(args)
        return await post(*args, **kwargs)

    monkeypatch.setattr(newest._client, "post_raw", post_raw)
    newest.start_watching()
    await until(newest.cached, "it is known")
    await until(lambda: len(sent) == 2, "it polls")
    served = serve.running.role._served_bundles
    etag = served.get("heartbeat").etag
    await until(lambda: served.get("heartbeat").etag != etag, "there is a heartbeat")
    assert len(sent) <= 4, "a heartbeat is not news"
    assert newest.cached()


async def test_revision_is_unknown_while_the_server_hangs(serve, make_newest):
    newest = make_newest(timeout=0.2, wait=0.2, lease=0.6)
    newest.start_watching()
    await until(newest.cached, "it is known")
    serve.freeze()
    began = time.monotonic()
    await until(lambda: newest.cached() is None, "nothing is known")
    assert time.monotonic() - began < 2
    serve.thaw()
    await until(newest.cached, "it is known again")


async def test_lease_counts_from_the_request_not_from_its_response(make_newest, monkeypatch):
    newest = make_newest(wait=1, lease=0.3)
    sent, post = [], newest._client.post_raw

    async def post_raw(*args, **kwargs):
        sent.append(args)
        return await post(*args, **kwargs)

    monkeypatch.setattr(newest._client, "post_raw", post_raw)
    newest.start_watching()
    await until(newest.cached, "the first response comes at once")
    await until(lambda: newest.cached() is None, "the lease ends during the second poll")
    known = []

    def third_poll():
        known.append(newest.cached())
        return len(sent) >= 3

    await until(third_poll, "the second poll is answered")
    known.append(newest.cached())
    assert not any(known), "what a poll of a second brings was true when it was sent"
    assert newest.unavailable == 0


async def test_revision_is_unknown_at_once_when_the_server_is_gone(serve, make_newest):
    newest = make_newest()
    newest.start_watching()
    await until(newest.cached, "it is known")
    serve.kill()
    began = time.monotonic()
    await until(lambda: newest.cached() is None, "nothing is known")
    assert time.monotonic() - began < 5, "sooner than its lease ends"
    serve.start()
    await until(newest.cached, "it is known again")


async def test_proxy_that_cuts_long_responses_is_not_an_outage(serve, make_newest):
    serve.cut_after = 0.2
    newest = make_newest()
    newest.start_watching()
    await until(newest.cached, "it is known")
    gaps = []

    def cut_often():
        gaps.append(newest.cached() is None)
        return serve.cuts >= 4

    await until(cut_often, "the proxy cuts polls")
    assert not any(gaps)
    version = await serve.write()
    await serve.running.publisher.sync()
    await until(lambda: newest.cached().version >= version, "news come through")
    assert newest.unavailable == 0


async def test_process_that_stood_still_knows_nothing(make_newest):
    now = time.time()
    newest = make_newest(clock=lambda: now)
    newest.start_watching()
    await until(newest.cached, "it is known")
    now += 31  # no clock of the process has noticed
    assert newest.cached() is None


async def test_restarted_server_is_believed_again(settings):
    settings = settings.model_copy(update={"bundles_url": "http://127.0.0.1:0"})
    async with serving(settings) as running:
        url = running.url
        shared = Shared(url, key_file=settings.newest_key, timeout=5)
        shared.newest.start_watching()
        first = await until(shared.newest.cached, "it is known")
    await until(lambda: shared.newest.cached() is None, "nothing is known")
    async with serving(settings.model_copy(update={"bundles_url": url})) as running:
        written = await Operator(running.registry, actor="tests").add_user("ada")
        await running.publisher.sync()
        await until(
            lambda: (one := shared.newest.cached()) and one.version >= written.version,
            "it is known again",
        )
        assert written.version > first.version
        await shared.aclose()


# Lies


class Liar:
    """Between a client and `lictor serve`; `lie` makes the response out of the true one."""

    def __init__(self, url):
        self._url = url
        self.lie = None
        self.first = self.hold = None
        self.held = 0

    async def respond(self, request):
        async with aiohttp.ClientSession(self._url) as session:
            body = await request.body()
            path = request.url.path.replace(HONEST, NEWEST)
            async with session.post(path, data=body) as response:
                true = await response.read()
        self.first = self.first or true
        if self.hold is not None and b'"wait":0.0' in body:
            self.held += 1
            await self.hold.wait()
        honest = self.lie is None or request.url.path == HONEST
        return Response(true) if honest else self.lie(true)

    @asynccontextmanager
    async def running(self):
        import uvicorn

        app = Starlette(routes=[Route(p, self.respond, methods=["POST"]) for p in (NEWEST, HONEST)])
        server = Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        with tcp("http://127.0.0.1:0") as listener:
            task = asyncio.ensure_future(server.serve(sockets=[listener]))
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                await task


@pytest.fixture
async def liar(serve):
    made = Liar(serve.url)
    async with made.running() as made.url:
        yield made


def signed_by(key, namespace="lictor", **changes):
    """A lie: the true revision, otherwise signed."""

    def lie(true):
        from dataclasses import replace

        real = RevisionAuthenticator(lie.key, namespace="lictor").verify(true)
        signer = RevisionAuthenticator(key or lie.key, namespace=namespace)
        return Response(signer.sign(replace(real, **changes)))

    return lie


LIES = {
    "garbage": lambda true: Response(b"garbage"),
    "nothing": lambda true: Response(b""),
    "a bit": lambda true: Response(true.replace(b'"epoch":1', b'"epoch":2')),
    "other key": signed_by(OTHER_KEY),
    "other namespace": signed_by(None, namespace="elsewhere"),
    "lower": signed_by(None, revision=0),
    "lower epoch": signed_by(None, epoch=0, revision=10**6),
    "for another request": signed_by(None, run="0" * 32),
    "old": signed_by(None, at=time.time() - 31),
    "in future": signed_by(None, at=time.time() + 3600),
    "huge": lambda true: Response(b"x" * (1 << 20)),
    "redirect": lambda true: Response(status_code=307, headers={"Location": HONEST}),
    "error": lambda true: Response(true, status_code=500),
    "compressed": lambda true: Response(true, headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("lie", LIES)
async def test_server_that_lies_is_not_believed(make_newest, liar, settings, lie):
    told = LIES[lie]
    told.key = read_revision_key(settings.newest_key)
    reading, watching = make_newest(liar.url), make_newest(liar.url, wait=0.05, lease=1)
    await reading.read()
    watching.start_watching()
    known = await until(watching.cached, "it is known")
    liar.lie = told
    if lie == "compressed":
        # The bytes are the true ones, and are not decompressed: nothing is made of the header.
        assert (await reading.read()).version == known.version
        return
    said = await refused(reading)
    assert ("64 KiB" in said) == (lie == "huge"), said
    await until(lambda: watching.cached() is None, "nothing is known")
    assert watching._newest.version == known.version, "and nothing is forgotten"
    liar.lie = None
    assert (await reading.read()).version == known.version
    await until(watching.cached, "it is known again")


async def test_replayed_response_is_not_believed_by_a_new_process(serve, make_newest, liar):
    await make_newest(liar.url).read()
    await serve.write()
    liar.lie = lambda _: Response(liar.first)
    assert await refused(make_newest(liar.url)) == "latest revision responds to another request"


async def test_response_that_another_has_overtaken_is_no_lie(serve, make_newest, liar):
    newest = make_newest(liar.url)
    newest.start_watching()
    first = await until(newest.cached, "it is known")
    # The response to a read stays on its way while a poll brings a later revision.
    liar.hold = asyncio.Event()
    reading = asyncio.ensure_future(newest.read())
    await until(lambda: liar.held, "a response is on its way")
    await serve.write()
    await serve.running.publisher.sync()
    await until(lambda: newest.cached().version > first.version, "a poll brings it")
    liar.hold.set()
    assert (await reading).version > first.version
    assert newest.unavailable == 0


# Who may ask


async def test_requests_without_the_key_are_refused(serve, settings):
    exchange = SignedExchange(read_revision_key(settings.newest_key), namespace="lictor")
    now = time.time()
    content = {"instance": "i", "known": None, "wait": 0, "lease": 0}
    _, good = exchange.request(NEWEST, content, at=now)
    _, other = SignedExchange(OTHER_KEY, namespace="lictor").request(NEWEST, content, at=now)
    _, early = exchange.request(NEWEST, content, at=now + 60)
    _, late = exchange.request(NEWEST, content, at=now - 60)
    _, ping = exchange.request(PING, content, at=now)
    _, odd = exchange.request(NEWEST, {"instance": "i\n"}, at=now)
    _, greedy = exchange.request(NEWEST, {**content, "lease": 3600}, at=now)
    expected = {
        good: 200, other: 401, b"": 401, good[:-1]: 401, ping: 401, early: 403, late: 403,
        b"x" * (300 << 10): 413, odd: 400, greedy: 400,
    }  # fmt: skip
    async with aiohttp.ClientSession(serve.url) as session:
        for body, status in expected.items():
            async with session.post(NEWEST, data=body) as response:
                assert response.status == status, body[:80]
        async with session.get("/bundles/live.tar.gz") as response:
            assert response.status == 401, "the rest wants a bearer as ever"


async def test_instance_with_another_key_says_what_to_do(make_newest):
    assert "newest.key" in await refused(make_newest(key=OTHER_KEY))


async def test_instance_whose_clock_differs_says_so(make_newest):
    assert "clock" in await refused(make_newest(clock=lambda: time.time() + 60))


async def test_one_of_several_servers_names_redis(serve, make_newest, monkeypatch):
    newest = make_newest()
    newest.start_watching()
    await until(newest.cached, "it is known")
    several = type("Cluster", (), {"alone": False})()
    monkeypatch.setattr(serve.running.role, "cluster", several)
    assert "LICTOR_REDIS_URL" in await refused(newest)
    monkeypatch.undo()


@pytest.mark.parametrize(
    "url",
    ["http://", "http://u:hunter2@h", "https://h/?x", "http://h/#f", "http://h:0", "http://h/p"],
)
def test_invalid_url_is_refused_without_its_password(settings, url):
    key = settings.newest_key
    with pytest.raises(ConfigurationError) as raised:
        Shared(url, key_file=key)
    assert "hunter2" not in str(raised.value)


async def test_unreachable_server_is_unavailable_in_time(settings, make_newest):
    async with aclosing(Shared("http://127.0.0.1:1", key_file=settings.newest_key)) as shared:
        assert await refused(shared.newest) == "ClientConnectorError"
