"""What others write into the store is found and published; what may be an accident is held."""

import pytest

from bundles.exceptions import PublishingHeldError
from bundles.publish.reconciler import Reconciler
from pdp_client.bearer.opaque import digest
from registry import Kind, Ref, Token, User

pytestmark = pytest.mark.anyio


@pytest.fixture
async def ten(publishing):
    """Ten users, published, and a reconciler over them."""
    await publishing.open()
    for n in range(10):
        await publishing.operator.add_user(f"u-{n}")
    await publishing.operator.create_token(digest("t"), user="u-0", tools=["*"])
    # All of it in the base, as at a first start.
    publishing.store.path("base-00").unlink()
    await publishing.restart()
    publishing.reconciler = reconciler(publishing)
    return publishing


def reconciler(publishing, **kwargs):
    return Reconciler(
        publishing.publisher,
        publishing.registry,
        publishing.store,
        clock=publishing.clock,
        **kwargs,
    )


def reconciled_at(publishing):
    publishing.publisher.publish_heartbeat()
    return publishing.document("heartbeat")["reconciled_at_ns"] / 1e9


async def test_pass_without_findings_is_recorded_and_writes_nothing(ten):
    before = await ten.registry.version()
    ten.now += 100
    made = await ten.reconciler.run()
    assert (made.differed, made.records, made.held) == (0, 11, {})
    assert await ten.registry.version() == before
    assert reconciled_at(ten) == pytest.approx(ten.now)


async def test_record_changed_by_others_is_published_as_a_revision(ten):
    before = await ten.registry.version()
    ten.scribble("UPDATE users SET active = 0 WHERE id = 'u-3'")
    await ten.sync()
    assert "users" not in ten.document("live")
    made = await ten.reconciler.run()
    assert made.differed == 1
    live = ten.document("live")
    assert live["users"] == {"u-3": {"name": "u-3", "active": False}}
    assert live["revision"] == before.revision + 1
    [entry] = await ten.registry.log(after=before.revision)
    assert (entry.actor, entry.action, entry.touched) == (
        "lictor", "reconcile", (Ref(Kind.USERS, "u-3"),),
    )  # fmt: skip
    assert await ten.registry.verify_log() == entry.revision
    assert (await ten.reconciler.run()).differed == 0


async def test_record_deleted_or_added_by_others_is_found(ten):
    ten.scribble("DELETE FROM users WHERE id = 'u-4'", "INSERT INTO users VALUES ('eve', 'Eve', 1)")
    assert (await ten.reconciler.run()).differed == 2
    assert ten.document("live")["users"] == {"u-4": None, "eve": {"name": "Eve", "active": True}}


async def test_setting_changed_by_others_is_found(ten):
    ten.scribble("UPDATE settings SET value = 'true' WHERE name = 'lockdown'")
    await ten.reconciler.run()
    assert ten.document("live")["settings"]["lockdown"] is True


async def test_record_damaged_by_others_is_null_until_repaired(ten):
    ten.scribble("UPDATE tokens SET tools = '[7]'")
    # The one token of all: that it is gone is for an operator to say.
    await ten.reconciler.run(accept=True)
    assert ten.document("live")["tokens"] == {digest("t"): None}
    assert list(ten.publisher.problems) == [Ref(Kind.TOKENS, digest("t"))]
    ten.scribble("UPDATE tokens SET tools = '[\"*\"]'")
    await ten.reconciler.run()
    assert ten.document("live")["tokens"][digest("t")]["tools"] == ["*"]
    assert ten.publisher.problems == {}


async def test_mass_removal_is_held_until_accepted(ten, caplog):
    began = reconciled_at(ten)
    ten.scribble("DELETE FROM users WHERE id IN ('u-7', 'u-8', 'u-9')")
    ten.now += 50
    made = await ten.reconciler.run()
    assert made.held == {Kind.USERS: (3, 10)}
    assert "3 of 10 users gone" in ten.reconciler.held
    assert "lictor registry accept" in caplog.text
    assert "users" not in ten.document("live")
    assert reconciled_at(ten) == pytest.approx(began)

    # What is revoked by name still is.
    await ten.operator.revoke_token(digest("t"))
    await ten.sync()
    assert ten.document("live")["tokens"][digest("t")]["active"] is False
    assert reconciled_at(ten) == pytest.approx(began)

    await ten.reconciler.run(accept=True)
    assert ten.reconciler.held == ""
    assert ten.document("live")["users"] == dict.fromkeys(("u-7", "u-8", "u-9"))
    assert reconciled_at(ten) == pytest.approx(ten.now)


async def test_two_of_ten_are_no_accident_and_are_removed(ten):
    ten.scribble("DELETE FROM users WHERE id IN ('u-8', 'u-9')")
    assert (await ten.reconciler.run()).held == {}
    assert ten.document("live")["users"] == {"u-8": None, "u-9": None}


async def test_hold_ends_when_the_store_is_complete_again(ten):
    ten.scribble("CREATE TABLE kept AS SELECT * FROM users", "DELETE FROM users WHERE id > 'u-1'")
    await ten.reconciler.run()
    assert ten.reconciler.held
    ten.scribble("INSERT OR REPLACE INTO users SELECT * FROM kept")
    assert (await ten.reconciler.run()).differed == 0
    assert ten.reconciler.held == ""


