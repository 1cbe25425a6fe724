"""Loss curves of several sizes, seeds and learning rates, as one labelled array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Real

from translimit.core import ArgumentError, DataError, Record, as_numpy, brief

if TYPE_CHECKING:
    import xarray

#: The sizes that runs may have; those that vary are axes.
SIZES = ("head_dim", "heads", "layers", "width", "experts")
#: Names of the number of parameters, which is no axis.
COUNTS = ("params", "parameters", "n_params", "num_params", "parameter_count", "n_parameters")
#: The largest distance of two steps that are taken for one, relative to the step.
SAME_STEP = 0.05


@dataclass(frozen=True)
class Curves(Record):
    """Losses of runs.

    Attributes:
        axes: names of the sizes that vary.
        sizes: of every point, a distinct combination of sizes.
        seeds: labels of the seeds.
        rates: base learning rates; NaN where none was told.
        steps: numbers of updates, increasing.
        losses: positive; NaN where a run diverged or there is none.
        ran: whether there was such a run.
        paired: seed s is the same at all points: the same start, the same batches.
        notes: what was assumed while reading.
    """

    axes: tuple[str, ...]
    sizes: Float[np.ndarray, "points axes"]
    seeds: tuple[str, ...]
    rates: tuple[float, ...]
    steps: Float[np.ndarray, " steps"]
    losses: Float[np.ndarray, "points seeds rates steps"]
    ran: Bool[np.ndarray, "points seeds rates"]
    paired: bool = True
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def from_arrays(
        cls,
        sizes: Mapping[str, Sequence[int | float] | Real[np.ndarray, " points"]],
        losses: Float[np.ndarray, ...],
        steps: Sequence[int | float] | Real[np.ndarray, " steps"],
        *,
        rates: Sequence[float] | Float[np.ndarray, " rates"] | None = None,
        paired: bool = True,
    ) -> Curves:
        """Curves from arrays, those of an ensemble of ours for example.

        Args:
            sizes: by axis, one for each point: `{"layers": [1, 2, 3, 4]}`.
            losses: [points, seeds, steps], or [points, seeds, rates, steps]; NaN where a run
                diverged.
            steps: numbers of updates, increasing.
            rates: base learning rates; needed where `losses` has an axis of them.
            paired: seed s has the same start and the same batches at all points.

        Raises:
            ArgumentError: shapes that do not match, sizes or steps that are not positive or not
                distinct, losses that are not positive.
        """
        logs = as_numpy(losses, "losses").astype(float)
        if logs.ndim == 3 and rates is None:
            logs = logs[:, :, None]
        grid = as_numpy(steps, "steps").astype(float)
        told = tuple(map(float, rates)) if rates is not None else (float("nan"),)
        points = {len(values) for values in sizes.values()}
        shape = (*points, logs.shape[1] if logs.ndim == 4 else 0, len(told), grid.size)
        if not sizes or logs.shape != shape:
            raise ArgumentError(
                "losses",
                f"has shape {np.shape(losses)} for sizes {brief(dict(sizes))}, "
                f"{len(told)} rates and {grid.size} steps",
                "pass [points, seeds, steps], or [points, seeds, rates, steps] with rates",
            )
        table = np.array([list(map(float, values)) for values in sizes.values()]).T
        for name in sizes:
            require_axis(name)
        if not np.all(table > 0) or len(np.unique(table, axis=0)) != len(table):
            raise ArgumentError(
                "sizes", f"got {brief(dict(sizes))}", "pass distinct positive sizes, one a point"
            )
        if grid.ndim != 1 or not np.all(np.diff(grid) > 0) or not np.all(grid >= 0):
            raise ArgumentError("steps", f"got {brief(grid)}", "pass increasing numbers of updates")
        curves = cls(
            tuple(sizes),
            table,
            tuple(map(str, range(logs.shape[1]))),
            told,
            grid,
            logs,
            np.ones(logs.shape[:3], bool),
            paired,
        )
        curves.require_positive()
        return curves

    def require_positive(self) -> None:
        """Refuse losses that have no logarithm.

        Raises:
            DataError: a loss is zero or negative.
        """
        bad = np.argwhere(self.losses <= 0)
        if bad.size:
            point, seed, rate, step = bad[0]
            raise DataError(
                "loss",
                f"is {self.losses[point, seed, rate, step]:g} at {self.named(point)}, "
                f"seed {self.seeds[seed]}, step {self.steps[step]:g}",
                "pass a positive loss: its logarithm is what is extrapolated",
            )

    def named(self, point: int | np.integer) -> str:
        """The sizes of a point in words, as in `layers=2, heads=4`.

        Args:
            point: its place.
        """
        return ", ".join(f"{a}={s:g}" for a, s in zip(self.axes, self.sizes[point], strict=True))

    def at_rate(self, lr: float | int) -> Curves:
        """The curves of one learning rate, and of the seeds that have it.

        Args:
            lr: one of `rates`, up to a relative 1e-6.

        Raises:
            DataError: no such rate.
        """
        for place, rate in enumerate(self.rates):
            if rate == lr or abs(rate - lr) <= 1e-6 * abs(lr):
                some = np.flatnonzero(self.ran[:, :, place].any(axis=0))
                return replace(
                    self,
                    seeds=tuple(self.seeds[seed] for seed in some),
                    rates=(rate,),
                    losses=self.losses[:, some, place : place + 1],
                    ran=self.ran[:, some, place : place + 1],
                )
        told = ", ".join(f"{rate:g}" for rate in self.rates)
        raise DataError("lr", f"no run has {lr:g}", f"pass one of {told}, or best")

    def until(self, step: int | float) -> Curves:
        """The curves up to a step.

        Args:
            step: the last one, up to 5 %.

        Raises:
            DataError: there is no such step.
        """
        place = int(np.argmin(abs(self.steps - step)))
        if abs(self.steps[place] - step) > SAME_STEP * max(step, 1):
            near = ", ".join(f"{s:g}" for s in self.steps[max(0, place - 1) : place + 2])
            raise DataError(
                "at_step", f"no curve has step {step:g}", f"the nearest are {near}: pass one"
            )
        return replace(self, steps=self.steps[: place + 1], losses=self.losses[..., : place + 1])

    def to_xarray(self) -> xarray.Dataset:
        """The losses, labelled: dimensions point, seed, rate, step."""
        import xarray

        dims = ("point", "seed", "rate", "step")
        coords = {a: ("point", self.sizes[:, place]) for place, a in enumerate(self.axes)}
        about = {"long_name": "loss"}
        return xarray.Dataset(
            {"loss": (dims, self.losses, about)},
            {**coords, "seed": list(self.seeds), "rate": list(self.rates), "step": self.steps},
        )


def require_axis(name: str) -> None:
    """Refuse what is no size of a transformer.

    Args:
        name: of an axis.

    Raises:
        DataError: the number of parameters, or an unknown name.
    """
    if name.lower() in COUNTS:
        raise DataError(
            name,
            "the number of parameters is no axis: the loss is no series in 1/parameters, and "
            "extrapolations along it miss by tens of their errors",
            f"give columns of the shape and name one: {', '.join(SIZES)}",
        )
    if name not in SIZES:
        raise DataError("axis", f"got {name!r}", f"pass one of {', '.join(SIZES)}")
