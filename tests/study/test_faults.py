"""What goes wrong in a run: it goes on, failures are told, nothing is lost or computed twice."""

import json
import threading
import time

import pytest

from translimit.core import ArgumentError, CellError, DiskFullError, OvertakenError
from translimit.execute import Job, ProcessPool, Serial, job_environment
from translimit.execute.base import call
from translimit.store import RunFolder, new_start
from translimit.study import plan_run, run_experiments
from translimit.study.cells import compute_cell

ONE = "fake_experiments:EXPERIMENT"
QUIET = {"progress": False}


@pytest.fixture(autouse=True)
def environment(fakes, monkeypatch):
    for name, value in job_environment(1).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def marks(tmp_path):
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def starts(marks, cell):
    return len(list(marks.glob(f"{cell}-*")))


def arguments(run, token, marks, **changes):
    """What `compute_cell` gets for the second cell of a run."""
    plan = plan_run(ONE.split(), overrides={"marker": str(marks), **changes})
    (entry,) = plan.entries()
    return {
        "run": str(run),
        "source": ONE,
        "configuration": entry["config"],
        "preset": plan.preset,
        "cell": entry["cells"][1],
        "seed": plan.seed,
        "threads": plan.threads,
        "device": plan.device,
        "token": token,
        "patience": 5.0,
    }


@pytest.mark.parametrize(
    ("action", "executor", "error"),
    [
        ("raise-once", Serial(), "ValueError: this cell always fails"),
        ("die-once", ProcessPool(workers=1), "its worker process was killed by SIGKILL"),
    ],
)
def test_a_cell_that_fails_once_is_tried_again(tmp_path, marks, action, executor, error):
    overrides = {"action": action, "marker": str(marks)}
    out = tmp_path / "run"
    run = run_experiments(ONE, out=out, overrides=overrides, executor=executor, **QUIET)
    told = {"cell": "fake/means: group-1", "attempts": 2, "errors": [error]}
    assert run.retried == (told,)
    assert [starts(marks, f"group-{i}") for i in range(3)] == [1, 2, 1]
    info = RunFolder.open(out).info
    assert (info["status"], info["failed"], info["retried"]) == ("complete", [], [told])
    undisturbed = run_experiments(ONE, out=tmp_path / "u", executor=Serial(), **QUIET)
    assert json.dumps(run.claims) == json.dumps(undisturbed.claims)


def test_less_than_no_retry_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ArgumentError, match="retries: got -1; pass at least 0"):
        run_experiments(ONE, out=tmp_path / "r", executor=Serial(), retries=-1, **QUIET)
    assert not (tmp_path / "r").exists()


def test_no_retries(tmp_path, marks):
    overrides = {"action": "raise-once", "marker": str(marks)}
    with pytest.raises(CellError, match="1 of 3 cells failed, the others"):
        run_experiments(
            ONE, out=tmp_path / "r", overrides=overrides, executor=Serial(), retries=0, **QUIET
        )
    assert starts(marks, "group-1") == 1


def test_a_cell_that_is_whole_is_no_failure_though_word_of_it_was_lost(tmp_path):
    class Deaf(Serial):
        """Computes everything, and loses every answer."""

        def run(self, *arguments, **options):
            for result in super().run(*arguments, **options):
                yield type(result)(result.name, error="the answer was lost")

    run = run_experiments(ONE, out=tmp_path, executor=Deaf(), **QUIET)
    assert len(run.computed) == 3
    assert RunFolder.open(tmp_path).info["failed"] == []


