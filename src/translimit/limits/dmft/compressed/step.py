"""A time step of a compressed pass: what its functions share."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.core import Key, named_key
from translimit.limits.dmft.compressed.shape import Shape
from translimit.limits.dmft.histories import Index
from translimit.limits.dmft.plan import RESPONSES, Numbers

#: Coefficient rows of the fields of one time on white sources.
Rows = Float[Array, "fields sources"]


@dataclass(frozen=True)
class Step:
    """One time step.

    Attributes:
        shape: of the pass.
        numbers: its data and constants.
        t: evaluation.
        key: of the pass.
    """

    shape: Shape
    numbers: Numbers
    t: Int[Array, ""]
    key: Key

    def kept(self, response: str) -> Float[Array, ""]:
        """1, or 0 for a response that is switched off."""
        return self.numbers.keep[RESPONSES.index(response)]

    def key_of(self, direction: str, layer: Index, index: int) -> Key:
        """The key of one side of a matrix at this time."""
        own = jax.random.fold_in(jax.random.fold_in(self.key, self.t), layer)
        return named_key(own, direction, index)


def normalised(norm: bool, numbers: Numbers, h: Rows) -> tuple[Rows, Float[Array, "fields 1"]]:
    """What a sub-block reads, h / rho with rho = (<h h> + norm_eps)^(1/2), 1 without norm; rho."""
    rho = jnp.ones((len(h), 1))
    if norm:
        rho = jnp.sqrt(jnp.sum(h * h, axis=1, keepdims=True) + numbers.norm_eps)
    return h / rho, rho


def through_norm(back: Rows, hb: Rows, rho: Float[Array, "fields 1"]) -> Rows:
    """The gradient through the normalisation: (back - hb <back hb>) / rho."""
    return (back - hb * jnp.sum(back * hb, axis=1, keepdims=True)) / rho
