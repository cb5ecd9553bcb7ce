"""What OPA talks to: bundles with ETags and long polling, and its status reports."""

import asyncio
import io
import json
import socket

import aiohttp
import pytest
import uvicorn
from support.waiting import until

from bundles.fleet.credentials import InstanceCredentials
from bundles.fleet.tracker import FleetTracker
from bundles.publish.signing import CONTENT_TYPE, Bundle, etag_of
from bundles.publish.store import Published
from bundles.serve.bundle_app import bundle_app
from bundles.serve.etags import as_etag
from bundles.serve.served_bundles import ServedBundles
from bundles.serve.server_role import ActivePublisher, ServerRole
from lictor.sockets import Server
from registry import RegistryVersion

pytestmark = pytest.mark.anyio

INSTANCES = InstanceCredentials("s3cret-" * 10)
BEARER = INSTANCES.bearer("opa-1")
READER = "r3ader"
AUTHORIZATION = {"Authorization": f"Bearer {BEARER}"}
STATUS = {
    "labels": {"id": "made-up-by-opa", "instance": "opa-1", "version": "1.22.2"},
    "bundles": {"live": {"active_revision": "1:5"}},
}


def bundle(content, name="live"):
    return Bundle(name, "1:1", etag_of(content), content)


def tag(content):
    return as_etag(bundle(content)).text


class StubPublisher:
    """A stub of the publisher, for the bundle server."""

    version = RegistryVersion(1, 7)
    heartbeat = type("Heartbeat", (), {"synced_at": 7.0, "clock_moved": ""})
    problems: dict = {}  # noqa: RUF012
    held = ""
    failing = ""
    live = ()
    bases = type("BaseBundles", (), {"compacted": 0, "published": Published(1, {})})

    def __init__(self):
        self.served_bundles, self.fleet = ServedBundles(), FleetTracker(clock=lambda: 7.0)
        self.session = None

    def get(self, path="/bundles/live.tar.gz", **headers):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.get(path, headers={**AUTHORIZATION, **sent})

    def report(self, body):
        return self.session.post("/status", data=body, headers=AUTHORIZATION)


@pytest.fixture
async def served():
    """The application behind real HTTP, and a client that shows the bearer."""
    served = StubPublisher()
    role = ServerRole(served.served_bundles, None)
    role.publishing = ActivePublisher(served, type("Reconciler", (), {"latest": None, "held": ""}))
    served.role = role
    app = bundle_app(role, served.served_bundles, served.fleet, instances=INSTANCES, reader=READER)
    async with running(app) as url:
        served.url = url
        async with aiohttp.ClientSession(url) as served.session:
            yield served
        served.served_bundles.close()


class running:  # noqa: N801 - used as a function
    def __init__(self, app):
        self._app = app

    async def __aenter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        # asyncio does so only for a socket that names its protocol; without, each answer waits 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server = Server(
            uvicorn.Config(self._app, log_config=None, access_log=False, lifespan="off")
        )
        self._task = asyncio.ensure_future(self._server.serve(sockets=[self._socket]))
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def __aexit__(self, *_):
        self._server.should_exit = True
        await self._task
        self._socket.close()


async def test_request_without_the_bearer_gets_nothing(served):
    served.served_bundles.put(bundle(b"secret"))
    given = [
        None, "", "Bearer", "Bearer ", "Bearer wrong", f"bearer {BEARER}", f"Bearer {BEARER} x",
        f"Bearer {BEARER[:-1]}", f"Basic {BEARER}", BEARER, "Bearer s3cr\xe9t", f"Bearer x{BEARER}",
        f"Bearer .{BEARER}", f"Bearer {BEARER.partition('.')[0]}", f"Bearer {BEARER.partition('.')[0]}.",
        "Bearer " + InstanceCredentials("other-" * 10).bearer("opa-1"), f"Bearer {READER}x", "Bearer \xff.\xff",
    ]  # fmt: skip
    paths = ["/bundles", "/bundles/live.tar.gz", "/bundles/x", "/status", "/nothing", "/health/x"]
    for path in paths:
        for authorization in given:
            headers = {} if authorization is None else {"Authorization": authorization}
            for method in ("GET", "POST"):
                async with served.session.request(method, path, headers=headers) as answer:
                    assert answer.status == 401, (method, path, authorization)
                    assert await answer.json() == {"error": "unauthorized"}


