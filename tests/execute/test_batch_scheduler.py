"""A batch scheduler, tried out with processes of this machine in its place."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from translimit.core import ArgumentError, ConfigError, MissingExtraError
from translimit.execute import BatchScheduler, Job, ProcessPool, Serial
from translimit.store import RunFolder
from translimit.study import run_experiments

ONE = "fake_experiments:EXPERIMENT"


@pytest.fixture(autouse=True)
def submitit(fakes):
    return pytest.importorskip("submitit", reason="submitit is not installed")


def local(tmp_path, **options):
    return BatchScheduler(cluster="local", logs=str(tmp_path / "logs"), **options)


def test_jobs_are_dealt_among_array_tasks_that_live_with_failures(tmp_path):
    words = ["pid", "pid", "raise", "pid", "die", "pid"]
    jobs = [Job(str(i), {"action": word}) for i, word in enumerate(words)]
    executor = local(tmp_path, tasks=2)
    found = {r.name: r for r in executor.run("fake_experiments:obey", jobs)}
    assert len(found) == 6
    assert found["2"].error == "ValueError: told to"
    assert found["4"].error == "its worker process was killed by SIGKILL"
    assert found["1"].value == found["3"].value == found["5"].value != found["0"].value


@pytest.mark.slow
def test_an_array_task_that_was_ended_from_outside_loses_its_jobs(tmp_path):
    jobs = [Job(str(i), {"action": "parents"}) for i in range(2)]
    executor = local(tmp_path, tasks=1)
    found = list(executor.run("fake_experiments:obey", jobs))
    assert [r.name for r in found] == ["0", "1"]
    assert all("its array task" in r.error and "was lost" in r.error for r in found)


def test_threads_and_device_are_set(tmp_path):
    names = ["OMP_NUM_THREADS", "PJRT_NPROC", "JAX_PLATFORMS"]
    jobs = [Job("a", {"names": names})]
    (found,) = local(tmp_path).run("fake_experiments:environment", jobs, threads=3)
    assert found.value == {"OMP_NUM_THREADS": "3", "PJRT_NPROC": "3", "JAX_PLATFORMS": "cpu"}


def test_what_slurm_is_asked_for(tmp_path, monkeypatch):
    """With Slurm's own command replaced by one that keeps the script."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text(
        f'#!/bin/sh\ncp "$1" {tmp_path}/script\necho no room >&2; exit 1\n'
    )
    (tools / "srun").write_text("#!/bin/sh\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    executor = BatchScheduler.from_settings(
        {"partition": "12", "time": "90", "memory": "8", "qos": "low", "parallel": "7",
         "logs": str(tmp_path / "logs")}
    )  # fmt: skip
    jobs = [Job(str(i), {"action": "fine"}) for i in range(1200)]
    with pytest.raises(ArgumentError, match="cluster: slurm takes no job"):
        list(executor.run("fake_experiments:obey", jobs, threads=4, device="gpu"))
    script = (tmp_path / "script").read_text()
    asked = [line.removeprefix("#SBATCH --") for line in script.splitlines() if "#SBATCH" in line]
    assert {
        "partition=12", "time=90", "mem=8GB", "qos=low", "cpus-per-task=4", "gpus-per-node=1",
        "array=0-999%7", "job-name=translimit", "nodes=1",
    } <= set(asked)  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cluster": "pbs"}, "cluster: got 'pbs'; known: local, slurm"),
        ({"time": "0"}, "time: got 0; pass at least 1"),
        ({"memory": "0"}, "memory: got 0.0; pass a positive number of gigabytes"),
        ({"partitoin": "a"}, "unknown key 'partitoin'; did you mean 'partition'"),
        ({"cpus": "many"}, "cpus: got 'many'; pass an integer"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises((ArgumentError, ConfigError), match=message):
        BatchScheduler.from_settings(settings)


def test_a_scheduler_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArgumentError, match="cluster: slurm takes no job"):
        list(BatchScheduler(logs=str(tmp_path)).run("fake_experiments:obey", [Job("a")]))


def test_without_submitit(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'translimit\[slurm\]'"):
        list(local(tmp_path).run("fake_experiments:obey", [Job("a")]))


@pytest.mark.slow
def test_orphans_of_a_killed_driver_write_nothing_after_the_resume(tmp_path, fakes):
    """The array outlives its driver, as on Slurm; what it computes then is dropped."""
    out, marks = tmp_path / "run", tmp_path / "marks"
    marks.mkdir()
    program = (
        "import sys\n"
        "from translimit.execute import BatchScheduler\n"
        "from translimit.study import run_experiments\n"
        "run_experiments('fake_experiments:EXPERIMENT', out=sys.argv[1], progress=False,\n"
        "    overrides={'cells': '2', 'seconds': '6', 'marker': sys.argv[2]},\n"
        "    executor=BatchScheduler(cluster='local', tasks=2, logs=sys.argv[3]))\n"
    )
    words = [sys.executable, "-c", program, str(out), str(marks), str(tmp_path / "logs")]
    driver = subprocess.Popen(words, env=fakes, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(marks.iterdir())) < 2:  # both cells have begun
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.05)
    orphans = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    assert driver.wait(60) == -signal.SIGKILL
    assert any(one.is_running() for one in orphans)

    overrides = {"cells": "2", "seconds": "6", "marker": str(marks)}
    resumed = run_experiments(ONE, out=out, overrides=overrides, executor=Serial(), progress=False)
    assert len(resumed.computed) == 2
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    _, alive = psutil.wait_procs(orphans, timeout=60)
    assert not alive
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before
    manifests = [json.loads(p.read_text()) for p in out.glob("cells/*/group-*/manifest.json")]
    assert {m["pid"] for m in manifests} == {os.getpid()}
    assert not list(out.rglob(".tmp-*"))
    logs = "".join(p.read_text() for p in (tmp_path / "logs").glob("*log*"))
    assert "Traceback" not in logs
    assert RunFolder.open(out).info["status"] == "complete"


@pytest.mark.slow
def test_a_standard_sweep_has_the_bits_of_the_pool(tmp_path):
    """The standard transfer sweep, at a cost that two cores afford."""
    what = {
        "preset": "standard",
        "overrides": {
            "multiples": "1,2", "axes": "heads", "optimizers": "adamw", "seeds": "1", "steps": "10",
            "probe": "64", "log2_rates": "-9,-7",
        },
        "progress": False,
    }  # fmt: skip
    pool = run_experiments(
        "bordelon2024/transfer", out=tmp_path / "p", executor=ProcessPool(2), **what
    )
    batch = run_experiments(
        "bordelon2024/transfer", out=tmp_path / "b", executor=local(tmp_path), **what
    )
    assert len(batch.computed) == 2
    assert json.dumps(batch.claims) == json.dumps(pool.claims)
    for one, other in zip(pool.folder.states(), batch.folder.states(), strict=True):
        assert one.manifest["files"] == other.manifest["files"]
    assert not list((tmp_path / "b").rglob(".tmp-*"))
