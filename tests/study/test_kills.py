"""`kill -9` at random moments of a run, from a seed: every resume ends as if nothing had been.

The undisturbed run tells how long the start takes and how long the cells. One moment in five falls
into the start, the others between the first cell and the last: some in the middle of a write.
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
    return {"cells": "12", "size": "256", "seconds": "0.1", "marker": str(marks)}


def bits(out):
    """The digest of every stored array; the attributes of a cell name the marker's folder."""
    found = {}
    for manifest in sorted(out.glob(MANIFESTS)):
        files = json.loads(manifest.read_text())["files"]
        found[manifest.parent.name] = {k: v for k, v in files.items() if k != "data.zarr/.zattrs"}
    return found


def start(out, overrides, environment, workers):
    words = [sys.executable, "-c", PROGRAM, str(out), json.dumps(overrides), str(workers)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("seed", "moments", "workers"), [(0, 3, 1), pytest.param(1, 20, 2, marks=pytest.mark.slow)]
)
def test_every_resume_ends_with_the_same_bits_and_claims(tmp_path, fakes, seed, moments, workers):
    begun = time.time()
    process = start(tmp_path / "whole", settings(tmp_path / "marks"), fakes, workers)
    assert process.wait(300) == 0
    first = min(path.stat().st_mtime for path in (tmp_path / "marks").iterdir())
    last = max(path.stat().st_mtime for path in (tmp_path / "whole").glob(MANIFESTS))
    expected, stored = RunFolder.open(tmp_path / "whole").claims(), bits(tmp_path / "whole")
    assert len(stored) == 12

    shares = random.Random(seed)
    found = []
    for number in range(moments):
        out, marks = tmp_path / f"run-{number}", tmp_path / f"marks-{number}"
        overrides = settings(marks)
        process = start(out, overrides, fakes, workers)
        share = shares.random()
        if number % 5 == 4:
            time.sleep(share * (first - begun))
        else:
            until = time.monotonic() + 120
            while not any(marks.iterdir()) and time.monotonic() < until:
                time.sleep(0.005)
            time.sleep(share * (last - first))
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
        assert bits(out) == stored
        assert not list(out.rglob(".tmp-*"))
    print(f"whole cells at the moment of the kill: {found}")
    assert len(set(found)) > 1, "the moments were all alike"