async def test_health_needs_no_bearer(served):
    async with served.session.get("/health") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_index_names_the_bundles(served):
    served.served_bundles.put(bundle(b"b", "site"))
    served.served_bundles.put(bundle(b"a", "live"))
    async with served.get("/bundles") as answer:
        assert await answer.json() == {"bundles": ["live", "site"]}


async def test_bundle_response_has_its_etag_and_type(served):
    served.served_bundles.put(bundle(b"content"))
    async with served.get() as answer:
        assert answer.status == 200
        assert await answer.read() == b"content"
        assert answer.headers["ETag"] == tag(b"content")
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("form", ["{}", "W/{}", '"old", {}', '"old",W/{} , "x"'])
async def test_bundle_already_held_returns_no_content(served, form):
    served.served_bundles.put(bundle(b"content"))
    async with served.get(If_None_Match=form.format(tag(b"content"))) as answer:
        assert answer.status == 304
        assert await answer.read() == b""
        assert answer.headers["ETag"] == tag(b"content")
        assert answer.headers["Content-Type"] == CONTENT_TYPE


@pytest.mark.parametrize("etag", ['"other"', 'W/"other"', "", "unquoted", '"', "*x"])
async def test_bundle_of_another_etag_is_returned_at_once(served, etag):
    served.served_bundles.put(bundle(b"content"))
    async with served.get(If_None_Match=etag, Prefer="modes=snapshot;wait=60") as answer:
        assert (answer.status, await answer.read()) == (200, b"content")


@pytest.mark.parametrize(
    "path",
    ["/bundles/none.tar.gz", "/bundles/live", "/bundles/..%2Flive.tar.gz", "/bundles/a/live.tar.gz", "/bundles/.tar.gz"],
)  # fmt: skip
async def test_missing_bundle_is_not_found(served, path):
    served.served_bundles.put(bundle(b"content"))
    async with served.get(path, Prefer="wait=60") as answer:
        assert answer.status == 404


async def test_long_poll_returns_on_a_new_bundle(served):
    served.served_bundles.put(bundle(b"one"))

    async def poll():
        headers = {"If_None_Match": tag(b"one"), "Prefer": "modes=snapshot,delta;wait=60"}
        async with served.get(**headers) as answer:
            return answer.status, await answer.read(), answer.headers["Content-Type"]

    polls = [asyncio.ensure_future(poll()) for _ in range(20)]
    await until(lambda: "live" in served.served_bundles._replaced, "a long poll waits")
    served.served_bundles.put(bundle(b"x", "heartbeat"))
    assert not any(poll.done() for poll in polls)
    served.served_bundles.put(bundle(b"two"))
    async with asyncio.timeout(20):
        assert await asyncio.gather(*polls) == [(200, b"two", CONTENT_TYPE)] * 20


async def test_long_poll_without_news_ends_as_not_modified(served):
    served.served_bundles.put(bundle(b"one"))
    async with served.get(If_None_Match=tag(b"one"), Prefer="wait=1") as answer:
        assert answer.status == 304
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        assert answer.headers["ETag"] == tag(b"one")


async def test_unchanged_bundle_republished_sends_no_content(served):
    served.served_bundles.put(bundle(b"one"))
    poll = asyncio.ensure_future(served.get(If_None_Match=tag(b"one"), Prefer="wait=1")._coro)
    await until(lambda: "live" in served.served_bundles._replaced, "a long poll waits")
    served.served_bundles.put(bundle(b"one"))
    async with await poll as answer:
        assert answer.status == 304


class Elsewhere:
    """There are other servers."""

    alone = False


class Registry:
    """A stub of a registry: its version."""

    async def version(self):
        return RegistryVersion(1, 9)


