"""Uses come into the registry, from Redis or from a file of decisions; some may be lost, none is doubled."""

import asyncio
import json
import sqlite3
import sys
from contextlib import aclosing, asynccontextmanager, closing

import pytest
from support.waiting import until

from lictor.decision_log import DecisionLogReader
from lictor.shared.store import SharedStateStore
from lictor.state_dir import require_newest_key
from lictor.usage import Usages
from lictor_common.redis import key
from pdp_client import Action, Credential, Decision, FileRecord, Reason
from pdp_client.bearer.opaque import digest
from pdp_client.decision import Context
from pdp_client.record import entry
from pdp_client.shared import Shared
from pdp_client.shared.connection import connect
from pdp_client.shared.usage import SharedUsage
from registry import Token, Usage, User, open_registry

pytestmark = pytest.mark.anyio

A, B = "a" * 64, "b" * 64
NOW = 1_795_000_000.0


def decided(used=A, reason=Reason.OK):
    return Decision(
        allow=reason is Reason.OK,
        reason=reason,
        reasons=(reason.value,),
        message="",
        credential=Credential(kind="token", digest=used),
    )


def line(decision, at):
    made = entry(decision, at=at, took_ms=1.0, action=Action(name="search"), context=Context())
    return json.dumps(made).encode() + b"\n"


def append(path, content):
    with path.open("ab") as file:
        file.write(content)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture
async def registry(url):
    async with aclosing(await open_registry(url)) as registry:
        async with registry.transaction(actor="tests", action="write") as tx:
            await tx.put(
                User(id="ada", name="Ada"),
                *(Token(digest=one, label="l", user="ada", tools=("*",)) for one in (A, B)),
            )
        yield registry


@pytest.fixture
def record(tmp_path):
    return tmp_path / "decisions.jsonl"


@pytest.fixture
def offset_file(tmp_path):
    return tmp_path / "recorded.json"


@pytest.fixture
def running(registry, record, offset_file):
    """`lictor serve`'s part that brings uses, while the context lasts."""

    @asynccontextmanager
    async def running(**changes):
        options = {
            "redis_url": "",
            "record": record,
            "place": offset_file,
            "every": 0.01,
            **changes,
        }
        usages = Usages(options.pop("registry", registry), clock=lambda: NOW, **options)
        task = asyncio.ensure_future(usages.run())
        try:
            yield usages
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return running


@pytest.fixture
def wait_for_usage(registry):
    """What the registry says in the end."""

    async def wait_for_usage(expected):
        async def is_so():
            return await registry.usage([A, B]) == expected

        try:
            await until(is_so, "the registry says so")
        except AssertionError:
            assert await registry.usage([A, B]) == expected

    return wait_for_usage


# From instances that share through this server


async def test_uses_sent_to_the_server_are_uses_in_the_registry(running, tmp_path, wait_for_usage):
    async with aclosing(SharedStateStore(tmp_path / "shared.db")) as store, running(store=store):
        await store.add_uses("b1", {A: (2, 5.0), B: (1, 1.0)})
        await wait_for_usage({A: Usage(2, 5.0), B: Usage(1, 1.0)})
        await store.add_uses("b2", {A: (1, NOW + 60)})
        await wait_for_usage({A: Usage(3, NOW), B: Usage(1, 1.0)})


async def test_record_is_left_alone_once_an_instance_counts(
    running, record, tmp_path, wait_for_usage
):
    async with aclosing(SharedStateStore(tmp_path / "shared.db")) as store:
        await store.add_uses("b1", {A: (1, 5.0)})
        append(record, line(decided(A), 5.0))  # the same use
        async with running(store=store):
            await wait_for_usage({A: Usage(1, 5.0)})
            await store.add_uses("b2", {B: (1, 7.0)})
            await wait_for_usage({A: Usage(1, 5.0), B: Usage(1, 7.0)})


async def test_damaged_shared_file_is_reported_once(running, record, tmp_path, caplog):
    damaged = tmp_path / "shared.db"
    damaged.write_bytes(b"no database" * 1000)
    async with aclosing(SharedStateStore(damaged)) as store, running(store=store):
        await until(lambda: "usage.unavailable" in caplog.text, "it is logged")
    assert len(caplog.records) == 1, "once"


# From a file of decisions


