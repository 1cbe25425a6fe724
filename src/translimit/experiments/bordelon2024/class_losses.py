"""Cross-entropy and accuracy of outputs of networks and of the limit, row by row.

Written for stored outputs: nothing of the trainer or of the solver is called.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from translimit.core import Estimate


def row_losses(f: Float[np.ndarray, ...], labels: Int[np.ndarray, ...]) -> Float[np.ndarray, ...]:
    """-log softmax(f) at the label [*any, *rows]; NaN where a row has no target.

    Args:
        f: outputs [*any, *rows, classes], or with the axes of single inputs as one.
        labels: [*rows], -1 where there is none.
    """
    f = _by_row(f, labels)
    top = f.max(axis=-1, keepdims=True)
    normaliser = top[..., 0] + np.log(np.exp(f - top).sum(axis=-1))
    return np.where(labels >= 0, normaliser - _own(f, labels), np.nan)


def row_accuracies(
    f: Float[np.ndarray, ...], labels: Int[np.ndarray, ...]
) -> Float[np.ndarray, ...]:
    """Whether the largest output is that of the label; 1 / k where k are the largest, or NaN.

    Args:
        f: as in `row_losses`.
        labels: [*rows].
    """
    f = _by_row(f, labels)
    largest = f >= f.max(axis=-1, keepdims=True)
    share = _own(largest.astype(float), labels) / largest.sum(axis=-1)
    return np.where(labels >= 0, share, np.nan)


def losses(f: Float[np.ndarray, ...], labels: Int[np.ndarray, ...]) -> Float[np.ndarray, "*any"]:
    """The mean of `row_losses` over rows with a target."""
    return np.nanmean(row_losses(f, labels), axis=tuple(range(-labels.ndim, 0)))


def accuracies(
    f: Float[np.ndarray, ...], labels: Int[np.ndarray, ...]
) -> Float[np.ndarray, "*any"]:
    """The mean of `row_accuracies` over rows with a target."""
    return np.nanmean(row_accuracies(f, labels), axis=tuple(range(-labels.ndim, 0)))


def by_position(
    values: Float[np.ndarray, "*any inputs tokens"],
) -> Float[np.ndarray, "*any positions"]:
    """Means over inputs, at the positions where some input has a target."""
    known = np.isfinite(values)
    places = known.reshape(-1, *known.shape[-2:])[0].any(axis=0)
    return np.nanmean(values[..., places], axis=-2)


def distance_ratio(
    first: Float[np.ndarray, " networks"], second: Float[np.ndarray, " networks"]
) -> Estimate:
    """The ratio of two means over networks, with its standard error."""
    a, b = Estimate.from_samples(first), Estimate.from_samples(second)
    ratio = a.value / b.value
    stderr = abs(ratio) * np.hypot(a.stderr / a.value, b.stderr / b.value)
    return Estimate(ratio, float(stderr), min(len(first), len(second)))


def _by_row(f: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Stored outputs of an input [*any, inputs, tokens * classes] as those of its rows."""
    if labels.ndim == 1:
        return f
    lead = f.ndim - 2 if f.shape[-2] == len(labels) else f.ndim - 3
    return f.reshape(*f.shape[:lead], *labels.shape, -1)


def _own(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    place = np.broadcast_to(np.maximum(labels, 0), values.shape[:-1])
    return np.take_along_axis(values, place[..., None], axis=-1)[..., 0]
