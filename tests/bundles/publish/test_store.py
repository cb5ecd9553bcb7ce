"""What was published survives a kill at any moment; what was damaged is taken for not there."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from bundles.exceptions import StoreUnusableError
from bundles.publish.signing import SigningKey, _pack, etag_of, sign
from bundles.publish.store import Published, Store

PUBLISHED = Published(3, {"00": 5, "01": 7}, {"00": 6, "01": 7})


@pytest.fixture(scope="module")
def bundle():
    key = SigningKey.generate("data")
    data = {
        "registry": {"base": {"00": {"users": {str(n): {"name": f"{n}"} for n in range(2000)}}}}
    }
    return sign("base-00", revision="1:5", roots=["registry/base/00"], key=key, data=data)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "bundles")


def test_stored_bundle_round_trips(store, bundle):
    assert store.load("base-00") is None
    store.save(bundle)
    assert store.load("base-00") == bundle
    assert [path.name for path in store.path("base-00").parent.iterdir()] == ["base-00.tar.gz"]


def test_published_state_round_trips(store):
    assert store.published() is None
    store.save_published(PUBLISHED)
    assert store.published() == PUBLISHED


def test_store_folder_and_files_are_private(store, bundle):
    store.save(bundle)
    store.save_published(PUBLISHED)
    folder = store.path("x").parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_truncated_bundle_is_rejected_at_any_length(store, bundle):
    size = len(bundle.content)
    for cut in {*range(0, size, size // 50), size - 1, size - 4, size - 8, size - 9}:
        store.path("base-00").write_bytes(bundle.content[:cut])
        assert store.load("base-00") is None, cut


GZIP_HEADER = 10  # bytes: RFC 1952, 2.3.1


def test_flipped_bit_never_changes_the_files_of_a_bundle(store, bundle):
    """Signed are the files. Bits of the compression that change none of them are free to differ."""
    files, size = gzip.decompress(bundle.content), len(bundle.content)
    header = {(position, bit) for position in range(GZIP_HEADER) for bit in range(8)}
    sampled = {(position, position % 8) for position in range(GZIP_HEADER, size, size // 400)}
    trailer = {(position, bit) for position in range(size - 8, size) for bit in range(8)}
    loaded = set()
    for position, bit in header | sampled | trailer:
        content = bytearray(bundle.content)
        content[position] ^= 1 << bit
        store.path("base-00").write_bytes(content)
        if (found := store.load("base-00")) is not None:
            assert gzip.decompress(found.content) == files, (position, bit)
            # It is served under the ETag of the bytes that are there.
            assert found.etag == etag_of(bytes(content)), (position, bit)
            loaded.add((position, bit))
    mtime_xfl_os = {(position, bit) for position in range(4, GZIP_HEADER) for bit in range(8)}
    magic_and_method = {(position, bit) for position in range(3) for bit in range(8)}
    assert mtime_xfl_os <= loaded
    assert not loaded & (magic_and_method | trailer)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"garbage", gzip.compress(b"", mtime=0), gzip.compress(b"garbage", mtime=0), gzip.compress(b"\x00" * 10_240, mtime=0),
        _pack({"data.json": b"{}"}, level=1),
        _pack({".manifest": b"{}", ".signatures.json": b"{}"}, level=1),
        _pack({".manifest": b"[]", ".signatures.json": b"{}"}, level=1),
        _pack({".manifest": b"null", ".signatures.json": b"{}"}, level=1),
        _pack({".manifest": b"{", ".signatures.json": b"{}"}, level=1),
        _pack({".manifest": b'{"revision": 7}', ".signatures.json": b"{}"}, level=1),
        _pack({".manifest": b'{"revision": "1:5"}'}, level=1),
    ],
)  # fmt: skip
def test_unsigned_file_is_not_a_bundle(store, content):
    store.path("base-00").write_bytes(content)
    assert store.load("base-00") is None


def test_folder_in_place_of_a_bundle_is_rejected(store):
    store.path("base-00").mkdir()
    assert store.load("base-00") is None


@pytest.mark.parametrize(
    "content",
    [
        "", "garbage", "null", "[]", "7", "{", '{"epoch": 1}', '{"epoch": 1, "since": 7, "bases": {}}',
        '{"epoch": "1", "since": {"00": 1}, "bases": {"00": 1}}',
        '{"epoch": true, "since": {"00": 1}, "bases": {"00": 1}}',
        '{"epoch": 1, "since": {"00": "1"}, "bases": {"00": 1}}',
        '{"epoch": 1, "since": {"00": null}, "bases": {"00": 1}}',
        '{"epoch": 1, "since": {"00": 1}, "bases": {"00": 1.5}}',
        '{"epoch": 1, "since": {"00": 1}, "bases": {}}',
        '{"epoch": 1, "since": {"05": 1}, "bases": {"05": 1}}',
        '{"epoch": 1, "since": {"00": 1, "zz": 1}, "bases": {"00": 1, "zz": 1}}',
        '{"epoch": 1, "since": "ab", "bases": {}}', "[" * 100_000, "\x00" * 100,
    ],
)  # fmt: skip
def test_untrusted_state_is_ignored(store, content):
    store.path("published").with_name("published.json").write_text(content)
    assert store.published() is None


def test_bytes_that_are_no_text_are_no_state(store):
    store.path("x").with_name("published.json").write_bytes(b"\xff\xfe\x00")
    assert store.published() is None


def test_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusableError, match="file/bundles"):
        Store(tmp_path / "file" / "bundles")


def test_failed_write_keeps_only_the_old_file(store, bundle, monkeypatch):
    store.save(bundle)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for _ in range(3):
        with pytest.raises(StoreUnusableError, match="No space left"):
            store.save(bundle)
    assert store.load("base-00") == bundle
    assert [path.name for path in store.path("x").parent.iterdir()] == ["base-00.tar.gz"]


WRITER = """
import sys
from pathlib import Path
from bundles.publish.signing import Bundle
from bundles.publish.store import Published, Store
store = Store(Path(sys.argv[1]))
one, two = store.load("one"), store.load("two")
print("ready", flush=True)
n = 0
while True:
    n += 1
    store.save(Bundle("base-00", "", "", (one if n % 2 else two).content))
    store.save_published(Published(1, {"00": n}, {"00": n}))
"""


def test_store_killed_at_any_moment_has_whole_files(store, bundle):
    key = SigningKey.generate("data")
    for name in ("one", "two"):
        store.save(
            sign(name, revision=name, roots=["x"], key=key, data={"x": name * 100_000}, level=0)
        )
    store.save(bundle)
    folder = store.path("x").parent
    for attempt in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, env={**os.environ}
        )
        assert process.stdout.readline() == b"ready\n"
        before = store.published()
        latest = time.monotonic() + 20
        while store.published() == before and time.monotonic() < latest:
            pass
        for _ in range(attempt * 3000):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert store.load("base-00") is not None
        published = store.published()
        assert published is not None
        assert json.loads((folder / "published.json").read_text())["epoch"] == 1
