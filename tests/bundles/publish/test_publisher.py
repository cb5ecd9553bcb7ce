"""What changes in the registry is published, in order; nothing that was revoked comes back."""

import random

import pytest

from bundles.exceptions import StoreUnusableError
from bundles.publish.base_bundles import GRACE as _GRACE
from bundles.publish.publisher import HEARTBEAT_EVERY
from bundles.publish.records import shard_of
from pdp_client.bearer.opaque import digest
from registry import Kind, Ref, RegistryError, Setting, Token, User
from registry.exceptions import RegistryUnavailableError

pytestmark = pytest.mark.anyio


async def users(publishing, *ids):
    for id_ in ids:
        await publishing.operator.add_user(id_)


async def test_at_first_everything_is_in_the_base_and_live_is_empty(publishing):
    await publishing.open()
    await users(publishing, "ada", "bob")
    await publishing.restart(served_bundles=type(publishing.served_bundles)())
    base, live = publishing.document("base-00"), publishing.document("live")
    assert publishing.served_bundles.names() == ["base-00", "heartbeat", "live"]
    assert live["users"].keys() == {"ada", "bob"}
    assert (base["epoch"], base["revision"]) == (1, live["since"]["00"])
    assert live["settings"]["staleness_limit"] == 30


async def test_change_is_in_live_after_the_next_sync(publishing):
    await publishing.open()
    before = publishing.served_bundles.get("live").revision
    await users(publishing, "ada")
    assert publishing.served_bundles.get("live").revision == before
    await publishing.sync()
    live = publishing.document("live")
    assert live["users"] == {"ada": {"name": "ada", "active": True}}
    assert publishing.served_bundles.get("live").revision == f"1:{live['revision']}"
    assert publishing.publisher.version == await publishing.registry.version()


async def test_sync_without_changes_publishes_nothing(publishing):
    await publishing.open()
    before = {
        name: publishing.served_bundles.get(name).etag for name in publishing.served_bundles.names()
    }
    await publishing.sync()
    assert before == {
        n: publishing.served_bundles.get(n).etag for n in publishing.served_bundles.names()
    }


async def test_deleted_record_stays_null(publishing):
    await publishing.open()
    await users(publishing, "ada", "bob")
    await publishing.sync()
    async with publishing.registry.transaction(actor="tests", action="delete") as tx:
        await tx.delete(User, "ada")
    await publishing.sync()
    assert publishing.document("live")["users"]["ada"] is None
    await users(publishing, "eve")
    await publishing.sync()
    assert publishing.document("live")["users"]["ada"] is None


async def test_small_registry_has_one_shard_and_a_large_one_64(publishing, monkeypatch):
    monkeypatch.setattr("bundles.publish.scan.SMALL", 5)
    await publishing.open()
    assert publishing.bases() == ["base-00"]
    await users(publishing, *(f"u-{n}" for n in range(10)))
    publishing.scribble("UPDATE registry SET epoch = 2")
    await publishing.sync()
    assert publishing.bases() == [f"base-{n:02x}" for n in range(64)]
    assert set(publishing.document("live")["since"]) == {f"{n:02x}" for n in range(64)}


async def test_record_is_in_its_own_shard_only(publishing):
    await publishing.open(shards=64)
    await users(publishing, *(f"u-{n}" for n in range(100)))
    for n in range(100):
        await publishing.operator.create_token(digest(f"t{n}"), user="u-1", tools=["*"])
    publishing.scribble("UPDATE registry SET epoch = 2")
    await publishing.sync()
    seen = set()
    for name in publishing.bases():
        document = publishing.document(name)
        assert document["epoch"] == 2
        for kind in set(document) - {"encoding", "epoch", "revision", "head"}:
            for id_ in document[kind]:
                assert f"base-{shard_of(Ref(Kind(kind), id_), 64)}" == name
                seen.add((kind, id_))
    assert len(seen) == 200


# Folding.


async def test_live_past_its_limit_keeps_records_until_the_base_arrives(
    publishing,
):
    await publishing.open(live_limit=3)
    await users(publishing, "a", "b", "c", "d")
    await publishing.sync()
    base, live = publishing.document("base-00"), publishing.document("live")
    assert set(base["users"]) == set(live["users"]) == {"a", "b", "c", "d"}
    assert base["revision"] == live["revision"] > live["since"]["00"]
    # No OPA has reported the new base: nothing is dropped.
    await publishing.sync()
    assert set(publishing.document("live")["users"]) == {"a", "b", "c", "d"}
    # One has, another has the old one.
    publishing.run_by("opa-1", s00=f"1:{base['revision']}")
    publishing.run_by("opa-2", s00="1:0")
    await publishing.sync()
    assert set(publishing.document("live")["users"]) == {"a", "b", "c", "d"}
    publishing.run_by("opa-2", s00=f"1:{base['revision']}")
    await publishing.sync()
    live = publishing.document("live")
    assert "users" not in live
    assert live["since"] == {"00": base["revision"]}


