"""Policy and site bundles: the new one is accepted before it is served, the old one for a while."""

import os

import pytest
from support.clock import ManualClock

from bundles.publish.policy_releases import PolicyReleases
from bundles.publish.signing import SigningKey, sign
from bundles.publish.store import Store
from bundles.serve.served_bundles import ServedBundles

KEY = SigningKey.generate("policy")


@pytest.fixture
def clock():
    return ManualClock(1_000.0)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def served_bundles():
    return ServedBundles()


@pytest.fixture
def releases(store, served_bundles, clock):
    return PolicyReleases(store, served_bundles, clock=clock)


def site(revision, **data):
    return sign("site", revision=revision, roots=["site"], key=KEY, data={"site": data})


def test_new_policy_is_accepted_before_it_is_served(releases, store, served_bundles):
    assert releases.refresh() is False
    assert releases.accepted() == {"policy": [], "site": []}
    store.save(site("one"))
    assert releases.refresh() is True
    assert releases.accepted()["site"] == ["one"]
    assert served_bundles.get("site") is None
    releases.serve()
    assert served_bundles.get("site").revision == "one"
    assert releases.refresh() is False


def test_old_and_new_are_accepted_until_the_overlap_is_over(releases, store, clock):
    store.save(site("one"))
    releases.refresh()
    store.save(site("two"))
    assert releases.refresh() is True
    assert releases.accepted()["site"] == ["two", "one"]
    clock.now += 119
    assert releases.accepted()["site"] == ["two", "one"]
    clock.now += 2
    assert releases.accepted()["site"] == ["two"]


def test_same_rules_signed_again_are_no_overlap(releases, store, served_bundles):
    store.save(site("one"))
    releases.refresh()
    store.save(site("one"))
    assert releases.refresh() is True
    assert releases.accepted()["site"] == ["one"]
    releases.serve()
    assert served_bundles.get("site").etag == store.load("site").etag


def test_going_back_is_a_rollout_too(releases, store):
    for revision in ("one", "two", "one"):
        store.save(site(revision))
        assert releases.refresh() is True
    assert releases.accepted()["site"] == ["one", "two"]


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_broken_or_missing_policy_file_changes_nothing(releases, store, served_bundles, content):
    store.save(site("one"))
    releases.refresh()
    releases.serve()
    if content is None:
        store.path("site").unlink()
    else:
        store.path("site").write_bytes(content)
    assert releases.refresh() is False
    assert releases.accepted()["site"] == ["one"]
    assert served_bundles.get("site").revision == "one"


def test_slowly_copied_policy_file_is_found_once_complete(releases, store):
    whole = site("one")
    store.path("site").write_bytes(whole.content[:100])
    before = store.path("site").stat()
    assert releases.refresh() is False
    store.path("site").write_bytes(whole.content)
    # A clock of some milliseconds gives both writes the same time.
    os.utime(store.path("site"), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert releases.refresh() is True
    assert releases.accepted()["site"] == ["one"]
