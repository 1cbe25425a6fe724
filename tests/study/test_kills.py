"""`kill -9` at random moments of a run, from a seed: every resume ends as if nothing had been.

A moment is a share of the time that the undisturbed run takes, start-up included: some fall before
the first cell, some in the middle of a write, some after the last one.
"""

import json
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from translimit.execute import ProcessPool, Serial
from translimit.store import RunFolder, being_written
from translimit.study import run_experiments

ONE = "fake_experiments:EXPERIMENT"
PROGRAM = (
    "import json, sys\n"
    "from translimit.execute import ProcessPool\n"
    "from translimit.study import run_experiments\n"
    f"run_experiments('{ONE}', out=sys.argv[1], overrides=json.loads(sys.argv[2]),\n"
    "    executor=ProcessPool(workers=int(sys.argv[3])), progress=False)\n"
)
MANIFESTS = "cells/*/group-*/manifest.json"


def settings(marks):
    marks.mkdir()
    # Cells of half a megabyte, so that a kill finds some of them half written.
    return {"cells": "12", "size": "256", "seconds": "0.02", "marker": str(marks)}


def start(out, overrides, environment, workers):
    words = [sys.executable, "-c", PROGRAM, str(out), json.dumps(overrides), str(workers)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("seed", "moments", "workers"), [(0, 3, 1), pytest.param(1, 20, 2, marks=pytest.mark.slow)]
)
def test_every_resume_ends_with_the_same_claims(tmp_path, fakes, seed, moments, workers):
    begun = time.monotonic()
    process = start(tmp_path / "whole", settings(tmp_path / "marks"), fakes, workers)
    assert process.wait(300) == 0
    span = time.monotonic() - begun
    expected = RunFolder.open(tmp_path / "whole").claims()

    shares = random.Random(seed)
    found = []
    for number in range(moments):
        out, marks = tmp_path / f"run-{number}", tmp_path / f"marks-{number}"
        overrides = settings(marks)
        process = start(out, overrides, fakes, workers)
        time.sleep(span * shares.uniform(0.1, 1.0))
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) in (-signal.SIGKILL, 0)
        _, alive = psutil.wait_procs(below, timeout=30)
        assert not alive, "an orphaned worker"
        assert not being_written(out)

        kept = {path: path.read_bytes() for path in out.glob(MANIFESTS)}
        found.append(len(kept))
        executor = ProcessPool(workers=2) if number % 4 == 3 else Serial()
        run = run_experiments(ONE, out=out, overrides=overrides, executor=executor, progress=False)
        whole = [state.cell for state in run.folder.states() if state.whole]
        assert len(whole) == 12
        # What was whole is the same file, by the same process, and was started once.
        assert {path: path.read_bytes() for path in kept} == kept
        for path in kept:
            assert len(list(marks.glob(f"{path.parent.name}-*"))) == 1
        assert len(run.kept) == len(kept)
        assert json.dumps(run.claims) == json.dumps(expected)
        assert not list(out.rglob(".tmp-*"))
    print(f"whole cells at the moment of the kill: {found}")
    assert len(set(found)) > 1, "the moments were all alike"
