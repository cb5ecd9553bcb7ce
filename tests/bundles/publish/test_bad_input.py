"""Odd but signed: what the Rego decides on data, a real OPA decides on bundles."""

import time

import pytest
from support.tiers import long_family
from support.waiting import until

from bundles.publish.signing import sign

pytestmark = pytest.mark.anyio


async def reason_becomes(pdp, reason, *, bearer="alice"):
    latest = None

    async def asked():
        nonlocal latest
        latest = await pdp.authorize(bearer, tool="search")
        return latest.reason == reason

    await until(asked, f"the reason is {reason}")
    return latest


async def test_whole_set_of_bundles_allows(signed):
    pdp = await signed.start_signed()
    decision = await pdp.authorize("alice", tool="search")
    assert decision.allow is True
    assert decision.libraries == ("lib-a", "lib-b")


@pytest.mark.parametrize(
    "patch",
    long_family(
        [
            {"base": {"00": {"revision": 29}}},
            {"base": {"00": {"epoch": 2}}},
            {"base": {"00": {"revision": None}}},
            {"heartbeat": {"synced_ago": 700}},
            {"heartbeat": {"synced_ago": -60}},
            {"heartbeat": {"synced_ago": None}},
            {"heartbeat": {"reconciled_ago": 700}},
            {"heartbeat": {"reconciled_ago": -60}},
            {"heartbeat": {"revision": 43}},
            {"heartbeat": {"epoch": 2}},
            {"heartbeat": {"policy": ["another"]}},
            {"heartbeat": {"site": []}},
            {"live": {"revision": 39}},
            {"live": {"since": {"00": 31}}},
            {"live": {"settings": {"staleness_limit": None}}},
        ],
        quick=5,
    ),
    ids=str,
)
async def test_signed_data_that_does_not_fit_together_is_stale(signed, patch):
    signed.bundles.put_dataset(patch)
    signed.opa.start()
    pdp = await signed.wait_until_answering()
    for name in signed.bundles.served_bundles.names():
        await signed.bundles.wait_for_report(
            name, revision=signed.bundles.served_bundles.get(name).revision
        )
    decision = await pdp.authorize("alice", tool="search")
    assert (decision.allow, decision.reason) == (False, "stale_data")
    assert decision.libraries == ()


async def test_missing_base_shard_denies_callers_that_need_it(signed):
    pdp = await signed.start_signed(leave_out=["base-00"])
    assert (await pdp.authorize("alice", tool="search")).reason == "stale_data"
    signed.bundles.put_dataset()
    assert (await reason_becomes(pdp, "ok")).allow is True


async def test_old_signed_live_that_is_replayed_is_stale(signed):
    old = signed.bundles.sign(
        "live", {"epoch": 1, "revision": 39, "since": {"00": 30}, "settings": {}}
    )
    pdp = await signed.start_signed()
    assert (await pdp.authorize("alice", tool="search")).allow is True
    signed.bundles.served_bundles.put(old)
    await signed.bundles.wait_for_report("live", revision="1:39")
    # To one that has seen better it is behind; to a new one the heartbeat gives it away.
    assert (await pdp.authorize("alice", tool="search")).allow is False
    assert (await signed.pdp().authorize("alice", tool="search")).reason == "stale_data"


async def test_old_signed_policies_that_are_replayed_are_stale(signed):
    pdp = await signed.start_signed()
    signed.bundles.put_site(revision="site-0")
    await signed.bundles.wait_for_report("site", revision="site-0")
    assert (await pdp.authorize("alice", tool="search")).reason == "stale_data"
    signed.bundles.put_site()
    await reason_becomes(pdp, "ok")


async def test_heartbeat_that_stands_still_grows_stale(signed):
    limits = {"live": {"settings": {"staleness_limit": 2}}, "heartbeat": {"synced_ago": 0}}
    pdp = await signed.start_signed(limits)
    allowed = []

    async def stale():
        decision = await pdp.authorize("alice", tool="search")
        if decision.allow:
            allowed.append(decision.valid_until)
        return decision.reason == "stale_data"

    await until(stale, "the heartbeat has grown stale")
    # Whatever was allowed until then said until when.
    assert all(moment <= time.time() for moment in allowed)
    signed.bundles.put_dataset(limits)
    await reason_becomes(pdp, "ok")