@pytest.mark.parametrize(("cells", "whole"), [("4", 4), ("9", 4)])
def test_a_disk_that_is_full_for_a_while(tmp_path, cells, whole):
    """Two cells in a row may find it full and are tried again; the third ends the run."""

    class Full(Serial):
        """The disk is full at the first attempts of two cells, and of three in a row later."""

        def run(self, function, jobs, **options):
            first = len(jobs) == int(cells)
            for job, result in zip(jobs, super().run(function, jobs, **options), strict=True):
                if first and job.name[-1] in "01678":
                    folder = tmp_path / "cells" / "fake-means" / job.name.split(": ")[1]
                    (folder / "manifest.json").unlink()
                    error = "DiskFullError: no space left"
                    yield type(result)(job.name, error=error, exception="DiskFullError")
                else:
                    yield result

    options = {"out": tmp_path, "overrides": {"cells": cells}, "executor": Full(), **QUIET}
    if cells == "4":
        run = run_experiments(ONE, **options)
        assert [one["cell"][-1] for one in run.retried] == ["0", "1"]
    else:
        with pytest.raises(DiskFullError, match=r"disk is full .*4 of 9 cells are whole and kept"):
            run_experiments(ONE, **options)
        assert RunFolder.open(tmp_path).info["status"] == "interrupted"
    assert sum(state.whole for state in RunFolder.open(tmp_path).states()) == whole


def test_a_late_job_of_an_earlier_start_computes_nothing(tmp_path, marks):
    old = new_start(tmp_path)
    new_start(tmp_path)
    with pytest.raises(OvertakenError):
        compute_cell(**arguments(tmp_path, old, marks))
    assert starts(marks, "group-1") == 0


def test_a_whole_cell_is_not_computed_again(tmp_path, marks):
    token = new_start(tmp_path)
    assert compute_cell(**arguments(tmp_path, token, marks))["threads"] == 1
    assert compute_cell(**arguments(tmp_path, token, marks)) == {"kept": True}
    assert starts(marks, "group-1") == 1


def test_a_job_that_is_overtaken_while_it_computes_stores_nothing(tmp_path, marks):
    token = new_start(tmp_path)
    wanted = arguments(tmp_path, token, marks, seconds="1")
    found = []
    job = threading.Thread(target=lambda: found.append(call(compute_cell, Job("late", wanted))))
    job.start()
    while not starts(marks, "group-1"):
        time.sleep(0.01)
    new_start(tmp_path)
    job.join()
    assert found[0].exception == "OvertakenError"
    assert not list(tmp_path.glob("cells/*/*"))


def test_another_device_is_refused(tmp_path, marks):
    wanted = {**arguments(tmp_path, new_start(tmp_path), marks), "device": "gpu"}
    with pytest.raises(ValueError, match="device: the run fixes 'gpu', and JAX computes on 'cpu'"):
        compute_cell(**wanted)


@pytest.mark.parametrize(("seconds", "patience"), [(0.5, 30.0), (2.0, 0.3)])
def test_a_run_folder_that_vanishes_and_returns(tmp_path, marks, seconds, patience):
    """It goes in the middle of the first cell; the run waits, or goes on when patience ends."""
    out, away = tmp_path / "run", tmp_path / "away"

    def interfere():
        while not starts(marks, "group-0"):
            time.sleep(0.01)
        out.rename(away)
        time.sleep(seconds)
        assert not out.exists(), "somebody made the folder again"
        away.rename(out)

    thread = threading.Thread(target=interfere)
    thread.start()
    options = {
        "overrides": {"marker": str(marks), "seconds": "0.3"},
        "executor": Serial(),
        "patience": patience,
        "retries": 0,
        **QUIET,
    }
    if patience > seconds:
        run = run_experiments(ONE, out=out, **options)
    else:
        with pytest.raises(CellError, match=r"of 3 cells failed.*was out of reach for 0.3 seconds"):
            run_experiments(ONE, out=out, **options)
        failed = RunFolder.open(out).info["failed"]
        assert failed[0]["cell"] == "fake/means: group-0"
        run = run_experiments(ONE, out=out, **options)
        assert len(run.computed) == len(failed)
    thread.join()
    assert all(state.whole for state in run.folder.states())
    assert not list(tmp_path.rglob(".tmp-*"))
