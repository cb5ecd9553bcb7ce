"""Which OPA runs what: their own reports, and what may be concluded from them."""

import random
from dataclasses import replace

import pytest
from support.faults import largest_file

from bundles.fleet.last_seen import LAG, LastSeenStore
from bundles.fleet.tracker import FleetTracker, Instance, version_of
from registry import RegistryVersion

NEWEST = RegistryVersion(1, 1000)


def report(id_="opa-1", *, base="1:5", **bundle):
    return {
        "labels": {"instance": id_, "version": "1.22.2"},
        "bundles": {"base-00": {"active_revision": base, **bundle}},
    }


def test_report_lists_active_bundles_and_errors():
    fleet = FleetTracker(clock=lambda: 7.0)
    fleet.report("opa-1", report(message="scope mismatch"), published=NEWEST)
    (one,) = fleet.instances()
    assert (one.id, one.version, one.seen_at) == ("opa-1", "1.22.2", 7.0)
    assert one.revisions == {"base-00": "1:5"}
    assert one.errors == {"base-00": "scope mismatch"}
    fleet.report("opa-1", report(base="1:6"), published=NEWEST)
    assert fleet.instances()[0].revisions == {"base-00": "1:6"}
    assert fleet.instances()[0].errors == {}


def test_instance_is_known_by_label_before_its_first_bundle():
    fleet = FleetTracker()
    labels = {"id": "made-up-at-each-start", "instance": "opa-1"}
    for bundles in ({}, {"bundles": None}):
        fleet.report("opa-1", {"labels": labels, **bundles}, published=NEWEST)
        (one,) = fleet.instances()
        assert (one.id, one.revisions) == ("opa-1", {})
        assert fleet.all_run("base-00", version=RegistryVersion(0, 0), within=60) is False


def test_nobodys_silence_proves_anything():
    assert FleetTracker().all_run("base-00", version=RegistryVersion(1, 0), within=60) is False


def test_revision_is_current_once_all_recent_instances_run_it():
    now = [100.0]
    fleet = FleetTracker(clock=lambda: now[0])
    fleet.report("a", report("a", base="1:7"), published=NEWEST)
    fleet.report("b", report("b", base="1:5"), published=NEWEST)
    assert fleet.all_run("base-00", version=RegistryVersion(1, 5), within=60) is True
    assert fleet.all_run("base-00", version=RegistryVersion(1, 6), within=60) is False
    now[0] += 50
    fleet.report("a", report("a", base="1:7"), published=NEWEST)
    now[0] += 20
    # The one that lags has not been seen for 70 seconds.
    assert fleet.all_run("base-00", version=RegistryVersion(1, 7), within=60) is True
    assert fleet.all_run("base-00", version=RegistryVersion(2, 1), within=60) is False
    assert fleet.all_run("base-01", version=RegistryVersion(1, 1), within=60) is False


@pytest.mark.parametrize(
    "odd",
    [
        {}, {"labels": {}, "bundles": {}}, {"labels": {"id": ""}, "bundles": {}}, {"labels": None},
        {"labels": {"instance": "a"}, "bundles": 7}, {"labels": {"instance": "a"}, "bundles": ["x"]}, {"labels": [], "bundles": {}},
    ],
)  # fmt: skip
def test_malformed_report_is_refused_and_changes_nothing(odd):
    fleet = FleetTracker()
    with pytest.raises(ValueError):
        fleet.report("a", odd, published=NEWEST)
    assert all(not one.revisions for one in fleet.instances())


def test_odd_bundles_in_a_report_count_as_none():
    fleet = FleetTracker()
    fleet.report(
        "a",
        {"labels": {"instance": "a"}, "bundles": {"base-00": None, "x": [], "y": {"message": 7}}},
        published=NEWEST,
    )
    assert fleet.instances()[0].revisions == {}
    assert fleet.all_run("base-00", version=RegistryVersion(1, 0), within=60) is False


