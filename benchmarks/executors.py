"""What an executor costs: overhead per cell, scaling over cores, and what one driver sustains.

Cells sleep for 10 ms, 1 s or 30 s and store a tiny dataset. The overhead is the time between the
end of one cell and the beginning of the next in the same process (median): storing the cell whole,
telling the driver, and getting the next one. Everything is measured in one session, so the ratios
to the serial executor hold where the absolute numbers do not. Run it as
`python benchmarks/executors.py [quick]`; the whole takes under ten minutes, mostly asleep. Ray and
submitit are left out where they are not installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from translimit.execute import (
    AbstractExecutor,
    BatchScheduler,
    Job,
    ProcessPool,
    RayCluster,
    Serial,
    job_environment,
    run_jobs,
)
from translimit.store import RunFolder, cell_state
from translimit.study import run_experiments

EXPERIMENT = "support.sleepers:EXPERIMENT"
#: Seconds of a cell, and how many each executor computes.
LENGTHS = {0.01: 40, 1.0: 6, 30.0: 4}
NODES, CORES, CELLS = 1000, 16, 10**6


def executors(workers: int, logs: str) -> dict[str, AbstractExecutor]:
    """Those that are installed, with as many workers."""
    found: dict[str, AbstractExecutor] = {"serial": Serial(), "pool": ProcessPool(workers)}
    if importlib.util.find_spec("ray"):
        found["ray"] = RayCluster(workers=workers)
    if importlib.util.find_spec("submitit"):
        found["slurm (local)"] = BatchScheduler(cluster="local", tasks=workers, logs=logs)
    return found


def one_run(executor: AbstractExecutor, folder: Path, **overrides: object) -> dict[str, float]:
    """Seconds of a run: in all, before the first cell, after the last, and between cells."""
    begun = time.time()
    run = run_experiments(
        EXPERIMENT,
        out=folder,
        executor=executor,
        overrides={key: str(value).lower() for key, value in overrides.items()},
        progress=False,
        device="cpu",
    )
    over = time.time()
    cells = [cell.load() for cell in run.folder.read_cells("benchmark/sleepers").values()]
    rows = sorted((int(c["pid"]), float(c["began"]), float(c["ended"])) for c in cells)
    gaps = {}
    for before, after in itertools.pairwise(rows):
        if before[0] == after[0]:
            gaps.setdefault(before[0], []).append(after[1] - before[2])
    # The first write of a process loads what writes arrays: that belongs to its start.
    warm = [gap for each in gaps.values() for gap in (each[1:] or each)]
    return {
        "all": over - begun,
        "start": min(row[1] for row in rows) - begun,
        "end": over - max(row[2] for row in rows),
        "between": statistics.median(warm),
        "processes": len({row[0] for row in rows}),
    }


def overheads(folder: Path, lengths: dict[float, int]) -> dict[str, float]:
    """The table of overheads per cell; the shortest cells' overhead by executor."""
    print("overhead per cell (two workers; the serial executor has one)")
    print(f"{'executor':>14}{'cell':>8}{'cells':>7}{'overhead':>11}{'/ serial':>10}{'share':>8}"
          f"{'start':>8}{'end':>7}")  # fmt: skip
    shortest, serial = {}, {}
    for name, executor in executors(2, str(folder / "logs")).items():
        for seconds, number in lengths.items():
            number = min(number, 2) if name == "serial" and seconds > 10 else number
            out = folder / f"{name}-{seconds}"
            found = one_run(executor, out, cells=number, seconds=seconds)
            gap = found["between"]
            shortest.setdefault(name, gap)
            serial.setdefault(seconds, gap)
            print(f"{name:>14}{seconds:>6g} s{number:>7}{1e3 * gap:>8.1f} ms"
                  f"{gap / serial[seconds]:>10.2f}{gap / (gap + seconds):>8.1%}"
                  f"{found['start']:>6.1f} s{found['end']:>5.1f} s", flush=True)  # fmt: skip
    return shortest