async def test_decisions_on_record_are_uses_in_the_registry(running, record, wait_for_usage):
    written = FileRecord(record)
    async with running():
        for at, decision in enumerate(
            [
                decided(A),
                decided(B, Reason.TOOL_NOT_ALLOWED),
                decided(A, Reason.TOKEN_DEACTIVATED),
                decided(A, Reason.LOCKDOWN),
                Decision.refused(Reason.MISSING_TOKEN),
                decided(A),
            ]
        ):
            written.write(
                entry(decision, at=at, took_ms=1.0, action=Action(name="x"), context=Context())
            )
        await wait_for_usage({A: Usage(2, 5.0), B: Usage(1, 1.0)})
        written.write(
            entry(decided(B), at=9, took_ms=1.0, action=Action(name="x"), context=Context())
        )
        await wait_for_usage({A: Usage(2, 5.0), B: Usage(2, 9.0)})
    written.close()


async def test_usage_resumes_after_a_restart(running, record, wait_for_usage):
    record.write_bytes(line(decided(), 1.0))
    async with running():
        await wait_for_usage({A: Usage(1, 1.0)})
    append(record, line(decided(), 2.0))
    async with running():
        await wait_for_usage({A: Usage(2, 2.0)})
        append(record, line(decided(B), 3.0))
        await wait_for_usage({A: Usage(2, 2.0), B: Usage(1, 3.0)})


async def test_usage_of_a_rotated_file_moves_to_the_new_one(running, record, wait_for_usage):
    async with running():
        record.write_bytes(line(decided(), 1.0) * 3)
        await wait_for_usage({A: Usage(3, 1.0)})
        record.rename(record.with_suffix(".1"))
        record.write_bytes(line(decided(B), 2.0) * 9)
        await wait_for_usage({A: Usage(3, 1.0), B: Usage(9, 2.0)})


async def test_usage_of_a_truncated_file_restarts_at_its_beginning(running, record, wait_for_usage):
    async with running():
        record.write_bytes(line(decided(), 1.0) * 3)
        await wait_for_usage({A: Usage(3, 1.0)})
        with record.open("r+b") as file:
            file.truncate()
            file.write(line(decided(B), 2.0))
        await wait_for_usage({A: Usage(3, 1.0), B: Usage(1, 2.0)})


async def test_half_a_line_waits_for_the_other_half(running, record, wait_for_usage):
    whole = line(decided(), 1.0)
    async with running():
        record.write_bytes(line(decided(B), 1.0) + whole[:40])
        await wait_for_usage({B: Usage(1, 1.0)})
        append(record, whole[40:])
        await wait_for_usage({A: Usage(1, 1.0), B: Usage(1, 1.0)})


@pytest.mark.parametrize(
    "odd",
    [
        b"{torn\n",
        b"\xff\xfe\n\n\n",
        b"[]\nnull\n7\n",
        b"[" * 100_000 + b"\n",
        line(decided(), 1.0).replace(A.encode(), b"lct_a-bearer-in-the-wrong-place"),
        line(decided(), 1.0).replace(b'"at": 1.0', b'"at": "soon"'),
        line(decided(), 1.0).replace(b'"at": 1.0', b'"at": -1'),
        line(decided(), 1.0).replace(b'"at": 1.0', b'"at": NaN'),
        line(decided(), 1.0).replace(b'"reason": "ok"', b'"reason": ["ok"]'),
        line(decided(), 1.0).replace(b'"ok"', b'"of-a-later-version"'),
    ],
)
async def test_usage_foreign_line_is_skipped(running, record, wait_for_usage, odd):
    record.write_bytes(odd + line(decided(B), 2.0))
    async with running():
        await wait_for_usage({B: Usage(1, 2.0)})


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{", b"[]", b"7", b'{"file": [1, 2]}', b'{"file": [1, 2], "offset": "x"}', b"\xff"],
)
def test_usage_without_an_offset_counts_nothing_earlier(record, offset_file, garbage):
    record.write_bytes(line(decided(A), 1.0))
    offset_file.write_bytes(garbage)
    recorded = DecisionLogReader(record, place=offset_file)
    assert recorded.take_uses() == {}
    append(record, line(decided(B), 2.0))
    assert recorded.take_uses() == {B: (1, 2.0)}
    assert DecisionLogReader(record, place=offset_file).take_uses() == {}


