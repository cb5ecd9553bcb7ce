"""What OPA's memory is limited to."""

import pytest

from bundles.opa.memory import collector_settings

ONE_SHARD = ["policy", "site", "live", "heartbeat", "base-00"]


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "proc/meminfo", "MemFree: 1 kB\nMemTotal: 4194304 kB\n")
    return tmp_path


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_without_a_control_group_it_is_the_machines_memory(root):
    assert collector_settings({}, ONE_SHARD, root=root) == {"GOGC": "400", "GOMEMLIMIT": "3276MiB"}


@pytest.mark.parametrize("limited", ["a/b", "a"])
def test_limit_of_a_control_group_or_one_above_it_counts(root, limited):
    write(root, "proc/self/cgroup", "0::/a/b\n")
    write(root, "sys/fs/cgroup/a/b/memory.max", "max\n")
    write(root, f"sys/fs/cgroup/{limited}/memory.max", str(1 << 30))
    assert collector_settings({}, ONE_SHARD, root=root)["GOMEMLIMIT"] == "819MiB"


def test_limit_of_a_container_is_at_its_root(root):
    write(root, "proc/self/cgroup", "0::/\n")
    write(root, "sys/fs/cgroup/memory.max", str(1 << 30))
    assert collector_settings({}, ONE_SHARD, root=root)["GOMEMLIMIT"] == "819MiB"


@pytest.mark.parametrize(
    ("limit", "expected"), [(1 << 30, "819MiB"), ((1 << 63) - 4096, "3276MiB")]
)
def test_version_1_of_control_groups_is_read(root, limit, expected):
    write(root, "proc/self/cgroup", "5:cpu:/x\n4:hugetlb,memory:/docker/1\n")
    write(root, "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", str(limit))
    assert collector_settings({}, ONE_SHARD, root=root)["GOMEMLIMIT"] == expected


def test_settings_of_the_operator_are_kept(root):
    kept = {"GOGC": "200", "GOMEMLIMIT": "1GiB", "HOME": "/x"}
    assert collector_settings(kept, ONE_SHARD, root=root) == {"GOGC": "200", "GOMEMLIMIT": "1GiB"}


def test_unreadable_host_sets_no_limit(tmp_path):
    assert collector_settings({}, ONE_SHARD, root=tmp_path) == {"GOGC": "400"}


def test_large_registry_is_collected_as_go_does_by_itself(root):
    shards = [f"base-{n:02x}" for n in range(64)]
    assert collector_settings({}, [*ONE_SHARD, *shards], root=root)["GOGC"] == "100"
