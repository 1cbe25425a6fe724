"""A Ray cluster. What starts one is slow and runs in processes of its own, one after the other."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import translimit
from translimit.core import ArgumentError, MissingExtraError
from translimit.execute import Job, RayCluster
from translimit.store import RunFolder

SCRIPT = Path(translimit.__file__).parent / "examples" / "two_ray_nodes.py"
PROGRAM = """
import json, os, sys
from translimit.execute import Job, RayCluster, run_jobs
jobs = [Job(str(i), {"action": action}) for i, action in enumerate(json.loads(sys.argv[1]))]
names = ["OMP_NUM_THREADS", "PJRT_NPROC", "JAX_PLATFORMS", "XLA_FLAGS"]
# The attempts of two threads each fill this cluster, so that nothing runs at the same time.
cluster = RayCluster(workers=2)
found = {r.name: r for r in run_jobs(cluster, "fake_experiments:obey", jobs, threads=2)}
(seen,) = cluster.run("fake_experiments:environment", [Job("e", {"names": names})], threads=2)
told = {name: [r.value, r.error, r.attempts] for name, r in found.items()}
print(json.dumps([told, seen.value]))
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers: got 0; pass at least 1"),
        ({"cpus_per_cell": 0.0}, "cpus_per_cell: got 0.0; pass a positive number"),
        ({"gpus_per_cell": -1.0}, "gpus_per_cell: got -1.0"),
        ({"address": "auto", "workers": 2}, "workers: a running cluster has its own; leave"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ArgumentError, match=message):
        RayCluster(**options)


def test_a_cluster_that_does_not_answer_is_named(monkeypatch, fakes):
    ray = pytest.importorskip("ray")

    def refuse(**options):
        raise ConnectionError(f"ray cluster at {options['address']} is down\nmore lines")

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setattr(ray, "init", refuse)
    message = r"address: no Ray cluster answers at 'a:1' \(ray cluster at a:1 is down\); start one"
    with pytest.raises(ArgumentError, match=message):
        list(RayCluster(address="a:1").run("fake_experiments:obey", [Job("a", {"action": "fine"})]))


def test_without_ray(monkeypatch, fakes):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(MissingExtraError, match=r"pip install 'translimit\[ray\]'"):
        list(RayCluster().run("fake_experiments:obey", [Job("a", {"action": "fine"})]))


def test_more_than_the_machine_has_is_refused(monkeypatch, fakes):
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    jobs = [Job("a", {"action": "fine"})]
    with pytest.raises(ArgumentError, match="a cell asks for 3 CPU and 0 GPU, and there are 2"):
        list(RayCluster(workers=2).run("fake_experiments:obey", jobs, threads=3))
    with pytest.raises(ArgumentError, match="gpus_per_cell: a cell asks for 1 CPU and 1 GPU"):
        list(RayCluster(workers=2).run("fake_experiments:obey", jobs, device="gpu"))


@pytest.mark.slow
def test_jobs_that_fail_and_workers_that_die(fakes):
    pytest.importorskip("ray", reason="ray is not installed")
    actions = ["fine", "raise", "die", "exit", "pid", "pid"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(actions)],
        env={**fakes, "XLA_FLAGS": "--xla_cpu_enable_fast_math=false"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found, environment = json.loads(done.stdout.splitlines()[-1])
    assert found["0"] == ["fine", None, 1]
    assert found["1"] == [None, "ValueError: told to", 2]
    assert found["2"] == [None, "its worker process died", 2]
    assert found["3"] == [None, "SystemExit: 3", 2]
    assert environment == {
        "OMP_NUM_THREADS": "2",
        "PJRT_NPROC": "2",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=false",
    }


@pytest.mark.slow
def test_two_nodes_of_which_one_is_lost(tmp_path):
    """The standard preset of two experiments, the sweep at a cost that two cores afford."""
    pytest.importorskip("ray", reason="ray is not installed")
    # The standard sweep is estimated at 40 minutes of one core, and is run twice here: two
    # optimisers along one axis, two sizes, fewer rates, steps and seeds are left of it.
    smaller = [
        "multiples=1,2", "axes=heads", "seeds=2", "steps=20", "probe=64",
        "log2_rates=-10,-6", "log2_momentum_rates=-5,-2",
    ]  # fmt: skip
    words = [sys.executable, str(SCRIPT), str(tmp_path), "bordelon2024/transfer"]
    words += ["koubbi2026/collapse", "--preset", "standard", "--whole", "2"]
    done = subprocess.run(
        [*words, *(word for setting in smaller for word in ("--set", setting))],
        capture_output=True,
        text=True,
        timeout=3600,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    local, ray = (RunFolder.open(tmp_path / name) for name in ("local", "ray"))
    assert all(state.whole for state in ray.states())
    assert json.dumps(local.claims()) == json.dumps(ray.claims())
    assert any("node was lost" in error for one in ray.info["retried"] for error in one["errors"])
    assert not list((tmp_path / "ray").rglob(".tmp-*"))


@pytest.mark.slow
def test_the_same_command_goes_on_when_the_head_was_lost(fakes, tmp_path):
    """The whole cluster goes; what was whole stays, and another cluster computes the rest."""
    pytest.importorskip("ray", reason="ray is not installed")
    spec = importlib.util.spec_from_file_location("two_ray_nodes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    marks, cells = tmp_path / "marks", 24
    marks.mkdir()
    words = [sys.executable, "-m", "translimit", "run", "fake_experiments:EXPERIMENT"]
    words += [f"--set=cells={cells}", "--set=seconds=0.5", f"--set=marker={marks}"]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "RAY_worker_niceness": "0"}
    environment = {**fakes, **token, "RAY_gcs_rpc_server_reconnect_timeout_s": "10"}
    before: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        for lost in (True, False):
            with script.one_node() as (address, head):
                driver = subprocess.Popen(
                    [*words, "--executor=ray", f"--address={address}", f"--out={tmp_path}/run"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                while lost and script.whole_cells(tmp_path / "run") < 4:
                    assert driver.poll() is None, driver.communicate()
                    time.sleep(0.1)
                if lost:
                    script.kill_node(head)
                said, _ = driver.communicate(timeout=300)
                assert (driver.returncode == 0) == (not lost), said
                if lost:
                    states = RunFolder.open(tmp_path / "run").states()
                    before = {one.cell: starts(marks, one.cell) for one in states if one.whole}
    assert 4 <= len(before) < cells
    assert before == {cell: starts(marks, cell) for cell in before}  # not computed again
    undisturbed = [*words, "--executor=pool", f"--out={tmp_path}/pool"]
    assert subprocess.run(undisturbed, env=fakes, capture_output=True).returncode == 0
    run, pool = (RunFolder.open(tmp_path / name) for name in ("run", "pool"))
    assert json.dumps(run.claims()) == json.dumps(pool.claims())
    assert not list((tmp_path / "run").rglob(".tmp-*"))


def starts(marks: Path, cell: str) -> int:
    """How often a cell was begun."""
    return len(list(marks.glob(f"{cell}-*")))
