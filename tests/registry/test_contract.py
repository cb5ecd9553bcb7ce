"""What every store has to do; the fixture `registry` brings one of each."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import aclosing
from dataclasses import replace

import pytest

from registry import (
    Key,
    Kind,
    Library,
    Ref,
    RegistryVersion,
    Setting,
    Team,
    User,
    Workspace,
    open_registry,
)
from registry.changelog import GENESIS
from registry.exceptions import InvalidRecordError, NotFoundError, StillReferencedError

pytestmark = pytest.mark.anyio

TEAM = Team(
    id="7f0c1a52-6f0e-4d2c-9a53-0d8a4a1f5f10",
    name="Readers",
    owner="ada",
    active_jti="jti-1",
    workspaces=("docs",),
)


async def exported(registry):
    async with registry.export_records() as export:
        return export.version, {ref: record async for ref, record in export.records}


async def test_new_registry_has_epoch_1_revision_0_and_default_settings(registry):
    delta = await registry.changed_since(0)
    assert delta.version == await registry.version() == RegistryVersion(1, 0)
    assert delta.changes == {}
    assert delta.settings == {
        "lockdown": False,
        "staleness_limit": 30,
        "reconcile_limit": 600,
        "listable": {"anonymous": ["*"], "rejected": []},
        "issuers": ["daedalus", "mnemosyne"],
    }


async def test_record_of_every_kind_round_trips(registry, sample_records, write, token):
    records = [
        TEAM,
        replace(token, expires_at=1.5, libraries=("lib-a",)),
        Key(kid="k1", alg="EdDSA", active=False),
        Setting(name="lockdown", value=True),
    ]
    await write(*records)
    for record in records:
        assert await registry.get(type(record), record.ref.id) == record
        assert record in await registry.all(type(record))


async def test_missing_record_is_none(registry):
    assert await registry.get(User, "nobody") is None
    assert await registry.get(User, "\udcff") is None
    assert await registry.all(Team) == []


async def test_lists_are_stored_sorted_and_once(registry, sample_records, write):
    await write(replace(TEAM, workspaces=("lab", "docs", "lab"), tools=("b", "a", "b")))
    team = await registry.get(Team, TEAM.id)
    assert (team.workspaces, team.tools) == (("docs", "lab"), ("a", "b"))


async def test_records_are_listed_by_id_in_code_point_order(registry, write):
    ids = ["z", "B", "a", "é", "😀", "\uff5e", "\u2028"]
    await write(*(User(id=id_, name="n") for id_ in ids))
    assert [user.id for user in await registry.all(User)] == sorted(ids)


async def test_transaction_is_one_revision(registry, sample_records):
    async with registry.transaction(actor="tests", action="two") as tx:
        assert tx.version == RegistryVersion(1, 1)
        await tx.put(User(id="bob", name="Bob"))
        await tx.put(User(id="eve", name="Eve"))
        assert await tx.get(User, "bob") == User(id="bob", name="Bob")
        assert await registry.get(User, "bob") is None
    assert tx.version == await registry.version() == RegistryVersion(1, 2)


async def test_exception_undoes_the_whole_transaction(registry, sample_records):
    with pytest.raises(NotFoundError):
        async with registry.transaction(actor="tests", action="oops") as tx:
            await tx.put(User(id="bob", name="Bob"), replace(TEAM, owner="nobody"))
    assert await registry.get(User, "bob") is None
    assert await registry.version() == RegistryVersion(1, 1)
    assert await registry.verify_log() == 1


async def test_cancelled_transaction_is_undone_and_the_next_one_runs(
    registry, sample_records, write
):
    begun = asyncio.Event()

    async def hang():
        async with registry.transaction(actor="tests", action="hang") as tx:
            await tx.put(User(id="bob", name="Bob"))
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await write(User(id="eve", name="Eve")) == RegistryVersion(1, 2)
    assert await registry.get(User, "bob") is None


async def test_transaction_is_unusable_after_its_end(registry):
    async with registry.transaction(actor="tests", action="over") as tx:
        pass
    with pytest.raises(RuntimeError):
        await tx.put(User(id="bob", name="Bob"))


async def test_unchanged_write_makes_no_revision(registry, sample_records, write):
    assert await write(User(id="ada", name="Ada")) == RegistryVersion(1, 1)
    assert len(await registry.log()) == 1


async def test_concurrent_transactions_lose_no_revision(registry, write):
    versions = await asyncio.gather(*(write(User(id=f"u{n}", name="n")) for n in range(20)))
    assert sorted(versions) == [RegistryVersion(1, n) for n in range(1, 21)]
    assert await registry.verify_log() == 20


@pytest.mark.parametrize(
    ("record", "missing"),
    [
        (replace(TEAM, owner="nobody"), Ref(Kind.USERS, "nobody")),
        (replace(TEAM, workspaces=("docs", "nowhere")), Ref(Kind.WORKSPACES, "nowhere")),
        (Library(uid="l", name="L", workspace_id="nowhere"), Ref(Kind.WORKSPACES, "nowhere")),
    ],
)
async def test_record_with_a_missing_reference_is_refused(
    registry, sample_records, write, record, missing
):
    with pytest.raises(NotFoundError) as caught:
        await write(record)
    assert Ref(caught.value.kind, caught.value.id) == missing
    assert await registry.version() == RegistryVersion(1, 1)


async def test_token_of_a_missing_user_is_refused(write, token):
    with pytest.raises(NotFoundError, match="'ada'"):
        await write(token)


@pytest.mark.parametrize(("type_", "id_"), [(User, "ada"), (Workspace, "docs"), (Workspace, "lab")])
async def test_referenced_record_is_not_deleted(registry, sample_records, write, type_, id_):
    await write(TEAM, Library(uid="lib-b", name="B", workspace_id="lab"))
    with pytest.raises(StillReferencedError, match=id_):
        async with registry.transaction(actor="tests", action="delete") as tx:
            await tx.delete(type_, id_)
    assert await registry.get(type_, id_) is not None


async def test_deletion_of_a_missing_record_is_an_error(registry):
    with pytest.raises(NotFoundError):
        async with registry.transaction(actor="tests", action="delete") as tx:
            await tx.delete(User, "nobody")


async def test_settings_are_neither_invented_nor_deleted(registry, write):
    with pytest.raises(InvalidRecordError):
        await write(Setting(name="color", value="red"))
    with pytest.raises(InvalidRecordError):
        async with registry.transaction(actor="tests", action="delete") as tx:
            await tx.delete(Setting, "lockdown")


async def test_published_records_have_the_shapes_of_the_contract(
    registry, sample_records, write, token
):
    await write(TEAM, replace(token, libraries=("lib-a",)), Key(kid="k1", alg="EdDSA"))
    assert await exported(registry) == (
        RegistryVersion(1, 2),
        {
            Ref(Kind.USERS, "ada"): {"name": "Ada", "active": True},
            Ref(Kind.WORKSPACES, "docs"): {"name": "Docs", "libraries": ["lib-a"]},
            Ref(Kind.WORKSPACES, "lab"): {"name": "Lab", "libraries": []},
            Ref(Kind.LIBRARIES, "lib-a"): {"name": "A", "tags": ["public"]},
            Ref(Kind.TEAMS, TEAM.id): {
                "name": "Readers",
                "owner": "ada",
                "active": True,
                "active_jti": "jti-1",
                "workspaces": ["docs"],
                "tools": ["*"],
            },
            Ref(Kind.TOKENS, token.digest): {
                "label": "lct_…9f86d081",
                "user": "ada",
                "active": True,
                "expires_at": None,
                "libraries": ["lib-a"],
                "tools": ["*"],
            },
            Ref(Kind.KEYS, "k1"): {"alg": "EdDSA", "active": True},
        },
    )


async def test_delta_has_each_touched_record_with_its_last_revision(
    registry, sample_records, write
):
    await write(TEAM)
    await write(User(id="ada", name="Ada", active=False))
    delta = await registry.changed_since(1)
    assert delta.version == RegistryVersion(1, 3)
    assert {str(ref): change.revision for ref, change in delta.changes.items()} == {
        f"teams/{TEAM.id}": 2,
        "users/ada": 3,
    }
    assert delta.changes[Ref(Kind.USERS, "ada")].record == {"name": "Ada", "active": False}
    assert (await registry.changed_since(3)).changes == {}


async def test_deleted_record_is_none_in_a_delta(registry, sample_records):
    async with registry.transaction(actor="tests", action="delete") as tx:
        await tx.delete(Library, "lib-a")
    changes = (await registry.changed_since(1)).changes
    assert changes[Ref(Kind.LIBRARIES, "lib-a")].record is None
    assert changes[Ref(Kind.WORKSPACES, "docs")].record == {"name": "Docs", "libraries": []}
    assert len(changes) == 2


async def test_moved_library_touches_both_workspaces(registry, sample_records, write):
    await write(Library(uid="lib-a", name="A", workspace_id="lab", tags=("public",)))
    changes = (await registry.changed_since(1)).changes
    assert changes[Ref(Kind.WORKSPACES, "docs")].record == {"name": "Docs", "libraries": []}
    assert changes[Ref(Kind.WORKSPACES, "lab")].record == {"name": "Lab", "libraries": ["lib-a"]}


async def test_library_without_tags_is_not_published(registry, sample_records, write):
    await write(Library(uid="lib-a", name="A", workspace_id="docs"))
    changes = (await registry.changed_since(1)).changes
    assert {str(ref): change.record for ref, change in changes.items()} == {"libraries/lib-a": None}
    assert Ref(Kind.LIBRARIES, "lib-a") not in (await exported(registry))[1]


async def test_changed_setting_makes_a_revision_without_records(registry, write):
    assert await write(Setting(name="lockdown", value=True)) == RegistryVersion(1, 1)
    delta = await registry.changed_since(0)
    assert delta.changes == {}
    assert delta.settings["lockdown"] is True


async def test_export_and_deltas_add_up_to_one_state(registry, sample_records, write):
    async with registry.export_records() as export:
        await write(User(id="bob", name="Bob"), User(id="ada", name="Ada", active=False))
        async with registry.transaction(actor="tests", action="delete") as tx:
            await tx.delete(Library, "lib-a")
        laid = {ref: record async for ref, record in export.records}
    assert export.version == RegistryVersion(1, 1)
    delta = await registry.changed_since(export.version.revision)
    laid |= {ref: change.record for ref, change in delta.changes.items()}
    left = {ref: record for ref, record in laid.items() if record is not None}
    assert left == (await exported(registry))[1]
    assert left[Ref(Kind.USERS, "ada")] == {"name": "Ada", "active": False}
    assert Ref(Kind.LIBRARIES, "lib-a") not in left


async def test_export_may_be_left_early(registry, write):
    await write(*(User(id=f"u{n:04}", name="n") for n in range(1500)))
    async with registry.export_records() as export:
        async for ref, _ in export.records:
            assert ref == Ref(Kind.USERS, "u0000")
            break
    async with registry.export_records() as export:
        assert len([ref async for ref, _ in export.records]) == 1500


async def test_log_has_actor_action_and_time_of_chained_entries(registry, sample_records, write):
    await write(TEAM)
    first, second = await registry.log()
    assert (second.revision, second.at, second.actor, second.action) == (
        2,
        1_795_000_000.0,
        "tests",
        "write",
    )
    assert second.touched == (Ref(Kind.TEAMS, TEAM.id),)
    assert (first.previous, second.previous) == (GENESIS, first.hash)
    assert second == second.with_hash()
    assert await registry.log(after=1) == [second]
    assert await registry.log(limit=1) == [first]
    assert await registry.verify_log() == 2


async def test_actor_is_plain_text(registry):
    with pytest.raises(InvalidRecordError):
        async with registry.transaction(actor="a\nb", action="x"):
            pass


WRITER = """
import asyncio, sys
from registry import User, open_registry