async def test_live_is_cut_after_the_grace_without_reports(publishing):
    await publishing.open(live_limit=1)
    await users(publishing, "a", "b")
    await publishing.sync()
    publishing.now += _GRACE - 1
    await publishing.sync()
    assert set(publishing.document("live")["users"]) == {"a", "b"}
    publishing.now += 2
    await publishing.sync()
    assert "users" not in publishing.document("live")


async def test_only_shards_that_were_touched_are_written_again(publishing):
    await publishing.open(shards=64, live_limit=0)
    before = {name: publishing.served_bundles.get(name).etag for name in publishing.bases()}
    await users(publishing, "a", "b")
    await publishing.sync()
    changed = {n for n in publishing.bases() if publishing.served_bundles.get(n).etag != before[n]}
    assert changed == {f"base-{shard_of(Ref(Kind.USERS, id_), 64)}" for id_ in "ab"}
    for name in changed:
        publishing.run_by("opa-1", **{f"s{name[5:]}": publishing.served_bundles.get(name).revision})
    publishing.now += _GRACE + 1
    await publishing.sync()
    live = publishing.document("live")
    assert "users" not in live
    raised = {s for s, r in live["since"].items() if r == max(live["since"].values())}
    assert {f"base-{shard}" for shard in raised} == changed


class Instance:
    """An OPA as the Rego would read its bundles, written independently; it may lag at will."""

    def __init__(self, id_, publishing):
        self.id = id_
        self._publishing = publishing
        self.documents = {}

    def fetch(self, name):
        self.documents[name] = self._publishing.document(name)

    def report(self):
        bases = {f"s{n[5:]}": f"{d['epoch']}:{d['revision']}" for n, d in self.documents.items() if n.startswith("base-")}  # fmt: skip
        self._publishing.run_by(self.id, **bases)

    def token(self, id_):
        """The revisions that it is answered from, and the answer; None for `stale_data`."""
        live, heartbeat = self.documents.get("live"), self.documents.get("heartbeat")
        if live is None or heartbeat is None or live["revision"] < heartbeat["revision"]:
            return None
        shard = shard_of(Ref(Kind.TOKENS, id_), len(live["since"]))
        base = self.documents.get(f"base-{shard}")
        if (
            base is None
            or base["epoch"] != live["epoch"]
            or base["revision"] < live["since"][shard]
        ):
            return None
        found = live.get("tokens", {}).get(id_, base.get("tokens", {}).get(id_))
        if id_ in live.get("tokens", {}):
            found = live["tokens"][id_]
        newest = max(live["revision"], base["revision"])
        return range(live["revision"], newest + 1), bool(found and found["active"])


class Walk:
    """Random writes, syncs, reports, restarts and fetches."""

    def __init__(self, publishing, seed):
        self.random = random.Random(seed)
        self.publishing = publishing
        self.options = {"live_limit": 4, "shards": self.random.choice([1, 2, 5])}
        self.instances = [Instance(f"opa-{n}", publishing) for n in range(3)]
        self.ids = []
        self.truth = {0: set(), 1: set()}

    async def create(self):
        self.ids.append(digest(f"t-{len(self.ids)}"))
        await self.publishing.operator.create_token(self.ids[-1], user="ada", tools=["*"])

    async def revoke(self):
        if tokens := await self.publishing.registry.all(Token):
            await self.publishing.operator.revoke_token(self.random.choice(tokens).digest)

    async def delete(self):
        async with self.publishing.registry.transaction(actor="tests", action="delete") as tx:
            if tokens := await tx.all(Token):
                await tx.delete(Token, self.random.choice(tokens).digest)

    async def sync(self):
        await self.publishing.sync()

    async def pass_time(self):
        self.publishing.now += self.random.choice([0.1, 1, 5, 60, 200])
        self.publishing.publisher.publish_heartbeat()

    async def report(self):
        self.random.choice(self.instances).report()

    async def restart(self):
        if self.random.random() < 0.2:
            await self.publishing.restart(**self.options)

    async def fetch(self):
        one, names = self.random.choice(self.instances), self.publishing.served_bundles.names()
        for name in self.random.sample(names, self.random.randrange(1, len(names) + 1)):
            one.fetch(name)

    async def step(self):
        steps = [self.create, self.create, self.revoke, self.delete, self.sync, self.sync,
                 self.pass_time, self.report, self.restart, self.fetch, self.fetch]  # fmt: skip
        await self.random.choice(steps)()
        revision = (await self.publishing.registry.version()).revision
        tokens = await self.publishing.registry.all(Token)
        self.truth[revision] = {token.digest for token in tokens if token.active}


