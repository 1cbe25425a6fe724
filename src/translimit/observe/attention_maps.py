r"""Attention weights of all heads of a layer: how even, how peaked, how different by head.

P [H, n, n] are the weights, rows are queries; query i sees v_i keys. Queries that see one key alone
say nothing and are left out of `entropy`, `uniform_distance` and `score_spread`.

| observable | definition |
|---|---|
| entropy | mean over heads and queries of H_i / log v_i, 0 to 1 |
| tv | mean of sum_j abs(P_ij - 1 / v_i) / 2 over visible keys |
| score_spread | root of the mean variance of the scores of a query over its visible keys |
| ipr | mean of sum_j P_ij^2; 1 / ipr keys are attended to |
| one_hot | share of queries (of all heads) with a weight above 0.95 |
| sink | of queries i >= n // 2: mean over heads of the largest mean weight on a key j < n // 2 |
| first | the same queries: mean weight on key 0 |
| head_var | mean over visible pairs of the variance over heads of v_i P_ij |
| head_map | least distance of the maps of two heads over the root of their distances to uniform |

The functions take arrays of NumPy and of JAX, traced ones included, and return their kind.

Reference: documentation, "Diagnosing a checkpoint"; head_var: Bordelon et al., arXiv 2405.15712.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from translimit.core import AnyArray
from translimit.observe.namespaces import as_array, namespace

#: A weight above this makes its query one-hot.
ONE_HOT = 0.95

Maps = Float[AnyArray, "heads tokens tokens"]
Mask = Bool[AnyArray, "tokens tokens"]


def relative_entropy_of_maps(attention: Maps, visible: Mask) -> Float[AnyArray, ""]:
    """`entropy`: see the module's docstring; NaN where no query sees two keys.

    Args:
        attention: P.
        visible: which keys each query sees.
    """
    xp = namespace(attention)
    logs = xp.log(xp.where(attention > 0, attention, 1.0))
    count = visible.sum(axis=-1)
    most = xp.log(xp.where(count > 1, count, 2).astype(attention.dtype))
    return _over_queries(-(attention * logs).sum(axis=-1) / most, visible)


def uniform_distance(attention: Maps, visible: Mask) -> Float[AnyArray, ""]:
    """`tv`: see the module's docstring.

    Args:
        attention: P.
        visible: which keys each query sees.
    """
    return _over_queries(_to_uniform(attention, visible), visible)


def score_spread(scores: Maps, visible: Mask) -> Float[AnyArray, ""]:
    """Root of the mean variance of scores over visible keys; masked entries are left out.

    Args:
        scores: S, whatever stands where a key is not seen.
        visible: which keys each query sees.
    """
    xp = namespace(scores)
    count = visible.sum(axis=-1)[:, None]
    kept = xp.where(visible, scores, 0.0)
    mean = kept.sum(axis=-1, keepdims=True) / count
    square = (xp.where(visible, kept - mean, 0.0) ** 2).sum(axis=-1) / count[:, 0]
    return as_array(_over_queries(square, visible) ** 0.5)


def inverse_participation(attention: Maps) -> Float[AnyArray, ""]:
    """`ipr`: the mean of sum_j P_ij^2.

    Args:
        attention: P.
    """
    return as_array((attention**2).sum(axis=-1).mean())


def one_hot_share(attention: Maps, visible: Mask) -> Float[AnyArray, ""]:
    """The share of queries, of all heads, one of whose weights exceeds 0.95.

    Args:
        attention: P.
        visible: which keys each query sees.
    """
    hot = (attention.max(axis=-1) > ONE_HOT).astype(attention.dtype)
    return _over_queries(hot, visible)


def key_weights(attention: Maps) -> Float[AnyArray, "heads tokens"]:
    """w_hj: mean weight of the queries of the second half on every key, head by head.

    All of them see all keys of the first half, so that a mask favours none.

    Args:
        attention: P.
    """
    return attention[:, attention.shape[-1] // 2 :].mean(axis=1)


def sink(attention: Maps) -> Float[AnyArray, ""]:
    """The mean over heads of the largest of `key_weights` on a key of the first half.

    Args:
        attention: P, of two tokens at least.
    """
    half = attention.shape[-1] // 2
    return as_array(key_weights(attention)[:, :half].max(axis=-1).mean())


def sink_keys(attention: Maps) -> Int[AnyArray, " heads"]:
    """The key of the first half with the largest of `key_weights`, head by head.

    Args:
        attention: P, of two tokens at least.
    """
    half = attention.shape[-1] // 2
    return key_weights(attention)[:, :half].argmax(axis=-1)


def first_key(attention: Maps) -> Float[AnyArray, ""]:
    """`first`: the mean over heads of `key_weights` on key 0.

    Args:
        attention: P.
    """
    return as_array(key_weights(attention)[:, 0].mean())


def head_variance(attention: Maps, visible: Mask) -> Float[AnyArray, ""]:
    """`head_var`: the variance over heads (H - 1) of weights relative to uniform ones.

    Args:
        attention: P; NaN of one head.
        visible: which keys each query sees.
    """
    xp, heads = namespace(attention), len(attention)
    if heads < 2:
        return as_array(attention.sum() * xp.nan)
    relative = attention * visible.sum(axis=-1)[:, None]
    spread = ((relative - relative.mean(axis=0)) ** 2).sum(axis=0) / (heads - 1)
    return as_array(xp.where(visible, spread, 0.0).sum() / visible.sum())


def map_distances(
    attention: Maps, visible: Mask, kept: Bool[AnyArray, " tokens"]
) -> Float[AnyArray, "heads heads"]:
    """Distances of the maps of all pairs of heads, whose least is `head_map`.

    mean_i sum_j |P_ij^h - P_ij^h'| / 2 / (tv_h tv_h')^(1/2), rows renormalised over the keys that
    are kept.

    Args:
        attention: P.
        visible: which keys each query sees.
        kept: keys that count: a sink that all heads share would make all maps alike.

    Returns:
        The distances, with infinity on the diagonal.
    """
    xp, heads = namespace(attention), len(attention)
    seen = visible & kept[None, :]
    left = xp.where(seen, attention, 0.0)
    total = left.sum(axis=-1, keepdims=True)
    rows = left / xp.where(total > 0, total, 1.0)
    own = _over_queries_of(_to_uniform(rows, seen), seen)
    apart = _each(lambda one: _over_queries_of(abs(rows - one).sum(axis=-1) / 2, seen), rows)
    scale = (own[:, None] * own[None, :]) ** 0.5
    apart = apart / xp.where(scale > 0, scale, xp.nan)
    return xp.where(xp.eye(heads, dtype=bool), xp.inf, apart)


def _each(function: Callable[[Any], Any], rows: Any) -> Any:
    """A function of every head, one after the other; of JAX in a loop of one body."""
    if isinstance(rows, np.ndarray):
        return np.stack([function(one) for one in rows])
    import jax  # only where an array of JAX came

    return jax.lax.map(function, rows)


def _to_uniform(attention: Maps, visible: Mask) -> Float[AnyArray, "heads tokens"]:
    xp = namespace(attention)
    count = xp.maximum(visible.sum(axis=-1), 1)[:, None]
    return xp.where(visible, abs(attention - 1.0 / count), 0.0).sum(axis=-1) / 2


def _over_queries_of(
    rows: Float[AnyArray, "heads tokens"], visible: Mask
) -> Float[AnyArray, " heads"]:
    """The mean over queries that see two keys or more, head by head; NaN where none does."""
    xp = namespace(rows)
    many = visible.sum(axis=-1) > 1
    count = many.sum()
    total = xp.where(many, rows, 0.0).sum(axis=-1)
    return xp.where(count > 0, total / xp.maximum(count, 1), xp.nan)


def _over_queries(rows: Float[AnyArray, "heads tokens"], visible: Mask) -> Float[AnyArray, ""]:
    return as_array(_over_queries_of(rows, visible).mean())
