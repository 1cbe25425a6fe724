"""One loss curve of held-out networks beside its prediction from small ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from translimit import core, extrapolate

#: An error: of a prediction in all, of its seed part, or of the largest size as it is.
Which = Literal["error", "seed_error", "largest"]


@dataclass(frozen=True)
class Curve:
    """One axis at one rate, by time: log losses that were predicted, and what they came to.

    Attributes:
        axis: its name.
        log2_rate: of the base.
        predicted: by the series in 1/n.
        error: of the prediction in all.
        seed_error: the part of it that comes from the seeds.
        low: lower end of the printed range, the hull of both powers.
        high: upper end.
        truth: mean of the held-out networks.
        truth_error: its standard error.
        largest: mean of the largest fitted size.
        largest_error: its standard error.
    """

    axis: str
    log2_rate: float
    predicted: Float[np.ndarray, " time"]
    error: Float[np.ndarray, " time"]
    seed_error: Float[np.ndarray, " time"]
    low: Float[np.ndarray, " time"]
    high: Float[np.ndarray, " time"]
    truth: Float[np.ndarray, " time"]
    truth_error: Float[np.ndarray, " time"]
    largest: Float[np.ndarray, " time"]
    largest_error: Float[np.ndarray, " time"]

    def within(self, which: Which, errors: float | int) -> float:
        """The part of the points that lie within some errors.

        Args:
            which: of the prediction in all, of its seed part alone, or of the largest size as it
                is; that of the held-out mean is added.
            errors: how many.
        """
        value = self.largest if which == "largest" else self.predicted
        own = self.largest_error if which == "largest" else getattr(self, which)
        away = abs(value - self.truth) / np.hypot(own, self.truth_error)
        return float((away < errors).mean())

    @property
    def in_range(self) -> float:
        """The part of the points in the printed range, widened by the held-out mean's errors."""
        wide = 2 * self.truth_error
        return float(((self.low - wide < self.truth) & (self.truth < self.high + wide)).mean())


def held_out_curve(
    axis: str,
    log2_rate: float,
    sizes: tuple[Sequence[int], int],
    times: Sequence[int],
    small: Float[np.ndarray, "sizes seeds times"],
    large: Float[np.ndarray, "held_seeds times"],
) -> Curve:
    """Predict the losses of held-out networks from small ones.

    Args:
        axis: the size that grows.
        log2_rate: of the base.
        sizes: small ones, and the one that is held out.
        times: numbers of updates.
        small: losses of the small networks.
        large: losses of the held-out ones.
    """
    runs = extrapolate.Curves.from_arrays({axis: sizes[0]}, small, times)
    target = np.array([float(sizes[1])])
    both = [extrapolate.fit(runs, rate=rate).series[0] for rate in ("1", "0.5")]
    answers = [one.at(target) for one in both]
    logs, ends = np.log(large), np.log(small[-1])
    return Curve(
        axis,
        log2_rate,
        answers[0].value,
        answers[0].error,
        answers[0].seed_error,
        np.min([one.value - 2 * one.error for one in answers], axis=0),
        np.max([one.value + 2 * one.error for one in answers], axis=0),
        logs.mean(axis=0),
        np.asarray(core.standard_error(logs)),
        ends.mean(axis=0),
        np.asarray(core.standard_error(ends)),
    )
