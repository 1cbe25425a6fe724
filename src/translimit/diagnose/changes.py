r"""Two checkpoints of one shape on the same sequences: what tuning moved, layer by layer.

Differences are paired over sequences, so that z = difference over its error is against no change on
this kind of text. Movement of a matrix is |W - W_0| / |W_0|. Along a series of checkpoints a figure
crosses a level at a step that is interpolated linearly in log(step + 1).

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, JsonObject, Progress, part_of, with_error
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.depth import movement
from translimit.diagnose.measuring import NAMES, Measured, Rows, measure
from translimit.diagnose.statistics import sequence_error

#: What a table of differences shows.
SHOWN = ("overlap", "effective_rank", "entropy", "score_spread", "head_var", "ratio_a", "ratio_f")


@dataclass(frozen=True, eq=False)
class Changes:
    """What differs between two checkpoints.

    Attributes:
        differences: after less before, by observable [places].
        errors: of these, paired over sequences [places].
        moved: |W - W_0| / |W_0| by matrix [layers].
        loss: difference in nats and its error; NaN where nothing is predicted.
    """

    differences: Mapping[str, Float[np.ndarray, " places"]]
    errors: Mapping[str, Float[np.ndarray, " places"]]
    moved: Mapping[str, Float[np.ndarray, " layers"]]
    loss: tuple[float, float]

    def z(self, name: str) -> Float[np.ndarray, " places"]:
        """The difference of an observable over its error; NaN where there is none.

        Args:
            name: of the observable.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            found = self.differences[name] / self.errors[name]
        return np.where(np.isfinite(found), found, np.nan)

    def to_json(self) -> JsonObject:
        """As plain data."""
        return {
            "loss": _plain(self.loss),
            "moved": {name: _plain(rows) for name, rows in self.moved.items()},
            "differences": {
                name: {
                    "value": _plain(self.differences[name]),
                    "error": _plain(self.errors[name]),
                    "z": _plain(self.z(name)),
                }
                for name in self.differences
            },
        }

    def __str__(self) -> str:
        names = list(self.moved)
        lines = ["after less before, z over sequences in brackets; |W - W0| / |W0| of matrices"]
        if np.isfinite(self.loss[0]):
            lines.append(f"loss: {with_error(*self.loss, '+.3f', unit='nats')}")
        rows = [["layer", *SHOWN, *names]]
        for place in range(1, len(self.differences["overlap"])):
            cells = [_cell(self.differences[n][place], self.z(n)[place]) for n in SHOWN]
            rows.append([str(place), *cells, *(f"{self.moved[n][place - 1]:.3f}" for n in names)])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines += ["  ".join(c.rjust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
        return "\n".join(lines)


def _cell(difference: float, z: float) -> str:
    """A difference with its z, which is not defined where no sequence differs."""
    return f"{difference:+.3f} ({'-' if np.isnan(z) else f'{z:+.1f}'})"


def changes(
    before: Checkpoint,
    after: Checkpoint,
    inputs: Rows,
    *,
    progress: Progress | None = None,
) -> Changes:
    """What differs between two checkpoints of one shape.

    Args:
        before: W_0.
        after: W.
        inputs: sequences that both read.
        progress: called with the fraction done.

    Raises:
        ArgumentError: shapes that differ.
    """
    require_same_shape(before, after)
    found = []
    for place, one in enumerate((before, after)):
        part = part_of(progress, place / 2, (place + 1) / 2)
        entries = [one.embed(row) for row in inputs]
        found.append(measure(one, entries, ids=None if one.patches else inputs, progress=part))
    first, last = found
    rows = {name: last.values[name] - first.values[name] for name in NAMES}
    loss = last.losses - first.losses
    return Changes(
        {name: row.mean(axis=0) for name, row in rows.items()},
        {name: np.asarray(sequence_error(row)) for name, row in rows.items()},
        movement(before, after),
        (float(loss.mean()), float(sequence_error(loss))),
    )


def require_same_shape(one: Checkpoint, other: Checkpoint) -> None:
    """Refuse checkpoints of different shapes.

    Args:
        one: a checkpoint.
        other: another.

    Raises:
        ArgumentError: they differ.
    """
    shapes = [
        [{name: np.shape(value) for name, value in layer.parameters.items()} for layer in c.layers]
        for c in (one, other)
    ]
    if shapes[0] != shapes[1]:
        told = f"{other.source} has other shapes than {one.source}"
        raise ArgumentError("against", told, "pass two checkpoints of one network")


@dataclass(frozen=True, eq=False)
class Series:
    """Checkpoints of one training run.

    Attributes:
        steps: of every checkpoint [checkpoints].
        measured: figures of every one.
        moved: |W - W_0| / |W_0| from the first, by matrix [checkpoints, layers].
    """

    steps: Float[np.ndarray, " checkpoints"]
    measured: tuple[Measured, ...]
    moved: Mapping[str, Float[np.ndarray, "checkpoints layers"]]

    def mean(self, name: str) -> Float[np.ndarray, "checkpoints places"]:
        """An observable's mean over sequences.

        Args:
            name: of the observable.
        """
        return np.stack([one.values[name].mean(axis=0) for one in self.measured])

    def crossing(self, name: str, layer: int, level: float, *, upward: bool) -> tuple[float, float]:
        """The step at which an observable first crosses a level, and its jackknife error.

        Args:
            name: of the observable.
            layer: from 1; 0 for the entry.
            level: that is crossed.
            upward: whether from below.

        Returns:
            Step and error; NaN where it is not crossed.
        """
        rows = np.stack([one.values[name][:, layer] for one in self.measured])
        count = rows.shape[1]
        whole = _crossing(self.steps, rows.mean(axis=1), level, upward)
        if count < 2:
            return whole, float("nan")
        left = np.array(
            [
                _crossing(self.steps, np.delete(rows, i, axis=1).mean(axis=1), level, upward)
                for i in range(count)
            ]
        )
        error = np.sqrt((count - 1) / count * np.sum((left - left.mean()) ** 2))
        return whole, float(error)

    def to_json(self) -> JsonObject:
        """As plain data: every observable by checkpoint and layer."""
        return {
            "steps": self.steps.tolist(),
            "loss": _plain([one.losses.mean() for one in self.measured]),
            "observables": {name: [_plain(row) for row in self.mean(name)] for name in NAMES},
            "moved": {name: [_plain(row) for row in rows] for name, rows in self.moved.items()},
        }

    def __str__(self) -> str:
        last = len(self.measured[0].values["overlap"][0]) - 1
        rows = [["step", "loss", *(f"{name}, layer {last}" for name in SHOWN), "moved"]]
        moved = np.mean([row.mean(axis=1) for row in self.moved.values()], axis=0)
        for place, step in enumerate(self.steps):
            one = self.measured[place]
            cells = [f"{one.values[name][:, last].mean():.3f}" for name in SHOWN]
            rows.append([f"{step:g}", f"{one.losses.mean():.3f}", *cells, f"{moved[place]:.3f}"])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join(
            "  ".join(c.rjust(w) for c, w in zip(r, widths, strict=True)) for r in rows
        )


def series(
    checkpoints: Mapping[int, Checkpoint],
    inputs: Rows,
    *,
    progress: Progress | None = None,
) -> Series:
    """Figures along training, on fixed sequences.

    Args:
        checkpoints: by step.
        inputs: sequences that all of them read.
        progress: called with the fraction done.

    Raises:
        ArgumentError: fewer than two checkpoints, or shapes that differ.
    """
    if len(checkpoints) < 2:
        raise ArgumentError("checkpoints", f"are {len(checkpoints)}", "pass two at least")
    steps, found, moved = sorted(checkpoints), [], []
    first = checkpoints[steps[0]]
    for place, step in enumerate(steps):
        one = checkpoints[step]
        require_same_shape(first, one)
        part = part_of(progress, place / len(steps), (place + 1) / len(steps))
        entries = [one.embed(row) for row in inputs]
        found.append(measure(one, entries, ids=None if one.patches else inputs, progress=part))
        moved.append(movement(first, one))
    rows = {name: np.stack([one[name] for one in moved]) for name in moved[0]}
    return Series(np.array(steps, float), tuple(found), rows)


def _crossing(
    steps: np.ndarray, values: Float[np.ndarray, " checkpoints"], level: float, upward: bool
) -> float:
    logs = np.log1p(steps)
    for i in range(len(values) - 1):
        low, high = values[i], values[i + 1]
        if (low < level <= high) if upward else (low > level >= high):
            at = logs[i] + (level - low) / (high - low) * (logs[i + 1] - logs[i])
            return float(np.expm1(at))
    return float("nan")


def _plain(values: Sequence[float] | np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