@pytest.mark.parametrize("seed", range(6))
async def test_lagging_opas_answer_as_of_their_live_or_not_at_all(publishing, seed):
    walk = Walk(publishing, seed)
    await publishing.open(**walk.options)
    await users(publishing, "ada")
    answered = 0
    for _ in range(300):
        await walk.step()
        for one in walk.instances:
            for id_ in walk.random.sample(walk.ids, min(5, len(walk.ids))):
                if answer := one.token(id_):
                    revisions, active = answer
                    assert active in {id_ in walk.truth[revision] for revision in revisions}
                    answered += 1
    assert answered > 300
    assert max(publishing.document("live")["since"].values()) > 10


# Restarts.


async def test_restart_continues_with_the_same_bases_and_since(publishing):
    await publishing.open()
    await users(publishing, "ada", "bob")
    await publishing.sync()
    base, since = publishing.served_bundles.get("base-00"), publishing.document("live")["since"]
    await users(publishing, "eve")
    await publishing.restart(served_bundles=type(publishing.served_bundles)())
    assert publishing.served_bundles.get("base-00") == base
    live = publishing.document("live")
    assert live["since"] == since
    assert set(live["users"]) == {"ada", "bob", "eve"}


async def test_restart_during_compaction_continues_it(publishing):
    await publishing.open(live_limit=1)
    await users(publishing, "a", "b")
    await publishing.sync()
    folded = publishing.served_bundles.get("base-00").revision
    await publishing.restart(served_bundles=type(publishing.served_bundles)(), live_limit=1)
    assert set(publishing.document("live")["users"]) == {"a", "b"}
    publishing.run_by("opa-1", s00=folded)
    await publishing.sync()
    assert "users" not in publishing.document("live")
    assert publishing.document("base-00")["users"].keys() == {"a", "b"}


async def test_kill_between_base_and_note_loses_nothing(publishing):
    await publishing.open(live_limit=1)
    before = publishing.store.published()
    await users(publishing, "a", "b")
    await publishing.sync()
    publishing.store.save_published(before)
    await publishing.restart(served_bundles=type(publishing.served_bundles)(), live_limit=1)
    assert set(publishing.document("live")["users"]) == {"a", "b"}
    publishing.now += _GRACE + 1
    await publishing.sync()
    assert "users" not in publishing.document("live")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


