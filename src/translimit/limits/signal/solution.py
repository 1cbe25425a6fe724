"""Covariances and gradients of a stack, level by level, with their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

import equinox as eqx
import numpy as np
from jaxtyping import Float

from translimit.core import (
    AbstractSolution,
    Floats,
    NotEstimated,
    Numbers,
    Outcome,
    Times,
    as_numpy,
    standard_error,
)
from translimit.observe import collapse_time, mean_overlap_of, overlaps_of

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@final
class SignalSolution(AbstractSolution):
    """What the layers of a random stack do to its tokens and to a gradient.

    Level 0 is what enters the first layer, level l what leaves layer l. Copies are independent
    recursions, from which standard errors are taken, or networks.

    Attributes:
        ts: levels.
        covs: C of the tokens, <x_i, x_j> / D [copies, levels, n, n].
        grad_grams: B of the gradient, <g_i, g_j> (a sum over entries) [copies, levels, n, n]; no
            levels where no gradient was sent back.
        entropies: of the attention weights of a layer over the logarithm of the keys that a query
            sees, 0 to 1, mean over heads and queries that see two keys or more; 1 in a layer where
            none sees two [copies, layers].
        attention_entropies: in nats, in the same mean [copies, layers].
        attention_entropy_stds: of a head's mean entropy in nats over the heads of a layer
            [copies, layers].
        participations: mean sum of squared attention weights of the last query [copies, layers].
        added: mean squares that attention and that hidden units of a layer add to an entry of the
            stream, after a norm of their output and before one of the sum [copies, layers, 2].
        weight_squares: sigma_W^2 E |dW|^2 by group of weights, and E |dg|^2 of the gains of norms
            [copies, layers, groups]; no layers where no gradient was sent back.
        groups: names of the groups.
        outcome: how the solve ended.
        discretisation: relative error of the kernel of an activation, where it is largest.
        samples: copies.
    """

    ts: Times
    covs: Float[np.ndarray, "copies levels n n"]
    grad_grams: Float[np.ndarray, "copies returned n n"]
    entropies: Float[np.ndarray, "copies layers"]
    attention_entropies: Float[np.ndarray, "copies layers"]
    attention_entropy_stds: Float[np.ndarray, "copies layers"]
    participations: Float[np.ndarray, "copies layers"]
    added: Float[np.ndarray, "copies layers 2"]
    weight_squares: Float[np.ndarray, "copies passed groups"]
    groups: tuple[str, ...] = eqx.field(static=True)
    outcome: Outcome
    discretisation: Numbers | NotEstimated
    samples: int = eqx.field(static=True)

    reference: ClassVar[str] = "documentation, Signal propagation"

    @property
    def cov(self) -> Float[np.ndarray, "levels n n"]:
        """C, mean over copies."""
        return self.covs.mean(axis=0)

    @property
    def grad_gram(self) -> Float[np.ndarray, "returned n n"]:
        """B, mean over copies."""
        return self.grad_grams.mean(axis=0)

    @property
    def overlaps(self) -> Float[np.ndarray, "copies levels n n"]:
        """R_ij = C_ij / (C_ii C_jj)^(1/2); 0 for a token of norm zero."""
        return np.asarray(overlaps_of(self.covs))

    @property
    def overlap(self) -> Float[np.ndarray, " levels"]:
        """The mean overlap of two different tokens."""
        return np.asarray(mean_overlap_of(self.overlaps)).mean(axis=0)

    def collapse_time(self, threshold: float | int = 0.5) -> float:
        """In which layer the mean overlap first reaches a threshold, on the line between levels;
        infinite where it does not.

        Args:
            threshold: of the mean overlap of different tokens, in (-1, 1].
        """
        return collapse_time(self.ts, self.overlap, threshold)

    @property
    def overlap_all(self) -> Float[np.ndarray, " levels"]:
        """The mean overlap of all pairs, the diagonal included."""
        return self.overlaps.mean(axis=(-2, -1)).mean(axis=0)

    @property
    def mean_square(self) -> Float[np.ndarray, " levels"]:
        """The mean square of an entry of a token."""
        return np.diagonal(self.covs, axis1=-2, axis2=-1).mean(axis=-1).mean(axis=0)

    @property
    def entropy(self) -> Float[np.ndarray, " layers"]:
        """Entropy of attention weights over its largest, 0 to 1, mean over heads and queries."""
        return self.entropies.mean(axis=0)

    @property
    def attention_entropy(self) -> Float[np.ndarray, " layers"]:
        """Entropy of attention weights in nats, mean over heads and queries."""
        return self.attention_entropies.mean(axis=0)

    @property
    def grad_square(self) -> Float[np.ndarray, " returned"]:
        """The mean square of a token's gradient: tr B / n."""
        return np.diagonal(self.grad_grams, axis1=-2, axis2=-1).mean(axis=-1).mean(axis=0)

    def error(self, values: Floats) -> Floats:
        """The standard error of a mean over copies.

        Args:
            values: of every copy [copies, ...].
        """
        return standard_error(as_numpy(values, "values"))

    def _dataset(self) -> xarray.Dataset:
        """Overlaps, squares, gradients and entropies by copy, labelled."""
        import xarray as xr

        level, layer = ("sample", "time"), ("sample", "layer")
        squares = np.diagonal(self.covs, axis1=-2, axis2=-1).mean(axis=-1)
        grads = np.diagonal(self.grad_grams, axis1=-2, axis2=-1).mean(axis=-1)
        overlap = np.asarray(mean_overlap_of(self.overlaps))
        told: dict[str, tuple[tuple[str, ...], np.ndarray, str]] = {
            "overlap": (level, overlap, "mean overlap of two tokens"),
            "overlap_all": (level, self.overlaps.mean(axis=(-2, -1)), "mean overlap of all pairs"),
            "mean_square": (level, squares, "mean square of an entry of a token"),
            "entropy": (layer, self.entropies, "entropy of attention weights over its largest"),
            "attention_entropy": (
                layer,
                self.attention_entropies,
                "entropy of attention weights in nats",
            ),
        }
        if grads.size:
            text = "variance of entries times mean square gradient of a matrix"
            told |= {
                "grad_square": (level, grads, "mean square of a token's gradient"),
                "weight_square": ((*layer, "group"), self.weight_squares, text),
            }
        return xr.Dataset(
            {
                name: (dims, values, {"long_name": text, "units": "1"})
                for name, (dims, values, text) in told.items()
            },
            coords={
                "time": ("time", self.ts, {"long_name": "level", "units": "layers"}),
                "layer": ("layer", np.arange(1, len(self.entropy) + 1), {"long_name": "layer"}),
                "group": ("group", list(self.groups), {"long_name": "group of weights"}),
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Overlap, root mean square and gradient against the level, each over its largest."""
        from translimit.figures import finish, marked, new_axes

        ax = new_axes(ax)
        rms, grad = np.sqrt(self.mean_square), np.sqrt(self.grad_square)
        shown = {
            "mean overlap": self.overlap,
            "rms of the stream over its largest": rms / rms.max(),
        }
        if grad.size:
            shown["rms of the gradient over its largest"] = grad / grad.max()
        for series, (name, values) in enumerate(shown.items()):
            ax.plot(self.ts, values, label=name, **marked(series, len(values)))
        return finish(ax, xlabel="level", ylabel="share")
