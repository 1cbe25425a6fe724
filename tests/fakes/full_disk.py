"""Every writer of the library on a disk that is full: `python full_disk.py FOLDER` prints JSON.

The system refuses files beyond a few kilobytes, as it does where a disk or a quota is full, in the
middle of a write. A process of its own, because the limit holds for all that a process writes.
"""

import json
import resource
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from translimit.cli.output import save_figure
from translimit.cli.user_checks import _write
from translimit.core import TEMPORARY, disk_full, save_checkpoint
from translimit.execute import Serial
from translimit.report import build_gallery, build_report
from translimit.scaling.adapters.torch import ParameterGroups
from translimit.store import CellAddress, JsonCells, RemoteCells, RunFolder, export_run, write_cell
from translimit.study import merge_runs, run_experiments

ONE = "fake_experiments:EXPERIMENT"
LIMIT = 4096


def writers(here):
    """Each writer by its name, as a call; what they need is made first."""
    run, copy = here / "run", here / "copy"
    run_experiments(ONE, out=run, executor=Serial(), progress=False)
    shutil.copytree(run, copy)
    url = f"file://{here}/store"
    stored = RunFolder.open(run).addresses()[0]
    fetched, kept = (
        CellAddress(here / name, stored.experiment, stored.cell, stored.digest)
        for name in ("fetched", "kept")
    )
    RemoteCells(f"file://{here}/there").upload(stored)
    figure = Figure()
    figure.subplots().plot(np.random.default_rng(0).normal(size=500))
    state = {"a": np.zeros(5000)}
    return {
        "export": lambda: export_run(RunFolder.open(run), here / "run.nc"),
        "report": lambda: build_report(run, [ONE]),
        "gallery": lambda: build_gallery(here, [copy], [ONE]),
        "merge": lambda: merge_runs([run, copy], here / "joined", [ONE]),
        "plot": lambda: save_figure(figure, here / "figure.svg"),
        "checkpoint": lambda: save_checkpoint(here / "state", "digest", 1, state, ()),
        "check": lambda: _write(here / "check.json", "x" * 5000),
        "pieces": lambda: JsonCells(here / "pieces").update({"one": list(range(5000))}),
        "groups": lambda: ParameterGroups([], {"names": "x" * 5000}).save(here / "groups.json"),
        "cell": lambda: write_cell(kept, RunFolder.open(run).read_cell("fake/means", "group-1")),
        "fetch": lambda: RemoteCells(f"file://{here}/there").fetch(fetched),
        "upload": lambda: RemoteCells(url).upload(stored),
    }


def contents(here):
    return {str(p.relative_to(here)): p.read_bytes() for p in here.rglob("*") if p.is_file()}


def on_a_full_disk(here, write):
    """What a writer raised, what it left behind, and whether it works once there is space."""
    before = contents(here)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
    try:
        write()
        raised = None
    except OSError as error:
        raised = type(error).__name__ if disk_full(error) else repr(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    after = contents(here)
    changed = [name for name, content in after.items() if before.get(name) != content]
    torn = [name for name in after if TEMPORARY in name]
    write()
    return {
        "raised": raised,
        "changed": sorted(changed),
        "lost": sorted(set(before) - set(after)),
        "torn": torn,
        "written": contents(here) != after,
    }


def main():
    sys.dont_write_bytecode = True  # Python would leave a torn file and read it ever after
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    here = Path(sys.argv[1])
    print(json.dumps({name: on_a_full_disk(here, one) for name, one in writers(here).items()}))


if __name__ == "__main__":
    main()