SITE_FAULTS = {
    "a number that is none": 'deny contains {"action": "x", "code": "c", "message": "m"} if to_number(input.action.name) == 7',
    "a division by zero": 'deny contains {"action": "x", "code": "c", "message": "m"} if 1 / count(input.nothing_here | set()) == 7\n\nx := 1 / (count(data.lictor.actions) - 1)\n\nhidden contains "l" if x == 1',
    "text that is no JSON": 'hidden contains "lib-a" if json.unmarshal(input.action.name).x',
    "a time that is none": 'hidden contains "lib-a" if time.parse_rfc3339_ns(input.action.name) > 0',
}  # fmt: skip


@pytest.mark.parametrize("fault", SITE_FAULTS)
async def test_site_rule_that_errors_denies_as_unavailable(signed, fault):
    pdp = await signed.start_signed()
    signed.bundles.put_site(f"package site\n\n{SITE_FAULTS[fault]}\n", revision="site-1")
    decision = await reason_becomes(pdp, "unavailable")
    assert decision.allow is False
    signed.bundles.put_site("package site\n\ndeny := set()\n")
    await reason_becomes(pdp, "ok")


async def test_two_complete_values_at_once_deny_as_unavailable(signed):
    pdp = await signed.start_signed()
    signed.bundles.put_site(
        'package site\n\nhidden := {"lib-a"}\n\nhidden := {"lib-b"} if input.action\n'
    )
    assert (await reason_becomes(pdp, "unavailable")).allow is False


async def test_signed_site_that_says_package_lictor_is_not_loaded(signed):
    pdp = await signed.start_signed()
    rules = {"site/evil.rego": b"package lictor\n\nallow := true\n"}
    data = {
        "site": {
            "manifest": {
                "revision": "site-1",
                "clock": False,
                "arguments": False,
                "libraries": False,
            }
        }
    }
    evil = sign(
        "site",
        revision="evil",
        roots=["site"],
        key=signed.bundles.keys["policy"],
        data=data,
        rego=rules,
    )
    signed.bundles.served_bundles.put(evil)
    reported = await signed.bundles.wait_for_report("site", error="")
    assert "lictor" in reported.errors["site"]
    assert reported.revisions["site"] == "site-1"
    assert (await pdp.authorize("switched-off", tool="search")).reason == "token_deactivated"


async def test_signed_site_with_the_roots_of_lictor_is_not_loaded(signed):
    pdp = await signed.start_signed()
    rules = {"lictor/evil.rego": b"package lictor\n\nallow := true\n"}
    evil = sign(
        "site",
        revision="evil",
        roots=["lictor", "site"],
        key=signed.bundles.keys["policy"],
        data={},
        rego=rules,
    )
    signed.bundles.served_bundles.put(evil)
    reported = await signed.bundles.wait_for_report("site", error="")
    assert "overlap" in reported.errors["site"]
    assert (await pdp.authorize("switched-off", tool="search")).reason == "token_deactivated"


async def test_data_signed_by_the_data_key_cannot_be_policy(signed):
    pdp = await signed.start_signed()
    rules = {"site/rules.rego": b"package site\n\nhidden := set()\n"}
    for name in ("site", "live"):
        evil = sign(
            name,
            revision="evil",
            roots=["site"],
            key=signed.bundles.keys["data"],
            data={},
            rego=rules,
        )
        signed.bundles.put_raw("site", evil.content)
        await signed.bundles.wait_for_report("site", error="")
    assert (await pdp.authorize("alice", tool="search")).allow is True


async def test_network_rule_is_refused_by_build_and_denied_by_opa(signed):
    # `lictor policies build` refuses it (test_policies.py); a stolen key could still sign it.
    pdp = await signed.start_signed()
    signed.bundles.put_site(
        'package site\n\nhidden contains "lib-a" if http.send({"url": "http://127.0.0.1:1", "method": "GET"})\n'
    )
    assert (await reason_becomes(pdp, "unavailable")).allow is False
