r"""One sub-block of a stack: covariances forward, Gram matrices of gradients backward.

With norms N acting on covariances (`norms`), K = N_in(C), U the sum of the branches' averages,

    Z = a^2 C + b^2 N_out(U),      C <- N_post(Z).

Cross terms vanish because every branch ends in a projection of its own. Backward, with B above,

    B_Z = B s_Z s_Z^T,   B_U = b^2 B_Z (s_U s_U^T with a norm of the output),
    B <- a^2 B_Z + s_C s_C^T * sum_r Y_r(B_U).

The gradient is taken independent of the weights below it, given the forward pass. For weights W
with entries of variance sigma^2, sigma^2 E |dW|^2 is the sum of Y_ij K_ij over its own part of Y,
and the sum of B_U U for the last matrix of a branch. A gain g of a norm is one entry a coordinate:
g^2 E |dg|^2 is the sum of Y_ij N_ij, Y what arrives at the normalised tokens and N theirs.

Matrices that read normalised latents (MLA) are told apart from those that make them. With Y what
arrives at the latents, the former have the sum of Y_ij R_ij, R the overlaps; so have the latter,
since a norm divides Y by K_ii^{1/2} K_jj^{1/2}, and so have the gains between them. The matrix down
to the latent of keys and values holds the turning keys as well, whose part is added.

Where norms remove the mean of tokens, what a branch adds loses the share 1 / D.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from translimit.core import Key
from translimit.describe import Attention, Experts, FeedForward, LatentAttention, SubBlock
from translimit.limits.signal.attention import mix
from translimit.limits.signal.attention_back import Pulled, pull
from translimit.limits.signal.experts import pull_router, routing_overlap, shared_units
from translimit.limits.signal.feed_forward import Units, units
from translimit.limits.signal.norms import pair_sums, scaled, scales

#: Routers that are drawn for an average, for every pair of heads.
ROUTERS = 16
#: Groups of weights whose gradients are told; of a mixture, routed experts apart from the shared.
GROUPS = (
    *("query", "key", "value", "attention_out", "in", "up", "out"),
    *("query_down", "query_up", "key_value_down", "key_value_up"),
    *("shared_in", "shared_up", "shared_out", "router", "shared_gate"),
    *("norm_in", "norm_out", "norm_post"),
    *("norm_query", "norm_key", "norm_query_latent", "norm_key_value_latent"),
)


class Passed(NamedTuple):
    """A sub-block that was passed forward.

    Attributes:
        before: C that entered [n, n].
        out: U of all branches before the norm of the output.
        sum: Z.
        after: C that leaves.
        attention_entropy: of attention weights by query in nats [n]; zeros without attention.
        attention_entropy_std: over heads, of the entropy's mean over queries.
        squares: sum of squared attention weights by query [n].
        parts: U of every branch.
    """

    before: Array
    out: Array
    sum: Array
    after: Array
    attention_entropy: Array
    attention_entropy_std: Array
    squares: Array
    parts: tuple[Array, ...]


class Returned(NamedTuple):
    """Gradients that passed a sub-block backward.

    Attributes:
        below: B of the tokens that entered [m, n, n].
        square: tr B / n [m].
        weights: sigma_W^2 E |dW|^2 by group, and E |dg|^2 of gains [m, groups], in the order of
            `GROUPS`.
    """

    below: Array
    square: Array
    weights: Array


def forward(
    block: SubBlock,
    dim: int,
    causal: bool,
    share: float,
    cov: Float[Array, "n n"],
    key: Key,
    pairs: Array,
    score_factor: Array | float = 1.0,
    single: bool = False,
) -> Passed:
    """Pass a sub-block.

    Args:
        block: the sub-block.
        dim: of the tokens.
        causal: whether a token sees only itself and the tokens before it.
        share: what is left of an output whose mean is removed.
        cov: C.
        key: of heads and routers.
        pairs: antithetic pairs of heads; so many times 16 routers.
        score_factor: what all scores are multiplied with.
        single: whether heads are computed in float32.
    """
    read = scaled(cov, scales(block.norm_in, cov))
    units = functools.partial(_units, single=single)
    n = len(cov)
    entropy, entropy_std, squares = jnp.zeros(n), jnp.zeros(()), jnp.zeros(n)
    parts = []
    for number, branch in enumerate(block.branches):
        own = jax.random.fold_in(key, number)
        if isinstance(branch, (Attention, LatentAttention)):
            mixed = mix(branch, dim, causal, read, own, pairs, score_factor, single)
            part, entropy, squares = mixed.out, mixed.attention_entropy, mixed.squares
            spread = mixed.mean_square - mixed.mean**2
            entropy_std = jnp.sqrt(jnp.maximum(spread, 0.0))
        elif isinstance(branch, FeedForward):
            part = units(branch, dim, read).out
        else:
            chosen = routing_overlap(branch, dim, read, own, ROUTERS * pairs)
            part = chosen * units(branch.expert, dim, read).out
            beside = shared_units(branch, dim, read, single)
            if beside is not None:
                part = part + beside[0].out * beside[1].out
        parts.append(share * part)
    out = sum(parts[1:], parts[0])
    added = scaled(out, scales(block.norm_out, out))
    total = block.residual**2 * cov + block.branch**2 * added
    after = scaled(total, scales(block.norm_post, total))
    return Passed(cov, out, total, after, entropy, entropy_std, squares, tuple(parts))


def backward(
    block: SubBlock,
    dim: int,
    causal: bool,
    share: float,
    passed: Passed,
    grads: Float[Array, "m n n"],
    key: Key,
    pairs: Array,
    score_factor: Array | float = 1.0,
    single: bool = False,
) -> Returned:
    """Pass a sub-block backward, several gradients on one way.

    Args:
        block: the sub-block.
        dim: of the tokens.
        causal: whether a token sees only itself and the tokens before it.
        share: what is left of an output whose mean is removed.
        passed: the way forward.
        grads: matrices B above.
        key: of heads and routers.
        pairs: antithetic pairs of heads; so many times 16 routers.
        score_factor: what all scores are multiplied with.
        single: whether heads are computed in float32.
    """
    cov = passed.before
    s_in = scales(block.norm_in, cov)
    read = scaled(cov, s_in)
    units = functools.partial(_units, single=single)
    above = grads
    told = dict.fromkeys(GROUPS, jnp.zeros(len(grads)))
    if block.norm_post is not None:
        above = scaled(grads, scales(block.norm_post, passed.sum))
        told["norm_post"] = pair_sums(grads, passed.after) / block.norm_post.gain**2
    s_out = block.branch**2 * jnp.ones_like(cov)
    if block.norm_out is not None:
        s_out = scaled(s_out, scales(block.norm_out, passed.out))
        told["norm_out"] = pair_sums(s_out * above, passed.out) / block.norm_out.gain**2
    arriving = s_out * above
    below = jnp.zeros_like(above)
    for number, branch in enumerate(block.branches):
        own = jax.random.fold_in(key, number)
        if isinstance(branch, (Attention, LatentAttention)):
            pulled = pull(branch, dim, causal, read, arriving, own, pairs, score_factor, single)
            below = below + pulled.below
            told |= _of_heads(branch, pulled)
            told["attention_out"] = pair_sums(arriving, passed.parts[number]) / share
            continue
        if isinstance(branch, FeedForward):
            hidden = [("", units(branch, dim, read), arriving)]
        else:
            expert = units(branch.expert, dim, read)
            router, chosen = _router(branch, dim, read, arriving * expert.out, own, ROUTERS * pairs)
            hidden = [("", expert, chosen * arriving)]
            beside = shared_units(branch, dim, read, single)
            if beside is not None:
                shared, gate = beside
                hidden.append(("shared_", shared, gate.out * arriving))
                through = gate.through_in * shared.out * arriving
                below, told["shared_gate"] = below + through, pair_sums(through, read)
            below, told["router"] = below + router, told["router"] + pair_sums(router, read)
        for kind, unit, gradient in hidden:
            below = below + (unit.through_in + unit.through_up) * gradient
            for name, rows in (("in", unit.through_in * read), ("up", unit.through_up * read)):
                told[kind + name] = told[kind + name] + pair_sums(gradient, rows)
            told[f"{kind}out"] = told[f"{kind}out"] + pair_sums(gradient, unit.out)
    if block.norm_in is not None:
        told["norm_in"] = pair_sums(below, read) / block.norm_in.gain**2
    below = block.residual**2 * above + scaled(below, s_in)
    square = jnp.trace(below, axis1=1, axis2=2) / len(cov)
    return Returned(below, square, jnp.stack([told[name] for name in GROUPS], axis=1))


def _of_heads(mixer: Attention | LatentAttention, pulled: Pulled) -> dict[str, Array]:
    """What attention has told of its matrices and gains, by group."""
    if isinstance(mixer, Attention):
        told = {"query": pulled.query, "key": pulled.key, "value": pulled.value}
        if (norm := mixer.qk_norm) is not None:
            told["norm_query"] = pulled.query_gain / norm.gain**2
            told["norm_key"] = pulled.key_gain / norm.gain**2
        return told
    up = pulled.key + pulled.value
    told = {"key_value_down": up + pulled.rope, "key_value_up": up, "norm_key_value_latent": up}
    if mixer.query_rank is None:
        return told | {"query": pulled.query}
    return told | dict.fromkeys(("query_down", "query_up", "norm_query_latent"), pulled.query)


def _units(block: FeedForward, dim: int, cov: Float[Array, "n n"], *, single: bool) -> Units:
    """The average of a block, its kernels in float32 or as they are."""
    return units(block, dim, cov.astype(jnp.float32) if single else cov)


def _router(
    branch: Experts, dim: int, read: Array, changes: Float[Array, "m n n"], key: Key, draws: Array
) -> tuple[Array, Array]:
    """Gradients below the router, and the overlap of routings."""
    other = jax.random.fold_in(key, 1)

    def below(one: Array) -> Array:
        return pull_router(branch, dim, read, one, other, draws)

    return jax.vmap(below)(changes), routing_overlap(branch, dim, read, key, draws)