async def main(url, name):
    registry = await open_registry(url)
    for n in range(100):
        async with registry.transaction(actor=name, action="write") as tx:
            await tx.put(User(id=f"{name}-{n}", name="n"))
    await registry.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_that_write_at_once_lose_no_revision(url):
    command = [sys.executable, "-c", WRITER, url]
    processes = [
        await asyncio.create_subprocess_exec(*command, name, stdout=subprocess.DEVNULL)
        for name in ("left", "right")
    ]
    assert [await process.wait() for process in processes] == [0, 0]
    async with aclosing(await open_registry(url)) as registry:
        assert await registry.version() == RegistryVersion(1, 200)
        assert await registry.verify_log() == 200
        assert len(await registry.all(User)) == 200


HANGER = """
import asyncio, sys
from registry import User, open_registry

async def main(url):
    registry = await open_registry(url)
    async with registry.transaction(actor="hanger", action="write") as tx:
        await tx.put(*(User(id=f"u{n}", name="n" * 200) for n in range(20_000)))
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_process_killed_in_a_transaction_leaves_the_state_before(
    url, registry, sample_records, write
):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HANGER, url, stdout=subprocess.PIPE
    )
    assert await process.stdout.readline() == b"ready\n"
    process.kill()
    await process.communicate()
    async with aclosing(await open_registry(url)) as reopened:
        assert await reopened.version() == RegistryVersion(1, 1)
        assert len(await reopened.all(User)) == 1
    assert await write(User(id="bob", name="Bob")) == RegistryVersion(1, 2)
    assert await registry.verify_log() == 2


async def test_touched_record_is_in_the_delta_even_if_missing(registry, sample_records):
    async with registry.transaction(actor="tests", action="touch") as tx:
        await tx.touch(Ref(Kind.USERS, "ada"), Ref(Kind.USERS, "ghost"))
    delta = await registry.changed_since(1)
    assert {ref.id: (c.revision, c.record) for ref, c in delta.changes.items()} == {
        "ada": (2, {"name": "Ada", "active": True}),
        "ghost": (2, None),
    }
    assert [entry.touched for entry in await registry.log(after=1)] == [
        (Ref(Kind.USERS, "ada"), Ref(Kind.USERS, "ghost"))
    ]


async def test_next_epoch_is_one_revision_without_changes(registry, sample_records):
    async with registry.transaction(actor="tests", action="restored") as tx:
        await tx.next_epoch()
    assert tx.version == await registry.version() == RegistryVersion(2, 2)
    assert (await registry.changed_since(1)).changes == {}
    assert await registry.verify_log() == 2


async def test_epoch_that_is_not_committed_does_not_start(registry, sample_records):
    async def fail():
        async with registry.transaction(actor="tests", action="restored") as tx:
            await tx.next_epoch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await registry.version() == RegistryVersion(1, 1)


async def test_delta_has_the_hash_of_the_newest_log_entry(registry, write):
    assert (await registry.changed_since(0)).head == GENESIS
    await write(User(id="ada", name="Ada"))
    [entry] = await registry.log()
    assert (await registry.changed_since(0)).head == entry.hash


async def test_records_are_counted_by_kind(registry, sample_records):
    counts = await registry.counts()
    assert counts == {
        Kind.USERS: 1, Kind.WORKSPACES: 2, Kind.LIBRARIES: 1,
        Kind.TEAMS: 0, Kind.TOKENS: 0, Kind.KEYS: 0,
    }  # fmt: skip


async def test_check_of_a_valid_registry_finds_and_changes_nothing(
    registry, sample_records, write, token
):
    await write(TEAM, token, Key(kid="k1", alg="EdDSA"))
    assert await registry.check() == await registry.check(fix=True) == []
    assert await registry.version() == RegistryVersion(1, 2)
