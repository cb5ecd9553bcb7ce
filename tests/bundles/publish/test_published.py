"""From the registry to a real OPA: changes arrive, restarts and folds are not noticed, faults are."""

import asyncio
import time

import pytest
from support.published import setting, start, token
from support.waiting import until

from bundles.build.policies import build_site
from bundles.publish.base_bundles import GRACE as _GRACE
from pdp_client.bearer.opaque import digest
from registry import Token
from registry.exceptions import RegistryUnavailableError

pytestmark = pytest.mark.anyio


async def reason(pdp, bearer, wanted):
    async def asked():
        return (await pdp.authorize(bearer, tool="search")).reason == wanted

    await until(asked, f"{bearer} is {wanted}")


async def test_grants_revocations_and_deletions_reach_opa(published):
    pdp = await start(published)
    await published.operator.add_user("ada")
    for bearer in ("one", "two"):
        await token(published, bearer)
    await published.sync()
    await reason(pdp, "one", "ok")
    await published.operator.revoke_token(digest("one"))
    await published.sync()
    await reason(pdp, "one", "token_deactivated")
    async with published.registry.transaction(actor="tests", action="delete") as tx:
        await tx.delete(Token, digest("two"))
    await published.sync()
    await reason(pdp, "two", "invalid_token")


async def test_decision_with_64_shards_finds_every_record(published):
    published.deployment.fetch_shards(64)
    bearers = [f"bearer-{n}" for n in range(60)]
    await published.open(shards=64)
    await published.operator.add_user("ada")
    for bearer in bearers:
        await token(published, bearer)
    # What is there when an epoch begins is in the bases.
    published.scribble("UPDATE registry SET epoch = 2")
    pdp = await start(published, shards=64)
    assert "tokens" not in published.document("live")
    assert {
        d.reason for d in await asyncio.gather(*(pdp.authorize(b, tool="x") for b in bearers))
    } == {"ok"}
    await published.operator.disable_user("ada")
    await published.sync()
    await reason(pdp, bearers[0], "user_disabled")
    after = await asyncio.gather(*(pdp.authorize(b, tool="x") for b in bearers))
    assert {d.reason for d in after} == {"user_disabled"}


async def test_revoked_token_does_not_return_with_an_old_base(published):
    pdp = await start(published, live_limit=3)
    await published.operator.add_user("ada")
    for bearer in ("one", "two", "three"):
        await token(published, bearer)
    await published.sync()
    await cut(published)
    published.deployment.opa.kill()
    published.deployment.opa.start()
    for bearer in ("one", "two", "three"):
        await reason(pdp, bearer, "ok")

    await published.operator.revoke_token(digest("one"))
    async with published.registry.transaction(actor="tests", action="delete") as tx:
        await tx.delete(Token, digest("two"))
    for user in ("eve", "bob"):
        await published.operator.add_user(user)
    await published.sync()
    after = (("one", "token_deactivated"), ("two", "invalid_token"), ("three", "ok"))
    for bearer, wanted in after:
        await reason(pdp, bearer, wanted)

    # By now the two are out of live, and this OPA polls its base but once a minute: until it does,
    # it has no answer rather than the old one.
    await cut(published)
    for bearer, _ in after:
        assert (await pdp.authorize(bearer, tool="x")).reason == "stale_data"
    published.deployment.opa.kill()
    published.deployment.opa.start()
    for bearer, wanted in after:
        await reason(pdp, bearer, wanted)


async def cut(published):
    """Let the grace pass after a fold, and wait until OPA runs the live that is left."""
    assert "tokens" in published.document("live")
    published.now += _GRACE + 1
    await published.sync()
    published.publisher.publish_heartbeat()
    assert "tokens" not in published.document("live")
    await published.deployment.bundles.wait_for_report(
        "live", revision=published.served_bundles.get("live").revision
    )

    async def is_cut():
        printed = await published.deployment.pdp().authorize("three", tool="x")
        return printed.reason == "stale_data"

    await until(is_cut, "OPA runs the live that was cut")


async def test_live_shrinks_unnoticed_after_all_report_the_base(published):
    pdp = await start(published, live_limit=2)
    await published.operator.add_user("ada")
    for bearer in ("one", "two", "three"):
        await token(published, bearer)
    await published.sync()
    await reason(pdp, "one", "ok")
    published.deployment.opa.kill()
    published.deployment.opa.start()
    await published.deployment.bundles.wait_for_report(
        "base-00", revision=published.served_bundles.get("base-00").revision
    )
    await published.sync()
    assert "tokens" not in published.document("live")
    await published.deployment.bundles.wait_for_report(
        "live", revision=published.served_bundles.get("live").revision
    )
    for bearer in ("one", "two", "three"):
        await reason(pdp, bearer, "ok")


