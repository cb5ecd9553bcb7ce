"""When a revocation is effective: every OPA has acknowledged it, or none could answer without it."""

import asyncio
import json
import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import until

from bundles.exceptions import KeyUnusableError, ReceiptInvalidError
from bundles.fleet.credentials import InstanceCredentials
from bundles.fleet.last_seen import LAG, LastSeenStore
from bundles.fleet.propagation import PropagationTracker
from bundles.fleet.receipt import TYPE, document, issue, verify
from bundles.fleet.tracker import FleetTracker
from lictor_common.version import CLOCK_TOLERANCE
from registry import RegistryVersion

pytestmark = pytest.mark.anyio

LIMIT = 30 + CLOCK_TOLERANCE


@pytest.fixture
async def written(publishing):
    """A publisher, and a change that is in its registry and not out yet."""
    await publishing.open()
    publishing.propagation = PropagationTracker(
        publishing.role, publishing.fleet, clock=publishing.clock
    )
    for id_ in ("opa-1", "opa-2"):
        publishing.fleet.acknowledge(id_, "live", publishing.served_bundles.get("live").revision)
    publishing.done = await publishing.operator.add_user("ada")
    return publishing


def acknowledge(written, *ids, version=None):
    version = version or written.done.version
    for id_ in ids:
        written.fleet.acknowledge(id_, "live", f"{version.epoch}:{version.revision}")


async def test_revocation_is_effective_when_all_have_acknowledged(written):
    waiting = asyncio.ensure_future(written.propagation.wait(written.done.version, seconds=20))
    await until(lambda: written.publisher.version == written.done.version, "it is published")
    written.now += 0.010
    acknowledge(written, "opa-1")
    await asyncio.sleep(0.01)
    assert not waiting.done()
    written.now += 0.010
    acknowledge(written, "opa-2")
    effect = await waiting
    assert (effect.effective, effect.how, effect.missing) == (True, "acknowledged", ())
    assert effect.acknowledged["opa-2"] - effect.published_at == pytest.approx(0.02, abs=1e-3)
    assert effect.acknowledged["opa-1"] - effect.published_at == pytest.approx(0.01, abs=1e-3)


async def test_later_revision_acknowledges_earlier_ones(written):
    later = (await written.operator.add_user("bob")).version
    await written.publisher.sync()
    acknowledge(written, "opa-1", "opa-2", version=later)
    assert (await written.propagation.wait(written.done.version, seconds=0)).effective


async def test_instance_without_acknowledgement_is_named(written):
    await written.publisher.sync()
    acknowledge(written, "opa-1")
    effect = await written.propagation.wait(written.done.version, seconds=0)
    assert (effect.effective, effect.how) == (False, "waiting")
    assert (list(effect.acknowledged), effect.missing) == (["opa-1"], ("opa-2",))


async def test_acknowledgement_of_another_epoch_does_not_count(written):
    await written.publisher.sync()
    acknowledge(written, "opa-1", "opa-2", version=RegistryVersion(0, 99))
    assert not (await written.propagation.wait(written.done.version, seconds=0)).effective


async def test_empty_fleet_is_never_a_success(publishing):
    await publishing.open()
    propagation = PropagationTracker(publishing.role, publishing.fleet, clock=publishing.clock)
    done = await publishing.operator.add_user("ada")
    await publishing.sync()
    publishing.now += 10 * LIMIT
    effect = await propagation.wait(done.version, seconds=0)
    assert (effect.effective, effect.acknowledged, effect.missing) == (False, {}, ())


async def test_silent_instance_counts_once_the_limit_has_passed(written):
    await written.publisher.sync()
    written.now += LIMIT - 1
    acknowledge(written, "opa-1")
    # The other was heard of just before the change was published: it is within the limit still.
    written.fleet.acknowledge("opa-2", "live", "1:0")
    assert not (await written.propagation.wait(written.done.version, seconds=0)).effective
    written.now += 2
    effect = await written.propagation.wait(written.done.version, seconds=0)
    assert (effect.effective, effect.how, effect.missing) == (True, "limit", ("opa-2",))


async def test_forgotten_instance_is_still_waited_for(written):
    written.now += LIMIT - 1
    acknowledge(written, "opa-1", version=RegistryVersion(1, 0))
    waiting = asyncio.ensure_future(written.propagation.wait(written.done.version, seconds=20))
    await until(lambda: written.publisher.version == written.done.version, "it is published")
    written.now += 2
    acknowledge(written, "opa-1")
    await asyncio.sleep(0.05)
    assert not waiting.done()
    acknowledge(written, "opa-2")
    assert (await waiting).how == "acknowledged"


async def test_unreporting_instances_always_take_the_whole_limit(written):
    written.role.has_unreported_instances = lambda _: True
    propagation = written.propagation
    await written.publisher.sync()
    acknowledge(written, "opa-1", "opa-2")
    assert not (await propagation.wait(written.done.version, seconds=0)).effective
    written.now += LIMIT
    acknowledge(written, "opa-1", "opa-2")
    assert (await propagation.wait(written.done.version, seconds=0)).how == "limit"


@pytest.fixture
def restarted(written, tmp_path):
    """Its effects, as after a restart with what the roster knows."""

    def restarted():
        last_seen = LastSeenStore(tmp_path / "fleet.json", boot="b", clock=written.clock)
        written.fleet = FleetTracker(last_seen, clock=written.clock)
        return PropagationTracker(written.role, written.fleet, clock=written.clock)

    return restarted


