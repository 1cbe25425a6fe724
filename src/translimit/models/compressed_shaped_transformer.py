r"""The covariance of a finite shaped Transformer as the Markov chain that it is, without weights.

Given the covariance V = L L^T of one layer, the law of the next one depends on nothing else, and
is drawn exactly with m x m matrices at any width n:

- scores Y = L G_q G_k^T L^T, for n_k >= m with a Bartlett factor in place of G_q;
- a branch of n columns that are N(0, B B^T) given all else: (lam X + gamma branch) has covariance
  F_1 F_1^T + F_2 F_2^T, F_1 = lam L + gamma B Z / sqrt(n), F_2 = gamma B Bart(n - m) / sqrt(n).

Concatenated heads mix the columns of their own slice only: the state is then one factor a slice,
whose mean is the covariance, and every slice is mixed by itself with n_v columns. (With the
covariance alone the chain would not be Markov.)

Reference: documentation, "The shaped Transformer".
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.attention import shaped_attention
from translimit.core import (
    ArgumentError,
    ArrayInput,
    Key,
    Module,
    Outcome,
    in_float64,
    lower_factor,
    normals,
    semidefinite_cholesky,
    wishart_factor,
)
from translimit.describe import Block, ShapedMLP
from translimit.models.network_covariances import NetworkCovariances
from translimit.models.shaped_layer import (
    Scale,
    ShapedSizes,
    relu_normaliser,
    shaped_relu,
    skip_weights,
)
from translimit.models.shaped_transformer import (
    SimulationSizes,
    kept_times,
    over_seeds,
    require_simulation,
)


class CompressedShapedTransformer(Module):
    """The exact covariance chain of a shaped Transformer of finite width, in float64.

    Normal numbers are those of `core.normals`, good to a relative 1e-6.

    Cost: O(heads tokens^3) a layer and seed, whatever the width (with an MLP O(tokens^2
    hidden_dim)).

    Args:
        block: the block; gains of an ablation are welcome here.
        dim: width n, at least the number of tokens.
        layers: blocks.
        head_dim: n_k; dim // heads by default.
        standard_temperature: the unshaped temperature tau0 sqrt(n_k).

    Raises:
        ArgumentError: sizes below 1, heads that do not divide the values.
        ArgumentTypeError: sizes that are no integers, a block that is none.
    """

    block: Block
    sizes: ShapedSizes

    def __init__(
        self,
        *,
        block: Block,
        dim: int,
        layers: int,
        head_dim: int | None = None,
        standard_temperature: bool = False,
    ):
        self.block = block
        self.sizes = ShapedSizes(block, dim, layers, head_dim, standard_temperature)

    def entries_of_a_layer(self, tokens: int) -> int:
        """How many numbers a layer and its tokens hold."""
        few = min(self.sizes.head_dim, tokens) + min(self.sizes.value_dim, tokens) + 6 * tokens
        return tokens * (self.block.heads * few + 3 * self.sizes.hidden_dim)

    def simulate(
        self,
        initial: ArrayInput,
        *,
        key: Key,
        seeds: int = 1,
        save_every: int | None = None,
        stop_trace: float | None = None,
    ) -> NetworkCovariances:
        """Covariances of the tokens along depth, in law those of `ShapedTransformer`.

        Args:
            initial: covariance of the tokens at depth 0 [tokens, tokens].
            key: randomness; chain i has the key of its index.
            seeds: how many chains.
            save_every: keep every so many layers, a divisor of `layers`; by default only the input
                and the output.
            stop_trace: stop a chain when its trace first exceeds this, and keep it there.

        Returns:
            Covariances of `seeds` samples at the layers kept in float64, the first the input's.

        Raises:
            ArgumentError: not a covariance, fewer dimensions (for concatenated heads: value
                dimensions) than tokens, seeds below 1, a `save_every` that does not divide the
                layers.
        """
        cov, run = require_simulation(self, initial, seeds, save_every)
        if self._slices() > 1 and self.sizes.value_dim < cov.shape[0]:
            raise ArgumentError(
                "heads",
                f"each has value dimension {self.sizes.value_dim} for {cov.shape[0]} tokens, "
                "without projection",
                "pass fewer heads or more dimensions, or the network itself (ShapedTransformer)",
            )
        lams = skip_weights(self.block, self.sizes.dim)
        stop = math.inf if stop_trace is None else float(stop_trace)
        data = jax.random.key_data(key)
        kept = in_float64(
            _simulate, cov, self.block, self.sizes, run, lams, stop, data, self._slices()
        )
        return NetworkCovariances(
            ts=kept_times(self.sizes, run),
            cov=kept[:seeds],
            outcome=Outcome.successful,
            samples=int(seeds),
        )

    def _slices(self) -> int:
        """How many parts of the width have a covariance of their own."""
        return 1 if self.block.projection else self.block.heads


@eqx.filter_jit
def _simulate(
    cov: Array,
    block: Block,
    sizes: ShapedSizes,
    run: SimulationSizes,
    lams: tuple[Scale, Scale],
    stop: Array,
    key_data: Array,
    slices: int,
) -> Float[Array, "seeds saves tokens tokens"]:
    key = jax.random.wrap_key_data(key_data)
    start = jnp.broadcast_to(semidefinite_cholesky(cov), (slices, *cov.shape))

    def chain(index: Array) -> Array:
        own = jax.random.fold_in(key, index)

        def layer(state: Array, number: Array) -> tuple[Array, None]:
            stopped = jnp.sum(state**2) / slices > stop
            moved = _layer(block, sizes, lams, state, jax.random.fold_in(own, number))
            return jnp.where(stopped, state, moved), None

        def to_next(state: Array, numbers: Array) -> tuple[Array, Array]:
            state, _ = jax.lax.scan(layer, state, numbers)
            return state, _covariance(state)

        numbers = jnp.arange(sizes.layers).reshape(-1, run.save_every)
        _, kept = jax.lax.scan(to_next, start, numbers)
        return jnp.concatenate([_covariance(start)[None], kept])

    return over_seeds(chain, run)


def _covariance(state: Float[Array, "slices tokens tokens"]) -> Array:
    return jnp.mean(state @ state.swapaxes(-1, -2), axis=0)


def _factor(state: Float[Array, "slices tokens tokens"]) -> Float[Array, "tokens tokens"]:
    """One factor of the covariance of all slices."""
    if state.shape[0] == 1:
        return state[0]
    return _side_by_side(state / math.sqrt(state.shape[0]))


def _side_by_side(factors: Float[Array, "parts tokens columns"]) -> Float[Array, "tokens tokens"]:
    """A square factor of the sum of F F^T over the parts."""
    return lower_factor(factors.swapaxes(0, 1).reshape(factors.shape[1], -1))


def _layer(
    block: Block, sizes: ShapedSizes, lams: tuple[Scale, Scale], state: Array, key: Array
) -> Array:
    slices, tokens = state.shape[:2]
    factor = _factor(state)
    of_heads, of_attention, of_hidden, of_mlp = jax.random.split(key, 4)

    def head(own: Array) -> tuple[Array, Array]:
        of_queries, of_keys, of_values = jax.random.split(own, 3)
        query = _normals(of_queries, sizes.head_dim, tokens, factor.dtype)
        normal = normals(of_keys, (query.shape[1], tokens)).astype(factor.dtype)
        scores = factor @ (query @ normal) @ factor.T / sizes.temperature(block)
        branch = shaped_attention(scores, block.shaped_gains, block.causal) @ factor
        return branch, branch @ _normals(of_values, sizes.value_dim, tokens, factor.dtype)

    branches, values = jax.vmap(head)(jax.random.split(of_heads, block.heads))
    if block.projection:
        mixed = _side_by_side(values / math.sqrt(block.heads * sizes.value_dim))
        branches = mixed[None]
    mix = jax.vmap(_mix, in_axes=(0, 0, None, None, None, 0))
    width = sizes.dim // slices
    state = mix(
        state, branches, lams[0], block.gamma, width, jax.random.split(of_attention, slices)
    )
    if block.mlp is None:
        return state
    root = _mlp_factor(block.mlp, sizes, _factor(state), of_hidden)
    roots = jnp.broadcast_to(root, state.shape)
    return mix(state, roots, lams[1], block.mlp.gamma, width, jax.random.split(of_mlp, slices))


def _mix(factor: Array, branch: Array, lam: Scale, gamma: Scale, width: int, key: Array) -> Array:
    """A factor of the covariance of lam X + gamma (branch of `width` independent columns)."""
    tokens = factor.shape[0]
    of_along, of_across = jax.random.split(key)
    along = normals(of_along, factor.shape).astype(factor.dtype)
    first = lam * factor + gamma * branch @ along / math.sqrt(width)
    if width == tokens:
        return lower_factor(first)
    rest = _normals(of_across, width - tokens, tokens, factor.dtype)
    return lower_factor(jnp.concatenate([first, gamma * branch @ rest / math.sqrt(width)], axis=1))


def _normals(key: Array, columns: int, tokens: int, dtype: np.dtype) -> Array:
    """A factor of the Wishart matrix of `columns` standard normal columns."""
    if columns < tokens:
        return normals(key, (tokens, columns)).astype(dtype)
    return wishart_factor(key, float(columns), tokens, dtype)


def _mlp_factor(mlp: ShapedMLP, sizes: ShapedSizes, factor: Array, key: Array) -> Array:
    """A factor of (c / n_h) phi_s(L G) phi_s(L G)^T."""
    normal = normals(key, (factor.shape[0], sizes.hidden_dim)).astype(factor.dtype)
    hidden = shaped_relu(mlp, sizes.dim, factor @ normal)
    hidden = hidden * jnp.sqrt(relu_normaliser(mlp, sizes.dim) / sizes.hidden_dim)
    if sizes.hidden_dim < factor.shape[0]:
        hidden = jnp.pad(hidden, ((0, 0), (0, factor.shape[0] - sizes.hidden_dim)))
    return lower_factor(hidden)
