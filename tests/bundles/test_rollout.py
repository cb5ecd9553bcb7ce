"""Policy and site bundles: the new one is accepted before it is served, the old one for a while."""

import os

import pytest

from bundles.catalogue import Catalogue
from bundles.rollout import Rollout
from bundles.signing import SigningKey, sign
from bundles.store import Store

KEY = SigningKey.generate("policy")


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def catalogue():
    return Catalogue()


@pytest.fixture
def rollout(store, catalogue, clock):
    return Rollout(store, catalogue, clock=clock)


def site(revision, **data):
    return sign("site", revision=revision, roots=["site"], key=KEY, data={"site": data})


def test_a_new_bundle_is_accepted_before_it_is_served(rollout, store, catalogue):
    assert rollout.refresh() is False
    assert rollout.accepted() == {"policy": [], "site": []}
    store.save(site("one"))
    assert rollout.refresh() is True
    assert rollout.accepted()["site"] == ["one"]
    assert catalogue.get("site") is None
    rollout.serve()
    assert catalogue.get("site").revision == "one"
    assert rollout.refresh() is False


def test_old_and_new_are_accepted_until_the_overlap_is_over(rollout, store, clock):
    store.save(site("one"))
    rollout.refresh()
    store.save(site("two"))
    assert rollout.refresh() is True
    assert rollout.accepted()["site"] == ["two", "one"]
    clock.now += 119
    assert rollout.accepted()["site"] == ["two", "one"]
    clock.now += 2
    assert rollout.accepted()["site"] == ["two"]


def test_the_same_rules_signed_again_are_no_overlap(rollout, store, catalogue):
    store.save(site("one"))
    rollout.refresh()
    store.save(site("one"))
    assert rollout.refresh() is True
    assert rollout.accepted()["site"] == ["one"]
    rollout.serve()
    assert catalogue.get("site").etag == store.load("site").etag


def test_going_back_is_a_rollout_too(rollout, store):
    for revision in ("one", "two", "one"):
        store.save(site(revision))
        assert rollout.refresh() is True
    assert rollout.accepted()["site"] == ["one", "two"]


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_broken_or_missing_file_changes_nothing(rollout, store, catalogue, content):
    store.save(site("one"))
    rollout.refresh()
    rollout.serve()
    if content is None:
        store.path("site").unlink()
    else:
        store.path("site").write_bytes(content)
    assert rollout.refresh() is False
    assert rollout.accepted()["site"] == ["one"]
    assert catalogue.get("site").revision == "one"


def test_a_file_that_was_copied_slowly_is_found_once_it_is_whole(rollout, store):
    whole = site("one")
    store.path("site").write_bytes(whole.content[:100])
    before = store.path("site").stat()
    assert rollout.refresh() is False
    store.path("site").write_bytes(whole.content)
    # A clock of some milliseconds gives both writes the same time.
    os.utime(store.path("site"), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert rollout.refresh() is True
    assert rollout.accepted()["site"] == ["one"]
