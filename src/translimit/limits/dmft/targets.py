"""How targets are read: which rows of outputs there are, and what each of them is to become.

Rows are inputs where outputs are read from the mean over tokens ("pooled"), and single tokens of
all inputs where every token has outputs of its own ("token").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    as_float64,
    brief,
)
from translimit.limits.dmft.losses import AbstractLoss, CrossEntropy

#: Where outputs can be read.
READOUTS = ("pooled", "token")


@dataclass(frozen=True)
class Targets:
    """Targets, read.

    Attributes:
        given: as they came: integers for classes, else real numbers.
        token: whether every token has outputs of its own.
        y: what the loss compares outputs with.
        counted: which rows have a target.
        shape: of the predictions at one evaluation, without or with an axis of outputs.
        rows: the axes of rows in `shape`, [inputs] or [inputs, tokens].
    """

    given: np.ndarray
    token: bool
    y: Float[np.ndarray, "rows outputs"]
    counted: Bool[np.ndarray, " rows"]
    shape: tuple[int, ...]
    rows: tuple[int, ...]


def read_targets(
    targets: ArrayInput,
    loss: AbstractLoss,
    readout: str | None,
    inputs: int,
    tokens: int,
    classes: int | None,
) -> Targets:
    """Targets of `inputs` of `tokens` each.

    Raises:
        ArgumentError: shapes that do not match, classes out of range.
        ArgumentTypeError: a shape that can be read in two ways without `readout`; real classes.
    """
    if readout not in (None, *READOUTS):
        raise ArgumentError("readout", f"got {brief(readout)}", 'pass "pooled" or "token"')
    if isinstance(loss, CrossEntropy):
        return _classes(targets, loss, readout, inputs, tokens, classes)
    given = np.asarray(as_float64(targets, "targets"))
    if given.ndim < 1 or len(given) != inputs or not given.size:
        raise _shape_error(given.shape, readout, inputs, tokens)
    if readout is None and given.ndim == 3:
        readout = "token"
    # One token is its own mean.
    if readout is None and given.ndim == 2 and given.shape[1] == tokens > 1:
        raise ArgumentTypeError(
            "readout",
            f"is missing, and targets of shape {given.shape} may be {tokens} outputs of the "
            f"mean over tokens, or one of each of the {tokens} tokens",
            'pass readout="pooled" for the first, readout="token" for the second',
        )
    token = readout == "token"
    rows = (inputs, tokens) if token else (inputs,)
    if given.shape[: len(rows)] != rows or given.ndim > len(rows) + 1:
        raise _shape_error(given.shape, readout, inputs, tokens)
    y = given.reshape(int(np.prod(rows)), -1)
    counted = np.ones(len(y), bool)
    return Targets(given, token, loss.columns(y), counted, given.shape, rows)


def _classes(
    targets: Any,
    loss: CrossEntropy,
    readout: str | None,
    inputs: int,
    tokens: int,
    classes: int | None,
) -> Targets:
    """Integers from 0; -1 where there is no target."""
    given = np.asarray(targets)
    if given.dtype.kind not in "iu":
        raise ArgumentTypeError(
            "targets", f"are {given.dtype}, not integers", "pass classes from 0 on, and -1 for none"
        )
    token = given.ndim == 2 if readout is None else readout == "token"
    rows = (inputs, tokens) if token else (inputs,)
    if given.shape != rows:
        raise _shape_error(given.shape, readout, inputs, tokens)
    flat = given.reshape(-1).astype(np.int64)
    count = int(flat.max(initial=-1)) + 1 if classes is None else classes
    if flat.min() < -1 or flat.max() >= count or count < 2 or flat.max() < 0:
        raise ArgumentError(
            "targets",
            f"go from {flat.min()} to {flat.max()} where there are {count} classes",
            f"pass at least one class, from 0 to {count - 1}; -1 where there is no target",
        )
    counted = flat >= 0
    y = np.where(counted[:, None], np.eye(count)[np.maximum(flat, 0)], 0.0)
    return Targets(given, token, loss.columns(y), counted, (*rows, count), rows)


def read_weights(
    weights: ArrayInput | None, targets: Targets, steps: int
) -> Float[np.ndarray, "steps inputs ..."]:
    """Weights of rows in the loss, of all steps; 0 where there is no target.

    Raises:
        ArgumentError: a shape that does not match, negative numbers.
    """
    counted = targets.counted.reshape(targets.rows)
    given = counted / counted.sum() if weights is None else as_float64(weights, "weights")
    w = _not_negative(given, "weights", targets.rows, (steps, *targets.rows))
    return np.broadcast_to(w * counted, (steps, *targets.rows)).copy()


def read_schedule(schedule: ArrayInput | None, steps: int) -> Float[np.ndarray, " steps"]:
    """Factors of the learning rate; 1 by default.

    Raises:
        ArgumentError: a shape that does not match, negative numbers.
    """
    given = np.ones(steps) if schedule is None else as_float64(schedule, "schedule")
    return _not_negative(given, "schedule", (steps,))


def _not_negative(given: Any, name: str, *shapes: tuple[int, ...]) -> Float[np.ndarray, ...]:
    """Numbers of at least 0 in one of these shapes, or an error that names them."""
    values = np.asarray(given)
    if values.shape not in shapes:
        wanted = " or ".join(str(list(shape)) for shape in shapes)
        raise ArgumentError(name, f"has shape {values.shape}", f"pass {wanted}")
    if np.any(values < 0):
        raise ArgumentError(
            name, f"has least entry {np.min(values):g}", "pass factors of at least 0"
        )
    return values


def _shape_error(
    shape: tuple[int, ...], readout: str | None, inputs: int, tokens: int
) -> ArgumentError:
    pooled = f"[{inputs}] or [{inputs}, outputs]"
    single = f"[{inputs}, {tokens}] or [{inputs}, {tokens}, outputs]"
    wanted = {"pooled": pooled, "token": single}.get(str(readout), f"{pooled}, or {single}")
    return ArgumentError(
        "targets", f"has shape {shape}", f"pass {wanted}; classes have no axis of outputs"
    )
