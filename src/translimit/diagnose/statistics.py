r"""What a checkpoint's figures are worth: errors over sequences, and z against drawn networks.

The independent unit is the sequence for the checkpoint and the drawn network for its null; tokens
and heads of one sequence are not independent. Over B sequences the jackknife error of a mean is
their standard deviation over B^(1/2). With R drawn networks on the same inputs, mu_0 and s_0 the
mean and the standard deviation of their means, and se the error of the paired difference,

    z = (O - mu_0) / (s_0^2 (1 + 1 / R) + se^2)^(1/2),

held against Student's t of R - 1 degrees, or of B - 1 where se exceeds s_0 and B < R. Where s_0 and
se are below 1e-5 |mu_0| a norm fixes the figure: no z.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from translimit.core import Floats
from translimit.diagnose.layer_figures import NAMES
from translimit.diagnose.measuring import Measured

#: Two-sided level of the threshold of |z|.
LEVEL = 0.05
#: Below this share of the null's mean a spread is rounding.
ROUNDING = 1e-5
#: z is cut here: more only says that s_0 is small.
LARGEST_Z = 99.0


@dataclass(frozen=True, eq=False)
class Compared:
    """One observable beside its null, by place.

    Attributes:
        value: mean over sequences [places].
        error: of that mean; NaN of one sequence [places].
        null: mu_0 [places].
        null_std: s_0, of one drawn network [places].
        z: NaN where it is not defined [places].
        threshold: of |z|, Student's t [places].
    """

    value: Float[np.ndarray, " places"]
    error: Float[np.ndarray, " places"]
    null: Float[np.ndarray, " places"]
    null_std: Float[np.ndarray, " places"]
    z: Float[np.ndarray, " places"]
    threshold: Float[np.ndarray, " places"]

    @property
    def fixed(self) -> np.ndarray:
        """Places where a norm fixes the figure."""
        return np.isfinite(self.null) & np.isfinite(self.null_std) & np.isnan(self.z)


def sequence_error(rows: Float[np.ndarray, "sequences ..."]) -> Floats:
    """The jackknife error of a mean over sequences; NaN of one.

    Args:
        rows: a figure of every sequence.
    """
    count = len(rows)
    if count < 2:
        return np.full(rows.shape[1:], np.nan)
    return np.asarray(np.std(rows, axis=0, ddof=1) / np.sqrt(count))


def compare_with_null(
    rows: Float[np.ndarray, "sequences places"], null: Float[np.ndarray, "draws sequences places"]
) -> Compared:
    """An observable beside the same of drawn networks on the same inputs.

    Args:
        rows: of every sequence.
        null: of every drawn network and sequence; without a draw there is no null.
    """
    error = np.asarray(sequence_error(rows))
    value, draws = rows.mean(axis=0), len(null)
    if draws < 2:
        nan = np.full(value.shape, np.nan)
        mu = null.mean(axis=(0, 1)) if draws else nan
        return Compared(value, error, mu, nan, nan, nan)
    means = null.mean(axis=1)
    mu, s0 = means.mean(axis=0), means.std(axis=0, ddof=1)
    paired = sequence_error(rows - null.mean(axis=0))
    se = np.where(np.isnan(paired), 0.0, paired)
    variance = s0**2 * (1 + 1 / draws) + se**2
    resolved = (s0 > ROUNDING * np.abs(mu)) | (se > ROUNDING * np.abs(mu))
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(resolved, (value - mu) / np.sqrt(variance), np.nan)
    few = (se >= s0) & (1 < len(rows) < draws)
    degrees = np.where(few, len(rows) - 1, draws - 1)
    return Compared(value, error, mu, s0, np.clip(z, -LARGEST_Z, LARGEST_Z), student(degrees))


def compare_all(measured: Measured, nulls: Sequence[Measured]) -> dict[str, Compared]:
    """Every observable beside its null.

    Args:
        measured: of the checkpoint.
        nulls: of drawn networks.
    """
    places = next(iter(measured.values.values())).shape
    none = np.zeros((0, *places))
    return {
        name: compare_with_null(
            measured.values[name],
            np.stack([one.values[name] for one in nulls]) if nulls else none,
        )
        for name in NAMES
    }


def compare_between(measured: Measured, nulls: Sequence[Measured]) -> dict[str, Compared]:
    """`overlap_between` of the mean, first and last token beside its null.

    It is of all pairs of sequences, so that its errors are those of the jackknife that leaves one
    sequence out; NaN below three sequences.

    Args:
        measured: of the checkpoint.
        nulls: of drawn networks.
    """
    count, own = len(measured), measured.between()
    drawn = [one.between() for one in nulls]
    found = {}
    for name, value in own.items():
        null = np.array([one[name] for one in drawn]).reshape(-1, len(value))
        mu = null.mean(axis=0) if len(null) else np.full(value.shape, np.nan)
        error = paired = np.full(value.shape, np.nan)
        if count > 2:
            left = np.array([measured.without(i).between()[name] for i in range(count)])
            each = [[one.without(i).between()[name] for one in nulls] for i in range(count)]
            beside = left - np.mean(each, axis=1) if len(null) else left
            error, paired = _jackknife(left), _jackknife(beside)
        if len(null) < 2:
            nan = np.full(value.shape, np.nan)
            found[name] = Compared(value, error, mu, nan, nan, nan)
            continue
        s0, draws = null.std(axis=0, ddof=1), len(null)
        variance = s0**2 * (1 + 1 / draws) + np.nan_to_num(paired) ** 2
        resolved = np.sqrt(variance) > ROUNDING * np.abs(mu)
        with np.errstate(invalid="ignore", divide="ignore"):
            z = np.where(resolved, (value - mu) / np.sqrt(variance), np.nan)
        degrees = np.where((paired >= s0) & (count < draws), count - 1, draws - 1)
        z = np.clip(z, -LARGEST_Z, LARGEST_Z)
        found[name] = Compared(value, error, mu, s0, z, student(degrees))
    return found


def _jackknife(left: Float[np.ndarray, "sequences places"]) -> Float[np.ndarray, " places"]:
    """The standard error from values that leave one sequence out each."""
    count = len(left)
    return np.sqrt((count - 1) / count * ((left - left.mean(axis=0)) ** 2).sum(axis=0))


def student(degrees: Shaped[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The two-sided threshold of Student's t at `LEVEL`.

    Args:
        degrees: of freedom.
    """
    from scipy.stats import t  # scipy is loaded when it is needed

    return np.asarray(t.ppf(1 - LEVEL / 2, degrees))


def undefined(name: str, compared: Mapping[str, Compared]) -> bool:
    """Whether an observable is undefined in every layer.

    Args:
        name: of the observable.
        compared: of `compare_all`.
    """
    return bool(np.isnan(compared[name].value).all())
