r"""Coordinate checks of the networks of this package: compiled, all seeds at once.

Networks of several sizes take a few steps on one repeated batch; exponents, promises and verdicts
are those of `translimit.checks`.

Reference: documentation, "Scaling rules", the coordinate check; arXiv 2405.15712.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from translimit.checks import AxisName, CoordinateCheck, expected_exponents, require_sizes
from translimit.core import Key
from translimit.data import AbstractSource, Repeated
from translimit.describe import Parameterization, TransformerShape, Update
from translimit.train.ensemble import train
from translimit.train.observables import COORDINATES, Coordinates
from translimit.train.optimizers import Optimizer
from translimit.train.training import Training


def ensemble_coordinate_check(
    base: TransformerShape,
    axis: AxisName,
    sizes: Sequence[int],
    parameterize: Callable[[TransformerShape], Parameterization],
    source: AbstractSource,
    *,
    optimizer: Optimizer,
    rate: float,
    key: Key,
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
        alpha_A: promised exponent of the scores.
        alpha_L: promised exponent of the branches.
        loss: what is minimised.
        precision: of the networks.

    Raises:
        ArgumentError: fewer than 3 sizes, or sizes that do not increase, or an unknown axis.
    """
    sizes = require_sizes(axis, sizes, 3)
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
        shape = resized_shape(base, axis, size)
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
    first = optimizer.kind.update is Update.GRADIENT
    expected = expected_exponents(axis, steps, first, alpha_A, alpha_L)
    if not base.hidden:
        expected = {k: v for k, v in expected.items() if not k[0].startswith("hidden")}
    return CoordinateCheck(axis, sizes, steps, values, expected)


def resized_shape(base: TransformerShape, axis: AxisName, size: int) -> TransformerShape:
    """A shape with one size replaced; key/value heads follow the heads at a fixed group size."""
    if axis == "heads" and base.kv_heads is not None:
        return replace(base, heads=size, kv_heads=base.kv_heads * size // base.heads)
    return replace(base, **{axis: size})
