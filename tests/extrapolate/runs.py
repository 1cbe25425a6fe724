"""Runs that the tests of this room make up, as arrays and as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from translimit.extrapolate import Curves


def falling(
    sizes: Sequence[int] = (2, 3, 4, 6),
    *,
    seeds: int = 6,
    steps: int = 7,
    slope: float = 0.3,
    noise: float = 0.01,
    power: float = 1.0,
    seed: int = 0,
) -> Curves:
    """Loss curves whose logarithm is -t + slope t / n^power, along layers."""
    rng = np.random.default_rng(seed)
    t = np.arange(1, steps + 1) / steps
    common = noise * rng.normal(size=(seeds, steps))
    logs = [
        -t + slope * t / n**power + common + noise * rng.normal(size=(seeds, steps)) for n in sizes
    ]
    return Curves.from_arrays({"layers": sizes}, np.exp(np.array(logs)), 100 * t)


def write(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """A CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def table(
    *,
    sizes: Mapping[str, Sequence[float]] | None = None,
    seeds: Sequence[object] = (0, 1, 2),
    rates: Sequence[float] = (0.01,),
    steps: Sequence[int] = (10, 20, 40),
    more: Mapping[str, object] | None = None,
) -> list[dict[str, object]]:
    """Rows of runs, to be changed and written by `write_rows`."""
    sizes = sizes or {"layers": (2, 3, 4, 6)}
    points = list(zip(*sizes.values(), strict=True))
    rng = np.random.default_rng(0)
    found: list[dict[str, object]] = []
    for point in points:
        for seed in seeds:
            for rate in rates:
                for step in steps:
                    loss = np.exp(-step / 40 + 0.3 / float(point[0]) + 0.01 * rng.normal())
                    row = dict(zip(sizes, point, strict=True))
                    row |= {"seed": seed, "lr": rate, "step": step, "loss": float(loss)}
                    found.append(row | dict(more or {}))
    return found


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Rows as a CSV file."""
    names = list(rows[0])
    return write(path, names, [[row[name] for name in names] for row in rows])
