"""Which OPA runs what: their own reports, and what may be concluded from them."""

import pytest

from bundles.fleet import Fleet, stamp_of


def report(id_="opa-1", *, base="1:5", **bundle):
    return {
        "labels": {"id": id_, "version": "1.22.2"},
        "bundles": {"base-00": {"active_revision": base, **bundle}},
    }


def test_a_report_says_what_an_instance_runs_and_what_failed():
    fleet = Fleet(clock=lambda: 7.0)
    fleet.report(report(message="scope mismatch"))
    (one,) = fleet.instances()
    assert (one.id, one.version, one.seen_at) == ("opa-1", "1.22.2", 7.0)
    assert one.revisions == {"base-00": "1:5"}
    assert one.errors == {"base-00": "scope mismatch"}
    fleet.report(report(base="1:6"))
    assert fleet.instances()[0].revisions == {"base-00": "1:6"}
    assert fleet.instances()[0].errors == {}


def test_an_instance_is_known_by_its_label_before_it_has_a_bundle():
    fleet = Fleet()
    labels = {"id": "made-up-at-each-start", "instance": "opa-1"}
    for bundles in ({}, {"bundles": None}):
        fleet.report({"labels": labels, **bundles})
        (one,) = fleet.instances()
        assert (one.id, one.revisions) == ("opa-1", {})
        assert fleet.all_run("base-00", epoch=0, revision=0, within=60) is False


def test_nobodys_silence_proves_anything():
    assert Fleet().all_run("base-00", epoch=1, revision=0, within=60) is False


def test_all_run_a_revision_when_each_that_was_seen_lately_does():
    now = [100.0]
    fleet = Fleet(clock=lambda: now[0])
    fleet.report(report("a", base="1:7"))
    fleet.report(report("b", base="1:5"))
    assert fleet.all_run("base-00", epoch=1, revision=5, within=60) is True
    assert fleet.all_run("base-00", epoch=1, revision=6, within=60) is False
    now[0] += 50
    fleet.report(report("a", base="1:7"))
    now[0] += 20
    # The one that lags has not been seen for 70 seconds.
    assert fleet.all_run("base-00", epoch=1, revision=7, within=60) is True
    assert fleet.all_run("base-00", epoch=2, revision=1, within=60) is False
    assert fleet.all_run("base-01", epoch=1, revision=1, within=60) is False


@pytest.mark.parametrize(
    "odd",
    [
        {}, {"labels": {}, "bundles": {}}, {"labels": {"id": ""}, "bundles": {}}, {"labels": None},
        {"labels": {"id": "a"}, "bundles": 7}, {"labels": {"id": "a"}, "bundles": ["x"]}, {"labels": [], "bundles": {}},
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused_and_changes_nothing(odd):
    fleet = Fleet()
    with pytest.raises(ValueError):
        fleet.report(odd)
    assert fleet.instances() == []


def test_odd_bundles_in_a_report_count_as_none():
    fleet = Fleet()
    fleet.report(
        {"labels": {"id": "a"}, "bundles": {"base-00": None, "x": [], "y": {"message": 7}}}
    )
    assert fleet.instances()[0].revisions == {}
    assert fleet.all_run("base-00", epoch=1, revision=0, within=60) is False


def test_the_number_of_instances_is_bounded(monkeypatch):
    monkeypatch.setattr("bundles.fleet._MOST_INSTANCES", 2)
    fleet = Fleet()
    fleet.report(report("a"))
    fleet.report(report("b"))
    fleet.report(report("a", base="1:6"))
    with pytest.raises(ValueError):
        fleet.report(report("c"))


@pytest.mark.parametrize(
    "odd", ["", ":", "1", "1:", ":1", "-1:5", "1:-5", "1:5:6", " 1:5", "1:5\n", "a:b", "²:5", "1:" + "9" * 5000]
)  # fmt: skip
def test_what_is_no_revision_is_below_every_other(odd):
    assert stamp_of(odd) < (0, 0)
    fleet = Fleet()
    fleet.report(report(base=odd))
    assert fleet.all_run("base-00", epoch=0, revision=0, within=60) is False
