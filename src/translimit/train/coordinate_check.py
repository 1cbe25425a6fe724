r"""Coordinate checks: how sizes of fields and of their changes scale along one axis of the network.

Networks of several sizes take a few steps on one repeated batch; a power law is fitted to every
coordinate of every seed, and its exponent is compared with what the parameterization promises.
With u the learning rate's own regime (SGD starts incoherent, N^(-1/2) below its later order),

| coordinate | head_dim | heads | layers |
|---|---|---|---|
| stream, hidden and their changes, output change | 0 | 0 | 0 |
| output at the start | -1/2 | -1/2 | 0 |
| logits at the start | 1/2 - alpha_A | 0 | 0 |
| learned key change | alpha_A - 1 (SGD: 1/2 less in its first steps) | 0 | alpha_L - 1 |
| learned logit change | 0 (SGD: -1/2 in its first steps) | 0 | alpha_L - 1 |

Reference: documentation, "Scaling rules", the coordinate check; arXiv 2405.15712.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float, PRNGKeyArray

from translimit.core import ArgumentError, Claim, Estimate, Verdict
from translimit.data import AbstractSource, Repeated
from translimit.describe import Parameterization, TransformerShape
from translimit.train.ensemble import train
from translimit.train.observables import COORDINATES, Coordinates
from translimit.train.optimizers import Optimizer
from translimit.train.training import Training

Axis = Literal["head_dim", "heads", "layers"]
AXES = ("head_dim", "heads", "layers")


@dataclass(frozen=True)
class CoordinateCheck:
    """Coordinates of networks of several sizes.

    Attributes:
        axis: which size changes.
        sizes: its values.
        steps: numbers of updates after which was recorded; 0 is the start.
        values: by coordinate [sizes, steps, seeds]; NaN where a network diverged.
        expected: promised exponents by (coordinate, updates).
    """

    axis: Axis
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    values: Mapping[str, Float[np.ndarray, "sizes steps seeds"]]
    expected: Mapping[tuple[str, int], float]

    def exponent(self, coordinate: str, step: int) -> Estimate:
        """The exponent of a coordinate after some updates: least squares for every seed.

        Args:
            coordinate: one of `COORDINATES`.
            step: one of `steps`.

        Returns:
            Mean and standard error over seeds; NaN where a network diverged or the coordinate is 0.
        """
        if coordinate not in self.values or step not in self.steps:
            raise ArgumentError(
                "coordinate",
                f"no {coordinate!r} after {step} updates",
                f"known: {', '.join(self.values)}; after {self.steps}",
            )
        rows = self.values[coordinate][:, self.steps.index(step)]
        if not np.all(np.isfinite(rows) & (rows > 0)):
            return Estimate(math.nan, math.nan, rows.shape[1])
        slopes = np.polyfit(np.log(self.sizes), np.log(rows), 1)[0]
        if len(slopes) < 2:
            return Estimate(float(slopes[0]), math.inf, 1)
        return Estimate.from_samples(slopes)

    def verdict(self, coordinate: str, step: int, tol: float = 0.15) -> Verdict:
        """Whether an exponent is the promised one, within `tol`; refuted where a network diverged.

        Raises:
            ArgumentError: nothing is promised for it.
        """
        if (coordinate, step) not in self.expected:
            raise ArgumentError(
                "coordinate", f"nothing is promised for {coordinate!r}", "see table"
            )
        found = self.exponent(coordinate, step)
        if not math.isfinite(found.value):
            return Verdict.refuted
        return Claim(coordinate, "", self.expected[coordinate, step], found, tol).verdict

    def refuted(self, tol: float = 0.25) -> list[str]:
        """Sentences that name coordinate, updates, axis and exponents of all that is refuted."""
        sentences = []
        for (coordinate, step), expected in self.expected.items():
            if self.verdict(coordinate, step, tol) is Verdict.refuted:
                found = self.exponent(coordinate, step)
                sentences.append(
                    f"{coordinate} after {step} updates grows with {self.axis} to the power "
                    f"{found.value:+.2f} ± {found.stderr:.2f}, and {expected:+.2f} is promised"
                )
        return sentences


def coordinate_check(
    base: TransformerShape,
    axis: Axis,
    sizes: Sequence[int],
    parameterize: Callable[[TransformerShape], Parameterization],
    source: AbstractSource,
    *,
    optimizer: Optimizer,
    rate: float,
    key: PRNGKeyArray,
    steps: Sequence[int] = (0, 1, 2, 5, 10),
    seeds: int = 3,
    batch: int = 64,
    alpha_A: float = 1.0,
    alpha_L: float = 1.0,
    loss: Literal["cross_entropy", "mse"] = "cross_entropy",
    precision: Literal["float32", "float64"] = "float32",
) -> CoordinateCheck:
    """Train networks of several sizes for a few steps on one batch and record their coordinates.

    Args:
        base: the shape at which the other sizes are held.
        axis: which size changes.
        sizes: its values, at least 3, increasing.
        parameterize: numbers of each shape, from a rule or a standard.
        source: where the batch comes from.
        optimizer: at the base.
        rate: base rate, at which the loss falls clearly within the steps.
        key: of starts.
        steps: numbers of updates after which to record.
        seeds: independent starts.
        batch: examples of the batch.
        alpha_A: promised exponent of the logits.
        alpha_L: promised exponent of the branches.
        loss: what is minimised.
        precision: of the networks.

    Raises:
        ArgumentError: fewer than 3 sizes, or sizes that do not increase, or an unknown axis.
    """
    sizes = tuple(sizes)
    if axis not in AXES:
        raise ArgumentError("axis", f"unknown {axis!r}", f"known: {', '.join(AXES)}")
    if len(sizes) < 3 or any(a >= b for a, b in pairwise(sizes)):
        raise ArgumentError("sizes", f"got {sizes}", "pass at least 3 increasing values")
    steps = tuple(sorted(set(steps)))
    training = Training(
        steps=steps[-1],
        rates=(rate,),
        seeds=seeds,
        batch=batch,
        optimizer=optimizer,
        loss=loss,
        precision=precision,
    )
    values = {name: np.zeros((len(sizes), len(steps), seeds)) for name in COORDINATES}
    for index, size in enumerate(sizes):
        shape = resized(base, axis, size)
        history = train(
            shape,
            parameterize(shape),
            Repeated(source),
            training,
            key=key,
            observe=(Coordinates(),),
            observe_at=steps,
            probe=batch,
        )
        for name in COORDINATES:
            values[name][index] = history[name][:, :, 0]
    first = optimizer.name in ("sgd", "momentum")
    expected = expected_exponents(axis, steps, first, alpha_A, alpha_L)
    if not base.hidden:
        expected = {k: v for k, v in expected.items() if not k[0].startswith("hidden")}
    return CoordinateCheck(axis, sizes, steps, values, expected)


def expected_exponents(
    axis: Axis,
    steps: Sequence[int],
    suppressed: bool,
    alpha_A: float,
    alpha_L: float,
) -> dict[tuple[str, int], float]:
    """What the rules promise, by coordinate and updates.

    Args:
        axis: which size changes.
        steps: numbers of updates.
        suppressed: whether the first update is incoherent, as of SGD: then only it has a promise
            for what keys and queries learn along the head dimension.
        alpha_A: exponent of the logits.
        alpha_L: exponent of the branches.
    """
    promised: dict[tuple[str, int], float] = {}
    for step in steps:
        if step == 0:
            promised["stream", 0] = promised["hidden", 0] = 0.0
            promised["logit", 0] = 0.5 - alpha_A if axis == "head_dim" else 0.0
            if axis != "layers":
                promised["output", 0] = -0.5
            continue
        for name in ("stream_change", "output_change"):
            promised[name, step] = 0.0
        if axis != "layers":
            promised["hidden_change", step] = 0.0
        late = suppressed and axis == "head_dim"
        if late and step > 1:
            continue
        less = 0.5 if late else 0.0
        key = {"head_dim": alpha_A - 1 - less, "heads": 0.0, "layers": alpha_L - 1}[axis]
        logit = {"head_dim": -less, "heads": 0.0, "layers": alpha_L - 1}[axis]
        promised["learned_key_change", step] = key
        promised["learned_logit_change", step] = logit
    return promised


def resized(base: TransformerShape, axis: Axis, size: int) -> TransformerShape:
    """A shape with one size replaced; key/value heads follow the heads at a fixed group size."""
    if axis == "heads" and base.kv_heads is not None:
        return replace(base, heads=size, kv_heads=base.kv_heads * size // base.heads)
    return replace(base, **{axis: size})
