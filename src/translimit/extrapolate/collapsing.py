r"""Do loss curves of all sizes collapse on one curve up to scale?

With E the irreducible loss and T the last step, R_n(u) = (l_n(u T) - E) / (l_n(T) - E), and

    collapse(u) = std over sizes of the mean log R_n / mean over sizes of the std over seeds

Below 1 the sizes differ less than the seeds do. A trend of log R_n in 1/n is what breaks the
collapse. It is a diagnostic without a verdict.

Reference: Qiu et al., arXiv 2507.02119 (the abstract).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from translimit.core import DataError, with_error
from translimit.extrapolate.curves import Curves

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Collapse:
    """How well normalised curves of all sizes agree.

    Attributes:
        parts: u, part of the steps.
        ratio: spread over sizes over that over seeds; NaN where seeds do not differ.
        trend: least-squares slope of the mean log R in n_1 / n.
        trend_error: its standard error, from the seeds.
        curves: mean log R by size.
    """

    parts: Float[np.ndarray, " parts"]
    ratio: Float[np.ndarray, " parts"]
    trend: Float[np.ndarray, " parts"]
    trend_error: Float[np.ndarray, " parts"]
    curves: Float[np.ndarray, "points parts"]

    def __str__(self) -> str:
        middle = int(np.argmin(abs(self.parts - 0.5)))
        return (
            f"collapse: sizes differ {self.ratio[middle]:.2g} times as much as seeds at "
            f"{self.parts[middle]:.2g} of the steps (mean {np.nanmean(self.ratio):.2g}); trend in "
            f"the size {with_error(self.trend[middle], self.trend_error[middle], '+.2g')}"
        )

    def to_xarray(self) -> xarray.Dataset:
        """All of it by part of the steps."""
        import xarray

        named = {"ratio": self.ratio, "trend": self.trend, "trend_error": self.trend_error}
        return xarray.Dataset(
            {
                **{name: ("part", value) for name, value in named.items()},
                "log_ratio": (("point", "part"), self.curves),
            },
            {"part": self.parts},
        )


def collapse(curves: Curves, floor: float | int = 0.0) -> Collapse:
    """The collapse of the curves of one learning rate along one axis.

    Args:
        curves: of one learning rate.
        floor: E, the irreducible loss.

    Raises:
        DataError: several axes, fewer than three steps, or a loss at or below the floor.
    """
    if len(curves.axes) != 1:
        raise DataError("axis", f"got {', '.join(curves.axes)}", "collapse is along one")
    later = curves.steps > 0
    steps, losses = curves.steps[later], curves.losses[:, :, 0, later]
    if len(steps) < 3:
        raise DataError("step", f"{len(steps)} steps", "collapse needs three or more")
    if np.nanmin(losses) <= floor:
        raise DataError("floor", f"a loss is {np.nanmin(losses):.4g}", f"pass less than {floor:g}")
    logs = np.log(losses - floor)
    away = (logs - logs[..., -1:])[..., :-1]
    means = np.nanmean(away, axis=1)
    own = np.nanstd(away, axis=1, ddof=1)
    spread, seeds = means.std(axis=0, ddof=1), own.mean(axis=0)
    x = curves.sizes[:, 0].min() / curves.sizes[:, 0]
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    # Seed by seed, so that what paired seeds share does not count.
    if curves.paired:
        by_seed = np.einsum("p,pst->st", weights, away)
        error = by_seed.std(axis=0, ddof=1) / np.sqrt(len(by_seed))
    else:
        count = curves.ran[:, :, 0].sum(axis=1)
        error = np.sqrt(np.einsum("p,pt->t", weights**2 / count, own**2))
    return Collapse(
        steps[:-1] / steps[-1],
        np.divide(spread, seeds, out=np.full_like(spread, np.nan), where=seeds > 0),
        weights @ means,
        error,
        means,
    )
