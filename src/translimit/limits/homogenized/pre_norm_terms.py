r"""The blocks of a pre-LN stack as terms of the recursion of its Gram matrix.

A block reads the normalised tokens y_i = D^{1/2} f_i, with K = F F^T their inner products over D,
and adds u_i to the residual stream. Its weights are centred and end in a projection of their own,
so that increments of different blocks, and the increment and the stream, are uncorrelated, and the
Gram matrix of the tokens grows by E u_i . u_j on average:

| block | E u_i . u_j |
|---|---|
| attention | Gamma s_ij, s = E P K P^T, P = softmax of the scores |
| feed-forward | D M sigma_2^2 E phi(g_i) phi(g_j), g ~ N(0, D sigma_1^2 K) |
| gated | D M sigma_2^2 E phi(g_i) phi(g_j) D sigma_up^2 K_ij |

- *Scores.* Queries and keys of a head are F Z, F Z' with Z, Z' [width, head_dim] standard normal,
  scores beta_s / d_h^{1/2} times their products. Rotary positions turn both:
  Cov(score_ij, score_kl) = beta_s^2 K_ik K_jl c(i - j - k + l), c(m) the mean of cos(m theta_p)
  over the pairs p of entries (theta_p = 0 for those that stay).
- *Grouped queries.* W_O has independent blocks for the heads, so that cross terms of two heads
  vanish on average even where they share keys and values: grouping changes the fluctuations only
  (values: relative size (kv_heads head_dim)^{-1/2}; keys: of order beta_s^2), not E u_i . u_j.
- *Layer norm against RMS norm.* Removing the mean leaves D - 1 dimensions of every increment.

Every term has two methods: `increment`, the average, and `root`, a random Q with u = Q Z in law at
finite sizes, Z [rank, dimension] standard normal, weights integrated out.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from translimit.attention import narrow, softmax_rows
from translimit.core import AnyArray, Key, named_key
from translimit.describe import Activation, PreNormArchitecture, Rotary
from translimit.limits.homogenized.activations import activation_kernel, require_kernel


class AbstractTerm(eqx.Module):
    """What one block adds to the Gram matrix."""

    @abc.abstractmethod
    def increment(
        self, factor: Float[Array, "tokens width"], samples: int, key: Key
    ) -> Float[Array, "tokens tokens"]:
        """An unbiased estimate of E u_i . u_j, exact where nothing has to be sampled.

        Args:
            factor: F with K = F F^T.
            samples: antithetic pairs of heads, where scores are sampled.
            key: of the samples.
        """

    def increment_error(self) -> float:
        """Relative error of what in the increment is not sampled.

        Raises:
            ArgumentError: it is too large.
        """
        return 0.0

    @abc.abstractmethod
    def root(self, factor: Float[Array, "tokens width"], key: Key) -> Float[Array, "tokens rank"]:
        """Q of one random network of the architecture's sizes."""

    @abc.abstractmethod
    def columns(self, samples: int | None) -> int:
        """Columns of the random matrices of a layer that are held at once.

        Args:
            samples: scores that are sampled, or None for those of one random network.
        """


