"""Records in bases are JSON in strings, once every accepted policy decodes them."""

import asyncio
import io
import json
import tarfile

import pytest
from support.published import settled, start, token
from support.waiting import until

from bundles.publish.base_bundles import GRACE
from bundles.publish.reconciler import Reconciler
from bundles.publish.shards import is_packed
from bundles.publish.signing import canonical_json, canonical_records, data_of, sign
from pdp_client.bearer.opaque import digest
from registry import Kind, Ref

pytestmark = pytest.mark.anyio
ODD = 'a "quoted" \u2028 \\ \U0001f600 name'


def records(publishing, shard="00"):
    """The records of a base as they are in it."""
    content = publishing.served_bundles.get(f"base-{shard}").content
    return data_of(content)["registry"]["base"][shard]


def older(policy):
    """The policy as an older version of lictor built it, as far as the publisher can tell."""
    manifest = {"lictor": {"manifest": {"revision": "older"}}}
    return sign("policy", revision="older", roots=["lictor"], key=policy, data=manifest, rego={})


async def anew(publishing):
    """Have all of the registry in the bases."""
    publishing.store.path("base-00").unlink()
    return await publishing.restart()


async def test_record_in_a_base_is_its_canonical_json(publishing):
    await publishing.open()
    await publishing.operator.add_user("ada", name=ODD)
    await anew(publishing)
    assert records(publishing)["users"] == {
        "ada": canonical_json({"active": True, "name": ODD}).decode()
    }
    assert is_packed(publishing.served_bundles.get("base-00").content)


async def test_compaction_keeps_packed_records_and_packs_new_ones(publishing):
    await publishing.open(live_limit=0)
    await publishing.operator.add_user("ada")
    await publishing.sync()
    first = records(publishing)["users"]["ada"]
    publishing.now += GRACE + 1
    await publishing.sync()
    await publishing.operator.add_user("bob")
    await publishing.sync()
    users = records(publishing)["users"]
    assert users["ada"] == first
    assert json.loads(users["bob"]) == {"name": "bob", "active": True}


async def test_bases_are_packed_when_no_older_policy_is_accepted(
    publishing, bundle_keys, policy_bundle
):
    publishing.store.save(older(bundle_keys["policy"]))
    await publishing.open()
    await publishing.operator.add_user("ada")
    await anew(publishing)
    assert records(publishing)["users"]["ada"] == {"name": "ada", "active": True}
    assert await publishing.publisher.compact() is None
    # As after `lictor policies build --sign`: OPAs may run the older policy for two minutes.
    publishing.store.save(policy_bundle)
    await publishing.sync()
    publishing.now += 119
    await publishing.sync()
    assert records(publishing)["users"]["ada"] == {"name": "ada", "active": True}
    publishing.now += 2
    await publishing.sync()
    assert json.loads(records(publishing)["users"]["ada"]) == {"name": "ada", "active": True}
    # Written once.
    publishing.now += GRACE + 1
    await publishing.sync()
    assert await publishing.publisher.compact() is None


async def test_bases_of_an_older_version_are_packed_after_a_restart(
    publishing, bundle_keys, policy_bundle
):
    publishing.store.save(older(bundle_keys["policy"]))
    await publishing.open()
    await publishing.operator.add_user("ada")
    await anew(publishing)
    publishing.store.save(policy_bundle)
    await publishing.restart(served_bundles=type(publishing.served_bundles)())
    assert records(publishing)["users"]["ada"] == {"name": "ada", "active": True}
    await publishing.sync()
    assert json.loads(records(publishing)["users"]["ada"]) == {"name": "ada", "active": True}


async def test_no_call_is_refused_while_bases_are_packed(published, bundle_keys, policy_bundle):
    # The rules decode records, but the publisher is not told so yet: as with those of an older version.
    published.deployment.fetch_shards(3)
    content = data_of(policy_bundle.content)["lictor"]["manifest"]
    assert content["decodes_records"] is True
    store = published.store
    store.save(_unflagged(policy_bundle, bundle_keys["policy"]))
    await published.open(shards=3)
    await published.operator.add_user("ada")
    bearers = [f"bearer-{n}" for n in range(12)]
    for bearer in bearers:
        await token(published, bearer)
    published.scribble("UPDATE registry SET epoch = 2")
    pdp = await start(published)
    refused, stop = [], asyncio.Event()

    async def call():
        while not stop.is_set():
            for bearer in bearers:
                decision = await pdp.authorize(bearer, tool="search")
                if not decision.allow:
                    refused.append(decision)

    async with asyncio.TaskGroup() as group:
        group.create_task(call())
        store.save(policy_bundle)
        await published.sync()
        await published.deployment.bundles.wait_for_report(
            "policy", revision=policy_bundle.revision
        )
        published.now += 121
        forms = set()
        for _ in range(3):
            await published.publisher.sync()
            assert await published.publisher.compact() is not None
            await settled(published)
            forms.add(
                tuple(is_packed(published.served_bundles.get(n).content) for n in published.bases())
            )
        stop.set()
    # Bases of both forms were there together, and then all were packed.
    assert (True, True, True) in forms
    assert len(forms) == 3
    assert refused == []


def _unflagged(policy, key):
    with tarfile.open(fileobj=io.BytesIO(policy.content)) as tar:
        rego = {
            member.name.lstrip("/"): tar.extractfile(member).read()
            for member in tar.getmembers()
            if member.name.endswith(".rego")
        }
    return sign(
        "policy", revision="older", roots=["lictor", "system/authz", "system/log"], key=key,
        data={"lictor": {"manifest": {"revision": "older"}}}, rego=rego,
    )  # fmt: skip


DAMAGED = {
    "cut": ('{"name":"ad', "users/ada: its text in base-00 is not JSON"),
    "empty": ("", "users/ada: its text in base-00 is not JSON"),
    "a list": ("[]", "users/ada: Input should be a valid dictionary (in base-00)"),
    "another shape": (
        '{"active":"yes","name":"ada"}',
        "users/ada: active: Input should be a valid boolean (in base-00)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
async def test_damaged_record_is_refused_named_and_mended(published, bundle_keys, damage):
    text, problem = DAMAGED[damage]
    await published.open()
    for user in ("ada", "bob"):
        await published.operator.add_user(user)
        await published.operator.create_token(digest(user), user=user, tools=["*"])
    published.scribble("UPDATE registry SET epoch = 2")
    await published.sync()
    base = published.served_bundles.get("base-00")
    document = records(published)
    document["users"]["ada"] = text
    damaged = sign(
        "base-00", revision=base.revision, roots=["registry/base/00"], key=bundle_keys["data"],
        data=canonical_records(document), path="registry/base/00",
    )  # fmt: skip
    published.store.save(damaged)
    published.served_bundles.put(damaged)
    pdp = await start(published)
    # The record is refused, and its shard stands.
    assert (await pdp.authorize("ada", tool="search")).reason == "user_disabled"
    assert (await pdp.authorize("bob", tool="search")).allow
    reconciler = Reconciler(
        published.publisher, published.registry, published.store, clock=published.clock
    )
    assert (await reconciler.run()).differed == 1
    assert published.publisher.problems == {Ref(Kind.USERS, "ada"): problem}

    async def mended():
        return (await pdp.authorize("ada", tool="search")).allow

    await until(mended, "the record is published anew")
    await reconciler.run()
    assert published.publisher.problems == {}
