"""CSV files as people have them: one table of all runs, or one export a run and a table of runs.

One table has a row for every loss: columns of sizes, `seed`, `lr`, `step`, `loss` and a few more
(see `read_runs`). A table of runs has a row for every run, with a column `file` in place of `step`
and `loss`; the files are what wandb and TensorBoard export.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Float

from translimit.core import DataError, StoreError, cause_of
from translimit.extrapolate.curves import COUNTS, SIZES

#: A table by columns, as text.
Table = dict[str, list[str]]
#: Columns of numbers and of words.
NUMBERS = (*SIZES, "lr", "step", "loss", "steps")
WORDS = ("seed", "schedule", "batch", "parameterization")
#: What wandb and TensorBoard call the step; the first that is there counts.
STEPS = ("step", "_step", "global_step", "trainer/global_step", "train/global_step")
#: What a loss is called where nobody says; the first that is there counts.
LOSSES = ("loss", "value", "eval/loss", "val/loss", "val_loss", "eval_loss", "train/loss")


def read_table(path: Path) -> Table:
    """A CSV file by columns; names without spaces at their ends.

    Args:
        path: of the file, with a line of names.

    Raises:
        StoreError: the file cannot be read.
        DataError: it has no rows, or rows of different lengths.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(path, f"cannot be read ({cause_of(error)})", "pass a CSV file") from error
    if len(rows) < 2:
        raise DataError(str(path), "has no rows", "pass a CSV file with a line of names")
    names = [name.strip() for name in rows[0]]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(str(path), f"names the column {twice[0]!r} twice", "name each once")
    width = len(names)
    if len(set(map(len, rows))) > 1:
        row = next(number for number, row in enumerate(rows) if len(row) != width)
        raise DataError(
            str(path), f"row {row + 1} has {len(rows[row])} cells of {width}", "mend the row"
        )
    return dict(zip(names, map(list, zip(*rows[1:], strict=True)), strict=True))


def numbers(path: Path, name: str, cells: list[str]) -> Float[np.ndarray, " rows"]:
    """A column of numbers; an empty cell is NaN, as pandas writes it.

    Args:
        path: of the file, for messages.
        name: of the column.
        cells: as text.

    Raises:
        DataError: a cell is no number.
    """
    try:
        return np.array([cell or "nan" for cell in cells], float)
    except ValueError:
        for row, cell in enumerate(cells):
            try:
                float(cell or "nan")
            except ValueError:
                raise DataError(
                    f"{path}, {name}", f"got {cell!r} in row {row + 2}", "pass a number"
                ) from None
        raise


def columns_of(path: Path) -> dict[str, np.ndarray]:
    """The columns that `read_runs` reads, from either kind of file.

    Args:
        path: of a table of losses or of runs.

    Raises:
        StoreError: a file cannot be read.
        DataError: a column is missing, or a cell is no number.
    """
    table = read_table(path)
    runs = "file" in table
    if runs:
        found = _with_exports(path, table)
    else:
        found = {name: numbers(path, name, table[name]) for name in NUMBERS if name in table}
        found |= {name: np.array(table[name]) for name in WORDS if name in table}
    if not set(SIZES) & set(found):
        counts = [name for name in table if name.lower() in COUNTS]
        said = f"only {counts[0]}, which is no axis" if counts else "no column of a size"
        raise DataError(str(path), f"has {said}", f"add one or more of {', '.join(SIZES)}")
    for name in ("seed", "step", "loss"):
        if name not in found:
            raise DataError(
                str(path),
                f"has no column {name}",
                "add the columns seed, step and loss, or a column file with one export a run",
            )
    return found


def _with_exports(path: Path, table: Table) -> dict[str, np.ndarray]:
    """A table of runs, each row repeated for every loss of its file."""
    metrics = table.get("metric", [""] * len(table["file"]))
    exports = [
        read_export(path.parent / name.strip(), metric.strip())
        for name, metric in zip(table["file"], metrics, strict=True)
    ]
    counts = [len(steps) for steps, _ in exports]
    found: dict[str, np.ndarray] = {
        "step": np.concatenate([steps for steps, _ in exports]),
        "loss": np.concatenate([losses for _, losses in exports]),
    }
    for name in set(table) & {*NUMBERS, *WORDS} - {"step", "loss"}:
        cells = numbers(path, name, table[name]) if name in NUMBERS else np.array(table[name])
        found[name] = np.repeat(cells, counts)
    return found


def read_export(
    path: Path, metric: str = ""
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Steps and losses of one run, from what wandb or TensorBoard export.

    TensorBoard writes `Wall time,Step,Value`; wandb `Step,NAME - METRIC` and two columns of
    extremes, or all metrics under their names with `_step`. Rows without a value are left out.

    Args:
        path: of the file.
        metric: the column of the loss, or its name in wandb; by default the first known one.

    Raises:
        StoreError: the file cannot be read.
        DataError: no column is a step or a loss, or several may be.
    """
    table = read_table(path)
    lower = {name.lower(): name for name in table}
    steps = next((lower[name] for name in STEPS if name in lower), None)
    if steps is None:
        raise DataError(str(path), "has no column of steps", f"name one {', '.join(STEPS)}")
    column = _loss_column(path, table, lower, metric)
    kept = [place for place, cell in enumerate(table[column]) if cell.strip()]
    cells = ([table[name][place] for place in kept] for name in (steps, column))
    step, loss = (numbers(path, n, c) for n, c in zip((steps, column), cells, strict=True))
    if not kept:
        raise DataError(str(path), f"has no value of {column!r}", "name another metric")
    return step, loss


def _loss_column(path: Path, table: Table, lower: dict[str, str], metric: str) -> str:
    """The column of the loss."""
    charts = [n for n in table if " - " in n and not n.endswith(("__MIN", "__MAX"))]
    if metric:
        if metric in table:
            return metric
        charts = [name for name in charts if name.partition(" - ")[2] == metric]
        if len(charts) != 1:
            raise DataError("metric", f"{path} has no single {metric!r}", "name one of its columns")
        return charts[0]
    known = [lower[name] for name in LOSSES if name in lower]
    if known:
        return known[0]
    if len(charts) == 1:
        return charts[0]
    told = ", ".join(table)
    raise DataError(
        str(path),
        f"has no column that is known as a loss (it has {told})",
        "name it in a column metric of the table of runs",
    )
