"""How a run stands, while it runs, after a failure, and how long the rest takes."""

import json
import subprocess
import sys
import time

import pytest

from translimit.cli import main
from translimit.core import CellError
from translimit.execute import ProcessPool, Serial
from translimit.store import load_json, write_json
from translimit.study import run_experiments, run_status

ONE = "fake_experiments:EXPERIMENT"


@pytest.fixture(autouse=True)
def environment(fakes):
    return fakes


def test_a_run_while_it_runs(tmp_path, environment):
    words = ["run", ONE, "--set", "cells=8", "seconds=3", "--workers", "2", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "translimit", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 180
        status = None
        while status is None or not (status["whole"] and status["running"]):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
            status = run_status(tmp_path) if (tmp_path / "run.json").exists() else None
    finally:
        process.kill()
        process.wait()
    assert status["status"] == "running"
    assert 1 <= status["running"] <= 2
    assert status["workers"] == 2
    running = [cell for cell in status["cells"] if cell["state"] == "running"]
    assert all(cell["running_seconds"] < 60 for cell in running)
    assert len(status["slowest"]) == min(3, status["whole"])

    # Whoever was killed computes nothing any more.
    status = run_status(tmp_path)
    assert (status["status"], status["running"]) == ("interrupted", 0)


def test_time_left_is_corrected_by_what_cells_took(tmp_path):
    """The cost model says (1 + 4 x 0.5) / 4 = 0.75 s a cell; let two have taken 6 s each."""
    overrides = {"cells": "4", "seconds": "0.5"}
    run_experiments(ONE, out=tmp_path, overrides=overrides, executor=Serial(), progress=False)
    cells = tmp_path / "cells" / "fake-means"
    for index in (0, 1):
        manifest = load_json(cells / f"group-{index}" / "manifest.json")
        write_json(cells / f"group-{index}" / "manifest.json", {**manifest, "seconds": 6.0})
        (cells / f"group-{index + 2}" / "manifest.json").unlink()
    status = run_status(tmp_path, [ONE])
    assert (status["status"], status["whole"], status["damaged"]) == ("damaged", 2, 2)
    assert status["not_loaded"] == []
    assert status["seconds_left"] == pytest.approx(12.0)
    assert status["wall_seconds_left"] == pytest.approx(12.0)
    write_json(tmp_path / "run.json", {**load_json(tmp_path / "run.json"), "workers": 2})
    assert run_status(tmp_path, [ONE])["wall_seconds_left"] == pytest.approx(6.0)


def test_without_the_experiment_the_mean_of_finished_cells_counts(tmp_path):
    run_experiments(ONE, out=tmp_path, executor=Serial(), progress=False)
    (tmp_path / "cells" / "fake-means" / "group-2" / "manifest.json").unlink()
    status = run_status(tmp_path)
    assert status["not_loaded"] == ["fake/means"]
    took = [cell["seconds"] for cell in status["cells"] if cell["seconds"] is not None]
    assert status["seconds_left"] == pytest.approx(sum(took) / 2)


def test_failures_are_told_with_their_errors(tmp_path, capsys):
    overrides = {"action": "die"}
    with pytest.raises(CellError):
        run_experiments(
            ONE,
            out=tmp_path,
            overrides=overrides,
            executor=ProcessPool(workers=2),
            progress=False,
        )
    assert not list(tmp_path.rglob(".tmp-*"))
    assert main(["status", str(tmp_path), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["whole"], status["failing"]) == (2, 1)
    (failed,) = (cell for cell in status["cells"] if cell["state"] == "failed")
    assert failed["cell"] == "group-1"
    assert "SIGKILL" in failed["error"]
    assert main(["status", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "incomplete: 2 of 3 cells are whole, 1 failing" in said
    assert "slowest: group-" in said
    assert "finish it with: translimit run" in said


def test_of_many_cells_only_the_restless_are_shown():
    from io import StringIO

    from rich.console import Console

    from translimit.cli.tables import status_table

    cell = {"experiment": "fake/means", "problem": "", "error": None, "seconds": None}
    states = ["whole"] * 70 + ["missing"] * 30 + ["running"]
    cells = [{**cell, "cell": f"n={i}", "state": state} for i, state in enumerate(states)]
    drawn = StringIO()
    Console(file=drawn, width=120).print(status_table({"cells": cells}))
    rows = [line for line in drawn.getvalue().splitlines() if "fake/means" in line]
    assert len(rows) == 3
    assert "70 cells" in rows[0]
    assert "30 cells" in rows[1]
    assert "n=100" in rows[2]
