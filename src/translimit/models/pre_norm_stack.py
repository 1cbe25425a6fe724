r"""A pre-LN transformer stack with random weights, all of them drawn: a network before training.

    x <- x + W_O concat_h(P_h LN(x) W_V),   x <- x + W_2 phi(W_1 LN(x))

or, with parallel blocks, both increments from the same x. Queries and keys may turn with their
positions (rotary), and query heads may share key/value heads. Weights are drawn layer by layer, so
that memory stays O(dim^2), whatever the depth; replicas run one after the other.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import (
    AbstractSimulation,
    AnyArray,
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Key,
    Times,
    as_float,
    brief,
    following_inputs,
    named_key,
    require_count,
    require_free,
)
from translimit.describe import FeedForwardBlock, Norm, PreNormArchitecture, Rotary
from translimit.observe import mean_overlap_of

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


@final
class PreNormPaths(AbstractSimulation):
    """Replicas of a stack after every layer, and before the first.

    Attributes:
        ts: the layers, 0 to L [times].
        grams: inner products of the tokens as the norm sees them (a layer norm removes the mean)
            [samples, times, tokens, tokens].
        samples: replicas.
    """

    ts: Times
    grams: Float[AnyArray, "samples times tokens tokens"]

    @property
    def overlaps(self) -> Float[np.ndarray, "samples times tokens tokens"]:
        """R_ij, the cosines of the tokens [samples, times, tokens, tokens]."""
        norms = np.sqrt(np.diagonal(np.asarray(self.grams), axis1=-2, axis2=-1))
        return np.asarray(self.grams) / (norms[..., :, None] * norms[..., None, :])

    @property
    def mean_overlaps(self) -> Float[np.ndarray, "samples times"]:
        """The mean of R over pairs of different tokens [samples, times]; NaN for one token."""
        return np.asarray(mean_overlap_of(self.overlaps))

    @property
    def overlap_all(self) -> Float[np.ndarray, "samples times"]:
        """The mean of R over all pairs, the diagonal included [samples, times]."""
        return self.overlaps.mean(axis=(-2, -1))

    def _dataset(self) -> xarray.Dataset:
        """Gram matrices and mean overlaps by replica and layer."""
        import xarray

        grams = {"long_name": "inner product of tokens", "units": "1"}
        overlap = {"long_name": "mean overlap of two tokens", "units": "1"}
        axes = ("sample", "time", "token", "token2")
        return xarray.Dataset(
            {
                "grams": (axes, np.asarray(self.grams), grams),
                "mean_overlap": (("sample", "time"), self.mean_overlaps, overlap),
            },
            coords={"time": ("time", self.ts, {"long_name": "layer", "units": "layers"})},
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mean overlap of every replica, and the mean over replicas with its standard error."""
        from translimit.figures import plot_fan

        return plot_fan(self.to_xarray()["mean_overlap"], ax)


class PreNormStack(eqx.Module):
    """A random network of an architecture.

    Args:
        architecture: sizes, block types and standard deviations.

    Raises:
        ArgumentTypeError: no description of an architecture.

    Examples:
        >>> import jax
        >>> from translimit.describe import read_architecture
        >>> small = {"kind": "pre-norm", "layers": 3, "dim": 32, "heads": 4, "init_std": 0.2}
        >>> stack = PreNormStack(read_architecture(small))
        >>> tokens = stack.draw_tokens(5, key=jax.random.key(0))
        >>> stack.simulate(tokens, replicas=2, key=jax.random.key(1)).grams.shape
        (2, 4, 5, 5)
    """

    architecture: PreNormArchitecture = eqx.field(static=True)

    def __init__(self, architecture: PreNormArchitecture):
        if not isinstance(architecture, PreNormArchitecture):
            raise ArgumentTypeError(
                "architecture", f"got {brief(architecture)}", "pass what read_architecture returns"
            )
        self.architecture = architecture

    def draw_tokens(
        self, tokens: int, *, replicas: int | None = None, key: Key
    ) -> Float[Array, "*replicas tokens dim"]:
        """Independent Gaussian tokens of the architecture's standard deviations.

        Args:
            tokens: how many, at least 1.
            replicas: how many clouds; one without a leading axis by default.
            key: of the draw.
        """
        description = self.architecture
        require_count(tokens, "tokens", 1)
        leading = () if replicas is None else (require_count(replicas, "replicas", 1),)
        drawn = jax.random.normal(named_key(key, "tokens"), (*leading, tokens, description.dim))
        first = description.first_token_std or description.token_std
        stds = jnp.full(tokens, description.token_std).at[0].set(first)
        return drawn * stds[:, None]

    def simulate(self, initial: ArrayInput, *, replicas: int = 1, key: Key) -> PreNormPaths:
        """Run tokens through the stack, with weights drawn afresh for every layer and replica.

        Args:
            initial: tokens [tokens, dim], the same for every replica, or one cloud for each
                [replicas, tokens, dim]; decides the precision.
            replicas: independent draws of all weights.
            key: of the weights.

        Raises:
            ArgumentError: shapes that do not match, or a token whose norm vanishes.
            MemoryLimitError: the Gram matrices of all layers do not fit into memory.
        """
        require_count(replicas, "replicas", 1)
        tokens = as_float(initial, "initial")
        dim = self.architecture.dim
        if tokens.ndim == 2:
            tokens = tokens[None].repeat(replicas, axis=0)
        if tokens.ndim != 3 or tokens.shape[0] != replicas or tokens.shape[2] != dim:
            raise ArgumentError(
                "initial",
                f"has shape {np.shape(initial)}",
                f"pass [tokens, {dim}], or [{replicas}, tokens, {dim}]",
            )
        count, layers = tokens.shape[1], self.architecture.layers
        require_free(
            1.1 * replicas * (layers + 1) * count**2 * tokens.dtype.itemsize,
            "replicas" if replicas > 1 else "initial",
            f"pairs of {count} tokens at {layers + 1} depths of {replicas} networks",
            "take fewer replicas or tokens",
        )
        keys = jax.vmap(lambda r: jax.random.fold_in(key, r))(jnp.arange(replicas))
        grams = following_inputs(_simulate, tokens, (self, keys))
        return PreNormPaths(ts=np.arange(layers + 1.0), grams=grams, samples=replicas)