def scaling(folder: Path, number: int) -> None:
    """Seconds of busy cells on one core and on two, without start and end."""
    print("\nscaling: busy cells of 1 s, from the beginning of the first to the end of the last")
    print(f"{'executor':>14}{'one':>9}{'two':>9}{'speed-up':>10}")
    for name in executors(1, ""):
        if name == "serial":
            continue
        spans = []
        for workers in (1, 2):
            executor = executors(workers, str(folder / "logs"))[name]
            out = folder / f"busy-{name}-{workers}"
            found = one_run(executor, out, cells=number, seconds=1.0, busy=True)
            spans.append(found["all"] - found["start"] - found["end"])
        print(f"{name:>14}{spans[0]:>7.1f} s{spans[1]:>7.1f} s{spans[0] / spans[1]:>10.2f}",
              flush=True)  # fmt: skip


def rates(folder: Path, number: int) -> dict[str, float]:
    """Jobs per second that pass through one driver when they do nothing."""
    print("\none driver: jobs that do nothing, per second after the first has come back")
    found = {}
    for name, executor in executors(2, str(folder / "logs")).items():
        if name == "slurm (local)":
            continue  # results come with their array task: a driver sees tasks, not cells
        jobs = [Job(str(i), {"number": i}) for i in range(number)]
        times = [time.time() for _ in run_jobs(executor, "support.sleepers:nothing", jobs)]
        found[name] = (len(times) - 1) / (times[-1] - times[0])
        print(f"{name:>14}{found[name]:>9.0f} / s", flush=True)
    return found


def estimate(folder: Path, gaps: dict[str, float], found: dict[str, float]) -> None:
    """10^6 cells on 1,000 nodes, from what was measured here."""
    out = folder / "serial-0.01"
    run = RunFolder.open(out)
    addresses = run.addresses()
    begun = time.perf_counter()
    for address in addresses:
        assert cell_state(address).whole
    check = (time.perf_counter() - begun) / len(addresses)
    described = os.path.getsize(out / "run.json") / len(addresses)
    files = sum(1 for path in addresses[0].folder.rglob("*") if path.is_file())
    slots = NODES * CORES
    print(
        f"\nestimate on paper: {CELLS:.0e} cells on {NODES} nodes of {CORES} cores, one core a cell"
    )
    print("assumed: the store takes all cores at the overhead of this disk; a driver's rate is as"
          " measured;\n  checking cells is read-bound and done once by the driver")  # fmt: skip
    print(f"{'cell':>8}{'cores alone':>14}{'with overhead':>15}{'one driver of Ray':>19}"
          f"{'cells / s wanted':>18}")  # fmt: skip
    rate = found.get("ray", found["pool"])
    for seconds in (0.01, 1.0, 30.0, 600.0):
        gap = gaps.get("ray", gaps["pool"])
        alone, each = CELLS * seconds / slots, CELLS * (seconds + gap) / slots
        print(f"{seconds:>6g} s{alone / 60:>10.2f} min{each / 60:>11.2f} min"
              f"{max(each, CELLS / rate) / 60:>15.2f} min{CELLS / each:>18.0f}")  # fmt: skip
    print(f"run.json: {described:.0f} bytes a cell, {CELLS * described / 1e9:.2f} GB in all; "
          f"{files} files a cell; checking what is whole: {1e3 * check:.2f} ms a cell, "
          f"{CELLS * check / 60:.0f} min in all")  # fmt: skip


def main(mode: str = "") -> None:
    """Print all tables."""
    quick = mode == "quick"
    # Ray starts its processes from this one, in which the serial executor has loaded JAX.
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    os.environ.update(job_environment(1, "cpu"))
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(Path(__file__).parent):
        folder = Path(name)
        lengths = {s: n for s, n in LENGTHS.items() if not quick or s < 10}
        gaps = overheads(folder, lengths)
        scaling(folder, 4 if quick else 8)
        found = rates(folder, 300 if quick else 1000)
        estimate(folder, gaps, found)


if __name__ == "__main__":
    main(*sys.argv[1:2])