async def test_restart_waits_for_instances_that_have_not_returned(written, restarted):
    restarted()
    acknowledge(written, "opa-1", "opa-2", version=RegistryVersion(1, 0))
    propagation = restarted()
    await written.publisher.sync()
    acknowledge(written, "opa-1")
    effect = await propagation.wait(written.done.version, seconds=0)
    assert (effect.effective, effect.missing) == (False, ("opa-2",))
    acknowledge(written, "opa-2")
    assert (await propagation.wait(written.done.version, seconds=0)).how == "acknowledged"


async def test_restart_ignores_instances_too_stale_to_allow(written, restarted):
    restarted()
    acknowledge(written, "opa-1", "opa-2", version=RegistryVersion(1, 0))
    written.now += LIMIT + LAG + 1
    propagation = restarted()
    await written.publisher.sync()
    acknowledge(written, "opa-1")
    effect = await propagation.wait(written.done.version, seconds=0)
    assert (effect.how, list(effect.acknowledged), effect.missing) == (
        "acknowledged",
        ["opa-1"],
        (),
    )


async def test_lost_instance_list_takes_the_whole_limit_once(written, restarted, tmp_path):
    (tmp_path / "fleet.json").write_bytes(b"garbage")
    propagation = restarted()
    await written.publisher.sync()
    acknowledge(written, "opa-1")
    assert not (await propagation.wait(written.done.version, seconds=0)).effective
    written.now += LIMIT
    acknowledge(written, "opa-1")
    assert (await propagation.wait(written.done.version, seconds=0)).how == "limit"
    written.now += 1
    later = (await written.operator.add_user("bob")).version
    await written.publisher.sync()
    acknowledge(written, "opa-1", version=later)
    assert (await propagation.wait(later, seconds=0)).how == "acknowledged"


async def test_wait_ends_at_its_timeout(written):
    began = time.monotonic()
    effect = await written.propagation.wait(written.done.version, seconds=0.05)
    assert not effect.effective
    assert time.monotonic() - began >= 0.05


# Receipts.


@pytest.fixture
async def issued(written, bundle_keys):
    await written.publisher.sync()
    acknowledge(written, "opa-1", "opa-2")
    effect = await written.propagation.wait(written.done.version, seconds=0)
    [entry] = await written.registry.log()
    return issue(effect, entry, bundle_keys["data"])


async def test_receipt_names_the_change_and_the_acknowledgements(issued, bundle_keys):
    claims = verify(issued, bundle_keys["data"].public_pem)
    assert claims["entry"]["action"] == "user add"
    assert claims["entry"]["touched"] == [["users", "ada"]]
    assert claims["effect"]["acknowledged"].keys() == {"opa-1", "opa-2"}
    assert json.loads(document(issued)) == {"receipt": issued, "claims": claims}


async def test_receipt_of_another_key_is_refused(issued, bundle_keys):
    with pytest.raises(ReceiptInvalidError, match="signature"):
        verify(issued, bundle_keys["policy"].public_pem)


async def test_receipt_with_any_change_is_refused(issued, bundle_keys):
    head, body, signature = issued.split(".")
    for place in range(0, len(body), 7):
        changed = body[:place] + ("A" if body[place] != "A" else "B") + body[place + 1 :]
        with pytest.raises(ReceiptInvalidError):
            verify(f"{head}.{changed}.{signature}", bundle_keys["data"].public_pem)


@pytest.mark.parametrize(
    "change",
    [
        {"entry": None}, {"effect": {}}, {"iss": "x"}, {"entry": {"revision": 1}},
        {"effect": {"revision": 0, "effective": True}}, {"effect": {"revision": 1, "effective": False}},
        {"entry": {"touched": [["ghosts", "x"]]}}, {"entry": 7},
    ],
)  # fmt: skip
async def test_receipt_must_be_signed_as_a_receipt(issued, bundle_keys, change):
    claims = {**verify(issued, bundle_keys["data"].public_pem), **change}
    forged = jwt.encode(
        claims, bundle_keys["data"].private, algorithm="ES256", headers={"typ": TYPE}
    )
    with pytest.raises(ReceiptInvalidError):
        verify(forged, bundle_keys["data"].public_pem)


async def test_receipt_is_not_a_bundle_signature(bundle_keys):
    other = jwt.encode({"files": []}, bundle_keys["data"].private, algorithm="ES256")
    for text in (other, "", "a.b.c", "..", "\ud800"):
        with pytest.raises(ReceiptInvalidError):
            verify(text, bundle_keys["data"].public_pem)


# Bearers of instances.

INSTANCES = InstanceCredentials("s3cret-" * 10)


@given(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z"))
def test_instance_bearer_names_its_instance(id_):
    assert INSTANCES.id_of(INSTANCES.bearer(id_)) == id_
    assert InstanceCredentials("other--" * 10).id_of(INSTANCES.bearer(id_)) is None


@given(st.text())
def test_foreign_instance_bearer_is_refused(text):
    assert INSTANCES.id_of(text) is None
    assert INSTANCES.id_of(f"{text}.{INSTANCES.bearer('opa-1').partition('.')[2]}") is None
    assert INSTANCES.id_of(f"b3BhLTE.{text}") is None


@pytest.mark.parametrize("id_", ["", "-x", "a b", "a\n", "é", "x" * 129, "a/b", '"'])
def test_id_is_a_plain_name(id_):
    with pytest.raises(ValueError, match="id"):
        INSTANCES.bearer(id_)


def test_instance_secret_is_created_once_for_its_owner_only(tmp_path):
    path = tmp_path / "instances.key"
    bearer = InstanceCredentials.load(path).bearer("opa-1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert InstanceCredentials.load(path).id_of(bearer) == "opa-1"
    for spoilt in ("", "short"):
        path.write_text(spoilt)
        with pytest.raises(KeyUnusableError):
            InstanceCredentials.load(path)
