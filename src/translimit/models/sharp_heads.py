r"""Two tokens under infinitely sharp attention: the chain with m(x) = A x / |A x|, H heads a layer.

It is what random heads do where tokens are dense on the sphere and scores are strong, with the
limiting attention imposed. Only the overlap of the two tokens is followed, exactly in law: the
cosine of A x and A y is the sample correlation of two Gaussian layers, head_dim and dim pairs,
drawn through Bartlett factors; so the cost does not depend on the dimension.

Reference: Koubbi, Geshkovski and Rigollet, arXiv 2604.01978; documentation, "Which limit is my
network in?".
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention import narrow, noise_update
from translimit.core import (
    POSITIVE,
    SPHERE,
    AnyArray,
    ArgumentError,
    ArrayInput,
    Key,
    Number,
    Retraction,
    as_float64,
    brief,
    in_float64,
    named_key,
    require_count,
    require_number,
)
from translimit.describe import require_cosine


class SharpHeadChain(eqx.Module):
    """A chain of sharp heads, two tokens.

    Args:
        dim: dimension of the tokens, at least 4.
        head_dim: columns of W and W', at least 2; `dim` by default.
        diffusive_step: unit diffusive time of a layer, positive.
        heads: heads of a layer, at least 1.

    Raises:
        ArgumentError: numbers out of range.
        ArgumentTypeError: sizes that are no integers.
    """

    dim: int = eqx.field(static=True)
    head_dim: int = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    diffusive_step: Number

    def __init__(
        self, *, dim: int, head_dim: int | None = None, diffusive_step: ArrayInput, heads: int = 1
    ):
        self.dim = require_count(dim, "dim", 4)
        self.head_dim = self.dim if head_dim is None else require_count(head_dim, "head_dim", 2)
        self.heads = require_count(heads, "heads", 1)
        self.diffusive_step = require_number(diffusive_step, "diffusive_step", POSITIVE)

    def simulate(
        self,
        initial: float,
        slow_times: ArrayInput,
        *,
        replicas: int,
        key: Key,
    ) -> Float[AnyArray, "replicas times"]:
        """Overlaps [replicas, times] at slow times tau / dim, rounded to whole layers.

        Args:
            initial: overlap at the start, in [-1, 1].
            slow_times: increasing, not negative [times].
            replicas: independent chains.
            key: of the draws.

        Raises:
            ArgumentError: numbers out of range, or times that do not increase.
        """
        times = as_float64(slow_times, "slow_times")
        if times.ndim != 1 or times.size == 0 or times[0] < 0 or np.any(np.diff(times) <= 0):
            raise ArgumentError(
                "slow_times", f"got {brief(times)}", "pass increasing times of at least 0"
            )
        start = require_cosine(initial, "initial")
        layers = np.rint(np.asarray(times) * self.dim / float(self.diffusive_step)).astype(int)
        slots = np.repeat(np.arange(len(layers)), np.diff(layers, prepend=0))
        indices = np.arange(require_count(replicas, "replicas", 1))
        sizes = _Sizes(len(layers))
        return in_float64(_simulate, start, self, slots, indices, key, sizes)


class _Sizes(eqx.Module):
    saves: int = eqx.field(static=True)


def sample_cosine(overlap: Array, rows: int, key: Key) -> Float[Array, ""]:
    """The cosine of G x and G y for a Gaussian matrix G with `rows` rows, |x| = |y| = 1."""
    first = jnp.sqrt(jax.random.chisquare(named_key(key, "first"), float(rows)))
    rest = jnp.sqrt(jax.random.chisquare(named_key(key, "rest"), float(rows - 1)))
    side = jnp.sqrt(jnp.maximum(1.0 - overlap**2, 0.0))
    along = overlap * first + side * jax.random.normal(named_key(key, "along"))
    return along / jnp.hypot(along, side * rest)


@eqx.filter_jit
def _simulate(
    start: Array, chain: SharpHeadChain, slots: Array, indices: Array, key: Key, sizes: _Sizes
) -> Float[Array, "replicas times"]:
    size = jnp.sqrt(chain.diffusive_step / chain.dim)

    def layer(pair: Array, layer_key: Key) -> Array:
        def one(head: Array) -> Array:
            head_key = jax.random.fold_in(layer_key, head)
            cosine = sample_cosine(pair[0] @ pair[1], chain.head_dim, named_key(head_key, "W'"))
            return sample_cosine(cosine, chain.dim, named_key(head_key, "W"))

        cosine = jnp.mean(jax.vmap(one)(jnp.arange(chain.heads)))
        side = jnp.sqrt(jnp.maximum(1.0 - cosine**2, 0.0))
        root = size * jnp.stack([jnp.array([1.0, 0.0]), jnp.stack([cosine, side])])
        wide, update = noise_update(pair, root, chain.dim, named_key(layer_key, "V"))
        return narrow(SPHERE.retract(wide, update, Retraction.AMBIENT), 2)

    def replica(index: Array) -> Array:
        replica_key = jax.random.fold_in(key, index)

        def step(
            carry: tuple[Array, Array], this: tuple[Array, Array]
        ) -> tuple[tuple[Array, Array], None]:
            pair, kept = carry
            slot, number = this
            pair = layer(pair, jax.random.fold_in(replica_key, number))
            return (pair, kept.at[slot].set(pair[0] @ pair[1])), None

        pair = jnp.stack([jnp.array([1.0, 0.0]), jnp.stack([start, jnp.sqrt(1.0 - start**2)])])
        kept = jnp.full((sizes.saves,), start)
        numbers = jnp.arange(slots.shape[0])
        (_, kept), _ = jax.lax.scan(step, (pair, kept), (slots, numbers))
        return kept

    return jax.vmap(replica)(indices)
