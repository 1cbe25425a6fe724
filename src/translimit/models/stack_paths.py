r"""What drawn stacks did to their tokens, and to a gradient, level by level.

Level 0 is what enters the first layer, level l what leaves layer l. Covariances C are means over
the dimension, Gram matrices B of gradients sums over it, as in `limits.signal`.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import equinox as eqx
import numpy as np
from jaxtyping import Float

from translimit.core import (
    AbstractSimulation,
    ArgumentError,
    Floats,
    Times,
    as_numpy,
    standard_error,
)
from translimit.observe import collapse_times, mean_overlap_of, overlaps_of

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@final
class StackPaths(AbstractSimulation):
    """Replicas of a stack at every level.

    Attributes:
        ts: levels, 0 to L.
        covs: C of the tokens, <x_i, x_j> / D, without their mean where the stack's norms remove it
            [replicas, levels, n, n].
        attention_entropies: of the attention weights of a layer in nats, mean over heads and over
            queries that see two keys or more; 0 without attention [replicas, layers].
        attention_entropy_stds: of a head's mean entropy over the heads of a layer
            [replicas, layers].
        grad_grams: B of a gradient, <g_i, g_j> [replicas, levels, n, n]; None where none was sent.
        weight_squares: sigma_W^2 |dW|^2 by group of weights [replicas, layers, groups]; None
            without a gradient.
        losses: of the readout [replicas]; None without one.
        groups: names of the groups.
        samples: replicas.
    """

    ts: Times
    covs: Float[np.ndarray, "replicas levels n n"]
    attention_entropies: Float[np.ndarray, "replicas layers"]
    attention_entropy_stds: Float[np.ndarray, "replicas layers"]
    grad_grams: Float[np.ndarray, "replicas levels n n"] | None = None
    weight_squares: Float[np.ndarray, "replicas layers groups"] | None = None
    losses: Float[np.ndarray, " replicas"] | None = None
    groups: tuple[str, ...] = eqx.field(static=True, kw_only=True)

    @property
    def cov(self) -> Float[np.ndarray, "levels n n"]:
        """C, mean over replicas."""
        return self.covs.mean(axis=0)

    @property
    def overlaps(self) -> Float[np.ndarray, "replicas levels n n"]:
        """R_ij = C_ij / (C_ii C_jj)^(1/2); 0 for a token of norm zero."""
        return np.asarray(overlaps_of(self.covs))

    @property
    def mean_overlaps(self) -> Float[np.ndarray, "replicas levels"]:
        """The mean overlap of two different tokens; NaN for one token."""
        return np.asarray(mean_overlap_of(self.overlaps))

    def collapse_time(self, threshold: float | int = 0.5) -> Float[np.ndarray, " replicas"]:
        """In which layer the mean overlap of each network first reaches a threshold, on the line
        between levels; infinite where it does not.

        Args:
            threshold: of the mean overlap of different tokens, in (-1, 1].
        """
        return collapse_times(self.ts, self.mean_overlaps, threshold)

    @property
    def overlap(self) -> Float[np.ndarray, " levels"]:
        """The mean overlap of two different tokens, mean over replicas."""
        return self.mean_overlaps.mean(axis=0)

    @property
    def overlap_all(self) -> Float[np.ndarray, " levels"]:
        """The mean overlap of all pairs, the diagonal included, mean over replicas."""
        return self.overlaps.mean(axis=(-2, -1)).mean(axis=0)

    @property
    def mean_square(self) -> Float[np.ndarray, " levels"]:
        """The mean square of an entry of a token, mean over replicas."""
        return np.diagonal(self.cov, axis1=-2, axis2=-1).mean(axis=-1)

    @property
    def attention_entropy(self) -> Float[np.ndarray, " layers"]:
        """Entropy of attention weights in nats, mean over replicas."""
        return self.attention_entropies.mean(axis=0)

    @property
    def grad_gram(self) -> Float[np.ndarray, "levels n n"]:
        """B, mean over replicas.

        Raises:
            ArgumentError: no gradient was sent.
        """
        return self._grads.mean(axis=0)

    @property
    def grad_square(self) -> Float[np.ndarray, " levels"]:
        """The mean square of a token's gradient, tr B / n, mean over replicas.

        Raises:
            ArgumentError: no gradient was sent.
        """
        return np.diagonal(self.grad_gram, axis1=-2, axis2=-1).mean(axis=-1)

    @property
    def _grads(self) -> Float[np.ndarray, "replicas levels n n"]:
        if self.grad_grams is None:
            raise ArgumentError(
                "top_gradient", "was not passed to simulate", 'pass "identity", or a readout'
            )
        return self.grad_grams

    def error(self, values: Floats) -> Floats:
        """The standard error of a mean over replicas.

        Args:
            values: of every replica [replicas, ...].
        """
        return standard_error(as_numpy(values, "values"))

    def _dataset(self) -> xarray.Dataset:
        """Overlaps, squares, gradients and entropies by replica, labelled."""
        import xarray as xr

        level, layer = ("sample", "time"), ("sample", "layer")
        squares = np.diagonal(self.covs, axis1=-2, axis2=-1).mean(axis=-1)
        told = {
            "overlap": (level, self.mean_overlaps, "mean overlap of two tokens"),
            "overlap_all": (level, self.overlaps.mean(axis=(-2, -1)), "mean overlap of all pairs"),
            "mean_square": (level, squares, "mean square of an entry of a token"),
            "attention_entropy": (
                layer,
                self.attention_entropies,
                "entropy of attention weights in nats",
            ),
        }
        if self.grad_grams is not None and self.weight_squares is not None:
            grads = np.diagonal(self.grad_grams, axis1=-2, axis2=-1).mean(axis=-1)
            told["grad_square"] = (level, grads, "mean square of a token's gradient")
            text = "variance of entries times square gradient of a matrix"
            told["weight_square"] = ((*layer, "group"), self.weight_squares, text)
        if self.losses is not None:
            told["loss"] = (("sample",), self.losses, "loss")
        return xr.Dataset(
            {
                name: (dims, values, {"long_name": text, "units": "1"})
                for name, (dims, values, text) in told.items()
            },
            coords={
                "time": ("time", self.ts, {"long_name": "level", "units": "layers"}),
                "layer": ("layer", np.arange(1, len(self.ts)), {"long_name": "layer"}),
                "group": ("group", list(self.groups), {"long_name": "group of weights"}),
            },
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mean overlap of every replica, and the mean over replicas with its standard error."""
        from translimit.figures import plot_fan

        return plot_fan(self.to_xarray()["overlap"], ax)
