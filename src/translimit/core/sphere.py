r"""The unit sphere S^(d-1) as a geometry: one object that every chain, flow and check asks.

A point is a token x with |x| = 1; arrays hold points along their last axis. With
N(y) = y / |y| and P_x u = u - <x, u> x:

| operation | formula |
|---|---|
| projection | N(y) |
| tangent projection | P_x u |
| retraction | N(x + u), or N(x + P_x u) |
| exponential | cos(|v|) x + sin(|v|) v / |v|, v tangent at x |
| overlap, separation | <x, y>, 1 - <x, y> = |x - y|^2 / 2 |
| distance | the angle, 2 atan2(|x - y|, |x + y|) |

Reference: Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds (2008);
the chain: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core.errors import ArgumentError
from translimit.core.norms import Rows, directions
from translimit.core.precision import ArrayInput, as_float, is_traced
from translimit.core.retraction import Retraction
from translimit.core.types import AnyArray, Key

#: Below this norm x + u has no direction.
DEGENERATE = 1e-12
#: Largest | |x| - 1 | that counts as rounding.
NORM_TOLERANCE = 1e-6


@final
@dataclass(frozen=True)
class Sphere:
    """The unit sphere of any dimension; `SPHERE` is the one instance that is needed."""

    def project(self, y: Rows) -> Rows:
        """N(y) of every row [*batch, dim]; NaN for a row of zeros."""
        return y / _norms(y)

    def project_measured(
        self, y: Float[Array, "*batch dim"]
    ) -> tuple[Float[Array, "*batch dim"], Float[Array, ""]]:
        """N(y) of every row, and the largest | |y| - 1 |: the projection after an ODE step."""
        norms = _norms(y)
        return y / norms, jnp.max(jnp.abs(norms - 1.0))

    def tangent(
        self, x: Float[Array, "*batch dim"], u: Float[Array, "*batch dim"]
    ) -> Float[Array, "*batch dim"]:
        """P_x u, the part of u that is tangent at x."""
        return u - jnp.sum(x * u, axis=-1, keepdims=True) * x

    def retract(
        self,
        x: Float[Array, "*batch dim"],
        u: Float[Array, "*batch dim"],
        retraction: Retraction = Retraction.TANGENT,
    ) -> Float[Array, "*batch dim"]:
        """N(x + u) or N(x + P_x u); NaN where the sum has no direction."""
        moved = x + (u if retraction is Retraction.AMBIENT else self.tangent(x, u))
        norm = _norms(moved)
        return jnp.where(norm < DEGENERATE, jnp.nan, moved / jnp.where(norm > 0, norm, 1.0))

    def exp(
        self, x: Float[Array, "*batch dim"], v: Float[Array, "*batch dim"]
    ) -> Float[Array, "*batch dim"]:
        """The end of the geodesic from x with the tangent velocity v, after time one."""
        angle = _norms(v)
        return jnp.cos(angle) * x + jnp.sinc(angle / jnp.pi) * v

    def overlap(
        self, x: Float[AnyArray, "*batch dim"], y: Float[AnyArray, "*batch dim"]
    ) -> Float[AnyArray, "*batch"]:
        """<x, y>, the cosine of the angle between two points."""
        return (x * y).sum(axis=-1)

    def separations(
        self, tokens: Float[AnyArray, "*batch tokens dim"]
    ) -> Float[AnyArray, "*batch tokens tokens"]:
        """1 - <x_i, x_j> of all pairs as |x_i - x_j|^2 / 2, exact where they collapse."""
        xp: Any = jnp if isinstance(tokens, jax.Array) else np
        return 0.5 * xp.sum((tokens[..., :, None, :] - tokens[..., None, :, :]) ** 2, axis=-1)

    def distance(
        self, x: Float[Array, "*batch dim"], y: Float[Array, "*batch dim"]
    ) -> Float[Array, "*batch"]:
        """The angle between two points, in [0, pi], exact where they agree and where not."""
        apart, together = (jnp.linalg.norm(z, axis=-1) for z in (x - y, x + y))
        return 2.0 * jnp.arctan2(apart, together)

    def random(self, key: Key, shape: tuple[int, ...]) -> Float[Array, "*batch dim"]:
        """Points from the uniform law, of a shape whose last entry is the dimension."""
        return self.project(jax.random.normal(key, shape))

    def require(
        self, value: ArrayInput, name: str, dim: int | None = None, *, normalize: bool = False
    ) -> Float[AnyArray, "tokens dim"]:
        """Tokens [tokens, dim] of norm one, or scaled to it on request, of any finite size.

        Args:
            value: the tokens, at least one.
            name: how errors call them.
            dim: dimension that they must have; any by default.
            normalize: scale them to norm one instead of refusing other norms.

        Raises:
            ArgumentError: another shape, NaN or infinite entries, or norms that differ from one by
                more than 1e-6 (with `normalize`: a norm of zero). Traced tokens are armed.
        """
        tokens: Any = as_float(value, name)
        if tokens.ndim != 2 or 0 in tokens.shape or dim not in (None, tokens.shape[1]):
            wanted = "dim" if dim is None else dim
            raise ArgumentError(
                name,
                f"has shape {tokens.shape}",
                f"pass [tokens, {wanted}] with at least one token",
            )
        scaled, norms = directions(tokens)
        wrong = norms == 0 if normalize else abs(norms - 1.0) > NORM_TOLERANCE
        remedy = (
            "pass tokens that are not zero" if normalize else "pass normalize=True to scale them"
        )
        if is_traced(tokens):
            return eqx.error_if(scaled, jnp.any(wrong), f"{name}: norms are not one; {remedy}")
        if bool(np.any(np.asarray(wrong))):
            token = int(np.flatnonzero(np.asarray(wrong)[:, 0])[0])
            norm = float(np.asarray(norms)[token, 0])
            has = f"{norm:.8g}" if norm else "zero and no direction"
            raise ArgumentError(name, f"token {token} has norm {has}", remedy)
        return scaled


#: The unit sphere.
SPHERE = Sphere()


def _norms(y: Any) -> Any:
    xp: Any = jnp if isinstance(y, jax.Array) else np
    return xp.linalg.norm(y, axis=-1, keepdims=True)