def test_number_of_instances_is_bounded(monkeypatch):
    monkeypatch.setattr("bundles.fleet.tracker._MOST_INSTANCES", 2)
    fleet = FleetTracker()
    fleet.report("a", report("a"), published=NEWEST)
    fleet.report("b", report("b"), published=NEWEST)
    fleet.report("a", report("a", base="1:6"), published=NEWEST)
    with pytest.raises(ValueError):
        fleet.report("c", report("c"), published=NEWEST)


@pytest.mark.parametrize(
    "odd", ["", ":", "1", "1:", ":1", "-1:5", "1:-5", "1:5:6", " 1:5", "1:5\n", "a:b", "²:5", "1:" + "9" * 5000]
)  # fmt: skip
def test_malformed_revision_counts_as_the_lowest(odd):
    assert version_of(odd) < RegistryVersion(0, 0)
    fleet = FleetTracker()
    fleet.report("opa-1", report(base=odd), published=NEWEST)
    assert fleet.all_run("base-00", version=RegistryVersion(0, 0), within=60) is False


def test_acknowledgement_counts_the_first_time_only():
    now = [7.0]
    fleet = FleetTracker(clock=lambda: now[0])
    assert fleet.acknowledge("a", "live", "1:5") is True
    now[0] = 8.0
    assert fleet.acknowledge("a", "live", "1:5") is False
    (one,) = fleet.instances()
    assert (one.live, one.live_at, one.seen_at) == (RegistryVersion(1, 5), 7.0, 8.0)
    assert fleet.acknowledge("a", "live", "1:6") is True
    assert fleet.instances()[0].live_at == 8.0


def test_reports_of_two_servers_merge_to_the_newest_of_each_bundle():
    now = [100.0]
    here, there = FleetTracker(clock=lambda: now[0]), FleetTracker(clock=lambda: now[0])
    reported = []
    there.on_report = reported.append
    there.acknowledge("opa-1", "live", "1:4")
    there.acknowledge("opa-1", "heartbeat", "9.0")
    now[0] = 101.0
    here.acknowledge("opa-1", "live", "1:5")
    for instance in reported:
        here.merge(instance)
    (known,) = here.instances()
    assert known.revisions == {"live": "1:5", "heartbeat": "9.0"}
    assert (known.seen_at, known.live_at) == (101.0, 101.0)

    now[0] = 102.0
    there.acknowledge("opa-1", "live", "1:6")
    here.merge(reported[-1])
    assert here.instances()[0].live == RegistryVersion(1, 6)
    here.merge(replace(reported[-1], id="opa-2"))
    assert [one.id for one in here.instances()] == ["opa-1", "opa-2"]


# Over a restart.


class Kept:
    """A folder of bundles, and fleets that begin one after the other in it."""

    def __init__(self, folder):
        self.now = 1000.0
        self.boot = "this-boot"
        self.file = folder / "fleet.json"

    def fleet(self):
        return FleetTracker(
            LastSeenStore(self.file, boot=self.boot, clock=lambda: self.now), clock=lambda: self.now
        )


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path)


def seen(fleet):
    return {one.id: one.seen_at for one in fleet.instances()}


def test_instances_seen_before_a_restart_are_known_after_it(kept):
    before = kept.fleet()
    before.acknowledge("opa-1", "live", "1:5")
    before.report("opa-2", report("opa-2"), published=NEWEST)
    before.mark_seen("opa-3")
    before.merge(Instance(id="opa-4", seen_at=990.0))
    kept.now += 60
    after = kept.fleet()
    assert seen(after) == {"opa-1": 1010, "opa-2": 1010, "opa-3": 1010, "opa-4": 1000}
    assert not after.forgot_within(1e9)
    assert after.all_run("live", version=RegistryVersion(0, 0), within=1e9) is False, (
        "who knows what it runs"
    )
    after.acknowledge("opa-1", "live", "1:6")
    assert (after.instances()[0].live, after.instances()[0].live_at) == (
        RegistryVersion(1, 6),
        1060.0,
    )


def test_first_start_knows_no_instances(kept):
    fleet = kept.fleet()
    assert seen(fleet) == {}
    assert not fleet.forgot_within(1e9)


