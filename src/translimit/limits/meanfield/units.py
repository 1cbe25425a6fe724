r"""Units in which the tokens and the rates of a flow are ordinary numbers.

A covariance of 1e-150 changes at a rate of 1e-150, and the square of that rate, by which a blow-up
is told from growth, is no float64. Flows whose parameters are far from one are solved in units of
their own, powers of two, and given back in those of the caller; others have the units one, and are
solved as they are.

Reference: documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from translimit.attention import AbstractAttention, Layered, attention_at, in_units
from translimit.core import (
    AnyArray,
    ArgumentError,
    Floats,
    Number,
    common_unit,
    is_traced,
    unit_of,
)

#: Parameters within two to this power of one: products of five of them stay ordinary.
MODEST = 50
#: Rates within two to this power of one can be divided by, and multiplied.
MOST = 1000


class Units(NamedTuple):
    """The units of tokens and of depth; one each where nothing is extreme, or traced.

    Traced numbers are not measured: a compiled solve of extreme ones ends as `non_finite`.
    """

    length: float = 1.0
    time: float = 1.0


def units_of_law(
    field: Callable[[AbstractAttention, np.ndarray, np.ndarray], tuple[Floats, Floats]],
    attention: AbstractAttention | Layered,
    mean: Float[AnyArray, " dim"],
    cov: Float[AnyArray, "dim dim"],
    t1: Number,
) -> Units:
    """Units in which the law N(mean, cov) and its rate of change are ordinary numbers.

    Args:
        field: from an attention, a mean and a covariance to (g, M).
        attention: of the flow.
        mean: of the law [dim].
        cov: of the law [dim, dim].
        t1: final depth.

    Raises:
        ArgumentError: the field of the law is beyond float64, t1 is so in units of its rate, or the
            variant does not say how it scales.
    """
    if is_traced(attention, mean, cov, t1) or _modest(attention, mean, cov):
        return Units()
    length = common_unit(np.asarray(mean), np.sqrt(np.abs(np.asarray(cov))))
    rates = []
    for layer in _layers(attention):
        here = in_units(layer, length, 1.0) if length != 1.0 else layer
        with np.errstate(all="ignore"):  # what overflows is refused below
            law = np.asarray(mean) / length, np.asarray(cov) / length / length
            affine = field(here, *law)
        rates += [np.max(np.abs(np.asarray(part))) for part in affine]
    rate = float(np.max(rates))
    if rate and not 2.0**-MOST <= rate <= 2.0**MOST:
        raise ArgumentError(
            "cov",
            f"makes the law change at a rate of {rate:.3g}, at the end of the range of float64",
            "measure the tokens and the depth in other units",
        )
    time = 1.0 / float(unit_of(np.asarray(rate)))
    if not np.isfinite(float(t1) / time):
        raise ArgumentError(
            "t1", f"is {float(t1):g}, and the law changes in {time:.3g}", "pass a smaller t1"
        )
    return Units(length, time)


def is_extreme(*numbers: Array) -> Array:
    """Whether one of these arrays, traced perhaps, is not finite or has a unit other than one."""
    largest = jnp.stack([jnp.max(jnp.abs(part)) for part in numbers])
    return ~jnp.all(jnp.isfinite(largest)) | (unit_of(largest) != 1.0)


def squares_fit(tokens: Float[Array, "tokens dim"]) -> Bool[Array, ""]:
    """Whether the sum of squares, by which steps and growth are judged, is an ordinary number."""
    info, total = jnp.finfo(tokens.dtype), jnp.sum(tokens**2)
    ordinary = jnp.isfinite(total) & (total >= float(info.tiny) / float(info.eps))
    return ordinary | jnp.all(tokens == 0)


def _layers(attention: AbstractAttention | Layered) -> list[AbstractAttention]:
    if not isinstance(attention, Layered):
        return [attention]
    return [attention_at(attention, start) for start in np.asarray(attention.start_times)]


def _modest(*trees: object) -> bool:
    """Whether the largest entry of every array is zero or within 2^MODEST of one."""
    leaves = [leaf for leaf in jax.tree.leaves(trees) if np.size(leaf)]
    sizes = np.array([np.max(np.abs(np.asarray(leaf, np.float64))) for leaf in leaves])
    return bool(np.all((sizes == 0) | (np.abs(np.frexp(sizes)[1]) <= MODEST)))