DAMAGE = {
    "a truncated base": lambda store: truncate(store.path("base-00")),
    "an empty base": lambda store: store.path("base-00").write_bytes(b""),
    "a missing base": lambda store: store.path("base-00").unlink(),
    "garbage for a state": lambda store: store.path("x").with_name("published.json").write_text("garbage"),
    "a state of other types": lambda store: store.path("x").with_name("published.json").write_text(
        '{"epoch": 1, "since": {"00": "0"}, "bases": {"00": null}}'
    ),
    "a truncated state": lambda store: truncate(store.path("x").with_name("published.json")),
    "a missing state": lambda store: store.path("x").with_name("published.json").unlink(),
    "a truncated live": lambda store: truncate(store.path("live")),
    "everything gone": lambda store: [path.unlink() for path in store.path("x").parent.iterdir()],
    "a base of another epoch": lambda store: store.path("base-00").write_bytes(store.path("other").read_bytes()),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damaged_store_is_rebuilt_without_loss(publishing, damage, bundle_keys):
    from bundles.publish.signing import Bundle, sign

    await publishing.open()
    await users(publishing, "ada", "bob")
    await publishing.sync()
    other = sign(
        "base-00", revision="0:1", roots=["registry/base/00"], key=bundle_keys["data"], data={}
    )
    publishing.store.save(Bundle("other", other.revision, other.etag, other.content))
    DAMAGE[damage](publishing.store)
    await publishing.restart(served_bundles=type(publishing.served_bundles)())
    base, live = publishing.document("base-00"), publishing.document("live")
    assert base.get("users", {}).keys() | live.get("users", {}).keys() == {"ada", "bob"}
    assert base["epoch"] == live["epoch"] == 1
    assert base["revision"] >= live["since"]["00"]
    assert {user.id for user in await publishing.registry.all(User)} == {"ada", "bob"}


async def test_new_epoch_starts_everything_anew(publishing):
    await publishing.open(shards=2)
    await users(publishing, "ada")
    await publishing.sync()
    publishing.scribble("UPDATE registry SET epoch = 2")
    await publishing.sync()
    live = publishing.document("live")
    assert live["epoch"] == 2
    assert "users" not in live
    for name in publishing.bases():
        assert publishing.document(name)["epoch"] == 2
    publishing.publisher.publish_heartbeat()
    assert publishing.document("heartbeat")["epoch"] == 2


# What others write.


MALFORMED = {
    "a pattern that matches nothing": (
        "UPDATE teams SET tools = '[\"[\"]'", ("teams", "7f000000-0000-4000-8000-000000000001"), "tools.0",
    ),
    "a tool that is a number": (
        "UPDATE teams SET tools = '[7]'", ("teams", "7f000000-0000-4000-8000-000000000001"), "tools.0",
    ),
    "an infinite expiry": (
        "UPDATE tokens SET expires_at = 9e999", ("tokens", digest("alice")), "expires_at",
    ),
    "a lone surrogate": (
        "UPDATE tokens SET libraries = '[\"\\ud800\"]'", ("tokens", digest("alice")), "libraries.0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", MALFORMED)
async def test_malformed_record_is_null_named_and_isolated(publishing, fault):
    from registry import Team

    statement, (kind, id_), field = MALFORMED[fault]
    await publishing.open()
    await users(publishing, "ada")
    await publishing.operator.create_token(digest("alice"), user="ada", tools=["*"])
    team = Team(id="7f000000-0000-4000-8000-000000000001", name="Docs", owner="ada", active_jti="j")
    async with publishing.registry.transaction(actor="tests", action="write") as tx:
        await tx.put(team)
    await publishing.sync()
    assert publishing.document("live")[kind][id_] is not None
    publishing.scribble(statement, touched=[(kind, id_)])
    await users(publishing, "bob")
    await publishing.sync()
    live = publishing.document("live")
    assert live[kind][id_] is None
    assert live["users"].keys() == {"ada", "bob"}
    (problem,) = publishing.publisher.problems.values()
    assert problem.startswith(f"{kind}/{id_}: {field}: ")
    # Also when everything is published anew.
    publishing.scribble("UPDATE registry SET epoch = 2")
    await publishing.sync()
    assert publishing.document("base-00")[kind][id_] is None
    assert list(publishing.publisher.problems.values()) == [problem]


async def test_token_without_a_digest_is_not_published_or_quoted(publishing):
    await publishing.open(shards=64)
    await users(publishing, "ada")
    publishing.scribble(
        "INSERT INTO tokens VALUES ('lct_s3cret', 'x', 'ada', 1, NULL, '[]', '[\"*\"]')",
        touched=[("tokens", "lct_s3cret")],
    )
    await publishing.sync()
    assert "tokens" not in publishing.document("live")
    assert publishing.document("live")["users"].keys() == {"ada"}
    assert list(publishing.publisher.problems.values()) == [
        "tokens: an id that is not a digest, or not text"
    ]


async def test_setting_that_json_cannot_hold_is_left_out_and_named(publishing):
    await publishing.open()
    publishing.scribble(
        "UPDATE settings SET value = '1e999' WHERE name = 'staleness_limit'",
        touched=[("settings", "staleness_limit")],
    )
    await publishing.sync()
    settings = publishing.document("live")["settings"]
    assert "staleness_limit" not in settings
    assert settings["lockdown"] is False
    assert list(publishing.publisher.problems.values()) == [
        "settings/staleness_limit: is not a JSON value"
    ]


# Faults, and the heartbeat.


class FailingRegistry:
    """A registry that does not answer while `down`."""

    def __init__(self, registry):
        self._registry = registry
        self.down = False

    def __getattr__(self, name):
        return getattr(self._registry, name)

    async def version(self):
        if self.down:
            raise RegistryUnavailableError("the store does not answer")
        return await self._registry.version()


async def test_registry_outage_stops_the_heartbeat(publishing):
    await publishing.open()
    failing = FailingRegistry(publishing.registry)
    await publishing.restart(registry=failing)
    await publishing.sync()
    publishing.publisher.publish_heartbeat()
    before = publishing.document("heartbeat")["synced_at_ns"]
    failing.down = True
    for _ in range(5):
        publishing.now += HEARTBEAT_EVERY
        with pytest.raises(RegistryError):
            await publishing.sync()
        publishing.publisher.publish_heartbeat()
        assert publishing.document("heartbeat")["synced_at_ns"] == before
    failing.down = False
    await publishing.sync()
    publishing.publisher.publish_heartbeat()
    assert publishing.document("heartbeat")["synced_at_ns"] == before + 25_000_000_000


async def test_full_disk_serves_nothing_that_was_not_stored(publishing, monkeypatch):
    await publishing.open()
    before = publishing.served_bundles.get("live").revision
    synced = publishing.document("heartbeat")["synced_at_ns"]
    await users(publishing, "ada")

    def full(*_):
        raise OSError(28, "No space left on device")

    publishing.now += 10
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.replace", full)
        with pytest.raises(StoreUnusableError):
            await publishing.sync()
        publishing.publisher.publish_heartbeat()
    assert publishing.served_bundles.get("live").revision == before
    assert publishing.document("heartbeat")["synced_at_ns"] == synced
    await publishing.sync()
    assert publishing.document("live")["users"].keys() == {"ada"}


async def test_heartbeat_demands_a_change_once_all_can_have_it(publishing):
    await publishing.open()
    await users(publishing, "ada")
    await publishing.sync()
    publishing.publisher.publish_heartbeat()
    revision = publishing.publisher.version.revision
    assert publishing.document("heartbeat")["revision"] < revision
    publishing.now += 1
    publishing.publisher.publish_heartbeat()
    assert publishing.document("heartbeat")["revision"] == revision


async def test_heartbeat_remembers_demands_over_many_changes(publishing):
    await publishing.open()
    await users(publishing, "ada")
    await publishing.sync()
    publishing.now += 1
    publishing.publisher.publish_heartbeat()
    demanded = publishing.document("heartbeat")["revision"]
    for n in range(120):
        await users(publishing, f"u-{n}")
        await publishing.sync()
    publishing.publisher.publish_heartbeat()
    assert publishing.document("heartbeat")["revision"] >= demanded > 0


async def test_heartbeat_after_restart_demands_what_was_served(publishing):
    await publishing.open()
    await users(publishing, "ada")
    await publishing.sync()
    served = publishing.publisher.version.revision
    # As with every change, not before everybody can have it.
    await publishing.restart(served_bundles=type(publishing.served_bundles)())
    assert publishing.document("heartbeat")["revision"] == 0
    publishing.now = publishing.store.saved_at("live") + 1
    await publishing.restart(served_bundles=type(publishing.served_bundles)())
    assert publishing.document("heartbeat")["revision"] == served


async def test_concurrent_syncs_publish_each_change_once(publishing):
    import asyncio

    await publishing.open()
    await users(publishing, "ada")
    revisions = []
    put = publishing.served_bundles.put
    publishing.served_bundles.put = lambda bundle: (revisions.append(bundle.revision), put(bundle))
    await asyncio.gather(*(publishing.sync() for _ in range(10)))
    assert revisions == [f"1:{publishing.publisher.version.revision}"]


async def test_lockdown_is_published_as_a_setting(publishing):
    await publishing.open()
    await publishing.operator.lockdown(on=True)
    await publishing.sync()
    assert publishing.document("live")["settings"]["lockdown"] is True
    assert (await publishing.registry.get(Setting, "lockdown")).value is True


@pytest.mark.parametrize("seconds", [-60, 60])
async def test_clock_change_is_reported_and_stops_nothing(publishing, seconds):
    await publishing.open()
    await users(publishing, "ada")
    await publishing.sync()
    publishing.now += 2
    await publishing.sync()
    publishing.publisher.publish_heartbeat()
    demanded = publishing.document("heartbeat")["revision"]
    publishing.now += seconds
    await users(publishing, "bob")
    await publishing.sync()
    assert f"moved by {seconds:+} s" in publishing.publisher.heartbeat.clock_moved
    assert publishing.document("live")["users"].keys() == {"ada", "bob"}
    publishing.publisher.publish_heartbeat()
    heartbeat = publishing.document("heartbeat")
    # It says what the clock says, and never demands less than before.
    assert heartbeat["synced_at_ns"] == pytest.approx(publishing.now * 1e9)
    assert heartbeat["revision"] >= demanded
    publishing.now += abs(seconds) + 2
    publishing.publisher.publish_heartbeat()
    assert publishing.document("heartbeat")["revision"] == publishing.publisher.version.revision
