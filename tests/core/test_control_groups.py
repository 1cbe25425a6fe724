"""Memory that control groups and the limit of addresses leave, on made-up and on real systems."""

import subprocess
import sys

import pytest

from translimit.core.control_groups import free_in_group

SECOND = "31 25 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw"
FIRST = "35 30 0:31 {root} /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory"
OTHER = "34 30 0:30 / /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
GB = 10**9


@pytest.fixture
def system(tmp_path):
    """A root of a file system with what a test says of mounts and groups."""

    def make(mounts, groups, **files):
        own = tmp_path / "proc/self"
        own.mkdir(parents=True)
        (own / "mountinfo").write_text("\n".join(["20 1 8:1 / / rw - ext4 /dev/sda rw", *mounts]))
        (own / "cgroup").write_text("\n".join(groups) + "\n")
        for folder, contents in files.items():
            path = tmp_path / "sys/fs/cgroup" / folder.replace("__", "/").strip("/")
            path.mkdir(parents=True, exist_ok=True)
            for name, text in contents.items():
                (path / name).write_text(f"{text}\n")
        return tmp_path

    return make


def second(limit, use=0, inactive=0):
    stat = f"anon 5\ninactive_file {inactive}"
    return {"memory.max": limit, "memory.current": use, "memory.stat": stat}


def first(limit, use=0, inactive=0):
    stat = f"inactive_file 1\ntotal_inactive_file {inactive}"
    return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": use, "memory.stat": stat}


def test_the_own_group_counts_and_not_the_root(system):
    root = system([SECOND.format(root="/")], ["0::/job/step"], job__step=second(8 * GB, 3 * GB))
    assert free_in_group(root) == 5 * GB


def test_a_group_above_may_be_tighter_and_its_other_processes_count(system):
    root = system(
        [SECOND.format(root="/")],
        ["0::/job/step"],
        job=second(10 * GB, 9 * GB, inactive=GB),
        job__step=second(8 * GB, GB),
    )
    assert free_in_group(root) == 2 * GB


def test_pages_that_can_be_given_up_are_free_and_a_full_group_has_nothing(system):
    mounts, groups = [SECOND.format(root="/")], ["0::/a"]
    root = system(mounts, groups, a=second(4 * GB, 4 * GB, inactive=3 * GB))
    assert free_in_group(root) == 3 * GB
    (root / "sys/fs/cgroup/a/memory.current").write_text(str(9 * GB))
    assert free_in_group(root) == 0


def test_no_limit_is_none(system):
    root = system([SECOND.format(root="/")], ["0::/a"], a=second("max", GB))
    assert free_in_group(root) == float("inf")


def test_the_memory_controller_of_the_first_version(system):
    root = system(
        [OTHER, FIRST.format(root="/")],
        ["5:cpu,cpuacct:/elsewhere", "4:memory:/slurm/job", "0::/"],
        memory__slurm__job=first(6 * GB, 2 * GB, inactive=GB),
    )
    assert free_in_group(root) == 5 * GB


@pytest.mark.parametrize("group", ["/docker/abc", "/../.."])
def test_a_container_whose_own_group_is_the_root_of_the_mount(system, group):
    files = {"": second(2 * GB, GB)}
    root = system([SECOND.format(root="/docker/abc")], [f"0::{group}"], **files)
    assert free_in_group(root) == GB


@pytest.mark.parametrize("broken", ["", "nonsense", "0:", "x:y:z:\x00"])
def test_what_cannot_be_read_limits_nothing(system, broken):
    root = system([broken, "1 - cgroup2"], [broken])
    assert free_in_group(root) == float("inf")
    assert free_in_group(root / "nowhere") == float("inf")


@pytest.mark.skipif(sys.platform != "linux", reason="limits of addresses are read on Linux")
def test_a_limit_of_addresses_is_what_it_leaves():
    code = """
import resource
from translimit.core import available_host_memory
limit = 6 * 10**9
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = available_host_memory()
held = bytearray(10**9)
print(before, before - available_host_memory())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, less = map(float, done.stdout.split())
    assert before < 6e9
    assert less == pytest.approx(1e9, rel=0.01)