def test_usage_longer_than_a_chunk_is_read_whole(record, offset_file):
    lines = [line(decided(), float(n)) for n in range(100)]
    giant = b'{"x": "' + b"y" * 5000 + b'"}\n'
    none = line(Decision.refused(Reason.MISSING_TOKEN), 1.0)
    record.write_bytes(b"".join([*lines[:50], giant, none * 20, *lines[50:]]))
    recorded, count, last = DecisionLogReader(record, place=offset_file, piece=1000), 0, 0.0
    while uses := recorded.take_uses():
        count, last = count + uses[A][0], max(last, uses[A][1])
    assert (count, last) == (100, 99.0)


def test_usage_is_not_counted_when_the_offset_cannot_be_stored(record, tmp_path):
    record.write_bytes(line(decided(), 1.0))
    recorded = DecisionLogReader(record, place=tmp_path / "folder" / "place.json")
    with pytest.raises(FileNotFoundError):
        recorded.take_uses()
    (tmp_path / "folder").mkdir()
    assert recorded.take_uses() == {A: (1, 1.0)}


async def test_usage_unreadable_file_is_reported_once_and_read_later(
    running, record, wait_for_usage, caplog
):
    record.mkdir()
    async with running() as usages:
        await until(lambda: usages._failing, "the problem is noticed")
        await until(lambda: caplog.records, "the problem is logged")
        record.rmdir()
        record.write_bytes(line(decided(), 1.0))
        await wait_for_usage({A: Usage(1, 1.0)})
    assert [r.getMessage() for r in caplog.records if "record_unreadable" in r.getMessage()] == [
        caplog.records[0].getMessage()
    ]


# From Redis


@pytest.fixture
async def redis(redis_process):
    client = connect(redis_process.url, timeout=5)
    yield client
    await client.aclose()


@pytest.fixture
def server(redis_process):
    return redis_process


@pytest.fixture
async def new_counter(redis):
    """An instance that counts, and hands on when it is closed."""
    await redis.delete(key("lictor", "usage:count"), key("lictor", "usage:last"))
    return lambda: SharedUsage(redis, every=3600)


async def counted(new_counter, *uses):
    counter = new_counter()
    for used, at in uses:
        counter.count(decided(used), at)
    await counter.aclose()


async def test_usage_of_instances_reaches_the_registry(
    running, server, new_counter, wait_for_usage
):
    async with running(redis_url=server.url):
        await counted(new_counter, (A, 1.0), (A, 3.0), (B, 2.0))
        await counted(new_counter, (A, 2.0))
        await wait_for_usage({A: Usage(3, 3.0), B: Usage(1, 2.0)})


async def test_usage_file_is_left_alone_where_redis_is_set(
    running, server, new_counter, record, wait_for_usage
):
    record.write_bytes(line(decided(), 1.0))
    async with running(redis_url=server.url):
        await counted(new_counter, (A, 1.0))
        await wait_for_usage({A: Usage(1, 1.0)})
    assert not record.with_name("recorded.json").exists()


async def test_usage_clock_ahead_does_not_set_the_last_use(
    running, server, new_counter, wait_for_usage
):
    async with running(redis_url=server.url):
        await counted(new_counter, (A, NOW + 1e9))
        await wait_for_usage({A: Usage(1, NOW)})


async def test_several_servers_take_each_use_once(
    running, url, server, new_counter, wait_for_usage
):
    uses = [(one, float(n)) for n in range(100) for one in (A, B)]
    async with (
        aclosing(await open_registry(url)) as other,
        running(redis_url=server.url),
        running(redis_url=server.url, registry=other),
    ):
        for start in range(0, 200, 20):
            await counted(new_counter, *uses[start : start + 20])
        await wait_for_usage({A: Usage(100, 99.0), B: Usage(100, 99.0)})


async def test_usage_stays_in_redis_while_the_registry_is_away(running, server, new_counter, redis):
    async with aclosing(await open_registry("bolt://127.0.0.1:1")) as away:
        async with running(redis_url=server.url, registry=away) as usages:
            await counted(new_counter, (A, 1.0))
            await until(lambda: usages._failing == "unavailable", "it has tried")
        assert usages.lost == 0
    assert await redis.hgetall(key("lictor", "usage:count")) == {A.encode(): b"1"}