@pytest.mark.parametrize(
    ("has", "answers"),
    [
        ("1:9", [(304, '"1:9.x"'), (304, '"1:9.x"'), (200, None)]),  # published elsewhere
        ("1:10", [(200, None)]),  # of another past of this registry
        ("1:7", [(200, None)]),
        ("2:1", [(200, None)]),
    ],
)
async def test_opa_with_a_newer_bundle_is_not_sent_an_older_one(served, has, answers):
    served.role.publishing, served.role.cluster = None, Elsewhere()
    served.role._registry = Registry()
    for revision, (status, etag) in zip(["1:7", "1:8", "1:9"], answers, strict=False):
        served.served_bundles.put(Bundle("live", revision, f'"{revision}"', revision.encode()))
        wait = "wait=1" if status == 304 else "wait=60"
        async with served.get(If_None_Match=f'"{has}.x"', Prefer=wait) as answer:
            assert answer.status == status
            assert etag in {None, answer.headers["ETag"]}


async def test_report_of_another_servers_revision_is_accepted(served):
    served.role.publishing, served.role.cluster = None, Elsewhere()
    served.role._registry = Registry()
    for revision, status in [("1:9", 204), ("1:10", 400)]:
        reported = {**STATUS, "bundles": {"live": {"active_revision": revision}}}
        async with served.report(json.dumps(reported)) as answer:
            assert answer.status == status


@pytest.mark.parametrize("prefer", ["wait=0", "wait=-1", "wait=x", "wait=", "nowait=60", ""])  # fmt: skip
async def test_malformed_wait_header_does_not_wait(served, prefer):
    served.served_bundles.put(bundle(b"one"))
    async with asyncio.timeout(20):
        async with served.get(If_None_Match=tag(b"one"), Prefer=prefer) as answer:
            assert answer.status == 304


async def test_cancelled_long_poll_leaves_others_waiting(served):
    served.served_bundles.put(bundle(b"one"))
    headers = {"If_None_Match": tag(b"one"), "Prefer": "wait=60"}
    polls = [asyncio.ensure_future(served.get(**headers)._coro) for _ in range(4)]
    await until(lambda: "live" in served.served_bundles._replaced, "a long poll waits")
    for poll in polls[:2]:
        poll.cancel()
    await asyncio.gather(*polls[:2], return_exceptions=True)
    served.served_bundles.put(bundle(b"two"))
    async with asyncio.timeout(20):
        for poll in polls[2:]:
            async with await poll as answer:
                assert await answer.read() == b"two"


async def test_report_is_taken(served):
    async with served.report(json.dumps(STATUS)) as answer:
        assert answer.status == 204
    (one,) = served.fleet.instances()
    assert (one.id, one.revisions) == ("opa-1", {"live": "1:5"})


