r"""One layer of random heads, and the compiled programs that take replicas through many.

With explicit weights (V_h, A_h) drawn from the law,

    u_i = (step / heads) sum_h V_h m_h(x_i),

or, where the law does not change under rotations, with the weights integrated out: given the
attention matrices the update is Gaussian with covariance step^2 sigma_v^2 S / heads, S the mean of
the overlaps of the outputs, so that the overlaps of the tokens are enough.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from translimit.attention import (
    gram_factor,
    head_output,
    head_weights,
    mean_root,
    narrow,
    noise_update,
)
from translimit.core import SPHERE, Key, Number, Retraction, named_key
from translimit.describe import AbstractHeads, AbstractIsotropicHeads
from translimit.observe import mean_overlap

#: Tokens, in all their coordinates or as many as they need.
Tokens = Float[Array, "tokens width"]


def head_update(
    law: AbstractHeads, tokens: Float[Array, "tokens dim"], key: Key, *, causal: bool
) -> Float[Array, "tokens dim"]:
    """V m(x_i) of one head [tokens, dim], scores and attention with one row per query."""
    V, A = law.sample(key, tokens.dtype)
    return head_output(V, A, law.beta, tokens, causal=causal, hard=law.hard)


class HeadLayer(eqx.Module):
    """One layer.

    Attributes:
        law: of the heads.
        step: residual step.
        heads: how many are drawn.
        retraction: how an update brings a token back to the sphere.
        causal: whether a token sees only itself and the tokens before it.
    """

    law: AbstractHeads
    step: Number
    heads: int = eqx.field(static=True)
    retraction: Retraction = eqx.field(static=True)
    causal: bool = eqx.field(static=True)

    def by_weights(
        self, tokens: Float[Array, "tokens dim"], key: Key
    ) -> Float[Array, "tokens dim"]:
        """With weights drawn; head h takes `fold_in(key, h)`."""
        step = jnp.asarray(self.step / self.heads, tokens.dtype)

        def add(total: Array, head: Array) -> tuple[Array, None]:
            head_key = jax.random.fold_in(key, head)
            return total + head_update(self.law, tokens, head_key, causal=self.causal), None

        total, _ = jax.lax.scan(add, jnp.zeros_like(tokens), jnp.arange(self.heads))
        return SPHERE.retract(tokens, step * total, self.retraction)

    def by_overlaps(self, factor: Tokens, key: Key) -> Tokens:
        """With weights integrated out, for tokens up to rotation."""
        assert isinstance(self.law, AbstractIsotropicHeads)  # whoever gives overlaps checked it
        size = jnp.asarray(self.step * self.law.sigma_v / self.heads**0.5, factor.dtype)
        weights = head_weights(self.law, factor, self.heads, key, causal=self.causal)
        root = size * mean_root(weights, factor)
        wide, update = noise_update(factor, root, self.law.dim, named_key(key, "values"))
        return narrow(SPHERE.retract(wide, update, self.retraction), factor.shape[1])


class Run(eqx.Module):
    """A layer and the static numbers of one simulation.

    Attributes:
        layer: every one of them.
        layers: how many.
        every: the states after every so many are kept.
        batch: replicas that run together.
    """

    layer: HeadLayer
    layers: int = eqx.field(static=True)
    every: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)


def _through(
    layer: Callable[[Tokens, Key], Tokens], start: Tokens, run: Run, key: Key
) -> Float[Array, "saves tokens width"]:
    """Tokens at the layers kept; `layer(tokens, key)` gets the key of its layer."""

    def block(tokens: Tokens, numbers: Int[Array, " every"]) -> tuple[Tokens, Tokens]:
        tokens, _ = jax.lax.scan(
            lambda one, number: (layer(one, jax.random.fold_in(key, number)), None), tokens, numbers
        )
        return tokens, tokens

    numbers = jnp.arange(run.layers).reshape(-1, run.every)
    _, kept = jax.lax.scan(block, start, numbers)
    return jnp.concatenate([start[None], kept])


@eqx.filter_jit
def tokens_by_weights(
    initial: Float[Array, "tokens dim"], parameters: tuple[Run, Int[Array, " replicas"], Key]
) -> Float[Array, "replicas saves tokens dim"]:
    """Replicas with explicit weights from the same tokens."""
    run, indices, key = parameters

    def replica(index: Int[Array, ""]) -> Float[Array, "saves tokens dim"]:
        return _through(run.layer.by_weights, initial, run, jax.random.fold_in(key, index))

    return jax.lax.map(replica, indices, batch_size=run.batch)


@eqx.filter_jit
def tokens_by_overlaps(
    initial: Float[Array, "tokens tokens"], parameters: tuple[Run, Int[Array, " replicas"], Key]
) -> Float[Array, "replicas saves tokens width"]:
    """Replicas from the same overlaps, tokens up to rotation."""
    run, indices, key = parameters
    start = gram_factor(initial, run.layer.law.dim)

    def replica(index: Int[Array, ""]) -> Float[Array, "saves tokens width"]:
        return _through(run.layer.by_overlaps, start, run, jax.random.fold_in(key, index))

    return jax.lax.map(replica, indices, batch_size=run.batch)


@eqx.filter_jit
def first_crossings(
    initial: Float[Array, "tokens tokens"],
    parameters: tuple[Run, Float[Array, ""], Int[Array, ""], Int[Array, " replicas"], Key],
) -> Int[Array, " replicas"]:
    """The first layer above the threshold; layers + 1 where there is none, -1 after a NaN."""
    run, threshold, last, indices, key = parameters
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)
    start = gram_factor(initial, run.layer.law.dim)
    factors = jnp.broadcast_to(start, (keys.shape[0], *start.shape))

    def status(factors: Array, number: Array, before: Array) -> Array:
        """The layer of the first crossing so far, or last + 1."""
        mean = mean_overlap(factors)
        now = jnp.where(jnp.isnan(mean), -1, jnp.where(mean > threshold, number, last + 1))
        return jnp.where(before > last, now, before)

    def advance(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        number, factors, first = state
        layer_keys = jax.vmap(lambda one: jax.random.fold_in(one, number))(keys)
        factors = jax.vmap(run.layer.by_overlaps)(factors, layer_keys)
        return number + 1, factors, status(factors, number + 1, first)

    def going(state: tuple[Array, Array, Array]) -> Array:
        number, _, first = state
        return (number < last) & jnp.any(first > last)

    zero = jnp.zeros((), last.dtype)
    none = jnp.full((keys.shape[0],), last + 1)
    first = status(factors, zero, none)
    return jax.lax.while_loop(going, advance, (zero, factors, first))[2]
