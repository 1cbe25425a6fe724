r"""Loss curves at any size from runs at a few: the fit, its backtest, and what it is asked.

The logarithm of the loss, averaged over seeds, is a series in 1/n at fixed steps, rate, schedule
and batch (`series`). Along width at fixed data, losses of trained models fall more slowly, so that
the series in n^(-1/2) stands beside it, and what is told is the hull of both at two errors, unless
the backtest tells them apart. The backtest predicts the largest size from the others; where it
fails no value is given.

Reference: documentation, "From small runs to the infinite network".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from translimit.core import DataError
from translimit.extrapolate.curves import Curves, require_axis
from translimit.extrapolate.extrapolation import Extrapolation
from translimit.extrapolate.fitted import largest_of
from translimit.extrapolate.predicted import Backtest
from translimit.extrapolate.series import Series, noise_of_means

#: The powers of 1/n: that of means over seeds in the limits, and the slower one beside it.
POWERS = (1.0, 0.5)
Rate = Literal["1", "0.5", "both"]


def fit(
    curves: Curves,
    axes: Sequence[str] | str | None = None,
    *,
    together: Sequence[str] = (),
    lr: float | int | Literal["best"] = "best",
    at_step: int | float | None = None,
    rate: Rate = "both",
) -> Extrapolation:
    """Extrapolate loss curves along some of their sizes.

    Args:
        curves: of at least three sizes, better four, and three seeds.
        axes: the sizes that grow; by default all that vary and are not in `together`.
        together: sizes that move with them: each is told by the axes.
        lr: the learning rate: one of the runs', or the one with the lowest mean log loss at the
            largest size. It is one for all sizes.
        at_step: the number of updates that is asked for; the last by default.
        rate: "1" and "0.5" take 1/n or n^(-1/2) alone; "both" tells both, as far as the backtest
            leaves them.

    Raises:
        DataError: an axis that is none, sizes that vary and are not named, too few sizes or seeds,
            seed sets that differ between sizes (unless unpaired), a run that diverged at this
            rate.
    """
    curves, axes, together = _along(curves, axes, together)
    if at_step is not None:
        curves = curves.until(at_step)
    chosen, notes = _chosen(curves, lr)
    logs = seed_logs(chosen)
    sizes = chosen.sizes
    need = 3 if len(axes) == 1 else len(axes) + 2
    if len(sizes) < need:
        raise DataError(
            axes[0], f"{len(sizes)} distinct sizes of {_and(axes)}", f"give runs of {need} or more"
        )
    every = series_of(sizes, logs, chosen.paired, rate)
    whole = np.linalg.matrix_rank(
        np.concatenate([np.ones((len(sizes), 1)), every[0].x(sizes)], axis=1), tol=1e-6
    )
    if whole <= len(axes):
        raise DataError(
            axes[0],
            f"{_and(axes)} move together",
            f"they are one axis: --axis {axes[0]} --with {','.join(axes[1:])}",
        )
    backtest = backtest_of(every)
    kept = backtest.kept
    return Extrapolation(
        curves,
        chosen.rates[0],
        axes,
        together,
        tuple(one for one in every if one.power in kept),
        backtest,
        (*curves.notes, *notes),
    )


def _along(
    curves: Curves, axes: Sequence[str] | str | None, together: Sequence[str]
) -> tuple[Curves, tuple[str, ...], tuple[str, ...]]:
    """The curves by the sizes of some axes."""
    if isinstance(axes, str):
        axes = (axes,)
    for name in (*(axes or ()), *together):
        require_axis(name)
        if name not in curves.axes:
            told = f"those that do: {', '.join(curves.axes)}"
            raise DataError("axis", f"{name} is no column, or does not vary", told)
    axes = tuple(axes or (name for name in curves.axes if name not in together))
    places = [curves.axes.index(name) for name in axes]
    sizes, first = np.unique(curves.sizes[:, places], axis=0, return_index=True)
    if len(sizes) < len(curves.sizes):
        others = [name for name in curves.axes if name not in axes]
        for name in others:
            column = curves.sizes[:, curves.axes.index(name)]
            for size in sizes:
                found = np.unique(column[np.all(curves.sizes[:, places] == size, axis=1)])
                if len(found) > 1:
                    raise DataError(
                        name,
                        f"varies at {axes[0]}={size[0]:g}: {found[0]:g} and {found[1]:g}",
                        f"add it to the axes, or leave one value of {name} in the runs",
                    )
    others = [name for name in curves.axes if name not in (*axes, *together)]
    if others:
        raise DataError(
            others[0],
            f"varies with {_and(axes)}",
            f"sizes that move together are one axis: --axis {axes[0]} --with {','.join(others)}",
        )
    kept = replace(
        curves,
        axes=axes,
        sizes=sizes,
        losses=curves.losses[first],
        ran=curves.ran[first],
    )
    return kept, axes, tuple(together)


def _chosen(curves: Curves, lr: float | int | str) -> tuple[Curves, list[str]]:
    """The curves of one learning rate."""
    if lr != "best":
        return curves.at_rate(float(lr)), []
    if len(curves.rates) == 1:
        return curves, []
    everywhere = curves.ran.any(axis=1).all(axis=0)
    bad = np.any(~np.isfinite(curves.losses) & curves.ran[..., None], axis=(0, 1, 3))
    usable = np.flatnonzero(everywhere & ~bad)
    if not usable.size:
        raise DataError(
            "lr", "at every rate a run is missing or diverged", "add a lower rate at all sizes"
        )
    point = largest_of(curves.sizes)
    last = np.nanmean(np.log(curves.losses[point][:, usable, -1]), axis=0)
    best = curves.rates[usable[int(np.argmin(last))]]
    at = curves.named(point)
    return curves.at_rate(best), [f"lr {best:g} has the lowest mean log loss at {at}"]


def seed_logs(curves: Curves) -> Float[np.ndarray, "points seeds steps"]:
    """Log losses of one learning rate, seed by seed; NaN where a size lacks a seed.

    Args:
        curves: of one learning rate.

    Raises:
        DataError: see `fit`.
    """
    ran = curves.ran[:, :, 0]
    bad = np.argwhere(~np.isfinite(curves.losses[:, :, 0]) & ran[..., None])
    if bad.size:
        point, seed, step = bad[0]
        raise DataError(
            "loss",
            f"is not finite at {curves.named(point)}, seed {curves.seeds[seed]}, lr "
            f"{curves.rates[0]:g}, step {curves.steps[step]:g}",
            "the run diverged: name a lower rate with lr",
        )
    if curves.paired and not np.all(ran == ran[0]):
        point = int(np.flatnonzero(np.any(ran != ran[0], axis=1))[0])
        raise DataError(
            "seed",
            f"{curves.named(0)} and {curves.named(point)} have different seeds",
            "give all sizes the same seeds, or read them as unpaired",
        )
    count = ran.sum(axis=1)
    if count.min() < 3:
        few = int(np.argmin(count))
        raise DataError(
            "seed", f"{count[few]} at {curves.named(few)}", "give 3 seeds or more: errors need them"
        )
    return np.log(np.where(ran[..., None], curves.losses[:, :, 0], np.nan))


def series_of(
    sizes: Float[np.ndarray, "points axes"],
    values: Float[np.ndarray, "points seeds steps"],
    paired: bool,
    rate: Rate,
) -> list[Series]:
    """Series of every power that is asked for.

    Args:
        sizes: by point.
        values: log losses, or their differences, seed by seed.
        paired: see `Curves`.
        rate: see `fit`.
    """
    noise, means = noise_of_means(values, paired=paired), np.nanmean(values, axis=1)
    powers = POWERS if rate == "both" else (float(rate),)
    return [Series(sizes, means, noise, power) for power in powers]


def backtest_of(every: Sequence[Series]) -> Backtest:
    """The largest size from the others, by every power.

    Args:
        every: series of the same means.
    """
    held = largest_of(every[0].sizes)
    answers = [one.without([held]).at(one.sizes[held]) for one in every]
    own = np.sqrt(every[0].noise[:, held, held])
    measured = every[0].means[held]
    value = np.stack([one.value for one in answers])
    error = np.sqrt(np.stack([one.error for one in answers]) ** 2 + own**2)
    return Backtest(
        every[0].sizes[held], tuple(one.power for one in every), value, error, measured, own
    )


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)
