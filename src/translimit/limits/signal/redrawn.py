r"""The Gram matrix of the stream through layers of redrawn weights, each tensor of its own scale.

`propagation` starts from how a family draws its weights: one number a matrix, no biases. Here every
matrix and bias has the mean square of its entries as it was measured, s^2 by name. G [n, n] is the
raw Gram matrix of the stream, M = D mu mu^T that of the tokens' mean entries, 1 the matrix of ones.

    norm        C = G - M (layer norm) or G,  N(G)_ij = g^2 C_ij / (s_i s_j) + D b^2,
                s_i^2 = C_ii / D + norm_eps
    attention   q = Z F_q^T, k = Z' F_k^T with F_q F_q^T = s_Q^2 U + s_bQ^2 1, P of the scores;
                A = D (s_O^2 H d_v E P (s_V^2 U + s_bV^2 1) P^T + s_bO^2 1)
    MLP         h ~ N(0, s_1^2 V + s_b1^2 1);  F = D (s_2^2 d_m E phi(h) phi(h)^T + s_b2^2 1)

U is what attention reads and V what the MLP reads. Gains and biases of norms enter by their mean
square alone, since a redrawn branch is isotropic. Heads are drawn in antithetic pairs at their
exact dimension; kernels of the MLP are those of `kernels`. Heads that share keys have the same
mean. Independent layers are assumed: of shared ones the result is an approximation.

Reference: documentation, "Diagnosing a checkpoint" and "Signal propagation".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit import observe
from translimit.core import ArgumentError, Key, in_float64, named_key, require_count, stack_keys
from translimit.describe import Attention, FeedForward, Layer, Norm, Normalisation
from translimit.limits.signal.heads import capped, log_weights, prepared, score_products, visible
from translimit.limits.signal.kernels import kernels
from translimit.limits.signal.norms import factor

#: Pairs of heads in a batch, and independent batches, whose scatter is the error.
REDRAWN_PAIRS = 48
REDRAWN_BATCHES = 4
#: What is predicted, by name.
PREDICTED = (
    *("overlap", "mean_square", "overlap_mid", "ratio_a", "ratio_f"),
    *("entropy", "tv", "score_spread", "head_var", "ipr"),
)
_ENTRY = ("overlap", "mean_square")


@dataclass(frozen=True)
class RedrawnLayer:
    """A layer of redrawn weights.

    Attributes:
        blocks: its sub-blocks: attention and an MLP, one after the other or side by side.
        causal: whether a token sees only itself and the tokens before it.
        squares: mean square of every tensor, by the names that `translimit.diagnose.Layer` uses;
            an absent bias counts as 0, an absent gain as 1.
    """

    blocks: Layer
    causal: bool
    squares: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class RedrawnPrediction:
    """Observables of drawn networks, as their number grows.

    Attributes:
        values: by name, after 0, 1, ..., L layers [places]; NaN where something belongs to a layer.
        errors: of the sampled heads, one standard error [places].
    """

    values: Mapping[str, Float[np.ndarray, " places"]]
    errors: Mapping[str, Float[np.ndarray, " places"]]


def redrawn_prediction(
    layers: Sequence[RedrawnLayer],
    tokens: Float[np.ndarray, "n D"],
    *,
    key: Key | int,
    pairs: int = REDRAWN_PAIRS,
    batches: int = REDRAWN_BATCHES,
) -> RedrawnPrediction:
    """What layers of redrawn weights do to these tokens, on average.

    The cost of a layer is pairs n^2 head_dim, whatever the width.

    Args:
        layers: from the first to the last.
        tokens: that enter, whose Gram matrix is taken.
        key: of the sampled heads.
        pairs: antithetic pairs of heads in a batch, at least 2.
        batches: independent batches, at least 2.

    Raises:
        ArgumentError: fewer than two tokens, pairs or batches.
    """
    pairs, batches = require_count(pairs, "pairs", 2), require_count(batches, "batches", 2)
    x = np.asarray(tokens, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ArgumentError("tokens", f"have shape {x.shape}", "pass [n, D] with n of 2 at least")
    dim, mean = x.shape[1], x.mean(axis=1)
    gram = np.repeat((x @ x.T)[None], batches, axis=0)
    means = np.repeat((dim * np.outer(mean, mean))[None], batches, axis=0)
    found = {name: np.full((batches, len(layers) + 1), np.nan) for name in PREDICTED}
    of_entry = in_float64(partial(_entry, dim), gram)
    for name in _ENTRY:
        found[name][:, 0] = of_entry[name]
    root = named_key(key, "redrawn")
    for place, layer in enumerate(layers):
        keys = stack_keys([named_key(root, place, batch) for batch in range(batches)])
        run = partial(_batches, layer.blocks, layer.causal, dim, pairs)
        gram, means, told = in_float64(run, dict(layer.squares), gram, means, keys)
        for name, row in told.items():
            found[name][:, place + 1] = row
    errors = {k: v.std(axis=0, ddof=1) / np.sqrt(batches) for k, v in found.items()}
    return RedrawnPrediction({k: v.mean(axis=0) for k, v in found.items()}, errors)


@partial(jax.jit, static_argnums=0)
def _entry(dim: int, gram: Float[Array, "batches n n"]) -> dict[str, Array]:
    return jax.vmap(partial(_stream, dim))(gram)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _batches(
    blocks: Layer,
    causal: bool,
    dim: int,
    pairs: int,
    squares: Any,
    gram: Any,
    means: Any,
    keys: Any,
) -> Any:
    """All batches through a layer."""
    one = partial(_pass, blocks, causal, dim, pairs, squares)
    return jax.lax.map(lambda row: one(*row), (gram, means, keys))


def _pass(
    blocks: Layer,
    causal: bool,
    dim: int,
    pairs: int,
    squares: Mapping[str, Array],
    gram: Float[Array, "n n"],
    means: Float[Array, "n n"],
    key: Key,
) -> tuple[Array, Array, dict[str, Array]]:
    """One batch through a layer: the new G and M, and the observables."""
    first, last = blocks[0], blocks[-1]
    mixer = next(one for one in first.branches if isinstance(one, Attention))
    units = next((one for b in blocks for one in b.branches if isinstance(one, FeedForward)), None)
    read, _ = _normalised(first.norm_in, squares, "attention_in", dim, gram, means)
    a, found = _attention(mixer, causal, dim, pairs, squares, read, key)
    a, _ = _normalised(first.norm_out, squares, "attention_out", dim, first.branch**2 * a, a / dim)
    found["ratio_a"] = jnp.sqrt(jnp.trace(a) / jnp.trace(gram))
    if len(first.branches) == 2 and units is not None:  # parallel
        own = "mlp_in" if "mlp_in.gain" in squares else "attention_in"
        v, _ = _normalised(first.norm_in, squares, own, dim, gram, means)
        f = first.branch**2 * _mlp(units, dim, squares, v)
        found["ratio_f"] = jnp.sqrt(jnp.trace(f) / jnp.trace(gram))
        grown = first.residual**2 * gram + a + f, first.residual**2 * means + (a + f) / dim
        gram, means = _normalised(first.norm_post, squares, "attention_post", dim, *grown)
        return gram, means, {**found, **_stream(dim, gram)}
    grown = first.residual**2 * gram + a, first.residual**2 * means + a / dim
    middle, means = _normalised(first.norm_post, squares, "attention_post", dim, *grown)
    found["overlap_mid"] = _stream(dim, middle)["overlap"]
    if units is None:
        return middle, means, {**found, **_stream(dim, middle)}
    v, _ = _normalised(last.norm_in, squares, "mlp_in", dim, middle, means)
    f = last.branch**2 * _mlp(units, dim, squares, v)
    f, _ = _normalised(last.norm_out, squares, "mlp_out", dim, f, f / dim)
    found["ratio_f"] = jnp.sqrt(jnp.trace(f) / jnp.trace(middle))
    grown = last.residual**2 * middle + f, last.residual**2 * means + f / dim
    gram, means = _normalised(last.norm_post, squares, "mlp_post", dim, *grown)
    return gram, means, {**found, **_stream(dim, gram)}


def _stream(dim: int, gram: Float[Array, "n n"]) -> dict[str, Array]:
    size = jnp.sqrt(jnp.diagonal(gram))
    overlap = observe.mean_overlap_of(gram / (size[:, None] * size[None, :]))
    return {"overlap": jnp.asarray(overlap), "mean_square": jnp.trace(gram) / (len(gram) * dim)}


def _normalised(
    norm: Normalisation | None,
    squares: Mapping[str, Array],
    place: str,
    dim: int,
    gram: Float[Array, "n n"],
    means: Float[Array, "n n"],
) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
    """N(G) and the M of normalised tokens: none is left by a layer norm but that of its bias."""
    if norm is None:
        return gram, means
    c = gram - means if norm.kind is Norm.LAYER else gram
    s = jnp.sqrt(jnp.diagonal(c) / dim + norm.norm_eps)
    gain, bias = squares.get(f"{place}.gain", 1.0), squares.get(f"{place}.bias", 0.0)
    scaled = gain * c / (s[:, None] * s[None, :]) + dim * bias
    left = jnp.zeros_like(gram) if norm.kind is Norm.LAYER else means / (s[:, None] * s[None, :])
    return scaled, left


def _attention(
    mixer: Attention,
    causal: bool,
    dim: int,
    pairs: int,
    squares: Mapping[str, Array],
    read: Float[Array, "n n"],
    key: Key,
) -> tuple[Float[Array, "n n"], dict[str, Array]]:
    """A, and the observables of the sampled maps."""
    n, d = len(read), mixer.head_dim
    covs = {x: squares[f"W_{x}"] * read + squares.get(f"b_{x}", 0.0) for x in "QKV"}
    q_root, k_root = factor(covs["Q"]), factor(covs["K"])
    sizes = jnp.diagonal(covs["Q"]), jnp.diagonal(covs["K"])
    gains = [jnp.sqrt(squares.get(f"{x}.gain", 1.0)) for x in "qk"]
    own = 1.0 if mixer.qk_norm is None else gains[0] * gains[1] / mixer.qk_norm.gain**2
    seen = jnp.asarray(visible(mixer.scores, causal, n))

    def head(key: Key) -> tuple[Array, Array, dict[str, Array]]:
        drawn = jax.random.normal(key, (2, n, d), read.dtype)
        asked, keys = prepared(mixer, q_root @ drawn[0], k_root @ drawn[1], sizes)
        products = capped(mixer, own * score_products(mixer, asked, keys))
        logs = log_weights(mixer, causal, jnp.stack([products, -products]), jnp.asarray(0), key)
        p = jnp.exp(logs)
        told = {
            "entropy": observe.relative_entropy_of_maps(p, seen),
            "tv": observe.uniform_distance(p, seen),
            "ipr": observe.inverse_participation(p),
            "spread": observe.score_spread(products[None], seen) ** 2,
        }
        mixed = jnp.einsum("hij,jk,hlk->il", p, covs["V"], p) / 2
        return mixed, p[0], {name: jnp.asarray(row) for name, row in told.items()}

    mixed, maps, told = jax.lax.map(head, jax.random.split(key, pairs), batch_size=16)
    found = {name: jnp.mean(row) for name, row in told.items()}
    found["score_spread"] = jnp.sqrt(found.pop("spread"))
    found["head_var"] = jnp.asarray(observe.head_variance(maps, seen))
    gain = squares["W_O"] * mixer.heads * mixer.values * mixer.value_scale**2
    whole = gain * jnp.mean(mixed, axis=0)
    return dim * (whole + squares.get("b_O", 0.0)), found


def _mlp(
    units: FeedForward, dim: int, squares: Mapping[str, Array], v: Float[Array, "n n"]
) -> Float[Array, "n n"]:
    """F: the kernel of the units' inputs, times that of the other factor where it is gated."""
    kernel, _ = kernels(units.activation, squares["W_1"] * v + squares.get("b_1", 0.0))
    if units.gated:
        kernel = kernel * (squares["W_up"] * v + squares.get("b_up", 0.0) + units.shift**2)
    return dim * (squares["W_2"] * units.width * kernel + squares.get("b_2", 0.0))