async def test_publisher_restart_makes_nothing_stale(published):
    pdp = await start(published)
    await published.operator.add_user("ada")
    await token(published, "one")
    await published.sync()
    await reason(pdp, "one", "ok")
    reasons = set()
    for _ in range(3):
        await published.restart()
        await published.operator.add_user(f"u-{published.publisher.version.revision}")
        await published.sync()
        for _ in range(20):
            reasons.add((await pdp.authorize("one", tool="search")).reason)
    assert reasons == {"ok"}


async def test_while_the_registry_does_not_answer_opa_grows_stale(published, monkeypatch):
    pdp = await start(published)
    await published.operator.add_user("ada")
    await token(published, "one")
    await setting(published, "staleness_limit", 600 + 2)

    async def fresh():
        # Two seconds are short, so the heartbeat goes on until OPA has one of them in time.
        published.now = time.time() - 600
        await published.sync()
        published.publisher.publish_heartbeat()
        return (await pdp.authorize("one", tool="search")).reason == "ok"

    await until(fresh, "OPA has fresh data")

    async def down():
        raise RegistryUnavailableError("the store does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(published.registry, "version", down)

        async def stale():
            # It beats all the time; what stands still is what it says.
            published.now += 0.01
            with pytest.raises(RegistryUnavailableError):
                await published.sync()
            published.publisher.publish_heartbeat()
            return (await pdp.authorize("one", tool="search")).reason == "stale_data"

        await until(stale, "OPA has no fresh data")
    await until(fresh, "OPA has fresh data again")


async def test_malformed_record_denies_only_its_owner(published):
    pdp = await start(published)
    await published.operator.add_user("ada")
    for bearer in ("one", "two"):
        await token(published, bearer)
    await published.sync()
    await reason(pdp, "one", "ok")
    published.scribble(
        f"UPDATE tokens SET tools = '[\"[\"]' WHERE digest = '{digest('one')}'",
        touched=[("tokens", digest("one"))],
    )
    await published.sync()
    await reason(pdp, "one", "invalid_token")
    await reason(pdp, "two", "ok")


async def test_malformed_limit_denies_all_callers(published):
    pdp = await start(published)
    await published.operator.add_user("ada")
    await token(published, "one")
    await published.sync()
    await reason(pdp, "one", "ok")
    published.scribble(
        "UPDATE settings SET value = '1e999' WHERE name = 'staleness_limit'",
        touched=[("settings", "staleness_limit")],
    )
    await published.sync()
    await reason(pdp, "one", "stale_data")


def write_site(published, opa_binary, text):
    folder = published.path.parent / "site"
    (folder / "rules.rego").write_text(f"package site\n\n{text}\n")
    bundle = build_site(opa_binary, folder, published.keys["policy"])
    published.store.save(bundle)
    return bundle


async def test_new_site_is_rolled_out_and_an_old_one_is_refused(published, opa_binary):
    pdp = await start(published)
    await published.operator.add_user("ada")
    await token(published, "one")
    await published.sync()
    await reason(pdp, "one", "ok")
    old = published.served_bundles.get("site")
    new = write_site(
        published,
        opa_binary,
        'deny contains {"action": "search", "code": "closed", "message": "Closed."} if data.lictor.actions',
    )
    await published.sync()
    assert published.document("heartbeat")["site"] == [new.revision, old.revision]
    await reason(pdp, "one", "site_rule")
    await published.deployment.bundles.wait_for_report("site", revision=new.revision)
    # Within the overlap either may run; an OPA that still has the old one is not stale.
    published.served_bundles.put(old)
    await published.deployment.bundles.wait_for_report("site", revision=old.revision)
    assert (await pdp.authorize("one", tool="search")).reason == "ok"
    # After it, the old one is a replay.
    published.now += 121
    await published.sync()
    published.publisher._policies.serve = lambda: None
    published.publisher.publish_heartbeat()
    assert published.document("heartbeat")["site"] == [new.revision]
    await reason(pdp, "one", "stale_data")
    published.served_bundles.put(new)
    await reason(pdp, "one", "site_rule")


async def test_restored_registry_starts_the_next_epoch_in_opa(published):
    pdp = await start(published)
    await published.operator.add_user("ada")
    await token(published, "one")
    await published.sync()
    await reason(pdp, "one", "ok")
    published.scribble("UPDATE registry SET epoch = 2, revision = 1")
    await published.sync()
    published.publisher.publish_heartbeat()
    published.deployment.opa.kill()
    published.deployment.opa.start()

    async def restored():
        decision = await pdp.authorize("one", tool="search")
        return decision.allow and decision.epoch == 2

    await until(restored, "OPA answers from the new epoch")
