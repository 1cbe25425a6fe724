"""The Gram matrices of a pre-LN stack after the layers kept: overlaps, norms, labels, drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import equinox as eqx
import numpy as np
from jaxtyping import Float

from translimit.core import AbstractSolution, Number, Outcome, Times
from translimit.limits.homogenized.token_paths import REFERENCE
from translimit.observe import mean_overlap_of

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@final
class PreNormSolution(AbstractSolution):
    """Gram matrices after the layers kept.

    Attributes:
        ts: layers [saves].
        grams: [copies, saves, tokens, tokens]; copies are independent recursions, or networks.
        outcome: how the solve ended.
        discretisation: relative error of the kernel of the activation where it is largest; 0 for
            networks, which draw their hidden units.
        samples: copies.
    """

    ts: Times
    grams: Float[np.ndarray, "copies kept tokens tokens"]
    discretisation: Number
    outcome: Outcome
    samples: int = eqx.field(static=True)

    reference: ClassVar[str] = REFERENCE

    @property
    def overlaps(self) -> Float[np.ndarray, "copies kept tokens tokens"]:
        """R [copies, saves, tokens, tokens]."""
        norms = np.sqrt(np.diagonal(self.grams, axis1=-2, axis2=-1))
        return self.grams / (norms[..., :, None] * norms[..., None, :])

    @property
    def mean_overlaps(self) -> Float[np.ndarray, "copies kept"]:
        """The mean of R over pairs of different tokens [copies, saves]; NaN for one token."""
        return np.asarray(mean_overlap_of(self.overlaps))

    @property
    def overlap_all(self) -> Float[np.ndarray, "copies kept"]:
        """The mean of R over all pairs, the diagonal included [copies, saves]."""
        return self.overlaps.mean(axis=(-2, -1))

    @property
    def squares(self) -> Float[np.ndarray, "copies kept"]:
        """Mean squared norm of the tokens [copies, saves]."""
        return np.diagonal(self.grams, axis1=-2, axis2=-1).mean(axis=-1)

    def _dataset(self) -> xarray.Dataset:
        """Mean overlaps and squared norms by copy and layer."""
        import xarray as xr

        long_names = {
            "mean_overlap": ("mean overlap of two tokens", self.mean_overlaps),
            "overlap_all": ("mean overlap of all pairs, diagonal included", self.overlap_all),
            "square": ("mean squared norm of the tokens", self.squares),
        }
        return xr.Dataset(
            {
                name: (("sample", "time"), values, {"long_name": text, "units": "1"})
                for name, (text, values) in long_names.items()
            },
            coords={"time": ("time", self.ts, {"long_name": "layer", "units": "layers"})},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Mean overlap against the layer, with two standard deviations over the copies."""
        from translimit.figures import LIMIT, finish, new_axes

        ax = new_axes(ax)
        mean, spread = self.mean_overlaps.mean(axis=0), self.mean_overlaps.std(axis=0, ddof=1)
        ax.plot(self.ts, mean, color=LIMIT)
        ax.fill_between(
            self.ts, mean - 2 * spread, mean + 2 * spread, color=LIMIT, alpha=0.15, linewidth=0
        )
        ax.set_ylim(min(0.0, float(np.min(mean - 2 * spread))), 1.02)
        return finish(ax, xlabel="layer", ylabel="mean overlap of two tokens", legend=False)
