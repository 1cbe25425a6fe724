"""What a fit holds: the series of every power, the backtest, and the curve at any size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, DataError
from translimit.extrapolate.curves import Curves
from translimit.extrapolate.predicted import Backtest, Predicted
from translimit.extrapolate.series import Series

#: The largest target in units of the largest size, where `strict` is asked for.
FARTHEST = 16.0


@dataclass(frozen=True)
class Fitted:
    """What runs at a few sizes say about others.

    Attributes:
        runs: all runs, at all learning rates.
        lr: the learning rate whose curves are extrapolated; NaN where none was told.
        axes: the sizes that grow.
        together: sizes that move with them.
        series: for every power that is kept, the first is the one whose value is told.
        backtest: the largest size from the others.
        notes: what was assumed.
    """

    runs: Curves
    lr: float
    axes: tuple[str, ...]
    together: tuple[str, ...]
    series: tuple[Series, ...]
    backtest: Backtest
    notes: tuple[str, ...]

    @property
    def steps(self) -> Float[np.ndarray, " steps"]:
        """Numbers of updates; the last is the one that is asked for."""
        return self.runs.steps

    @property
    def curves(self) -> Curves:
        """The curves that are extrapolated."""
        return self.runs.at_rate(self.lr) if len(self.runs.rates) > 1 else self.runs

    @property
    def infinite(self) -> Predicted:
        """The curve at infinite size along all axes.

        Raises:
            DataError: the backtest fails.
        """
        return self._at([math.inf] * len(self.axes))

    @property
    def largest(self) -> int:
        """The place of the largest point."""
        return largest_of(self.series[0].sizes)

    @property
    def underpowered(self) -> bool:
        """Whether there are three sizes only, which a fit cannot check itself on."""
        return len(self.series[0].sizes) < 4

    def predict(self, *, strict: bool = False, **sizes: int | float) -> Predicted:
        """The curve at a size, as in `predict(layers=64)`.

        Args:
            strict: see `at`.
            **sizes: see `at`.

        Raises:
            ArgumentError: see `at`.
            DataError: see `at`.
        """
        return self.at(sizes, strict=strict)

    def at(self, sizes: Mapping[str, int | float], *, strict: bool = False) -> Predicted:
        """The curve at a size.

        Args:
            sizes: one for every axis; `math.inf` is infinite.
            strict: refuse targets beyond 16 times the largest size.

        Raises:
            ArgumentError: an axis is missing or unknown, or a size is not positive.
            DataError: the backtest fails; with `strict`, the target is too far.
        """
        if set(sizes) != set(self.axes):
            raise ArgumentError("sizes", f"got {sorted(sizes)}", f"pass {', '.join(self.axes)}")
        target = [float(sizes[axis]) for axis in self.axes]
        if not all(size > 0 for size in target):
            raise ArgumentError("sizes", f"got {target}", "pass positive sizes")
        most = self.series[0].sizes.max(axis=0)
        far = [axis for axis, t, m in zip(self.axes, target, most, strict=True) if t > FARTHEST * m]
        if strict and far:
            raise DataError(
                far[0],
                f"{sizes[far[0]]:g} is more than {FARTHEST:g} times the largest size",
                "add larger runs, or pass strict=False",
            )
        return self._at(target)

    def require_backtest(self) -> None:
        """Refuse where the largest size is not predicted by the others.

        Raises:
            DataError: by more than three errors, whatever the power.
        """
        if not self.backtest.passes:
            raise DataError(
                self.axes[0],
                f"no value: the others miss the largest size by {self.backtest.told_z} errors",
                "add larger sizes; the smallest may follow another law",
            )

    def _at(self, target: Sequence[float]) -> Predicted:
        self.require_backtest()
        answers = [one.at(np.array(target)) for one in self.series]
        return Predicted(
            dict(zip(self.axes, target, strict=True)),
            self.steps,
            tuple(one.power for one in self.series),
            np.stack([one.value for one in answers]),
            np.stack([one.error for one in answers]),
            np.stack([one.seed_error for one in answers]),
            self.series[0].means[self.largest],
            len(self.runs.seeds),
        )


def largest_of(sizes: Float[np.ndarray, "points axes"]) -> int:
    """The place of the largest point: the one with the largest product of sizes.

    Args:
        sizes: by point and axis.
    """
    return int(np.argmax(np.log(sizes).sum(axis=1)))
