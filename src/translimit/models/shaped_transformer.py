r"""The shaped Transformer as a network with weights, drawn layer by layer.

Layers are those of `shaped_layer`. The law of the covariance depends on the input through its
covariance alone (rotations of the width are absorbed by the weights), so that a simulation starts
from a covariance.

Reference: Noci et al., arXiv 2306.17759; symbols in `translimit.describe`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from translimit.core import (
    AnyArray,
    ArgumentError,
    ArrayInput,
    Key,
    Module,
    Outcome,
    Times,
    as_float,
    following_inputs,
    named_key,
    require_count,
    require_covariance,
    require_kept,
)
from translimit.describe import Block
from translimit.models.network_covariances import NetworkCovariances
from translimit.models.shaped_layer import (
    ShapedSizes,
    apply_block,
    covariance,
    draw_weights,
    skip_weights,
    tokens_of,
)

#: Entries of weights that networks computed together may hold.
_BATCH_ENTRIES = 2**22


class ShapedTransformer(Module):
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
        key: Key,
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

    def gradient_norms(
        self, initial: ArrayInput, *, key: Key, seeds: int = 1
    ) -> Float[AnyArray, "seeds depths"]:
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


@runtime_checkable
class ShapedNetwork(Protocol):
    """What a simulation asks of a shaped network: its sizes, and its entries."""

    @property
    def sizes(self) -> ShapedSizes:
        """The finite sizes."""
        ...

    def entries_of_a_layer(self, tokens: int) -> int:
        """How many numbers a layer and its tokens hold."""
        ...


class SimulationSizes(eqx.Module):
    """Static sizes of a simulation: how often to save, and how many networks run together."""

    save_every: int = eqx.field(static=True)
    batches: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)


def require_simulation(
    model: ShapedNetwork, initial: ArrayInput, seeds: int, save_every: int | None
) -> tuple[Float[AnyArray, "tokens tokens"], SimulationSizes]:
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


@eqx.filter_jit
def _simulate(
    data: tuple[Float[Array, "tokens tokens"]], parameters: tuple[PyTree, ...]
) -> Float[Array, "seeds saves tokens tokens"]:
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
def _gradient_norms(
    data: tuple[Float[Array, "tokens tokens"]], parameters: tuple[PyTree, ...]
) -> Float[Array, "seeds depths"]:
    (cov,) = data
    block, sizes, run, lams, key_data = parameters
    key = jax.random.wrap_key_data(key_data)
    start = tokens_of(cov, block, sizes)

    def network(index: Array) -> Array:
        own = jax.random.fold_in(key, index)
        direction = jax.random.normal(named_key(own, "direction"), start.shape, start.dtype)

        def output(shifts: Array) -> Array:
            # Shifting the tokens by zero at every depth asks for the gradient there.
            def layer(tokens: Array, here: tuple[Array, Array]) -> tuple[Array, None]:
                number, shift = here
                weights = draw_weights(jax.random.fold_in(own, number), block, sizes, cov.dtype)
                return apply_block(block, sizes, lams, weights, tokens) + shift, None

            numbers = jnp.arange(sizes.layers)
            tokens, _ = jax.lax.scan(layer, start + shifts[0], (numbers, shifts[1:]))
            return jnp.sum(direction * tokens)

        gradients = jax.grad(output)(jnp.zeros((sizes.layers + 1, *start.shape), start.dtype))
        return jnp.sqrt(jnp.sum(gradients**2, axis=(1, 2)))

    return over_seeds(network, run)


def over_seeds(
    network: Callable[[Array], Array], run: SimulationSizes
) -> Float[Array, "seeds ..."]:
    """The function of a seed's index for all seeds, batch by batch."""
    indices = jnp.arange(run.batches * run.batch).reshape(run.batches, run.batch)
    results = jax.lax.map(jax.vmap(network), indices)
    return results.reshape(-1, *results.shape[2:])