@eqx.filter_jit
def _simulate(
    tokens: Float[Array, "replicas tokens dim"],
    parameters: tuple[PreNormStack, Array],
) -> Float[Array, "replicas saves tokens tokens"]:
    model, keys = parameters
    description = model.architecture

    def gram(x: Array) -> Array:
        seen = _centred(description, x)
        return seen @ seen.T

    def replica(argument: tuple[Array, Key]) -> Array:
        initial, key = argument

        def layer(x: Array, index: Array) -> tuple[Array, Array]:
            x = _block(description, x, jax.random.fold_in(key, index))
            return x, gram(x)

        _, grams = jax.lax.scan(layer, initial, jnp.arange(description.layers))
        return jnp.concatenate([gram(initial)[None], grams])

    return jax.lax.map(replica, (tokens, keys))


def _block(description: PreNormArchitecture, x: Array, key: Key) -> Array:
    """One layer: attention, then the feed-forward block, or both at once."""
    after = x + _attention(description, _normalise(description, x), key)
    if description.feed_forward is None:
        return after
    read = x if description.parallel else after
    return after + _feed_forward(description.feed_forward, _normalise(description, read), key)


def _centred(description: PreNormArchitecture, x: Array) -> Array:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    return x - mean if description.norm is Norm.LAYER else x


def _normalise(description: PreNormArchitecture, x: Array) -> Array:
    x = _centred(description, x)
    square = jnp.mean(x**2, axis=-1, keepdims=True)
    return x / jnp.sqrt(square + description.norm_eps)


def _attention(description: PreNormArchitecture, y: Array, key: Key) -> Array:
    tokens, dim = y.shape
    heads, pairs, width = description.heads, description.kv_heads, description.head_dim

    def project(name: str, count: int, std: float) -> Array:
        weights = std * jax.random.normal(named_key(key, name), (dim, count * width), y.dtype)
        return (y @ weights).reshape(tokens, count, width)

    q = project("W_Q", heads, description.qk_std)
    k = project("W_K", pairs, description.qk_std)
    v = project("W_V", pairs, description.v_std)
    if description.rotary is not None:
        q, k = (_turn(description.rotary, one) for one in (q, k))
    k, v = (jnp.repeat(one, heads // pairs, axis=1) for one in (k, v))
    scores = jnp.einsum("ihc,jhc->hij", q, k) / math.sqrt(width)
    if description.causal:
        scores = jnp.where(jnp.tril(jnp.ones((tokens, tokens), bool)), scores, -jnp.inf)
    mixed = jnp.einsum("hij,jhc->ihc", jax.nn.softmax(scores, axis=-1), v)
    weights = jax.random.normal(named_key(key, "W_O"), (heads * width, dim), y.dtype)
    return description.out_std * mixed.reshape(tokens, heads * width) @ weights


def _turn(rotary: Rotary, x: Float[Array, "tokens heads head_dim"]) -> Array:
    """Turn entries p and p + dims / 2 of the token at position i by i base^(-2 p / dims)."""
    half = rotary.dims // 2
    frequencies = rotary.base ** (-jnp.arange(half) / half)
    angles = (jnp.arange(x.shape[0])[:, None] * frequencies)[:, None, :]
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
    first, second, rest = jnp.split(x, (half, 2 * half), axis=-1)
    turned = (first * cos - second * sin, second * cos + first * sin, rest)
    return jnp.concatenate(turned, axis=-1)


def _feed_forward(block: FeedForwardBlock, y: Array, key: Key) -> Array:
    dim = y.shape[1]

    def weights(name: str, shape: tuple[int, int], std: float) -> Array:
        return std * jax.random.normal(named_key(key, name), shape, y.dtype)

    hidden = block.activation(y @ weights("W_1", (dim, block.width), block.in_std))
    if block.gated:
        hidden = hidden * (y @ weights("W_up", (dim, block.width), block.in_std))
    return hidden @ weights("W_2", (block.width, dim), block.out_std)
