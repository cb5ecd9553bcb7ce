"""What servers send each other, over a Redis that others can write and that comes and goes."""

import asyncio
import hashlib
import json

import pytest
from support.waiting import until

from bundles.cluster import message_bus as module
from bundles.cluster.messages import Announcement, BusAuthenticator, Report, bus_key
from bundles.exceptions import LeaseLostError, RedisUnavailableError

pytestmark = pytest.mark.anyio


class Listening:
    """A process that listens, and what it has heard."""

    def __init__(self, bus):
        self.bus = bus
        self.wakes = 0
        self.announced, self.reports, self.ages = [], [], []
        self.running = asyncio.ensure_future(
            bus.run(woken=self._wake, announced=self.announced.append, reported=self._report)
        )

    def _wake(self):
        self.wakes += 1

    def _report(self, report, age):
        self.reports.append(report)
        self.ages.append(age)

    async def stop(self):
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@pytest.fixture
async def listening(new_bus):
    """Start a process that listens, and stop it with the test."""
    started = []

    def start(bus=None):
        started.append(Listening(bus or new_bus()))
        return started[-1]

    yield start
    for one in started:
        await one.stop()


def report(id_="opa-1", at=1.0, revision="1:5"):
    return Report(id_, at, {"revisions": {"live": revision}, "errors": {}})


async def heard(listener, *reports):
    await until(lambda: all(one in listener.reports for one in reports), f"{reports} are heard")


async def test_bus_delivers_requests_publications_and_reports(new_bus, listening):
    here, there = listening(), listening()
    await asyncio.sleep(0)

    await new_bus().request_sync()
    await new_bus().announce(Announcement(1, 7, 1, 812))
    here.bus.enqueue(report())

    await until(lambda: there.wakes, "it is woken")
    await until(lambda: there.announced, "the announcement arrives")
    assert there.announced[-1] == Announcement(1, 7, 1, 812) == await new_bus().published()
    await heard(there, report())
    await heard(here, report())


async def test_bus_late_subscriber_receives_earlier_state(new_bus, listening):
    here = listening()
    for n in range(module._AT_ONCE + 5):
        here.bus.enqueue(report(f"opa-{n}"))
    await until(lambda: len(here.reports) == module._AT_ONCE + 5, "all are shared")

    late = listening()

    await until(lambda: len(late.reports) == module._AT_ONCE + 5, "all are heard")
    assert [one.id for one in late.reports] == [one.id for one in here.reports]


async def test_bus_unannounced_state_is_found_at_the_next_poll(new_bus, listening):
    here, there = listening(), listening()
    there.bus._hinted.set = lambda: None
    here.bus.enqueue(report())
    await new_bus().announce(Announcement(1, 1, 1, 1))
    await heard(there, report())
    await until(lambda: there.announced, "it is found")


async def test_bus_forged_report_is_ignored_and_counted(server, namespace, listening):
    here = listening()
    here.bus.enqueue(report(revision="1:5"))
    await heard(here, report(revision="1:5"))
    member = hashlib.sha256(b"opa-1").hexdigest()
    key = f"{{{namespace}}}:reports"
    forged = BusAuthenticator(b"x" * 32, namespace).sign(report(at=2.0, revision="1:9"))
    elsewhere = here.bus._authenticator
    others = BusAuthenticator(elsewhere._authenticator._key, "another").sign(
        report(at=2.0, revision="1:9")
    )
    kinds = elsewhere.sign(Announcement(1, 1, 1, 9))

    with server.client() as client:
        last = client.zscore(key, member)
        for n, value in enumerate([forged, others, kinds, b"", b"\xff garbage"], start=1):
            client.set(f"{key}:{member}", value)
            client.zadd(key, {member: last + n})
            await until(lambda n=n: here.bus.rejected == n, f"{value} is counted")
        client.set(f"{{{namespace}}}:published", forged)
    await until(lambda: here.bus.rejected == 6, "so is a forged publication")

    assert here.reports == [report(revision="1:5")]
    assert here.announced == []
    assert await here.bus.published() is None


async def test_bus_replayed_report_is_ignored(server, namespace, listening):
    here = listening()
    member = hashlib.sha256(b"opa-1").hexdigest()
    key = f"{{{namespace}}}:reports"
    here.bus.enqueue(report(at=1.0, revision="1:9"))
    await heard(here, report(at=1.0, revision="1:9"))
    with server.client() as client:
        old = client.get(f"{key}:{member}")
        here.bus.enqueue(report(at=2.0, revision="1:4"))
        await heard(here, report(at=2.0, revision="1:4"))
        client.set(f"{key}:{member}", old)
        client.zadd(key, {member: client.zscore(key, member) + 1})
    here.bus.enqueue(report("opa-2", at=3.0))
    await heard(here, report("opa-2", at=3.0))

    assert len(here.reports) == 3