def test_stored_times_lag_by_no_more_than_is_allowed_for(kept):
    fleet, heard = kept.fleet(), {}
    moments = random.Random(7)
    for _ in range(500):
        kept.now += moments.choice([0.01, 0.1, 1, 4, 9, 40])
        id_ = moments.choice(["regular", "regular", "seldom"])
        fleet.acknowledge(id_, "live", "1:5")
        heard[id_] = kept.now
        known = seen(kept.fleet())
        assert all(known[one] >= at for one, at in heard.items())
    kept.now += 1e4
    assert all(at <= heard[one] + LAG for one, at in seen(kept.fleet()).items())


def test_regular_reports_are_rarely_written(kept):
    fleet, versions = kept.fleet(), set()
    for id_ in ("a", "b"):
        fleet.acknowledge(id_, "live", "1:5")
    for _ in range(100):
        kept.now += 0.05
        fleet.acknowledge("a", "live", "1:5")
        fleet.acknowledge("b", "live", "1:5")
        versions.add(kept.file.read_bytes())
    assert len(versions) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"", b"{", b"[]", b"null", b"7", b"\xff", b"{}", b'{"boot": "this-boot", "seen": {}}',
        b'{"boot": "this-boot", "seen": [], "forgot_at": null}',
        b'{"boot": "this-boot", "seen": {"a": "x"}, "forgot_at": null}',
        b'{"boot": "this-boot", "seen": {"a": NaN}, "forgot_at": null}',
        b'{"boot": "another", "seen": {"a": 1}, "forgot_at": null}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_unreadable_instance_list_is_discarded_and_reported(kept, garbage, caplog):
    kept.file.write_bytes(garbage)
    fleet = kept.fleet()
    assert seen(fleet) == {}
    assert fleet.forgot_within(0)
    assert "last_seen.unknown" in caplog.text
    kept.now += 35
    assert fleet.forgot_within(35)
    assert not fleet.forgot_within(34)


def test_discarded_instance_list_stays_unknown_over_restarts(kept):
    kept.file.write_bytes(b"")
    kept.fleet().acknowledge("opa-1", "live", "1:5")
    kept.now += 5
    fleet = kept.fleet()
    assert seen(fleet) == {"opa-1": 1005}
    assert fleet.forgot_within(5)
    assert not fleet.forgot_within(4)


def test_missing_instance_list_after_publishing_is_not_a_first_start(kept):
    (kept.file.parent / "published.json").write_text("{}")
    assert kept.fleet().forgot_within(0)


def test_unwritable_instance_list_is_known_lost_at_the_next_start(kept, monkeypatch, caplog):
    fleet = kept.fleet()
    fleet.acknowledge("opa-1", "live", "1:5")
    with largest_file(0):
        for number in range(5):
            kept.now += 20
            fleet.acknowledge(f"new-{number}", "live", "1:5")
    assert len(fleet.instances()) == 6
    assert caplog.text.count("last_seen.unwritable") == 1
    assert kept.fleet().forgot_within(0)


def test_instance_silent_for_a_week_is_forgotten(kept):
    fleet = kept.fleet()
    fleet.acknowledge("old", "live", "1:5")
    kept.now += 6 * 86400
    kept.fleet().acknowledge("new", "live", "1:5")
    kept.now += 2 * 86400
    assert seen(kept.fleet()) == {"new": 1000 + 6 * 86400 + LAG}


def test_clock_set_back_forgets_no_instance(kept):
    kept.fleet().acknowledge("opa-1", "live", "1:5")
    kept.now -= 500
    assert seen(kept.fleet()) == {"opa-1": 500}


def test_instance_list_is_bounded(kept, monkeypatch):
    monkeypatch.setattr("bundles.fleet.last_seen._MOST", 2)
    fleet = kept.fleet()
    for number in range(4):
        kept.now += 20
        fleet.acknowledge(f"opa-{number}", "live", "1:5")
    assert set(seen(kept.fleet())) == {"opa-2", "opa-3"}
