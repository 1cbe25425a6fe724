r"""MLP neurons that are linear in their sources, and exact.

An MLP of `ratio` times as many neurons as the stream has coordinates has its second matrix
multiplied by (ratio n)^(-1/2). Then z = (ratio n)^(-1/2) W_2^T g has covariance G / ratio, its
memory and its response are divided by the ratio, and what comes back through the first matrix is
a sum over ratio times as many neurons: ratio <p p>, and a response alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from translimit.limits.dmft.units import (
    AbstractUnit,
    Backward,
    Buffers,
    Forward,
    Site,
    symmetric,
    unit_rows,
    with_block,
)


@dataclass(frozen=True)
class LinearNeurons(AbstractUnit):
    """Neurons with phi(m) = m: linear in their sources, exact.

    Attributes:
        ratio: neurons for each coordinate of the stream.
    """

    ratio: float

    sampled: ClassVar[bool] = False

    def buffers(self) -> dict[str, tuple[int, int]]:
        """Coefficient rows on (u, zeta), and the two kernels of the sources."""
        K = self.history
        return {name: (K, 2 * K) for name in "xp"} | {name: (K, K) for name in "HG"}

    def forward(self, own: Buffers, site: Site) -> Forward:
        """The neuron is its preactivation."""
        H, G = symmetric(own["H"], site), own["G"]
        x = unit_rows(self.fields, 2, self.history, 0, site.start)
        x = x + (site.response + site.learned) @ own["p"]
        cov = self._with_cov(x, H, G)
        return Forward(
            past=cov @ own["x"].T,
            now=cov @ x.T,
            regression=self.ratio**0.5 * x[:, self.history :],
            stored={"x": x, "H": with_block(site)},
            fields=(),
            scores=jnp.zeros((0, self.inputs, self.tokens, self.tokens), x.dtype),
            score_gain=jnp.ones(()),
        )

    def backward(self, own: Buffers, site: Site, fields: PyTree[Array]) -> Backward:
        """Its gradient is z."""
        H, G = own["H"], symmetric(own["G"], site)
        p = unit_rows(self.fields, 2, self.history, 1, site.start) / self.ratio**0.5
        p = p + (site.response + site.learned) @ own["x"] / self.ratio
        cov = self._with_cov(p, H, G)
        stored = {"p": p, "G": with_block(site)}
        regression = p[:, : self.history]
        return _of_neurons(self.ratio, cov @ own["p"].T, cov @ p.T, regression, stored, self.fields)

    def _with_cov(self, rows: Array, H: Array, G: Array) -> Array:
        return jnp.concatenate([rows[:, : self.history] @ H, rows[:, self.history :] @ G], axis=1)


def _of_neurons(
    ratio: float, past: Array, now: Array, regression: Array, stored: Buffers, fields: int
) -> Backward:
    """Sums over all neurons, a ratio times as many as coordinates; there are no scores."""
    return Backward(
        past=ratio * past,
        now=ratio * now,
        past_kappa=ratio * past,
        now_kappa=ratio * now,
        regression=ratio * regression,
        stored=stored,
        key_gradient=jnp.zeros((), jnp.float64),
        gain_gradient=jnp.zeros((fields, 1)),
    )
