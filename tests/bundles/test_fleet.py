"""Which OPA runs what: their own reports, and what may be concluded from them."""

from dataclasses import replace

import pytest

from bundles.fleet import Fleet, stamp_of
from registry import Stamp

NEWEST = Stamp(1, 1000)


def report(id_="opa-1", *, base="1:5", **bundle):
    return {
        "labels": {"instance": id_, "version": "1.22.2"},
        "bundles": {"base-00": {"active_revision": base, **bundle}},
    }


def test_a_report_says_what_an_instance_runs_and_what_failed():
    fleet = Fleet(clock=lambda: 7.0)
    fleet.report("opa-1", report(message="scope mismatch"), published=NEWEST)
    (one,) = fleet.instances()
    assert (one.id, one.version, one.seen_at) == ("opa-1", "1.22.2", 7.0)
    assert one.revisions == {"base-00": "1:5"}
    assert one.errors == {"base-00": "scope mismatch"}
    fleet.report("opa-1", report(base="1:6"), published=NEWEST)
    assert fleet.instances()[0].revisions == {"base-00": "1:6"}
    assert fleet.instances()[0].errors == {}


def test_an_instance_is_known_by_its_label_before_it_has_a_bundle():
    fleet = Fleet()
    labels = {"id": "made-up-at-each-start", "instance": "opa-1"}
    for bundles in ({}, {"bundles": None}):
        fleet.report("opa-1", {"labels": labels, **bundles}, published=NEWEST)
        (one,) = fleet.instances()
        assert (one.id, one.revisions) == ("opa-1", {})
        assert fleet.all_run("base-00", stamp=Stamp(0, 0), within=60) is False


def test_nobodys_silence_proves_anything():
    assert Fleet().all_run("base-00", stamp=Stamp(1, 0), within=60) is False


def test_all_run_a_revision_when_each_that_was_seen_lately_does():
    now = [100.0]
    fleet = Fleet(clock=lambda: now[0])
    fleet.report("a", report("a", base="1:7"), published=NEWEST)
    fleet.report("b", report("b", base="1:5"), published=NEWEST)
    assert fleet.all_run("base-00", stamp=Stamp(1, 5), within=60) is True
    assert fleet.all_run("base-00", stamp=Stamp(1, 6), within=60) is False
    now[0] += 50
    fleet.report("a", report("a", base="1:7"), published=NEWEST)
    now[0] += 20
    # The one that lags has not been seen for 70 seconds.
    assert fleet.all_run("base-00", stamp=Stamp(1, 7), within=60) is True
    assert fleet.all_run("base-00", stamp=Stamp(2, 1), within=60) is False
    assert fleet.all_run("base-01", stamp=Stamp(1, 1), within=60) is False


@pytest.mark.parametrize(
    "odd",
    [
        {}, {"labels": {}, "bundles": {}}, {"labels": {"id": ""}, "bundles": {}}, {"labels": None},
        {"labels": {"instance": "a"}, "bundles": 7}, {"labels": {"instance": "a"}, "bundles": ["x"]}, {"labels": [], "bundles": {}},
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused_and_changes_nothing(odd):
    fleet = Fleet()
    with pytest.raises(ValueError):
        fleet.report("a", odd, published=NEWEST)
    assert all(not one.revisions for one in fleet.instances())


def test_odd_bundles_in_a_report_count_as_none():
    fleet = Fleet()
    fleet.report(
        "a",
        {"labels": {"instance": "a"}, "bundles": {"base-00": None, "x": [], "y": {"message": 7}}},
        published=NEWEST,
    )
    assert fleet.instances()[0].revisions == {}
    assert fleet.all_run("base-00", stamp=Stamp(1, 0), within=60) is False


def test_the_number_of_instances_is_bounded(monkeypatch):
    monkeypatch.setattr("bundles.fleet._MOST_INSTANCES", 2)
    fleet = Fleet()
    fleet.report("a", report("a"), published=NEWEST)
    fleet.report("b", report("b"), published=NEWEST)
    fleet.report("a", report("a", base="1:6"), published=NEWEST)
    with pytest.raises(ValueError):
        fleet.report("c", report("c"), published=NEWEST)


@pytest.mark.parametrize(
    "odd", ["", ":", "1", "1:", ":1", "-1:5", "1:-5", "1:5:6", " 1:5", "1:5\n", "a:b", "²:5", "1:" + "9" * 5000]
)  # fmt: skip
def test_what_is_no_revision_is_below_every_other(odd):
    assert stamp_of(odd) < Stamp(0, 0)
    fleet = Fleet()
    fleet.report("opa-1", report(base=odd), published=NEWEST)
    assert fleet.all_run("base-00", stamp=Stamp(0, 0), within=60) is False


def test_an_acknowledgement_is_one_the_first_time():
    now = [7.0]
    fleet = Fleet(clock=lambda: now[0])
    assert fleet.acknowledge("a", "live", "1:5") is True
    now[0] = 8.0
    assert fleet.acknowledge("a", "live", "1:5") is False
    (one,) = fleet.instances()
    assert (one.live, one.live_at, one.seen_at) == (Stamp(1, 5), 7.0, 8.0)
    assert fleet.acknowledge("a", "live", "1:6") is True
    assert fleet.instances()[0].live_at == 8.0


def test_of_what_two_servers_heard_the_newest_of_each_bundle_counts():
    now = [100.0]
    here, there = Fleet(clock=lambda: now[0]), Fleet(clock=lambda: now[0])
    told = []
    there.told = told.append
    there.acknowledge("opa-1", "live", "1:4")
    there.acknowledge("opa-1", "heartbeat", "9.0")
    now[0] = 101.0
    here.acknowledge("opa-1", "live", "1:5")
    for instance in told:
        here.merge(instance)
    (known,) = here.instances()
    assert known.revisions == {"live": "1:5", "heartbeat": "9.0"}
    assert (known.seen_at, known.live_at) == (101.0, 101.0)

    now[0] = 102.0
    there.acknowledge("opa-1", "live", "1:6")
    here.merge(told[-1])
    assert here.instances()[0].live == Stamp(1, 6)
    here.merge(replace(told[-1], id="opa-2"))
    assert [one.id for one in here.instances()] == ["opa-1", "opa-2"]
