r"""How the random root of a branch spreads: Var tr(Lambda U) over its weights, the last integrated.

A branch returns U = share Q Q^T with a random root Q: heads, hidden units, routers. For a symmetric
Lambda,

- attention: the variance over groups of heads with common keys and values of the mean of
  tr(Lambda T_h), T_h = gamma_A P_h F z z^T F^T P_h^T / d_v with values z, over their number;
- feed-forward: the variance over hidden units of gamma_1 phi^T Lambda phi, over their number d_m;
- experts: the variance over routers of tr(Lambda (sum_e w_e w_e^T) * U_expert), and that of the
  hidden units of drawn experts.

Values are integrated out where that is cheaper than drawing them:
(2 / d_v) E tr N^2 + Var tr N with N the mean over a group of gamma_A P^T Lambda P K.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.core import Key
from translimit.describe import Attention, Experts, FeedForward
from translimit.limits.signal.attention import draw_group
from translimit.limits.signal.drawn_heads import spaced
from translimit.limits.signal.experts import route
from translimit.limits.signal.feed_forward import units
from translimit.limits.signal.heads import value_gain
from translimit.limits.signal.norms import factor
from translimit.limits.signal.seeds import normals
from translimit.limits.signal.slopes import accumulate

#: Hidden units at most, and so many numbers of them; routers, and routers whose experts are drawn.
UNITS, NUMBERS, ROUTERS, DRAWN = 4096, 2**19, 256, 8
#: Experts of a drawn router whose units are followed.
FOLLOWED = 16


def attention_variance(
    mixer: Attention,
    dim: int,
    causal: bool,
    cov: Float[Array, "n n"],
    slopes: Float[Array, "m n n"],
    key: Key,
    groups: Array,
    joined: Array | int | None = None,
) -> Float[Array, " m"]:
    """Var tr(Lambda U) over heads.

    Heads whose biases differ are told apart: only what is drawn spreads.

    Args:
        mixer: the attention.
        dim: of the tokens.
        causal: whether a token sees only itself and the tokens before it.
        cov: K, of what it reads.
        slopes: the matrices Lambda.
        key: of the drawn groups.
        groups: how many pairs of groups of heads with common keys are drawn, at least 1.
        joined: how many of the slopes are wanted, the first; all by default.
    """
    n, values = len(cov), mixer.values
    whole = n <= values
    gain = value_gain(mixer, dim)

    def group(index: Array, number: Array) -> tuple[Array, Array]:
        """Mean of tr(Lambda T) over a group, and tr N^2 where values are integrated out."""
        own = jax.random.fold_in(key, index)
        root, heads = draw_group(mixer, dim, causal, cov, own, number)
        if not whole:
            root = root @ normals(own, mixer.heads + 1, (n, values)) / values**0.5
        shared = mixer.heads // mixer.key_heads
        columns = root.shape[1]

        def head(place: Array, total: Array) -> Array:
            mixed = heads(place) @ root

            def one(slope: Array) -> Array:
                turned = slope @ mixed
                return mixed.T @ turned if whole else jnp.sum(mixed * turned, axis=0)

            return accumulate(total, slopes, joined, one)

        zero = jnp.zeros((len(slopes), columns, columns) if whole else (len(slopes), columns))
        total = jax.lax.fori_loop(0, shared, head, zero) / shared
        if whole:
            return jnp.trace(total, axis1=1, axis2=2), jnp.sum(total**2, axis=(1, 2))
        return jnp.sum(total, axis=1), jnp.zeros(len(slopes))

    def body(index: Array, total: tuple[Array, ...]) -> tuple[Array, ...]:
        number = spaced(mixer, index, groups, mixer.key_heads, key)
        first, of_first = group(2 * index, number)
        second, of_second = group(2 * index + 1, number)
        added = (first + second, first**2 + second**2, (first - second) ** 2, of_first + of_second)
        return tuple(old + new for old, new in zip(total, added, strict=True))

    zero = (jnp.zeros(len(slopes)),) * 4
    sums, squares, apart, within = jax.lax.fori_loop(0, groups, body, zero)
    count = 2 * groups
    pooled = (squares - sums**2 / count) / (count - 1)
    variance = apart / count if mixer.scores.slopes else pooled
    return gain**2 * (variance + 2 / values * within / count) / mixer.key_heads


def feed_forward_variance(
    block: FeedForward,
    dim: int,
    cov: Float[Array, "n n"],
    slopes: Float[Array, "m n n"],
    key: Key,
    joined: Array | int | None = None,
) -> Float[Array, " m"]:
    """Var tr(Lambda U) over hidden units.

    Args:
        block: the block.
        dim: of the tokens.
        cov: K, of what it reads.
        slopes: the matrices Lambda.
        key: of the drawn units.
        joined: how many of the slopes are wanted, the first; all by default.
    """
    hidden = _hidden(block, dim, cov, key)
    variance = _of_units(hidden, slopes, joined)
    return (block.width * block.out_std**2) ** 2 * variance / block.width


def experts_variance(
    block: Experts,
    dim: int,
    cov: Float[Array, "n n"],
    slopes: Float[Array, "m n n"],
    key: Key,
    joined: Array | int | None = None,
) -> Float[Array, " m"]:
    """Var tr(Lambda U) over routers, hidden units of experts and of the shared block.

    Args:
        block: the mixture.
        dim: of the tokens.
        cov: K, of what routers and experts read.
        slopes: the matrices Lambda.
        key: of what is drawn.
        joined: how many of the slopes are wanted, the first; all by default.
    """
    root, expert = factor(cov), units(block.expert, dim, cov).out
    none = jnp.zeros(len(slopes))
    routers, drawn, inner, shared = jax.random.split(key, 4)

    def chosen(index: Array) -> Array:
        omega = route(block, dim, root, routers, index)
        mixed = expert * (omega @ omega.T)
        return accumulate(none, slopes, joined, lambda one: jnp.sum(one * mixed))

    total = jnp.var(jax.lax.map(chosen, jnp.arange(ROUTERS)), axis=0, ddof=1)
    hidden = _hidden(block.expert, dim, cov, inner)
    followed = min(block.count, FOLLOWED)  # experts are alike

    def unit(index: Array) -> Array:
        omega = route(block, dim, root, drawn, index // followed)
        weighed = omega[:, index % followed][:, None] * hidden
        return _of_units(weighed, slopes, joined)

    by_expert = jnp.mean(jax.lax.map(unit, jnp.arange(DRAWN * followed)), axis=0)
    width, square = block.expert.width, block.expert.out_std**2
    total = total + block.count * (width * square) ** 2 * by_expert / width
    if block.shared is None:
        return total
    gate = block.shared_gate
    if gate is None:
        return total + feed_forward_variance(block.shared, dim, cov, slopes, shared, joined)
    first, second = jax.random.split(shared)
    weights = _hidden(gate, dim, cov, first)  # a column a network
    beside = units(block.shared, dim, cov).out

    def by_gate(slope: Array) -> Array:
        return jnp.var(jnp.sum(weights * ((slope * beside) @ weights), axis=0), ddof=1)

    total = accumulate(total, slopes, joined, by_gate)

    # Of the units under a gate that is given, in the mean over gates.
    def under(one: Array) -> Array:
        gated = slopes * one[:, None] * one
        return feed_forward_variance(block.shared, dim, cov, gated, second, joined)  # pyright: ignore[reportArgumentType]

    return total + jnp.mean(jax.lax.map(under, weights.T[:DRAWN]), axis=0)


def _of_units(
    hidden: Float[Array, "n units"], slopes: Float[Array, "m n n"], joined: Array | int | None
) -> Float[Array, " m"]:
    """The variance over hidden units h of h^T Lambda h."""

    def one(slope: Array) -> Array:
        return jnp.var(jnp.sum(hidden * (slope @ hidden), axis=0), ddof=1)

    return accumulate(jnp.zeros(len(slopes)), slopes, joined, one)


def _hidden(block: FeedForward, dim: int, cov: Array, key: Key) -> Float[Array, "n units"]:
    """Hidden units of drawn weights."""
    root = factor(cov)
    count = min(UNITS, max(512, NUMBERS // len(cov)))
    first, second = jnp.split(normals(key, 0, (len(cov), 2 * count)), 2, axis=1)
    w_in = dim * block.in_std**2
    hidden = block.activation(w_in**0.5 * root @ first)
    if block.gated:
        w_up = w_in if block.up_std is None else dim * block.up_std**2
        hidden = hidden * (w_up**0.5 * root @ second + block.shift)
    return hidden