async def test_announcement_under_a_lower_fence_is_refused(new_bus):
    await new_bus().announce(Announcement(2, 1, 1, 5))
    with pytest.raises(LeaseLostError):
        await new_bus().announce(Announcement(1, 9, 1, 4))
    assert (await new_bus().published()).fence == 2


async def test_bus_reconnects_to_redis_and_sends_what_was_queued(server, new_bus, listening):
    server.must_be_ours()
    here, there = listening(), listening()
    here.bus.enqueue(report())
    await heard(there, report())
    server.kill()
    await until(lambda: here.bus.error, "it says so")
    assert "127.0.0.1" not in here.bus.error
    with pytest.raises(RedisUnavailableError):
        await new_bus().request_sync()
    here.bus.enqueue(report(at=2.0))

    server.start()

    await heard(there, report(at=2.0))
    await new_bus().request_sync()
    await until(lambda: there.wakes and not there.bus.error, "it is woken again")


SEALED_ODD = [
    {"id": 7, "at": 1.0, "told": {}},
    {"id": "opa-9", "at": "soon", "told": {}},
    {"id": "opa-9", "at": 1.0, "told": []},
    {"id": "opa-9", "at": 1.0},
    {"id": "\ud800", "at": 1.0, "told": {}},
    {"id": "opa-9", "at": 1.0, "told": {}, "more": 1},
    [],
    "x",
    7,
]


async def test_odd_values_in_redis_stop_no_bus(server, new_bus, listening, bundle_keys, namespace):
    here = listening()
    keys = BusAuthenticator(bus_key(bundle_keys["data"]), namespace)
    sealed = [keys._authenticator.sign("Report", json.dumps(one).encode()) for one in SEALED_ODD]
    with server.client() as client:
        reports = here.bus._reports
        now = int(client.time()[0]) * 1_000_000
        for number, value in enumerate(
            [b"\xff\xfe", b"", "\ud800".encode(errors="surrogatepass"), *sealed]
        ):
            member = b"\xff\xfe\x00" if number == 0 else f"odd-{number}".encode()
            client.set(here.bus._key_of(member.decode("latin-1")), value)
            client.zadd(reports, {member: now + number})
        client.set(here.bus._published, keys._authenticator.sign("Announcement", b'{"fence": "x"}'))
        client.set(here.bus._wakes, b"\xff\xfe")
    await until(lambda: here.bus.rejected >= len(SEALED_ODD), "all of them are counted")
    new_bus_ = listening()
    new_bus_.bus.enqueue(report())
    await heard(here, report())
    assert here.bus.error == ""


async def test_bus_enqueue_does_not_block_on_a_frozen_redis(server, new_bus, listening):
    server.must_be_ours()
    here, there = listening(), listening()
    here.bus.enqueue(report())
    await heard(there, report())
    server.freeze()
    here.bus.enqueue(report(at=2.0))  # does not wait
    await until(lambda: here.bus.error, "it says so")
    server.thaw()
    await heard(there, report(at=2.0))


async def test_reports_are_bounded_in_number_and_size(new_bus, listening, monkeypatch):
    monkeypatch.setattr(module, "MOST_REPORTS", 3)
    here = listening()
    for n in range(5):
        here.bus.enqueue(report(f"opa-{n}"))
    assert here.bus.dropped == 2
    here.bus._queue.pop("opa-0")
    here.bus.enqueue(Report("large", 1.0, {"x": "y" * module._LARGEST_REPORT}))
    await until(lambda: here.bus.dropped == 3, "it is dropped")
    for n in range(5):
        here.bus.enqueue(report(f"later-{n}"))
        await heard(here, report(f"later-{n}"))
    late = listening()
    await until(lambda: len(late.reports) == 3, "the newest are kept")
    assert [one.id for one in late.reports] == ["later-2", "later-3", "later-4"]


async def test_bus_cancelled_while_sending_stops(new_bus):
    # redis-py loses a cancellation that comes at the wrong moment, before Python 3.12.
    bus = new_bus()
    for n in range(50):

        async def talk():
            while True:
                await bus.send(report())

        talking = asyncio.ensure_future(talk())
        await asyncio.sleep(0.001 + n / 50_000)
        talking.cancel()
        await asyncio.wait([talking], timeout=5)
        assert talking.cancelled()