async def test_redis_killed_loses_counts_and_no_more(
    running, server, redis, wait_for_usage, caplog
):
    server.must_be_ours()
    async with running(redis_url=server.url, every=0.05) as usages:
        counter = SharedUsage(redis, every=0.05)
        counter.count(decided(A), 1.0)
        await wait_for_usage({A: Usage(1, 1.0)})
        server.kill()
        counter.count(decided(A), 2.0)
        await until(lambda: usages._failing and counter.unavailable, "it is away")
        server.start()
        await wait_for_usage({A: Usage(2, 2.0)})
        await counter.aclose()
        await until(lambda: usages.lost == 0, "the registry has acknowledged the uses")
    assert caplog.text.count("usage.unavailable code=redis_unavailable") == 2, "one each"


BRINGS = """
import asyncio, sys
from pathlib import Path
from lictor.usage import Usages
from registry import open_registry

async def main(url, redis_url, record, offset_file):
    registry = await open_registry(url)
    await Usages(
        registry, redis_url=redis_url, record=Path(record), place=Path(offset_file), every=0.01
    ).run()

asyncio.run(main(*sys.argv[1:]))
"""


class InRedis:
    def __init__(self, request):
        self.redis_url = request.getfixturevalue("server").url
        self._redis = request.getfixturevalue("redis")
        self._new_counter = request.getfixturevalue("new_counter")

    async def put(self, used, at):
        await counted(self._new_counter, (used, at))

    async def taken(self):
        return not await self._redis.exists(key("lictor", "usage:count"))


class InFile:
    redis_url = ""

    def __init__(self, request):
        self._record = request.getfixturevalue("record")
        self._place = request.getfixturevalue("offset_file")

    async def put(self, used, at):
        append(self._record, line(decided(used), at))

    async def taken(self):
        return self._place.exists()


@pytest.fixture(params=[InRedis, InFile])
def source(request):
    return request.param(request)


async def test_usage_is_not_counted_twice_after_a_kill(
    running, tmp_path, source, url, wait_for_usage
):
    await source.put(A, 1.0)
    arguments = [url, source.redis_url, tmp_path / "decisions.jsonl", tmp_path / "recorded.json"]
    with closing(sqlite3.connect(tmp_path / "registry.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        killed = await asyncio.create_subprocess_exec(sys.executable, "-c", BRINGS, *arguments)
        await until(source.taken, "it has taken them")
        killed.kill()
        await killed.wait()
        db.execute("ROLLBACK")
    async with running(redis_url=source.redis_url):
        await source.put(B, 2.0)
        await wait_for_usage({B: Usage(1, 2.0)})


# All of it


async def test_usage_survives_redis_killed_without_losing_decisions(deployment, server):
    server.must_be_ours()
    await deployment.add_user("ada")
    bearer = await deployment.create_token(tools=["search"])
    await deployment.settle()
    used = digest(bearer)
    key_file = require_newest_key(deployment.settings)
    shared = Shared(server.url, key_file=key_file, timeout=0.2)
    pdp = deployment.pdp(shared=shared)
    usages = Usages(
        deployment.registry,
        redis_url=server.url,
        record=deployment.settings.record,
        place=deployment.settings.bundles / "recorded.json",
        every=0.1,
    )
    bringing = asyncio.ensure_future(usages.run())

    async def uses():
        found = await deployment.registry.usage([used])
        return found[used].uses if found else 0

    before = await deployment.registry.version()
    try:
        assert (await pdp.authorize(bearer, tool="search")).reason is Reason.OK
        assert (await pdp.authorize(bearer, tool="other")).reason is Reason.TOOL_NOT_ALLOWED
        assert (await pdp.authorize("nobody's", tool="search")).reason is Reason.INVALID_TOKEN

        async def both():
            return await uses() == 2

        await until(both, "both are counted")
        server.kill()
        for _ in range(5):
            assert (await pdp.authorize(bearer, tool="search")).reason is Reason.OK
        await until(lambda: shared.usage.unavailable, "it is away")
        server.start()
        assert (await pdp.authorize(bearer, tool="search")).reason is Reason.OK

        async def more():
            return await uses() > 2

        await until(more, "it counts again")
        assert await uses() <= 8
    finally:
        bringing.cancel()
        await asyncio.gather(bringing, return_exceptions=True)
    assert await deployment.registry.version() == before