async def test_change_too_large_for_live_goes_into_bases(publishing):
    await publishing.open(shards=4, live_limit=5)
    for n in range(40):
        await publishing.operator.add_user(f"u-{n:02}")
    publishing.store.path("base-00").unlink()
    await publishing.restart(shards=4, live_limit=5)
    publishing.now += 10
    began = reconciled_at(publishing)
    publishing.scribble("UPDATE users SET name = 'X'")
    publishing.now += 10
    made = await reconciler(publishing).run()
    assert made.differed == 40
    live = publishing.document("live")
    assert len(live["users"]) == 5
    for name in publishing.bases():
        base = publishing.document(name)
        assert {user["name"] for user in base["users"].values()} == {"X"}
        assert base["revision"] == live["revision"] > live["since"][name[5:]]
    # It counts once it has arrived.
    assert reconciled_at(publishing) == began
    revision = f"1:{live['revision']}"
    publishing.run_by("opa-1", **dict.fromkeys(("s00", "s01", "s02", "s03"), revision))
    await publishing.publisher.sync()
    assert reconciled_at(publishing) == pytest.approx(publishing.now)
    assert publishing.document("live")["since"] == dict.fromkeys(live["since"], live["revision"])


async def test_change_by_lictor_during_a_pass_is_not_written_twice(ten, monkeypatch):
    read = ten.publisher.reader.read

    async def read_while_others_write(*args, **kwargs):
        found = await read(*args, **kwargs)
        await ten.operator.disable_user("u-5")
        return found

    monkeypatch.setattr(ten.publisher.reader, "read", read_while_others_write)
    before = await ten.registry.version()
    assert (await ten.reconciler.run()).differed == 0
    assert (await ten.registry.version()).revision == before.revision + 1
    assert ten.document("live")["users"] == {"u-5": {"name": "u-5", "active": False}}


async def test_pass_is_due_a_fifth_of_the_limit_after_the_last(ten):
    await ten.reconciler.run()
    first = ten.reconciler.latest
    ten.now += 119
    await ten.reconciler.due()
    assert ten.reconciler.latest is first
    ten.now += 2
    await ten.reconciler.due()
    assert ten.reconciler.latest.began_at == ten.now


async def test_after_a_clock_that_was_put_back_a_pass_is_due_at_once(ten):
    await ten.reconciler.run()
    ten.now -= 60
    await ten.reconciler.due()
    assert ten.reconciler.latest.began_at == ten.now


# A registry that is not the one that was published.


async def test_rolled_back_registry_is_held_until_accepted(ten):
    ten.scribble("CREATE TABLE kept AS SELECT * FROM log")
    await ten.operator.revoke_token(digest("t"))
    await ten.sync()
    published = {name: ten.served_bundles.get(name).etag for name in ten.served_bundles.names()}
    synced_at = ten.publisher.heartbeat.synced_at
    # A backup from before the revocation is put back.
    ten.scribble(
        "UPDATE tokens SET active = 1", "UPDATE registry SET revision = revision - 1",
        "DELETE FROM log WHERE revision > (SELECT revision FROM registry)",
        "DELETE FROM changes WHERE revision > (SELECT revision FROM registry)",
    )  # fmt: skip
    ten.now += 5
    with pytest.raises(PublishingHeldError, match="lictor registry accept"):
        await ten.sync()
    assert {
        name: ten.served_bundles.get(name).etag for name in ten.served_bundles.names()
    } == published
    assert ten.publisher.held
    assert ten.publisher.heartbeat.synced_at == synced_at

    # It does not help that as many writes were made since as were lost.
    await ten.operator.add_user("new")
    await ten.operator.add_user("newer")
    with pytest.raises(PublishingHeldError, match="another entry"):
        await ten.sync()

    version = await ten.publisher.accept(actor="ada")
    assert version.epoch == 2
    assert ten.publisher.held == ""
    assert ten.document("live")["epoch"] == ten.document("base-00")["epoch"] == 2
    assert ten.document("base-00")["tokens"][digest("t")]["active"] is True
    assert await ten.registry.verify_log() == version.revision
    assert next(user.id for user in await ten.registry.all(User)) == "new"


async def test_after_a_restart_too_a_registry_that_went_back_is_held(ten, caplog):
    await ten.operator.revoke_token(digest("t"))
    await ten.sync()
    ten.scribble(
        "UPDATE tokens SET active = 1", "UPDATE registry SET revision = revision - 1",
        "DELETE FROM log WHERE revision > (SELECT revision FROM registry)",
    )  # fmt: skip
    await ten.operator.add_user("new")
    await ten.operator.add_user("newer")
    await ten.restart(served_bundles=type(ten.served_bundles)())
    assert "another entry" in ten.publisher.held
    # What was published before is served on; the heartbeat says how old it is.
    assert ten.document("live")["tokens"][digest("t")]["active"] is False
    assert ten.document("heartbeat")["synced_at_ns"] == 0
    await ten.publisher.accept(actor="ada")
    assert ten.document("live")["epoch"] == 2


async def test_older_epoch_is_held_and_accepted_into_a_newer_one(ten):
    async with ten.registry.transaction(actor="tests", action="restore") as tx:
        await tx.next_epoch()
    await ten.sync()
    ten.scribble("UPDATE registry SET epoch = 1")
    with pytest.raises(PublishingHeldError):
        await ten.sync()
    assert (await ten.publisher.accept(actor="ada")).epoch == 3


async def test_held_registry_does_not_bring_back_an_old_token(ten):
    """The revocation is in no store any more, but still in what is served."""
    await ten.operator.revoke_token(digest("t"))
    await ten.sync()
    ten.scribble("DELETE FROM tokens", "DELETE FROM users WHERE id > 'u-3'")
    await ten.reconciler.run()
    assert ten.reconciler.held
    assert await ten.registry.get(Token, digest("t")) is None
    assert ten.document("live")["tokens"][digest("t")]["active"] is False
