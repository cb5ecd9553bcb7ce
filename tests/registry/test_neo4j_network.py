"""Several writers and readers of one graph, and a network that fails between them."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest

from registry import (
    Kind,
    Ref,
    RegistryVersion,
    Team,
    User,
    Workspace,
    open_registry,
)
from registry.exceptions import (
    NotFoundError,
    RegistryUnavailableError,
    StillReferencedError,
)
from registry.neo4j import metadata, session, store
from registry.operations import Operator

from .conftest import TEAM

pytestmark = pytest.mark.anyio

STORES = ["neo4j"]
PATIENCE = 60


# Several at once


async def test_delta_is_consistent_during_writes(url, registry, write, monkeypatch):
    """Each write changes two users in the same way; no reader ever sees them differ."""
    await write(User(id="a", name="1"), User(id="b", name="1"))
    done = asyncio.Event()

    async def writer():
        async with aclosing(await open_registry(url)) as other:
            for _ in range(80):
                async with other.transaction(actor="tests", action="write") as tx:
                    name = str(tx.version.revision + 1)
                    await tx.put(User(id="a", name=name), User(id="b", name=name))
        done.set()

    async def read_delta():
        while not done.is_set():
            delta = await registry.changed_since(0)
            names = {change.record["name"] for change in delta.changes.values()}
            assert names == {str(delta.version.revision)}

    await asyncio.wait_for(asyncio.gather(writer(), read_delta(), read_delta()), PATIENCE)
    monkeypatch.setattr(store, "_SMALL", 1)
    done.clear()
    await asyncio.wait_for(asyncio.gather(writer(), read_delta()), PATIENCE)


async def test_reader_does_not_wait_for_a_long_write(exported, url, registry, sample_records):
    async with aclosing(await open_registry(url)) as other:
        async with registry.transaction(actor="tests", action="long") as tx:
            await tx.put(User(id="bob", name="Bob"))
            assert (await other.changed_since(0)).version == RegistryVersion(1, 1)
            assert await other.verify_log() == 1
            assert "users/bob" not in await exported(other)
        assert (await other.changed_since(1)).changes[Ref(Kind.USERS, "bob")].revision == 2


async def test_large_import_is_batched_in_order(registry, write):
    users = [User(id=f"u{n}", name="n") for n in range(2500)]
    await write(*users, User(id="u7", name="again"), Workspace(id="w", name="W"))
    assert len(await registry.all(User)) == 2500
    assert (await registry.get(User, "u7")).name == "again"
    assert len((await registry.changed_since(0)).changes) == 2501


async def test_revision_that_touches_more_than_a_batch_is_whole(registry, write, monkeypatch):
    monkeypatch.setattr(metadata, "_BATCH", 3)
    await write(*(User(id=f"u{n}", name="n") for n in range(8)))
    assert len((await registry.changed_since(0)).changes) == 8
    [entry] = await registry.log()
    assert len(entry.touched) == 8


async def test_workspace_used_by_another_program_is_not_deleted(registry, sample_records, cypher):
    cypher("CREATE (:Library {uid: 'x', workspace_id: 'lab'})")
    with pytest.raises(StillReferencedError):
        async with registry.transaction(actor="tests", action="delete") as tx:
            await tx.delete(Workspace, "lab")


async def test_moved_team_leaves_nothing_behind(registry, sample_records, write, cypher):
    await write(User(id="bob", name="Bob"), TEAM)
    await write(Team(id=TEAM.id, name="T", owner="bob", active_jti="j", workspaces=("lab",)))
    assert sorted(
        cypher("MATCH (:Team)-[r]->(n) RETURN type(r), n.id")
    ) == [["ASSIGNED_TO", "lab"], ["OWNED_BY", "bob"]]  # fmt: skip


# The network


class BoltProxy:
    """Between a registry and its Neo4j: cuts the connection on which some bytes are sent, or freezes.

    `cut_before` never arrive; `cut_after` are answered, and the answer does not come back.
    """

    COMMIT = b"\x00\x02\xb0\x12\x00\x00"  # the Bolt message, as one chunk

    def __init__(self, server_url):
        self._port = int(server_url.rpartition(":")[2])
        self._over = asyncio.Event()
        self._tasks = set()
        self.cut_before = self.cut_after = None
        self.frozen = asyncio.Event()
        self.url = ""

    async def __aenter__(self):
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"bolt://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._listener.close()
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def _accept(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        answered = asyncio.Event()
        answered.set()
        parts = [
            asyncio.ensure_future(self._to_server(reader, back, answered)),
            asyncio.ensure_future(self._to_client(there, writer, answered)),
            asyncio.ensure_future(self._over.wait()),
        ]
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        writer.close()
        back.close()

    async def _to_server(self, reader, writer, answered):
        while data := await reader.read(65536):
            if self.frozen.is_set():
                await self._over.wait()
            if self.cut_before and self.cut_before in data:
                self.cut_before = None
                return
            if self.cut_after and self.cut_after in data:
                self.cut_after = None
                answered.clear()
            writer.write(data)
            await writer.drain()

    async def _to_client(self, reader, writer, answered):
        while (data := await reader.read(65536)) and answered.is_set():
            writer.write(data)
            await writer.drain()


@pytest.fixture
async def wire(neo4j_server, registry):
    async with BoltProxy(neo4j_server.url) as wire:
        yield wire


@pytest.fixture
async def wired(wire):
    async with aclosing(await open_registry(wire.url)) as wired:
        yield wired


async def test_commit_with_a_lost_reply_is_known_to_have_succeeded(wire, wired, registry):
    wire.cut_after = wire.COMMIT
    done = await Operator(wired, actor="tests").add_user("ada")
    assert wire.cut_after is None
    assert done.version == await registry.version() == RegistryVersion(1, 1)
    assert await registry.get(User, "ada") is not None


async def test_commit_that_never_arrived_is_known_to_have_failed(wire, wired, registry):
    wire.cut_before = wire.COMMIT
    with pytest.raises(RegistryUnavailableError, match="nothing was written"):
        await Operator(wired, actor="tests").add_user("ada")
    assert await registry.version() == RegistryVersion(1, 0)
    await Operator(wired, actor="tests").add_user("ada")


async def test_read_whose_connection_breaks_is_made_again(wire, wired):
    wire.cut_before = b"LogEntry"
    assert await wired.version() == RegistryVersion(1, 0)
    assert wire.cut_before is None


async def test_unresponsive_neo4j_is_unavailable_in_bounded_time(wire, wired, monkeypatch):
    monkeypatch.setattr(session, "ANSWER_SECONDS", 1)
    await wired.version()
    wire.frozen.set()
    began = time.monotonic()
    with pytest.raises(RegistryUnavailableError, match=r"in time|does not answer"):
        await wired.version()
    assert time.monotonic() - began < PATIENCE
    wire.frozen.clear()
    assert await wired.version() == RegistryVersion(1, 0)


async def test_neo4j_url_without_a_server_is_unavailable(monkeypatch):
    monkeypatch.setattr(session, "RETRY_SECONDS", 0.2)
    for place, why in {
        "bolt://127.0.0.1:1": "Connect call failed",
        "neo4j://no-such-host.invalid": "DNS",
    }.items():
        async with aclosing(await open_registry(place)) as registry:
            with pytest.raises(
                RegistryUnavailableError, match=f"{place}.* does not answer: .*{why}"
            ):
                await registry.version()


async def test_killed_neo4j_returns_with_all_commits(neo4j_server, registry, monkeypatch):
    neo4j_server.must_be_ours()
    monkeypatch.setattr(session, "RETRY_SECONDS", 0.2)
    operator = Operator(registry, actor="tests")
    await operator.add_user("ada")
    neo4j_server.kill()
    try:
        with pytest.raises(RegistryUnavailableError):
            await operator.disable_user("ada")
        with pytest.raises(RegistryUnavailableError):
            await registry.version()
    finally:
        neo4j_server.start()
    assert await registry.version() == RegistryVersion(1, 1)
    assert (await operator.disable_user("ada")).version == RegistryVersion(1, 2)
    assert await registry.verify_log() == 2


async def test_missing_name_is_reported_as_missing(registry, sample_records):
    with pytest.raises(NotFoundError, match="'nowhere'"):
        await Operator(registry, actor="tests").add_library("x", workspace="nowhere")
