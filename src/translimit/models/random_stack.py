r"""A stack of blocks with random weights, all of them drawn: a network before training.

The finite system beside `limits.signal`, and independent of it: tokens pass every block of a
`describe.Stack` one by one,

    x <- post(a x + b out(sum_r branch_r(in(x)))),

and gradients come back by automatic differentiation. Weights are drawn from keys, layer by layer,
and drawn again on the way back, so that one layer of one network is held at a time, whatever the
depth and the number of replicas. Equal layers share one compiled program.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import functools
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Key,
    Module,
    as_float,
    as_float64,
    brief,
    following_inputs,
    named_key,
    require_count,
    require_covariance,
    require_free,
)
from translimit.describe import Embedding, Stack
from translimit.models.random_layers import backward, forward
from translimit.models.random_readout import LanguageReadout, language_loss
from translimit.models.random_tokens import embedded, gaussian, root
from translimit.models.random_weights import GROUPS, LayerWeights, draw, scaled
from translimit.models.stack_paths import StackPaths


class RandomStack(Module):
    """Random networks of a stack.

    Args:
        stack: its blocks.

    Raises:
        ArgumentTypeError: no description of a stack.

    Examples:
        >>> import jax
        >>> from translimit import describe
        >>> attention = describe.Attention(4, 16, 0.1, 0.1, 0.1, 0.1)
        >>> stack = RandomStack(describe.pre_norm_stack(64, 3, attention))
        >>> tokens = stack.draw_tokens(np.eye(5), key=jax.random.key(0))
        >>> paths = stack.simulate(
        ...     tokens, replicas=2, key=jax.random.key(1), top_gradient="identity"
        ... )
        >>> paths.covs.shape, paths.grad_grams.shape
        ((2, 4, 5, 5), (2, 4, 5, 5))
    """

    stack: Stack = eqx.field(static=True)

    def __init__(self, stack: Stack):
        if not isinstance(stack, Stack):
            raise ArgumentTypeError("stack", f"got {brief(stack)}", "pass a describe.Stack")
        self.stack = stack

    def draw_tokens(
        self,
        ids_or_cov: ArrayInput,
        *,
        replicas: int | None = None,
        key: Key,
        dtype: DTypeLike = np.float32,
    ) -> Float[np.ndarray, "*replicas n dim"]:
        """Tokens as they enter the first layer, from ids or with a given covariance.

        From ids: rows of the table (that of the padding id is zero), positions and the row that all
        tokens share, and the norm of their sum. With a covariance: Gaussian tokens whose C, as the
        norms of the stack see it, has this mean; where the embedding ends in a norm, every token
        has its mean square exactly.

        Args:
            ids_or_cov: whole numbers [n], or C [n, n].
            replicas: how many clouds, each with a table of its own; one without a leading axis by
                default.
            key: of the draw.
            dtype: of the tokens, which `simulate` follows; they are drawn in single precision.

        Raises:
            ArgumentError: ids for a stack without a table of embeddings, a matrix that is no
                covariance.
        """
        keys = (
            key[None] if replicas is None else _folded(key, require_count(replicas, "replicas", 1))
        )
        given, dtype, of = np.asarray(ids_or_cov), np.dtype(dtype), self.stack.embedding
        dim = self.stack.dim
        with jax.enable_x64(dtype == np.float64):
            if given.ndim == 1:
                embedding, ids = self._ids(given)
                drawn = np.asarray(embedded(embedding, dim, dtype, jnp.asarray(ids), keys))
            else:
                cov = require_covariance(as_float64(ids_or_cov, "ids_or_cov"), "ids_or_cov")
                norm = None if of is None else of.norm
                # Norms that remove the mean leave the share (D - 1) / D of the rest.
                share = 1.0 if norm is not None else dim / self.stack.free_dim
                factor = jnp.asarray(share**0.5 * root(cov))
                drawn = np.asarray(gaussian(norm, dim, dtype, factor, keys))
        return drawn[0] if replicas is None else drawn

    def draw_weights(self, layer: int, *, replica: int = 0, key: Key) -> LayerWeights:
        """The matrices of one layer of one replica of `simulate`, by sub-block, branch and name.

        Inputs come first: a branch reads its tokens as x @ matrix.

        Args:
            layer: its number, from 0.
            replica: its number, from 0.
            key: what `simulate` was given.

        Raises:
            ArgumentError: a layer that is not there.
        """
        require_count(replica, "replica", 0)
        if require_count(layer, "layer", 0) >= len(self.stack.layers):
            raise ArgumentError("layer", f"got {layer}", f"pass 0 to {len(self.stack.layers) - 1}")
        blocks, dim = self.stack.layers[layer], self.stack.dim
        network = jax.random.fold_in(key, replica)
        return scaled(blocks, dim, draw(blocks, dim, network, layer, jnp.float32))

    def simulate(
        self,
        tokens: ArrayInput,
        *,
        replicas: int = 1,
        key: Key,
        top_gradient: ArrayInput | Literal["identity", "squares"] | None = None,
        readout: LanguageReadout | None = None,
    ) -> StackPaths:
        """Run tokens through networks, and a gradient back through them.

        The gradient is that of sum_i <g_i, x_i> over the tokens that leave the last layer, with
        Gaussian g of Gram matrix B in the mean; or that of the loss of a language model.

        Args:
            tokens: [n, dim], the same for every replica, or one cloud for each [replicas, n, dim];
                decides the precision.
            replicas: independent draws of all weights. They do not depend on their number.
            key: of the weights.
            top_gradient: B at the top [n, n], "identity" for independent gradients of mean square
                one, or "squares" for the gradient of half the sum of squares, which is the tokens
                themselves and depends on the weights below; nothing goes back by default.
            readout: a language model's; its loss is told, and its gradient goes back.

        Raises:
            ArgumentError: shapes that do not match, a gradient beside a readout, a tied readout of
                a stack without a table.
            MemoryLimitError: what is kept of all layers does not fit into memory.
        """
        require_count(replicas, "replicas", 1)
        x = as_float(tokens, "tokens")
        dim, layers = self.stack.dim, len(self.stack.layers)
        shared = x.ndim == 2
        x = x[None].repeat(replicas, axis=0) if shared else x
        if x.ndim != 3 or x.shape[0] != replicas or x.shape[2] != dim:
            raise ArgumentError(
                "tokens",
                f"has shape {np.shape(tokens)}",
                f"pass [n, {dim}], or [{replicas}, n, {dim}]",
            )
        n = x.shape[1]
        top = self._top(top_gradient, readout, n)
        back = top is not None or readout is not None
        each = (1 + back) * n**2 + back * n * dim
        require_free(
            1.1 * replicas * (layers + 1) * each * x.dtype.itemsize,
            "replicas" if replicas > 1 else "tokens",
            f"pairs of {n} tokens at {layers + 1} depths of {replicas} networks",
            "take fewer replicas or tokens",
        )
        keys = _folded(key, replicas)
        readers = jax.vmap(lambda own: named_key(own, "readout"))(keys)
        if readout is not None and readout.tied is not None:
            same = jnp.broadcast_to(readout.tied, (replicas,))
            readers = same if shared else _folded(readout.tied, replicas)
        own = isinstance(top_gradient, str) and top_gradient == "squares"
        run = functools.partial(_run, self.stack, readout, own)
        found = following_inputs(run, x, (keys, readers, top))
        return StackPaths(
            ts=np.arange(layers + 1.0),
            covs=np.asarray(found["covs"]),
            attention_entropies=np.asarray(found["attention_entropies"]),
            attention_entropy_stds=np.asarray(found["attention_entropy_stds"]),
            grad_grams=np.asarray(found["grad_grams"]) if back else None,
            weight_squares=np.asarray(found["weight_squares"]) if back else None,
            losses=None if readout is None else np.asarray(found["losses"]),
            groups=GROUPS,
            samples=replicas,
        )

    def _ids(self, given: np.ndarray) -> tuple[Embedding, np.ndarray]:
        of = self.stack.embedding
        if not isinstance(of, Embedding):
            raise ArgumentError(
                "ids_or_cov",
                "is a row of ids, and the stack has no table of embeddings",
                "pass the covariance of the tokens [n, n]",
            )
        if given.size == 0 or not np.issubdtype(given.dtype, np.integer) or given.min() < 0:
            raise ArgumentError(
                "ids_or_cov",
                f"has shape {given.shape}, {given.dtype}, or a negative id",
                "pass ids of tokens [n], or their covariance [n, n]",
            )
        return of, given

    def _top(
        self,
        given: ArrayInput | Literal["identity", "squares"] | None,
        readout: LanguageReadout | None,
        n: int,
    ) -> Float[np.ndarray, "n n"] | None:
        """A root of B at the top."""
        if readout is not None:
            if given is not None:
                raise ArgumentError("top_gradient", "is given with a readout", "pass one of them")
            if readout.tied is not None and not isinstance(self.stack.embedding, Embedding):
                raise ArgumentError(
                    "readout", "is tied, and the stack has no table of embeddings", "pass its std"
                )
            if len(readout.targets) != n:
                raise ArgumentError(
                    "readout", f"has {len(readout.targets)} targets for {n} tokens", f"pass {n}"
                )
        if given is None:
            return None
        if isinstance(given, str):
            if given not in ("identity", "squares"):
                raise ArgumentError(
                    "top_gradient",
                    f"got {given!r}",
                    'pass "identity", "squares" or a matrix [n, n]',
                )
            return np.eye(n)
        matrix = require_covariance(as_float64(given, "top_gradient"), "top_gradient")
        if len(matrix) != n:
            raise ArgumentError(
                "top_gradient", f"has shape {matrix.shape} for {n} tokens", f"pass [{n}, {n}]"
            )
        return root(matrix)


def _run(
    stack: Stack,
    readout: LanguageReadout | None,
    own: bool,
    x: Float[Array, "replicas n dim"],
    parameters: tuple[Array, Array, Array | None],
) -> dict[str, Array]:
    """All layers forward, then all backward."""
    keys, readers, top = parameters
    back = top is not None or readout is not None
    centred = stack.centred
    levels, covs, entropies = [x], [_covs(x, centred)], []
    for index, layer in enumerate(stack.layers):
        x, entropy = forward(layer, stack.causal, x, keys, jnp.asarray(index))
        covs.append(_covs(x, centred))
        entropies.append(entropy)
        if back:
            levels.append(x)
    told = {"covs": jnp.stack(covs, axis=1)}
    mean, std = jnp.moveaxis(jnp.stack(entropies), (0, 2), (2, 0))
    told |= {"attention_entropies": mean, "attention_entropy_stds": std}
    if not back:
        return told
    if readout is None:
        assert top is not None
        g = x if own else _drawn_top(top, x, keys)
    else:
        told["losses"], g = _loss(readout, stack, x, readers)
    grams, weights = [_grams(g)], []
    for index in reversed(range(len(stack.layers))):
        one = stack.layers[index]
        g, square = backward(one, stack.causal, levels[index], g, keys, jnp.asarray(index))
        grams.insert(0, _grams(g))
        weights.insert(0, square)
    told["grad_grams"] = jnp.stack(grams, axis=1)
    told["weight_squares"] = jnp.stack(weights, axis=1)
    return told


@eqx.filter_jit
def _loss(
    readout: LanguageReadout, stack: Stack, x: Array, keys: Array
) -> tuple[Float[Array, " replicas"], Array]:
    """The loss, and its gradient with respect to the tokens that leave the last layer."""

    def one(argument: tuple[Array, Key]) -> tuple[Array, Array]:
        x, key = argument
        return jax.value_and_grad(lambda x: language_loss(readout, stack, x, key))(x)

    return jax.lax.map(one, (x, keys))


@jax.jit
def _drawn_top(root: Float[Array, "n n"], x: Array, keys: Array) -> Array:
    """Gaussian gradients with <g_i, g_j> = B in the mean."""

    def one(key: Key) -> Array:
        return jax.random.normal(named_key(key, "top"), x.shape[1:], jnp.float32).astype(x.dtype)

    return root @ jax.vmap(one)(keys) / x.shape[2] ** 0.5


@functools.partial(jax.jit, static_argnums=1)
def _covs(x: Float[Array, "replicas n dim"], centred: bool) -> Float[Array, "replicas n n"]:
    x = x - jnp.mean(x, axis=2, keepdims=True) if centred else x
    return _grams(x) / x.shape[2]


@jax.jit
def _grams(x: Float[Array, "replicas n dim"]) -> Float[Array, "replicas n n"]:
    return jnp.einsum("rid,rjd->rij", x, x)


def _folded(key: Key, count: int) -> Array:
    return jax.vmap(lambda r: jax.random.fold_in(key, r))(jnp.arange(count))
