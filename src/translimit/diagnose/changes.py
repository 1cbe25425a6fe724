r"""Two checkpoints of one shape on the same sequences: what tuning moved, layer by layer.

Differences are paired over sequences, so that z = difference over its error is against no change on
this kind of text. Movement of a matrix is |W - W_0| / |W_0|.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, JsonObject, Progress, part_of, with_error
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.depth import movement
from translimit.diagnose.measuring import NAMES, Rows, measure
from translimit.diagnose.plain import plain_numbers
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
            "loss": plain_numbers(list(self.loss)),
            "moved": {name: plain_numbers(rows) for name, rows in self.moved.items()},
            "differences": {
                name: {
                    "value": plain_numbers(self.differences[name]),
                    "error": plain_numbers(self.errors[name]),
                    "z": plain_numbers(self.z(name)),
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
