r"""The shaped Transformer as a network with weights, drawn layer by layer.

One layer is one block: attention with heads, with or without an output projection, and then the
shaped MLP where the block has one. All weights are N(0, 1), every scale is explicit, and the law
of the covariance depends on the input through its covariance alone (rotations of the width are
absorbed by the weights), so that a simulation starts from a covariance.

Reference: Noci et al., arXiv 2306.17759; symbols in `translimit.describe`.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from translimit.attention import shaped_attention
from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Outcome,
    Times,
    as_float,
    following_inputs,
    lower_factor,
    named_key,
    psd_sqrt,
    require_count,
    require_covariance,
    require_kept,
)
from translimit.describe import Block, ShapedMLP
from translimit.models.network_covariances import NetworkCovariances

#: Entries of weights that networks computed together may hold.
_BATCH_ENTRIES = 2**22


class ShapedSizes(eqx.Module):
    """The finite sizes of a shaped Transformer; all static.

    Attributes:
        dim: width n.
        layers: blocks.
        head_dim: n_k, keys and queries of one head.
        value_dim: n_v, values of one head.
        hidden_dim: n_h, hidden width of the MLP; 0 without one.
        standard_temperature: tau0 sqrt(n_k) in place of tau0 sqrt(n n_k).
    """

    dim: int = eqx.field(static=True)
    layers: int = eqx.field(static=True)
    head_dim: int = eqx.field(static=True)
    value_dim: int = eqx.field(static=True)
    hidden_dim: int = eqx.field(static=True)
    standard_temperature: bool = eqx.field(static=True)

    def __init__(
        self,
        block: Block,
        dim: int,
        layers: int,
        head_dim: int | None,
        standard_temperature: bool,
    ):
        if not isinstance(block, Block):
            raise ArgumentTypeError("block", f"got {type(block).__name__}", "pass a Block")
        for name, value in (("dim", dim), ("layers", layers), ("head_dim", head_dim)):
            if value is not None:
                require_count(value, name)
        values = block.value_ratio * dim
        if not _whole(values) or round(values) % block.heads:
            raise ArgumentError(
                "heads",
                f"{block.heads} heads do not divide {values:g} value dimensions",
                "change dim or the number of heads, so that every head has equally many",
            )
        hidden = 0.0 if block.mlp is None else block.mlp.hidden_ratio * dim
        if not _whole(hidden):
            raise ArgumentError(
                "mlp.hidden_ratio",
                f"gives {hidden:g} hidden units at dim = {dim}",
                "change dim or the ratio, so that the number is whole",
            )
        self.dim, self.layers = int(dim), int(layers)
        self.value_dim = round(values) // block.heads
        self.head_dim = max(1, self.dim // block.heads) if head_dim is None else int(head_dim)
        self.hidden_dim = round(hidden)
        self.standard_temperature = bool(standard_temperature)

    def temperature(self, block: Block) -> Any:
        """What divides the products of queries and keys."""
        shaping = 1.0 if self.standard_temperature else math.sqrt(self.dim)
        return block.tau0 * shaping * math.sqrt(self.head_dim)


class ShapedWeights(eqx.Module):
    """The weights of one layer, all N(0, 1).

    Attributes:
        query: W_Q of every head [heads, dim, head_dim].
        key: W_K of every head [heads, dim, head_dim].
        value: W_V of every head [heads, dim, value_dim].
        output: W_O [heads * value_dim, dim], or None without projection.
        hidden: W_1 [dim, hidden_dim], or None without MLP.
        readout: W_2 [hidden_dim, dim], or None without MLP.
    """

    query: Array
    key: Array
    value: Array
    output: Array | None
    hidden: Array | None
    readout: Array | None


class ShapedTransformer(eqx.Module):
    """A shaped Transformer of finite width, with weights.

    Cost: O(dim^2 (tokens + number of weights of a layer / dim^2)) a layer and seed; memory
    O(dim^2): weights are drawn where they are used.

    Args:
        block: the block; gains of an ablation are welcome here.
        dim: width n, at least the number of tokens.
        layers: blocks.
        head_dim: n_k; dim // heads by default.
        standard_temperature: the unshaped temperature tau0 sqrt(n_k).

    Raises:
        ArgumentError: sizes below 1, heads that do not divide the values.
        ArgumentTypeError: sizes that are no integers, a block that is none.

    Examples:
        >>> import jax, numpy as np
        >>> from translimit.limits.shaped import Block
        >>> from translimit.models import ShapedTransformer
        >>> network = ShapedTransformer(block=Block(gamma=0.5, tau0=1.0), dim=32, layers=8)
        >>> network.simulate(np.eye(2), key=jax.random.key(0), seeds=4).cov.shape
        (4, 2, 2, 2)
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
        sizes, heads = self.sizes, self.block.heads
        columns = heads * (2 * sizes.head_dim + 2 * sizes.value_dim) + 2 * sizes.hidden_dim
        return sizes.dim * (columns + 4 * tokens) + heads * tokens**2

    def simulate(
        self,
        initial: ArrayInput,
        *,
        key: PRNGKeyArray,
        seeds: int = 1,
        save_every: int | None = None,
        stop_trace: float | None = None,
    ) -> NetworkCovariances:
        """Covariances of the tokens along depth, network by network.

        Args:
            initial: covariance of the tokens at depth 0 [tokens, tokens]; decides the precision.
            key: randomness; network i has the key of its index.
            seeds: how many networks.
            save_every: keep every so many layers, a divisor of `layers`; by default only the input
                and the output.
            stop_trace: stop a network when its trace first exceeds this, and keep it there.

        Returns:
            Covariances of `seeds` samples at the layers kept, the first the input's.

        Raises:
            ArgumentError: not a covariance, fewer dimensions than tokens, seeds below 1, a
                `save_every` that does not divide the layers.
        """
        cov, run = require_simulation(self, initial, seeds, save_every)
        stop = math.inf if stop_trace is None else float(stop_trace)
        lams = skip_weights(self.block, self.sizes.dim)
        kept = following_inputs(
            _simulate, (cov,), (self.block, self.sizes, run, lams, stop, jax.random.key_data(key))
        )
        return NetworkCovariances(
            ts=kept_times(self.sizes, run),
            cov=kept[:seeds],
            outcome=Outcome.successful,
            samples=int(seeds),
        )

    def gradient_norms(self, initial: ArrayInput, *, key: PRNGKeyArray, seeds: int = 1) -> Any:
        """Size of the gradient at every depth: Frobenius norm of d<G, X_L> / dX_l.

        G is standard normal, drawn for every network, so that the norm at the output is close to
        sqrt(tokens dim).

        Args:
            initial: covariance of the tokens at depth 0 [tokens, tokens]; decides the precision.
            key: randomness; network i has the key of its index.
            seeds: how many networks.

        Returns:
            Norms [seeds, layers + 1].

        Raises:
            ArgumentError: not a covariance, fewer dimensions than tokens, seeds below 1.
        """
        cov, run = require_simulation(self, initial, seeds, None)
        lams = skip_weights(self.block, self.sizes.dim)
        return following_inputs(
            _gradient_norms, (cov,), (self.block, self.sizes, run, lams, jax.random.key_data(key))
        )[:seeds]


