r"""Outliers of the stream, and the table without them.

A token is an outlier where its squared norm exceeds ten medians, an entry above ten times the rms
entry; a threshold on the largest token alone would see nothing of eight patches that hold half of
the sum of squares. They are looked for after every layer. Figures without them are taken of the
tokens that are left, in the coordinates that are left: what the stream is for most of its tokens.
Attention is that of the whole sequence, since nothing is run again.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from translimit import observe
from translimit.core import Bounds, JsonObject, require_real
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.layer_figures import STREAM, stream_figures
from translimit.diagnose.measuring import Rows
from translimit.diagnose.passing import doubled, in_layer
from translimit.diagnose.plain import plain_number

#: Times the median squared norm, and times the rms entry.
TIMES = 10.0
#: Figures of the table.
TABLE = (*STREAM, "ratio_a", "ratio_f", "ratio_var")
#: Numbers of tokens and coordinates that are printed at most.
SHOWN = 8


@dataclass(frozen=True, eq=False)
class Outliers:
    """Outliers after every layer, and figures with and without them; place 0 is the entry.

    Attributes:
        tokens: numbers of outlying tokens, by sequence and place.
        coordinates: numbers of outlying coordinates, by sequence and place.
        values: means over sequences with all tokens, by name [places].
        without: the same without outliers; NaN where fewer than two tokens are left [places].
        counts: tokens of every sequence.
    """

    tokens: Sequence[Sequence[tuple[int, ...]]]
    coordinates: Sequence[Sequence[tuple[int, ...]]]
    values: Mapping[str, Float[np.ndarray, " places"]] = field(repr=False)
    without: Mapping[str, Float[np.ndarray, " places"]] = field(repr=False)
    counts: Int[np.ndarray, " sequences"]

    def shared(self, place: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens and coordinates that are outliers in all sequences.

        Args:
            place: after this many layers; negative ones from the end.
        """
        two = (set.intersection(*(set(row[place]) for row in one)) for one in self._both)
        tokens, coordinates = (tuple(sorted(one)) for one in two)
        return tokens, coordinates

    def any(self, place: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens and coordinates that are outliers in some sequence.

        Args:
            place: after this many layers; negative ones from the end.
        """
        two = (set.union(*(set(row[place]) for row in one)) for one in self._both)
        tokens, coordinates = (tuple(sorted(one)) for one in two)
        return tokens, coordinates

    def to_json(self) -> JsonObject:
        """As plain data; what is not defined is null."""
        plain = {
            word: {name: [plain_number(one) for one in rows] for name, rows in told.items()}
            for word, told in (("values", self.values), ("without", self.without))
        }
        return {
            "tokens": [[list(one) for one in row] for row in self.tokens],
            "coordinates": [[list(one) for one in row] for row in self.coordinates],
            **plain,
        }

    def __str__(self) -> str:
        lines, last = [], len(self.tokens[0]) - 1
        for word, place in (("first", 1), ("last", last)):
            kinds = zip(("tokens", "coordinates"), self.shared(place), self.any(place), strict=True)
            told = [_said(kind, shared, some) for kind, shared, some in kinds]
            lines.append(f"after the {word} layer: {'; '.join(told)}")
        names = ("overlap", "effective_rank", "mean_square", "largest_share", "ratio_a", "ratio_f")
        lines += ["without them (with all after a slash):", "layer  " + "  ".join(names)]
        for place in range(last + 1):
            cells = [
                f"{_number(self.without[n][place])}/{_number(self.values[n][place])}".rjust(len(n))
                for n in names
            ]
            lines.append(f"{'entry' if place == 0 else str(place):>5}  " + "  ".join(cells))
        return "\n".join(lines)

    @property
    def _both(self) -> tuple[Sequence[Sequence[tuple[int, ...]]], ...]:
        return self.tokens, self.coordinates


def find_outliers(checkpoint: Checkpoint, inputs: Rows, *, times: float | int = TIMES) -> Outliers:
    """Outliers after every layer, and the table with and without them.

    Args:
        checkpoint: the network.
        inputs: sequences of ids, or of patches.
        times: the threshold, in medians of the squared norm and in rms entries.

    Raises:
        ArgumentError: a threshold of at most 1.
    """
    times = require_real(times, "times", Bounds(1.0, np.inf, "()"))
    layers = [doubled(one) for one in checkpoint.layers]
    count, depth = len(inputs), len(layers)
    tables = np.full((2, len(TABLE), count, depth + 1), np.nan)
    tokens: list[list[tuple[int, ...]]] = []
    coordinates: list[list[tuple[int, ...]]] = []
    for number, row in enumerate(inputs):
        x = checkpoint.embed(row)
        found = [observe.outliers(x, times)]
        _fill(tables, number, 0, found[0], x, {})
        for place, layer in enumerate(layers, 1):
            passed = in_layer(layer, x)
            below = x if passed.middle is None else np.asarray(passed.middle)
            branches = {"a": (np.asarray(passed.branch), x)}
            branches |= {} if passed.mlp is None else {"f": (np.asarray(passed.mlp), below)}
            x = np.asarray(passed.exit)
            found.append(observe.outliers(x, times))
            _fill(tables, number, place, found[-1], x, branches)
        tokens.append([tuple(one) for one, _ in found])
        coordinates.append([tuple(one) for _, one in found])
    # A sequence without two ordinary tokens says nothing there, and the others still do.
    known = np.isfinite(tables).sum(axis=2)
    sums = np.nansum(tables, axis=2)
    means = np.where(known > 0, sums / np.maximum(known, 1), np.nan)
    with_all, without = (dict(zip(TABLE, one, strict=True)) for one in means)
    counts = np.array([len(row) for row in inputs])
    return Outliers(tokens, coordinates, with_all, without, counts)


def _fill(
    tables: Float[np.ndarray, "two names sequences places"],
    number: int,
    place: int,
    found: tuple[list[int], list[int]],
    x: Float[np.ndarray, "n D"],
    branches: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    """The figures of one sequence at a place, with all and without what was found."""
    n, dim = x.shape
    rows, columns = (
        np.setdiff1d(np.arange(size), one) for size, one in zip((n, dim), found, strict=True)
    )
    if len(rows) < 2:
        rows = rows[:0]
    for table, (left, kept) in zip(
        tables, ((np.arange(n), np.arange(dim)), (rows, columns)), strict=True
    ):
        if not len(left) or not len(kept):
            continue
        place_of = np.ix_(left, kept)
        told = dict(stream_figures(x[place_of]))
        for name, (branch, stream) in branches.items():
            two = branch[place_of], stream[place_of]
            told[f"ratio_{name}"] = observe.branch_ratio(*two)
            if name == "a":
                told["ratio_var"] = observe.varying_ratio(*two)
        for name, value in told.items():
            table[TABLE.index(name), number, place] = value


def _said(kind: str, shared: tuple[int, ...], some: tuple[int, ...]) -> str:
    if not some:
        return f"no outlying {kind}"
    shown = ", ".join(map(str, some[:SHOWN])) + (", ..." if len(some) > SHOWN else "")
    same = "the same in all inputs" if shared == some else f"{len(shared)} of them in all inputs"
    return f"outlying {kind} {shown} ({same})"


def _number(value: float | np.floating) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