class AttentionTerm(AbstractTerm):
    """Multi-head attention, causal or not, with or without rotary positions and shared keys."""

    branch_square: float | Float[Array, ""]
    score_std: float | Float[Array, ""]
    free_dim: int = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    kv_heads: int = eqx.field(static=True)
    head_dim: int = eqx.field(static=True)
    rotary: Rotary | None = eqx.field(static=True)
    causal: Bool[AnyArray, ""]

    def __init__(self, architecture: PreNormArchitecture):
        self.branch_square, self.score_std = architecture.branch_square, architecture.score_std
        self.free_dim, self.heads = architecture.free_dim, architecture.heads
        self.kv_heads, self.head_dim = architecture.kv_heads, architecture.head_dim
        # An array, so that one compiled program serves both.
        self.rotary, self.causal = architecture.rotary, np.asarray(architecture.causal)

    def increment(
        self, factor: Float[Array, "tokens width"], samples: int, key: Key
    ) -> Float[Array, "tokens tokens"]:
        """Gamma s by antithetic pairs of scores, which have the same law as their negatives."""
        scores = self._scores(
            self._projected(factor, named_key(key, "queries"), samples),
            self._projected(factor, named_key(key, "keys"), samples),
        )
        averages = self._averages(jnp.concatenate([scores, -scores]), factor)
        return self.branch_square * jnp.einsum("hic,hjc->ij", averages, averages) / (2 * samples)

    def root(self, factor: Float[Array, "tokens width"], key: Key) -> Float[Array, "tokens rank"]:
        """The outputs of all heads side by side, keys and values shared as they are."""
        queries = self._projected(factor, named_key(key, "queries"), self.heads)
        keys = self._projected(factor, named_key(key, "keys"), self.kv_heads)
        shape = (self.kv_heads, factor.shape[1], self.head_dim)
        values = jax.random.normal(named_key(key, "values"), shape, factor.dtype)
        shared = self.heads // self.kv_heads
        keys, values = (jnp.repeat(one, shared, axis=0) for one in (keys, values))
        outputs = self._averages(self._scores(queries, keys), factor) @ values
        side_by_side = jnp.moveaxis(outputs, 0, 1).reshape(len(factor), -1)
        scale = self.branch_square / (self.free_dim * self.heads * self.head_dim)
        return jnp.sqrt(scale) * _narrowed(side_by_side)

    def columns(self, samples: int | None) -> int:
        """Queries, keys and values with the normals that they are made of."""
        return 6 * (self.heads if samples is None else samples) * self.head_dim

    def _projected(self, factor: Array, key: Key, count: int) -> Array:
        """Queries or keys of so many heads [count, tokens, head_dim], turned by their positions."""
        shape = (count, factor.shape[1], self.head_dim)
        projected = factor @ jax.random.normal(key, shape, factor.dtype)
        return projected if self.rotary is None else turn(self.rotary, projected)

    def _scores(self, queries: Array, keys: Array) -> Array:
        scale = self.score_std / math.sqrt(self.head_dim)
        return scale * queries @ jnp.swapaxes(keys, -1, -2)

    def _averages(self, scores: Array, factor: Array) -> Array:
        """P F for every head [heads, tokens, width]."""
        causal = jnp.asarray(self.causal)
        return jax.vmap(lambda one: softmax_rows(one, causal))(scores) @ factor


class FeedForwardTerm(AbstractTerm):
    """A feed-forward block, gated or not."""

    in_variance: float | Float[Array, ""]
    out_std: float | Float[Array, ""]
    free_dim: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    gated: bool = eqx.field(static=True)

    def __init__(self, architecture: PreNormArchitecture):
        block = architecture.feed_forward
        assert block is not None
        self.in_variance = architecture.dim * block.in_std**2
        self.out_std, self.free_dim = block.out_std, architecture.free_dim
        self.width, self.activation, self.gated = block.width, block.activation, block.gated

    def increment(
        self, factor: Float[Array, "tokens width"], samples: int, key: Key
    ) -> Float[Array, "tokens tokens"]:
        """The kernel of the activation: nothing is sampled."""
        cov = self.in_variance * factor @ factor.T
        kernel = activation_kernel(self.activation, cov)
        kernel = kernel * cov if self.gated else kernel
        return float(self.free_dim * self.width) * self.out_std**2 * kernel

    def increment_error(self) -> float:
        """That of the kernel at the largest deviation: of normalised tokens, none exceeds it."""
        return require_kernel(self.activation, float(np.sqrt(self.in_variance)))

    def root(self, factor: Float[Array, "tokens width"], key: Key) -> Float[Array, "tokens rank"]:
        """The hidden units of one random network."""
        inputs = jnp.sqrt(self.in_variance) * factor

        def projected(name: str) -> Array:
            shape = (factor.shape[1], self.width)
            return inputs @ jax.random.normal(named_key(key, name), shape, factor.dtype)

        hidden = self.activation(projected("in"))
        hidden = hidden * projected("up") if self.gated else hidden
        return self.out_std * _narrowed(hidden)

    def columns(self, samples: int | None) -> int:
        """Hidden units with the weights before them; none where nothing is sampled."""
        return 0 if samples is not None else (4 if self.gated else 2) * self.width


def turn(
    rotary: Rotary, projected: Float[Array, "heads tokens head_dim"]
) -> Float[Array, "heads tokens head_dim"]:
    """Queries or keys of the token at position i with pair p of their entries turned by i theta_p.

    The weights are isotropic, so that it does not matter which entries form a pair; as complex
    numbers the pairs are multiplied by exp(i theta_p position).
    """
    pairs = rotary.dims // 2
    angles = rotary.base ** (-jnp.arange(pairs) / pairs)
    phases = jnp.exp(1j * jnp.arange(projected.shape[1])[:, None] * angles)
    turned = jax.lax.complex(projected[..., :pairs], projected[..., pairs : 2 * pairs]) * phases
    return jnp.concatenate([turned.real, turned.imag, projected[..., 2 * pairs :]], axis=-1).astype(
        projected.dtype
    )


def _narrowed(wide: Array) -> Array:
    return narrow(wide, min(wide.shape))
