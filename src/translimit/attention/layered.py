r"""Parameters that vary along depth: theta(t) constant on intervals, right-continuous.

    theta(t) = theta_l for t_l <= t < t_{l+1},    0 = t_0 < t_1 < ...,

the limit of a network whose parameters follow a piecewise constant function of depth. A network of
L layers on [0, T] takes theta(l T / L) in layer l; flows restart their integrator at every t_l.

Reference: Castin, Ablin, Carrillo and Peyré, arXiv 2501.18322; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from translimit.attention.base import AbstractAttention
from translimit.core import (
    AnyArray,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Module,
    Number,
    as_float64,
    brief,
    is_traced,
)

#: The number of an attention, traced or not.
Index = int | np.integer | Int[AnyArray, ""]


@final
class Layered(Module):
    """A sequence of attentions with the depths at which each takes over.

    Attributes:
        stacked: the attentions as one, every parameter with a leading axis [layers, ...].
        start_times: the depth at which each attention takes over [layers].
    """

    stacked: AbstractAttention
    start_times: Float[AnyArray, " layers"]

    def __init__(self, attentions: Sequence[AbstractAttention], start_times: ArrayInput):
        """Validate and stack the attentions.

        Args:
            attentions: at least one, all of one variant with parameters of the same shapes: what
                varies along depth is numbers.
            start_times: where each of them starts [layers], increasing from 0.

        Raises:
            ArgumentTypeError: an entry that is no attention.
            ArgumentError: no attention, attentions of different variants or shapes, start times
                that do not match, do not increase, or do not start at 0.
        """
        attentions = list(attentions)
        if not attentions:
            raise ArgumentError("attentions", "is empty", "pass at least one attention")
        for index, attention in enumerate(attentions):
            if not isinstance(attention, AbstractAttention):
                raise ArgumentTypeError(
                    "attentions",
                    f"entry {index} is {type(attention).__name__}",
                    "pass variants of attention",
                )
            if _form(attention) != _form(attentions[0]):
                raise ArgumentError(
                    "attentions",
                    f"entry {index} differs from entry 0 in its variant, its options or the "
                    "shapes of its parameters",
                    "pass attentions that differ in numbers only",
                )
        # The options are those of the first; only arrays are stacked.
        self.stacked = jax.tree.map(
            lambda first, *rest: _stack(first, *rest) if _is_array(first) else first, *attentions
        )
        self.start_times = _require_start_times(start_times, len(attentions))

    @property
    def dim(self) -> int:
        """Dimension of the tokens."""
        return self.layer(0).dim

    @property
    def causal(self) -> bool:
        """Whether a token sees only tokens at or before its position."""
        return self.layer(0).causal

    def layer(self, index: Index) -> AbstractAttention:
        """The attention number `index`, which may be traced."""

        def pick(leaf: Any) -> Any:
            # NumPy can not be indexed by a traced number.
            return (jnp.asarray(leaf) if isinstance(index, jax.Array) else leaf)[index]

        return jax.tree.map(lambda leaf: pick(leaf) if _is_array(leaf) else leaf, self.stacked)

    def index(self, t: Number) -> Index:
        """The number of the attention that governs depth t: the last one that has started."""
        if isinstance(self.start_times, jax.Array) or isinstance(t, jax.Array):
            return jnp.searchsorted(jnp.asarray(self.start_times), t, side="right") - 1
        # On the host, NumPy keeps the precision of the attentions.
        return int(np.searchsorted(self.start_times, t, side="right")) - 1


def attention_at(attention: AbstractAttention | Layered, t: Number) -> AbstractAttention:
    """The attention that governs depth t."""
    return attention.layer(attention.index(t)) if isinstance(attention, Layered) else attention


def jump_times(attention: AbstractAttention | Layered) -> Float[Array, " jumps"] | None:
    """The depths at which the parameters jump, None where there are none."""
    if not isinstance(attention, Layered) or attention.start_times.shape[0] == 1:
        return None
    return jnp.asarray(attention.start_times[1:])


def attentions_of_layers(
    attention: AbstractAttention | Layered, layers: int, t1: ArrayInput
) -> Int[AnyArray, " layers"]:
    """For each of the layers l of a network, the number of the attention at depth l t1 / layers.

    Args:
        attention: any; without `Layered` the numbers are all zero.
        layers: how many layers divide the depth.
        t1: the depth.

    Returns:
        Integers [layers].
    """
    if not isinstance(attention, Layered):
        return np.zeros(layers, int)
    traced = is_traced(attention.start_times, t1)
    xp = jnp if traced else np
    starts, t1 = xp.asarray(attention.start_times), xp.asarray(t1)
    # A layer that starts where an attention does belongs to it, whatever the rounding of l T / L.
    rounding = 4 * float(jnp.finfo(jnp.result_type(starts, t1) if traced else np.float64).eps)
    depths = (xp.arange(layers) / layers + rounding) * t1
    return xp.searchsorted(starts, depths, side="right") - 1


def _is_array(leaf: object) -> TypeGuard[AnyArray]:
    return isinstance(leaf, np.ndarray | jax.Array)


def _stack(*leaves: AnyArray) -> AnyArray:
    return np.stack(leaves) if all(isinstance(x, np.ndarray) for x in leaves) else jnp.stack(leaves)


def _form(attention: AbstractAttention) -> Any:
    """What all layers have in common: the variant, its options, the shapes of its arrays."""
    leaves, structure = jax.tree.flatten(attention)
    return structure, [leaf.shape if _is_array(leaf) else leaf for leaf in leaves]


def _require_start_times(start_times: ArrayInput, layers: int) -> Float[AnyArray, " layers"]:
    start_times = as_float64(start_times, "start_times")
    if start_times.shape != (layers,):
        raise ArgumentError(
            "start_times",
            f"has shape {start_times.shape}",
            f"pass one per attention [{layers}]",
        )
    if is_traced(start_times):
        wrong = (start_times[0] != 0) | jnp.any(jnp.diff(start_times) <= 0)
        return eqx.error_if(start_times, wrong, "start_times: pass times that increase from 0")
    if start_times[0] != 0 or np.any(np.diff(start_times) <= 0):
        raise ArgumentError(
            "start_times",
            f"got {brief(start_times)}",
            "pass times that increase from 0",
        )
    return start_times