@pytest.mark.parametrize(
    "body",
    [b"", b"garbage", b"null", b"[]", b"7", b'"text"', b"{}", b'{"labels": {}}', b"\xff\xfe", b"[" * 100_000, b'{"labels": {"instance": "opa-1"}, "bundles": 7}'],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
async def test_malformed_report_is_a_bad_request(served, body):
    async with served.report(body) as answer:
        assert answer.status == 400
    assert all(not one.revisions for one in served.fleet.instances())


@pytest.mark.parametrize(
    "odd", ["\ud800", "\x1b]0;owned\x07", "\x9b2J", "\u202e", "\r\n"], ids=ascii
)
async def test_odd_text_in_a_report_is_escaped(served, odd):
    status = {
        "labels": {"instance": "opa-1", "version": odd},
        "bundles": {
            odd: {"active_revision": odd, "message": odd},
            "live": {"active_revision": "1:5"},
        },
    }
    async with served.report(json.dumps(status)) as answer:
        assert answer.status == 204
    (one,) = served.fleet.instances()
    texts = [
        one.version,
        *one.revisions,
        *one.revisions.values(),
        *one.errors,
        *one.errors.values(),
    ]
    assert all(text.isprintable() and text.encode() for text in texts)
    assert one.revisions["live"] == "1:5"


async def test_report_past_a_mebibyte_is_refused(served):
    large = {**STATUS, "padding": "x" * (1 << 20)}
    async with served.report(io.BytesIO(json.dumps(large).encode())) as answer:
        assert answer.status == 413
    assert served.fleet.instances() == []


async def test_opa_killed_while_reporting_leaves_no_trace(served, caplog):
    port = int(served.url.rpartition(":")[2])
    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {BEARER}\r\nContent-Length: 99\r\n\r\n{{"
    writer.write(head.encode())
    await writer.drain()
    async with served.report(json.dumps(STATUS)) as answer:
        assert answer.status == 204
    writer.close()
    await writer.wait_closed()
    async with served.get("/bundles") as answer:
        assert answer.status == 200
    assert len(served.fleet.instances()) == 1
    assert caplog.messages == []


async def test_other_methods_are_refused(served):
    for method in ("PUT", "DELETE", "PATCH"):
        for path in ("/bundles/live.tar.gz", "/status"):
            async with served.session.request(method, path, headers=AUTHORIZATION) as answer:
                assert answer.status == 405


# Who says what.


async def test_reader_bearer_acknowledges_nothing(served):
    served.served_bundles.put(bundle(b"content"))
    headers = {"Authorization": f"Bearer {READER}", "If-None-Match": tag(b"content")}
    async with served.session.get("/bundles/live.tar.gz", headers=headers) as answer:
        assert answer.status == 304
    async with served.session.post("/status", json=STATUS, headers=headers) as answer:
        assert answer.status == 403
    assert served.fleet.instances() == []


async def test_request_with_a_bundles_etag_acknowledges_it(served):
    served.served_bundles.put(bundle(b"one"))
    async with served.get() as answer:
        etag = answer.headers["ETag"]
    assert served.fleet.instances() == []
    async with served.get(If_None_Match=etag):
        pass
    (one,) = served.fleet.instances()
    assert (one.id, one.revisions, one.live) == ("opa-1", {"live": "1:1"}, RegistryVersion(1, 1))
    async with served.get("/metrics") as answer:
        text = await answer.text()
    assert 'lictor_publish_to_active_seconds_count{bundle="live"} 1.0' in text


async def test_heartbeat_request_makes_an_instance_known(served):
    served.served_bundles.put(bundle(b"one", name="heartbeat"))
    headers = {"Authorization": f"Bearer {READER}"}
    async with served.session.get("/bundles/heartbeat.tar.gz", headers=headers):
        assert served.fleet.instances() == []
    async with served.get("/bundles/heartbeat.tar.gz") as answer:
        assert answer.status == 200
        (one,) = served.fleet.instances()
    assert (one.id, one.revisions, one.live) == ("opa-1", {}, RegistryVersion(-1, -1))


@pytest.mark.parametrize("etag", ['"never-served"', "", '"', "*"])
async def test_unknown_etag_acknowledges_nothing(served, etag):
    served.served_bundles.put(bundle(b"one"))
    async with served.get(If_None_Match=etag):
        pass
    assert all(not one.revisions for one in served.fleet.instances())


async def test_report_for_another_instance_is_refused_and_noted(served):
    forged = {**STATUS, "labels": {"instance": "opa-2"}}
    async with served.report(json.dumps(forged)) as answer:
        assert answer.status == 400
    (one,) = served.fleet.instances()
    assert (one.id, one.revisions) == ("opa-1", {})
    assert "another instance" in one.refused


async def test_revision_that_was_never_published_is_not_believed(served):
    for revision in ("1:8", "2:1"):
        ahead = {**STATUS, "bundles": {"live": {"active_revision": revision}}}
        async with served.report(json.dumps(ahead)) as answer:
            assert answer.status == 400
        (one,) = served.fleet.instances()
        assert one.revisions == {}
        assert one.refused == "it reports a live that was never published"
    async with served.report(json.dumps(STATUS)) as answer:
        assert answer.status == 204
    assert served.fleet.instances()[0].refused == ""