class SimulationSizes(eqx.Module):
    """Static sizes of a simulation: how often to save, and how many networks run together."""

    save_every: int = eqx.field(static=True)
    batches: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)


def require_simulation(
    model: Any, initial: ArrayInput, seeds: int, save_every: int | None
) -> tuple[Any, SimulationSizes]:
    """The checked covariance, and how the seeds are batched.

    Raises:
        ArgumentError: not a covariance, fewer dimensions than tokens, a token of norm zero before
            an MLP, seeds below 1, a `save_every` that does not divide the layers.
        MemoryLimitError: the covariances that are kept do not fit into memory.
    """
    sizes = model.sizes
    cov = require_covariance(as_float(initial, "initial"), "initial")
    tokens = cov.shape[0]
    if sizes.dim < tokens:
        raise ArgumentError(
            "dim", f"got {sizes.dim} for {tokens} tokens", f"pass at least {tokens}"
        )
    require_count(seeds, "seeds")
    every: int = sizes.layers if save_every is None else save_every
    if every < 1 or sizes.layers % every:
        raise ArgumentError(
            "save_every",
            f"{every} does not divide {sizes.layers} layers",
            f"pass a divisor of {sizes.layers}",
        )
    each = 2.0 * seeds * tokens**2 * cov.dtype.itemsize  # as computed, and as joined
    what = f"covariances of {seeds} networks"
    require_kept(each, sizes.layers // every + 1, "seeds", what)
    largest = max(1, min(1024, _BATCH_ENTRIES // model.entries_of_a_layer(tokens)))
    batches = math.ceil(seeds / largest)
    return cov, SimulationSizes(int(every), batches, math.ceil(seeds / batches))


def kept_times(sizes: ShapedSizes, run: SimulationSizes) -> Times:
    """The layers kept, over the width [times]."""
    return np.arange(0, sizes.layers + 1, run.save_every) / sizes.dim


def draw_weights(key: PRNGKeyArray, block: Block, sizes: ShapedSizes, dtype: Any) -> ShapedWeights:
    """Fresh weights of one layer."""

    def normal(name: str, *shape: int) -> Array:
        return jax.random.normal(named_key(key, name), shape, dtype)

    heads, dim, values = block.heads, sizes.dim, sizes.value_dim
    has_mlp = block.mlp is not None
    return ShapedWeights(
        query=normal("query", heads, dim, sizes.head_dim),
        key=normal("key", heads, dim, sizes.head_dim),
        value=normal("value", heads, dim, values),
        output=normal("output", heads * values, dim) if block.projection else None,
        hidden=normal("hidden", dim, sizes.hidden_dim) if has_mlp else None,
        readout=normal("readout", sizes.hidden_dim, dim) if has_mlp else None,
    )


def apply_block(
    block: Block,
    sizes: ShapedSizes,
    lams: tuple[Any, Any],
    weights: ShapedWeights,
    tokens: Float[Array, "tokens dim"],
) -> Float[Array, "tokens dim"]:
    """One layer: attention, then the MLP where there is one."""
    width = math.sqrt(sizes.dim)
    queries = tokens @ weights.query / width  # [heads, tokens, head_dim]
    keys = tokens @ weights.key / width
    scores = queries @ keys.swapaxes(-1, -2) / sizes.temperature(block)
    matrix = shaped_attention(scores, block.shaped_gains, block.causal)
    heads = matrix @ (tokens @ weights.value / width)  # [heads, tokens, value_dim]
    branch = heads.swapaxes(0, 1).reshape(tokens.shape[0], -1)
    if weights.output is not None:
        branch = branch @ weights.output / math.sqrt(weights.output.shape[0])
    tokens = lams[0] * tokens + block.gamma * branch
    mlp = block.mlp
    if mlp is None or weights.hidden is None or weights.readout is None:
        return tokens
    hidden = shaped_relu(mlp, sizes.dim, tokens @ weights.hidden / width)
    scale = mlp.gamma * jnp.sqrt(relu_normaliser(mlp, sizes.dim) / sizes.hidden_dim)
    return lams[1] * tokens + scale * (hidden @ weights.readout)


def relu_slopes(mlp: ShapedMLP, dim: int) -> tuple[Any, Any]:
    """The slopes s_+ and s_- at this width."""
    return 1 + mlp.c_plus / math.sqrt(dim), 1 + mlp.c_minus / math.sqrt(dim)


def relu_normaliser(mlp: ShapedMLP, dim: int) -> Any:
    """C = 2 / (s_+^2 + s_-^2), or 1 without normalisation."""
    plus, minus = relu_slopes(mlp, dim)
    return 2 / (plus**2 + minus**2) if mlp.normalised else jnp.asarray(1.0)


def shaped_relu(mlp: ShapedMLP, dim: int, x: Array) -> Array:
    """phi_s(x) = s_+ max(x, 0) + s_- min(x, 0)."""
    plus, minus = relu_slopes(mlp, dim)
    return plus * jnp.maximum(x, 0) + minus * jnp.minimum(x, 0)


def tokens_of(
    cov: Float[Array, "tokens tokens"], block: Block, sizes: ShapedSizes
) -> Float[Array, "tokens dim"]:
    """Tokens with this covariance: a factor in the first columns, zeros behind.

    Concatenated heads own a slice of the width each, and every slice that is wide enough gets the
    same covariance; all other blocks do not see where in the width the tokens lie.
    """
    tokens = cov.shape[0]
    factor = lower_factor(psd_sqrt(cov))
    slices = 1 if block.projection or sizes.dim // block.heads < tokens else block.heads
    width = sizes.dim // slices
    padded = jnp.zeros((tokens, width), cov.dtype).at[:, :tokens].set(factor)
    return jnp.tile(padded * math.sqrt(width), slices)


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-9 * max(1.0, abs(value))


def skip_weights(block: Block, dim: int) -> tuple[float, float]:
    """Weights of the skip connections around attention and around the MLP at this width."""
    return block.lam_at(dim), 0.0 if block.mlp is None else block.mlp.lam_at(dim)


def covariance(tokens: Float[Array, "tokens dim"]) -> Float[Array, "tokens tokens"]:
    """V = X X^T / n."""
    return tokens @ tokens.T / tokens.shape[1]


@eqx.filter_jit
def _simulate(data: Any, parameters: Any) -> Float[Array, "seeds saves tokens tokens"]:
    (cov,) = data
    block, sizes, run, lams, stop, key_data = parameters
    key = jax.random.wrap_key_data(key_data)
    start = tokens_of(cov, block, sizes)

    def network(index: Array) -> Array:
        own = jax.random.fold_in(key, index)

        def layer(tokens: Array, number: Array) -> tuple[Array, None]:
            weights = draw_weights(jax.random.fold_in(own, number), block, sizes, cov.dtype)
            stopped = jnp.sum(tokens**2) / sizes.dim > stop
            return jnp.where(
                stopped, tokens, apply_block(block, sizes, lams, weights, tokens)
            ), None

        def to_next(tokens: Array, numbers: Array) -> tuple[Array, Array]:
            tokens, _ = jax.lax.scan(layer, tokens, numbers)
            return tokens, covariance(tokens)

        numbers = jnp.arange(sizes.layers).reshape(-1, run.save_every)
        _, kept = jax.lax.scan(to_next, start, numbers)
        return jnp.concatenate([covariance(start)[None], kept])

    return over_seeds(network, run)


@eqx.filter_jit
def _gradient_norms(data: Any, parameters: Any) -> Float[Array, "seeds depths"]:
    (cov,) = data
    block, sizes, run, lams, key_data = parameters
    key = jax.random.wrap_key_data(key_data)
    start = tokens_of(cov, block, sizes)

    def network(index: Array) -> Array:
        own = jax.random.fold_in(key, index)
        direction = jax.random.normal(named_key(own, "direction"), start.shape, start.dtype)

        def output(shifts: Array) -> Array:
            # Shifting the tokens by zero at every depth asks for the gradient there.
            def layer(tokens: Array, here: Any) -> tuple[Array, None]:
                number, shift = here
                weights = draw_weights(jax.random.fold_in(own, number), block, sizes, cov.dtype)
                return apply_block(block, sizes, lams, weights, tokens) + shift, None

            numbers = jnp.arange(sizes.layers)
            tokens, _ = jax.lax.scan(layer, start + shifts[0], (numbers, shifts[1:]))
            return jnp.sum(direction * tokens)

        gradients = jax.grad(output)(jnp.zeros((sizes.layers + 1, *start.shape), start.dtype))
        return jnp.sqrt(jnp.sum(gradients**2, axis=(1, 2)))

    return over_seeds(network, run)


def over_seeds(network: Any, run: SimulationSizes) -> Array:
    """The function of a seed's index for all seeds, batch by batch."""
    indices = jnp.arange(run.batches * run.batch).reshape(run.batches, run.batch)
    results = jax.lax.map(jax.vmap(network), indices)
    return results.reshape(-1, *results.shape[2:])
