r"""The same field in other units of tokens and of depth.

With tokens x = l y and depth t = T s, x' = Gamma(x) reads dy/ds = (T / l) Gamma(l y). For a variant
whose scores are quadratic in the tokens and whose output is linear in the values, that is the same
variant with the maps l Q, l K and T V: numbers far from one can be taken out of the tokens and of
the rates without being multiplied together first.

Reference: documentation, "The Transformer PDE".
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from translimit.attention.base import AbstractAttention
from translimit.attention.feed_forward import FeedForward
from translimit.attention.l2 import L2
from translimit.attention.layered import Layered
from translimit.attention.multi_head import MultiHead
from translimit.attention.one_head import AbstractOneHead
from translimit.core import ArgumentError, is_traced

Variant = TypeVar("Variant", bound=AbstractAttention | Layered)

#: Variants whose scores and values are linear in their maps.
_BY_MAPS = (AbstractOneHead, MultiHead)


def in_units(attention: Variant, length: float, time: float) -> Variant:
    """The attention of tokens over `length` and of depths over `time`.

    Args:
        attention: a variant of this package, or `Layered` ones.
        length: unit of the tokens, positive.
        time: unit of the depth, positive.

    Raises:
        ArgumentError: a variant that does not say how it scales, or maps that leave the range of
            their precision.
    """
    if isinstance(attention, Layered):
        parts = in_units(attention.stacked, length, time), attention.start_times / time
        return eqx.tree_at(lambda a: (a.stacked, a.start_times), attention, parts)
    if isinstance(attention, FeedForward):
        parts = (
            in_units(attention.attention, length, time),
            time * attention.W,
            time * attention.b / length,
        )
        return _finite(eqx.tree_at(lambda a: (a.attention, a.W, a.b), attention, parts))
    if not isinstance(attention, _BY_MAPS):
        raise ArgumentError(
            "attention",
            f"is {type(attention).__name__}, of which it is not known how it scales, and tokens or "
            "rates are far from one",
            "measure the tokens and the depth in other units",
        )
    maps = length * attention.Q, length * attention.K, time * attention.V
    return _finite(eqx.tree_at(lambda a: (a.Q, a.K, a.V), attention, maps))


def require_scores(
    attention: AbstractAttention | Layered, tokens: np.ndarray | Array, name: str
) -> np.ndarray | Array:
    """Concrete tokens whose scores stay in the range of their precision; traced ones as they are.

    Raises:
        ArgumentError: a query times a key may exceed the largest number; `name` is the tokens'.
    """
    inner = _inner(attention)
    if is_traced(attention, tokens) or not isinstance(inner, _BY_MAPS):
        return tokens
    largest = float(np.max(np.abs(np.asarray(tokens))))
    info = np.finfo(np.dtype(tokens.dtype)) if tokens.dtype != "bfloat16" else np.finfo(np.float32)
    with np.errstate(divide="ignore"):  # the logarithm of zero is -inf, which fits
        exponent = float(_score_exponent(inner, np.float64(largest), np))
    if exponent > info.maxexp - 2:
        raise ArgumentError(
            name,
            f"has entries up to {largest:.3g}, whose scores may reach 2^{exponent:.0f}, beyond "
            f"{info.dtype}",
            "measure the tokens in other units, or pass a smaller score_scale",
        )
    return tokens


def scores_fit(
    attention: AbstractAttention | Layered, tokens: Float[Array, "*cloud dim"]
) -> Bool[Array, ""]:
    """Whether these tokens, traced perhaps, are finite and so are their scores, by the same bound.

    Of a variant that is not known here the tokens alone are looked at.
    """
    inner, largest = _inner(attention), jnp.max(jnp.abs(tokens))
    if not isinstance(inner, _BY_MAPS):
        return jnp.isfinite(largest)
    exponent = _score_exponent(inner, largest, jnp)
    return jnp.isfinite(largest) & (exponent <= jnp.finfo(tokens.dtype).maxexp - 2)


def _inner(attention: AbstractAttention | Layered) -> Any:
    """The variant whose maps make the scores; of layers all maps, stacked."""
    inner: Any = attention.stacked if isinstance(attention, Layered) else attention
    return inner.attention if isinstance(inner, FeedForward) else inner


def _score_exponent(inner: Any, largest: Any, xp: Any) -> Any:
    """Log2 of a bound on the scores of tokens whose largest entry is this."""

    def size(*parts: Any) -> Any:
        return sum(xp.log2(xp.max(xp.abs(xp.asarray(part)))) for part in parts)

    exponent = size(inner.score_scale, inner.Q, inner.K)
    if isinstance(inner, L2):
        exponent = xp.maximum(exponent, size(inner.key_scale, inner.K, inner.K))
    terms = 2 * math.log2(max(1, inner.dim)) + math.log2(inner.Q.shape[-2])
    return 2 * xp.log2(largest) + exponent + terms


def _finite(attention: Variant) -> Variant:
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(attention)):
        raise ArgumentError(
            "attention",
            "has maps that are beyond the floats in units of the tokens",
            "measure the tokens and the depth in other units",
        )
    return attention
