r"""Checkpoints of one training run on the same sequences: what changes when.

Beside all observables of every checkpoint, against the first:

    movement of a matrix    |W - W_0| / |W_0|
    movement of the scores  sum |S - S_0| / sum |S_0|  over heads and visible pairs
    alignment               of the kernels K = X X^T of the streams without their mean token,
                            <K, K_0> / (|K| |K_0|): 1 where tokens lie to each other as before

and the cosine of A = sum_h W_Q,h W_K,h^T of neighbouring layers. A figure crosses a level at a step
that is interpolated linearly in log(step + 1); its error is the jackknife's over sequences.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, JsonObject, Progress, part_of, with_error
from translimit.diagnose.changes import SHOWN, require_same_shape
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.depth import depth_cosines, movement
from translimit.diagnose.layer_figures import NAMES
from translimit.diagnose.measuring import Measured, Rows, measure
from translimit.diagnose.passing import doubled, in_layer, visible
from translimit.diagnose.plain import plain_numbers, plain_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: An overlap that is crossed is told: tokens are then as good as one.
COLLAPSED = 0.9


@dataclass(frozen=True, eq=False)
class Series:
    """Checkpoints of one training run.

    Attributes:
        steps: of every checkpoint [checkpoints].
        measured: figures of every one.
        moved: |W - W_0| / |W_0| from the first, by matrix [checkpoints, layers].
        scores_moved: movement of the scores, mean over sequences [checkpoints, layers].
        alignment: of kernels with the first, mean over sequences, place 0 the tokens that enter
            [checkpoints, places].
        neighbours: mean cosine of A of neighbouring layers [checkpoints].
    """

    steps: Float[np.ndarray, " checkpoints"]
    measured: tuple[Measured, ...]
    moved: Mapping[str, Float[np.ndarray, "checkpoints layers"]]
    scores_moved: Float[np.ndarray, "checkpoints layers"]
    alignment: Float[np.ndarray, "checkpoints places"]
    neighbours: Float[np.ndarray, " checkpoints"]

    def mean(self, name: str) -> Float[np.ndarray, "checkpoints places"]:
        """An observable's mean over sequences.

        Args:
            name: of the observable.
        """
        return np.stack([one.values[name].mean(axis=0) for one in self.measured])

    @property
    def straightness(self) -> Float[np.ndarray, "checkpoints 2"]:
        """`observe.Straightness` of attention's and the MLPs' branches, mean over sequences."""
        return np.stack([one.straight.mean(axis=0) for one in self.measured])

    @property
    def losses(self) -> Float[np.ndarray, " checkpoints"]:
        """Mean loss in nats; NaN where nothing is predicted."""
        return np.array([one.losses.mean() for one in self.measured])

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

    def sentences(self) -> Iterator[str]:
        """Where the overlap after the last layer turns, and where tokens are as good as one."""
        last = self.mean("overlap").shape[1] - 1
        values = self.mean("overlap")[:, last]
        for word, place in (("largest", int(values.argmax())), ("smallest", int(values.argmin()))):
            at = self.steps[place]
            if 0 < place < len(values) - 1:
                yield (
                    f"overlap after layer {last} is {word} at step {at:g}: "
                    f"{values[place]:.3f}; it begins at {values[0]:.3f}, ends at {values[-1]:.3f}"
                )
        for upward, word in ((True, "upwards"), (False, "downwards")):
            step, error = self.crossing("overlap", last, COLLAPSED, upward=upward)
            if np.isfinite(step):
                told = with_error(step, error, ".1f")
                yield f"overlap after layer {last} crosses {COLLAPSED} {word} at step {told}"

    def to_json(self) -> JsonObject:
        """As plain data: every observable by checkpoint and layer."""
        return {
            "steps": self.steps.tolist(),
            "loss": plain_numbers(self.losses),
            "observables": {
                name: [plain_numbers(row) for row in self.mean(name)] for name in NAMES
            },
            "moved": {
                name: [plain_numbers(row) for row in rows] for name, rows in self.moved.items()
            },
            "scores_moved": plain_rows(self.scores_moved),
            "alignment": plain_rows(self.alignment),
            "neighbours": plain_numbers(self.neighbours),
            "straightness": plain_rows(self.straightness),
            "sentences": list(self.sentences()),
        }

    def plot(self) -> Figure:
        """Small multiples against log(step + 1): loss, observables by layer, what moved."""
        from translimit.diagnose.drawing_series import plot_series

        return plot_series(self)

    def __str__(self) -> str:
        last = len(self.measured[0].values["overlap"][0]) - 1
        names = (*(f"{name}, layer {last}" for name in SHOWN), "weights", "scores", "alignment")
        rows = [["step", "loss", *names]]
        moved = np.mean([row.mean(axis=1) for row in self.moved.values()], axis=0)
        for place, step in enumerate(self.steps):
            one = self.measured[place]
            cells = [f"{one.values[name][:, last].mean():.3f}" for name in SHOWN]
            cells += [f"{moved[place]:.3f}", f"{self.scores_moved[place].mean():.3f}"]
            cells.append(f"{self.alignment[place, last]:.3f}")
            rows.append([f"{step:g}", f"{one.losses.mean():.3f}", *cells])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(c.rjust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
        return "\n".join([*lines, *(f"- {one}" for one in self.sentences())])


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
    steps, found, moved, beside, cosines = sorted(checkpoints), [], [], [], []
    first = checkpoints[steps[0]]
    for place, step in enumerate(steps):
        one = checkpoints[step]
        require_same_shape(first, one)
        part = part_of(progress, place / len(steps), (place + 1) / len(steps))
        entries = [one.embed(row) for row in inputs]
        found.append(measure(one, entries, ids=None if one.patches else inputs, progress=part))
        moved.append(movement(first, one))
        beside.append(passes_beside(first, one, inputs))
        neighbours = np.diagonal(depth_cosines(one)[0], 1)
        cosines.append(float(neighbours.mean()) if neighbours.size else float("nan"))
    rows = {name: np.stack([one[name] for one in moved]) for name in moved[0]}
    scores, alignment = (np.stack(each) for each in zip(*beside, strict=True))
    return Series(np.array(steps, float), tuple(found), rows, scores, alignment, np.array(cosines))


def passes_beside(
    before: Checkpoint, after: Checkpoint, inputs: Rows
) -> tuple[Float[np.ndarray, " layers"], Float[np.ndarray, " places"]]:
    """Movement of the scores and alignment of the kernels of two checkpoints, by layer.

    Args:
        before: S_0 and K_0.
        after: S and K, of the same shapes.
        inputs: sequences that both read.

    Returns:
        sum |S - S_0| / sum |S_0| [layers]; alignment at the entry and after every layer [places];
        means over sequences.
    """
    pairs = list(zip(map(doubled, before.layers), map(doubled, after.layers), strict=True))
    moved, aligned = [], []
    for row in inputs:
        x, y = before.embed(row), after.embed(row)
        scores, kernels = [], [kernel_alignment(x, y)]
        for one, other in pairs:
            first, second = in_layer(one, x), in_layer(other, y)
            seen = visible(one.attention, one.causal, len(x))
            start, end = (np.asarray(each.scores)[:, seen] for each in (first, second))
            whole = np.abs(start).sum()
            scores.append(np.abs(end - start).sum() / whole if whole > 0 else np.nan)
            x, y = np.asarray(first.exit), np.asarray(second.exit)
            kernels.append(kernel_alignment(x, y))
        moved.append(scores)
        aligned.append(kernels)
    return np.mean(moved, axis=0), np.mean(aligned, axis=0)


def kernel_alignment(one: Float[np.ndarray, "n D"], other: Float[np.ndarray, "n D"]) -> float:
    """<K, K'> / (|K| |K'|) of the Gram matrices of tokens without their mean; NaN of equal tokens.

    Args:
        one: tokens.
        other: the same tokens elsewhere.
    """
    a, b = (x - x.mean(axis=0) for x in (one, other))
    both = ((a.T @ b) ** 2).sum()
    size = np.sqrt(((a @ a.T) ** 2).sum() * ((b @ b.T) ** 2).sum())
    return float(both / size) if size > 0 else float("nan")


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
