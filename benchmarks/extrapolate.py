"""How long reading and fitting a CSV file of 100,000 losses takes, and the whole command.

Processor seconds, the least of several; the command is a fresh interpreter. Run it as `python
benchmarks/extrapolate.py`; the exit status is 1 where a target is missed.
"""

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from translimit.extrapolate import fit, read_runs

SIZES, SEEDS, STEPS = (2, 4, 8, 16), 5, 5000
#: Seconds of one core.
TARGETS = {"read and fit": 1.0, "command": 3.0}


def write(path: Path) -> int:
    """Runs as a user has them; how many losses."""
    rng = np.random.default_rng(0)
    rows = [
        (4, layers, seed, 0.01, step, np.exp(1 - step / STEPS + 0.3 / layers + noise))
        for layers in SIZES
        for seed in range(SEEDS)
        for step, noise in enumerate(0.01 * rng.normal(size=STEPS), 1)
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("head_dim", "layers", "seed", "lr", "step", "loss"), *rows])
    return len(rows)


def least(run: Callable[[], Any], repeats: int = 5) -> float:
    """The least processor seconds of several calls, those of their processes among them."""
    found = []
    for _ in range(repeats):
        start = sum(os.times()[:4])
        run()
        found.append(sum(os.times()[:4]) - start)
    return min(found)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.csv"
        print(f"{write(path)} losses, {path.stat().st_size / 1e6:.1f} MB")
        words = [sys.executable, "-m", "translimit", "extrapolate", str(path), "--target", "64"]

        def command() -> None:
            subprocess.run(words, check=True, capture_output=True)

        measured = {
            "read": least(lambda: read_runs(path)),
            "read and fit": least(lambda: fit(read_runs(path)).infinite),
            "command": least(command),
        }
    for name, seconds in measured.items():
        target = TARGETS.get(name)
        verdict = "" if target is None else "pass" if seconds <= target else "MISS"
        print(f"{name:14} {seconds:6.2f} processor seconds  {verdict}")
    return int(any(measured[name] > target for name, target in TARGETS.items()))


if __name__ == "__main__":
    sys.exit(main())
