"""MLP neurons: sampled, or linear and exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from translimit.describe import Activation
from translimit.limits.dmft.units import (
    AbstractSampledUnit,
    AbstractUnit,
    Backward,
    Buffers,
    Forward,
    Site,
    moment,
    symmetric,
    unit_rows,
    with_block,
)


@dataclass(frozen=True)
class SampledNeurons(AbstractSampledUnit):
    """MLP neurons, scalar and sampled.

    Attributes:
        activation: phi.
    """

    activation: Activation

    sampled: ClassVar[bool] = True

    def buffers(self) -> dict[str, tuple[int, int]]:
        """Two families of innovations, phi(m) and its backward field."""
        return dict.fromkeys(("xi_u", "xi_z", "x", "p"), (self.history, self.samples))

    def forward(self, own: Buffers, site: Site) -> Forward:
        """Preactivations and what they write."""
        chunks = site.past_chunks
        new = self.draw(site, self.fields, (own["xi_u"], own["xi_z"]), chunks)
        source, memory = self.sums(
            site,
            (site.root_past, site.response + site.learned),
            (own["xi_u"], own["p"]),
            chunks,
        )
        free = self.source(site, source, new)
        x, slope = _with_slope(self.activation, free + memory)
        x_free, slope_free = _with_slope(self.activation, free)
        past, regression = self.moments(site, (x, x - x_free), (own["x"], own["xi_z"]), chunks)
        scores = jnp.zeros((0, self.inputs, self.tokens, self.tokens), x.dtype)
        stored = {"xi_u": new, "x": x}
        return Forward(past, moment(x, x), regression, stored, (slope, slope_free), scores)

    def backward(self, own: Buffers, site: Site, fields: PyTree[Array]) -> Backward:
        """Gradients of the preactivations."""
        slope, slope_free = fields
        new = self.draw(site, self.fields, (own["xi_u"], own["xi_z"]), site.chunks)
        source, memory = self.sums(
            site,
            (site.root_past, site.response + site.learned),
            (own["xi_z"], own["x"]),
            site.chunks,
        )
        zeta = self.source(site, source, new)
        p = slope * (zeta + memory)
        past, regression = self.moments(
            site, (p, p - slope_free * zeta), (own["p"], own["xi_u"]), site.chunks
        )
        now = moment(p, p)
        stored = {"xi_z": new, "p": p}
        return Backward(past, now, past, now, regression, stored, jnp.zeros((), jnp.float64))


@dataclass(frozen=True)
class LinearNeurons(AbstractUnit):
    """Neurons with phi(m) = m: linear in their sources, exact."""

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
        scores = jnp.zeros((0, self.inputs, self.tokens, self.tokens), x.dtype)
        stored = {"x": x, "H": with_block(site)}
        return Forward(cov @ own["x"].T, cov @ x.T, x[:, self.history :], stored, (), scores)

    def backward(self, own: Buffers, site: Site, fields: PyTree[Array]) -> Backward:
        """Its gradient is z."""
        H, G = own["H"], symmetric(own["G"], site)
        p = unit_rows(self.fields, 2, self.history, 1, site.start)
        p = p + (site.response + site.learned) @ own["x"]
        cov = self._with_cov(p, H, G)
        past, now = cov @ own["p"].T, cov @ p.T
        stored = {"p": p, "G": with_block(site)}
        return Backward(
            past, now, past, now, p[:, : self.history], stored, jnp.zeros((), jnp.float64)
        )

    def _with_cov(self, rows: Array, H: Array, G: Array) -> Array:
        return jnp.concatenate([rows[:, : self.history] @ H, rows[:, self.history :] @ G], axis=1)


def _with_slope(activation: Activation, x: Array) -> tuple[Array, Array]:
    return jax.jvp(activation, (x,), (jnp.ones_like(x),))
