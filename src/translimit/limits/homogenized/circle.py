r"""Infinitely many tokens on the circle: their density, layer by layer, under common noise.

One layer maps the angle phi to Phi(phi) = phi + atan2(u . e_perp, 1 + u . e) with
u = (step / heads) sum_h V_h m_h(e(phi)), m_h the softmax average of the density; the density moves
to its image. Its Fourier coefficients c_k = int e^{-i k phi} rho dphi are pushed forward,

    c'_k = int e^{-i k Phi(phi)} rho(phi) dphi        (a sum over equally spaced nodes),

so that the mass is exact. The coefficients of e^{i k phi} expectations are their conjugates.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978 (the equation); documentation, "Which
limit is my network in?".
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from translimit.core import (
    POSITIVE,
    AnyArray,
    ArgumentError,
    ArrayInput,
    Number,
    Outcome,
    as_float64,
    in_float64,
    require_number,
)

#: The grid fails when the top coefficient exceeds this share of the mass ...
TOP_SHARE = 1e-3
#: ... or the density falls below this share of its maximum.
NEGATIVE_SHARE = -1e-6


class CircleDensity(eqx.Module):
    """The density of tokens on the circle along depth.

    Attributes:
        angles: nodes in [0, 2 pi) [nodes].
        density: rho per angle [layers + 1, nodes]; NaN after the grid has failed.
        outcome: successful, or not_converged where the law is too concentrated for the grid.
    """

    angles: Float[AnyArray, " nodes"]
    density: Float[AnyArray, "depths nodes"]
    outcome: Outcome

    def moment(self, k: int) -> Complex[np.ndarray, " depths"]:
        """E e^{i k phi} [layers + 1]."""
        return np.mean(self.density * np.exp(1j * k * self.angles), axis=-1) * 2.0 * np.pi


def density_flow(
    V: ArrayInput,
    A: ArrayInput,
    *,
    beta: ArrayInput,
    step: ArrayInput,
    initial: ArrayInput,
    modes: int = 80,
) -> CircleDensity:
    """Push a density through layers with given heads.

    Args:
        V: value maps [layers, heads, 2, 2].
        A: score maps [layers, heads, 2, 2].
        beta: multiplies the scores, not negative.
        step: residual step, positive.
        initial: density at equally spaced angles 2 pi j / nodes [nodes], not negative; it is scaled
            to mass one.
        modes: largest Fourier index; nodes must be at least three times as many.

    Raises:
        ArgumentError: shapes that do not match, a density that is negative or has no mass, too few
            nodes.
    """
    V, A, rho = as_float64(V, "V"), as_float64(A, "A"), as_float64(initial, "initial")
    if V.ndim != 4 or V.shape[2:] != (2, 2):
        raise ArgumentError("V", f"has shape {V.shape}", "pass [layers, heads, 2, 2]")
    if A.shape != V.shape:
        raise ArgumentError("A", f"has shape {A.shape}", f"pass the shape of V, {V.shape}")
    if rho.ndim != 1 or rho.size < 3 * modes:
        raise ArgumentError("initial", f"has shape {rho.shape}", f"pass at least {3 * modes} nodes")
    if np.any(rho < 0) or not np.sum(rho) > 0:
        raise ArgumentError("initial", "is negative somewhere or has no mass", "pass a density")
    beta, step = require_number(beta, "beta"), require_number(step, "step", POSITIVE)
    angles = 2.0 * np.pi * np.arange(rho.size) / rho.size
    rho = rho / (np.mean(rho) * 2.0 * np.pi)
    density, failed = in_float64(_flow, V, A, beta, step, rho, _Modes(modes))
    outcome = Outcome.where(failed, Outcome.not_converged, Outcome.successful)
    return CircleDensity(angles, density, outcome)


def circle_map(
    V: Float[Array, "heads 2 2"],
    A: Float[Array, "heads 2 2"],
    beta: Number,
    step: Number,
    density: Float[Array, " nodes"],
) -> Float[Array, " nodes"]:
    """Phi at the nodes: where one layer takes every angle."""
    angles = 2.0 * jnp.pi * jnp.arange(density.size) / density.size
    e = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    perpendicular = jnp.stack([-e[:, 1], e[:, 0]], axis=-1)
    scores = beta * jnp.einsum("hab,ib,ja->hij", A, e, e) + jnp.log(jnp.maximum(density, 1e-300))
    m = jax.nn.softmax(scores, axis=-1) @ e
    u = step * jnp.mean(jnp.einsum("hab,hib->hia", V, m), axis=0)
    return angles + jnp.arctan2(jnp.sum(u * perpendicular, -1), 1.0 + jnp.sum(u * e, -1))


class _Modes(eqx.Module):
    modes: int = eqx.field(static=True)


@eqx.filter_jit
def _flow(
    V: Array, A: Array, beta: Array, step: Array, rho: Array, static: _Modes
) -> tuple[Float[Array, "depths nodes"], Bool[Array, ""]]:
    angles = 2.0 * jnp.pi * jnp.arange(rho.size) / rho.size
    k = jnp.arange(-static.modes, static.modes + 1)
    waves: Complex[Array, "nodes modes"] = jnp.exp(1j * angles[:, None] * k)

    def layer(
        carry: tuple[Array, Array], head: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], Array]:
        rho, failed = carry
        moved = circle_map(head[0], head[1], beta, step, rho)
        coefficients = rho @ jnp.exp(-1j * moved[:, None] * k) / rho.size
        new = jnp.real(waves @ coefficients)
        top = jnp.abs(coefficients[-1]) > TOP_SHARE * jnp.abs(coefficients[static.modes])
        failed = failed | top | (jnp.min(new) < NEGATIVE_SHARE * jnp.max(new))
        new = jnp.where(failed, jnp.nan, new)
        return (new, failed), new

    (_, failed), rest = jax.lax.scan(layer, (rho, jnp.asarray(False)), (V, A))
    return jnp.concatenate([rho[None], rest]), failed
