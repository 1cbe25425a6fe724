"""Runs: the same bits whatever the executor; whole cells are kept, whatever happened."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from translimit.core import CellError, DiskFullError, MissingExtraError, StoreError
from translimit.execute import AbstractExecutor, BatchScheduler, ProcessPool, RayCluster, Serial
from translimit.store import RunFolder, being_written
from translimit.study import run_experiments

ONE = "fake_experiments:EXPERIMENT"
TWO = "fake_experiments:OTHER"
QUIET = {"progress": False}


@pytest.fixture(autouse=True)
def environment(fakes):
    return fakes


# A `*` of pathlib also names the folders of cells that are being written; this one does not.
MANIFESTS = "cells/*/group-*/manifest.json"


def digests(path):
    """The digest of every stored file but what is particular to a session."""
    manifests = sorted(path.glob(MANIFESTS))
    return {m.relative_to(path): json.loads(m.read_text())["files"] for m in manifests}


def touched(path):
    """When each whole cell was finished, and by whom."""
    return {m: (m.stat().st_mtime_ns, m.read_bytes()) for m in path.glob(MANIFESTS)}


class Never(AbstractExecutor):
    """An executor that must not be asked."""

    def run(self, function, jobs, *, threads=1, device="cpu"):
        raise AssertionError(f"{len(jobs)} jobs were started")


@pytest.mark.parametrize(
    ("package", "executor"), [("ray", RayCluster()), ("submitit", BatchScheduler())]
)
def test_a_missing_extra_is_told_before_anything_is_written(
    package, executor, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=package):
        run_experiments([ONE], out=tmp_path / "run", executor=executor, **QUIET)
    assert not (tmp_path / "run").exists()


def test_serial_and_pool_give_the_same_bits_and_claims(tmp_path, monkeypatch):
    # The serial executor runs in this process, where the thread limit comes too late; the fake
    # cells are small enough not to be split over threads.
    serial = run_experiments([ONE, TWO], out=tmp_path / "s", executor=Serial(), **QUIET)
    pool = run_experiments([TWO, ONE], out=tmp_path / "p", executor=ProcessPool(workers=2), **QUIET)
    assert len(digests(tmp_path / "s")) == 5
    assert digests(tmp_path / "s") == digests(tmp_path / "p")
    without_nan = json.dumps(serial.claims, sort_keys=True)
    assert without_nan == json.dumps(pool.claims, sort_keys=True)
    assert serial.verdicts() == {"supported": 2, "refuted": 2, "underpowered": 2}
    pids = {json.loads(m[1])["pid"] for m in touched(tmp_path / "p").values()}
    assert len(pids) == 2

    info = RunFolder.open(tmp_path / "p").info
    assert info["status"] == "complete"
    assert info["packages"]["jax"]
    assert info["devices"] == ["cpu (cpu)"]

    # A finished run computes nothing, and another seed draws other numbers.
    again = run_experiments([ONE, TWO], out=tmp_path / "s", executor=Never(), **QUIET)
    assert again.computed == ()
    assert len(again.kept) == 5
    other = run_experiments([TWO], out=tmp_path / "o", seed=1, executor=Serial(), **QUIET)
    assert digests(other.path) != {
        key: value for key, value in digests(tmp_path / "s").items() if "other" in str(key)
    }
    monkeypatch.chdir(tmp_path)
    default = run_experiments([TWO], executor=Serial(), **QUIET)
    assert str(default.path).startswith("runs/fake-other-demo-")


def test_damaged_cells_are_computed_again_and_named(tmp_path):
    seen = []
    first = run_experiments(
        ONE, out=tmp_path, executor=Serial(), progress=seen.append, overrides={"cells": "4"}
    )
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]
    before, bits = touched(tmp_path), digests(tmp_path)
    cells = tmp_path / "cells" / "fake-means"
    chunk = next((cells / "group-0" / "data.zarr" / "draws").glob("0*"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    attributes = cells / "group-1" / "data.zarr" / ".zattrs"
    attributes.write_text(attributes.read_text().replace("fake", "real"))
    (cells / "group-2" / "manifest.json").unlink()

    second = run_experiments(
        ONE, out=tmp_path, executor=Serial(), overrides={"cells": "4"}, **QUIET
    )
    assert second.kept == ("fake/means: group-3",)
    assert [state.problem for state in second.damaged] == [
        f"data.zarr/draws/{chunk.name} was changed or truncated",
        "data.zarr/.zattrs was changed or truncated",
        "it has no manifest",
    ]
    assert digests(tmp_path) == bits
    assert json.dumps(second.claims) == json.dumps(first.claims)
    kept = cells / "group-3" / "manifest.json"
    assert touched(tmp_path)[kept] == before[kept]


@pytest.mark.parametrize(
    ("action", "executor", "error"),
    [
        ("raise", Serial(), "ValueError: this cell always fails"),
        ("exit", Serial(), "SystemExit: 3"),
        ("die", ProcessPool(workers=1), "its worker process was killed by SIGKILL"),
    ],
)
def test_a_failing_cell_does_not_stop_the_others(tmp_path, action, executor, error):
    options = {"overrides": {"action": action}, "out": tmp_path, "executor": executor}
    with pytest.raises(
        CellError, match=rf"1 of 3 cells failed after 2 attempts, .*group-1 \({error}.*--out"
    ) as e:
        run_experiments(ONE, **options, **QUIET)
    assert list(e.value.failures) == ["fake/means: group-1"]
    run = RunFolder.open(tmp_path)
    assert [state.state for state in run.states()] == ["whole", "missing", "whole"]
    assert run.info["status"] == "incomplete"
    (failed,) = run.info["failed"]
    assert failed["error"].startswith(error)
    assert (failed["attempts"], failed["errors"]) == (2, [failed["error"]] * 2)
    with pytest.raises(StoreError, match="finish the run"):
        run.claims()
    with pytest.raises(StoreError, match="'group-1' is missing; start the same run again"):
        run.read_cells("fake/means")


def test_a_full_disk_keeps_what_is_whole(tmp_path):
    # Cell 1 limits the size of the files that its process may write: the system then refuses in
    # the middle of a chunk, as it does on a full disk.
    with pytest.raises(
        DiskFullError,
        match=r"disk is full \([\w ]+\), and 1 of 3 cells are whole and kept; .*resume with",
    ):
        run_experiments(
            ONE,
            out=tmp_path,
            overrides={"action": "full"},
            executor=ProcessPool(workers=1),
            **QUIET,
        )
    run = RunFolder.open(tmp_path)
    assert [state.state for state in run.states()] == ["whole", "missing", "missing"]
    assert run.info["status"] == "interrupted"
    assert not list(tmp_path.rglob(".tmp-*"))


def test_an_unwritable_folder():
    with pytest.raises(StoreError, match=r"/proc/.*cannot be written.*--out"):
        run_experiments(ONE, out="/proc/translimit/run", executor=Never(), **QUIET)


def start(environment, out, marks):
    """A slow run of nine cells in a process of its own, with two workers, once two are whole."""
    program = (
        "import sys\n"
        "from translimit.execute import ProcessPool\n"
        "from translimit.study import run_experiments\n"
        "run_experiments(['fake_experiments:EXPERIMENT'], out=sys.argv[1],\n"
        "    overrides={'cells': '9', 'seconds': '0.4', 'marker': sys.argv[2]},\n"
        "    executor=ProcessPool(workers=2))\n"
    )
    command = [sys.executable, "-c", program, str(out), str(marks)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 180
    while len(list(out.glob(MANIFESTS))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


def test_a_run_that_was_killed_is_finished(tmp_path, environment):
    out, marks = tmp_path / "run", tmp_path / "marks"
    marks.mkdir()
    process = start(environment, out, marks)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    process.communicate()

    # Nobody writes any more, though a cell would have been finished by now.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    time.sleep(0.6)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before

    run = RunFolder.open(out)
    assert not being_written(out)
    kept = [state.cell for state in run.states() if state.whole]
    assert 2 <= len(kept) < 9
    manifests = touched(out)
    overrides = {"cells": "9", "seconds": "0.4", "marker": str(marks)}
    finished = run_experiments(
        ONE, out=out, overrides=overrides, executor=ProcessPool(workers=2), **QUIET
    )
    assert finished.kept == tuple(f"fake/means: {cell}" for cell in kept)
    assert {path: touched(out)[path] for path in manifests} == manifests
    for cell in kept:
        assert len(list(marks.glob(f"{cell}-*"))) == 1, "a whole cell was computed again"
    assert not list(out.rglob(".tmp-*"))
    assert RunFolder.open(out).info["status"] == "complete"

    undisturbed = run_experiments(
        ONE, out=tmp_path / "whole", overrides={"cells": "9"}, executor=Serial(), **QUIET
    )
    assert json.dumps(finished.claims) == json.dumps(undisturbed.claims)
