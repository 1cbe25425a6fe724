r"""Layers with weights, and the way of tokens through one of them.

A layer is a layer of `describe` (its sub-blocks say where norms stand, how scores are scaled and
which keys are seen) with its parameters. Of one sequence of tokens x [n, D], rows are tokens:

    u  what attention reads         S, P  scores and attention weights [H, n, n], rows are queries
    z  outputs of the heads after W_O, without b_O [H, n, D]
    a = sum_h z_h + b_O             y  the stream between the two branches
    v  what the MLP reads           f  its branch        x'  the stream after the layer

| placement | u | y | v | x' |
|---|---|---|---|---|
| post-LN | x | N1(x + a) | y | N2(y + f) |
| pre-LN | N1(x) | x + a | N2(y) | y + f |
| parallel | N1(x) | - | N1(x) or N2(x) | x + a + f |
| sandwich | N1(x) or x | x + N(a) | N2(y) or y | y + N(f) |

Matrices map from their first axis to their second, x W. Rotary positions turn entries p and
p + d / 2 of a head: files that pair neighbours are put into this order when they are read.

| parameter | name here | shape |
|---|---|---|
| W_Q, W_K, W_V, W_O | `W_Q`, ...; `b_Q` | [D, H d], [D, H_kv d], [D, H_kv d_v], [H d_v, D] |
| W_1, W_gate, W_2 and biases | `W_1`, `W_up`, `W_2`, `b_1`, ... | [D, d_m], [D, d_m], [d_m, D] |
| gain, bias of a norm | `attention_in.gain`, `mlp_post.bias`, ... | [D] |
| gains of queries and keys | `q.gain`, `k.gain` | [d], or [H d] over all heads |

Of a gated MLP `W_1` is the matrix whose units pass the activation.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from translimit.core import AnyArray, ArgumentError, NoSuchLimitError
from translimit.describe import Attention, FeedForward, Frequencies, Norm, Normalisation
from translimit.describe import Layer as Blocks

#: Parameters by name; see the module's docstring.
Parameters = Mapping[str, AnyArray]
#: Matrices of a layer, in the order in which tokens meet them.
MATRICES = ("W_Q", "W_K", "W_V", "W_O", "W_1", "W_up", "W_2")
#: The bias of each of them.
BIASES = {name: f"b{name[1:]}" for name in MATRICES}


class Passed(NamedTuple):
    """What a sequence leaves in a layer; see the module's docstring.

    Attributes:
        read: u [n, D].
        scores: S [H, n, n].
        attention: P [H, n, n].
        heads: z [H, n, D].
        branch: a [n, D].
        free: a without b_O, or a itself where a norm follows [n, D].
        middle: y [n, D], None in a parallel block.
        mlp_read: v [n, D], None without an MLP.
        mlp: f [n, D], None without an MLP.
        exit: x' [n, D].
    """

    read: Array
    scores: Array
    attention: Array
    heads: Array
    branch: Array
    free: Array
    middle: Array | None
    mlp_read: Array | None
    mlp: Array | None
    exit: Array


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer with its weights.

    Attributes:
        blocks: attention and, after it or beside it, an MLP.
        causal: whether a token sees only itself and the tokens before it.
        parameters: by name; see the module's docstring.

    Raises:
        NoSuchLimitError: latent attention, experts, or sub-blocks in another order.
        ArgumentError: a matrix that is missing or has another shape, or is not finite.
    """

    blocks: Blocks
    causal: bool
    parameters: Parameters = field(repr=False)

    def __post_init__(self) -> None:
        require_plain(self.blocks)
        for name, shape in shapes(self.blocks, self.dim).items():
            found = self.parameters.get(name)
            if found is None or tuple(found.shape) != shape:
                told = "is missing" if found is None else f"has shape {tuple(found.shape)}"
                raise ArgumentError(name, told, f"pass an array of shape {shape}")
        for name, value in self.parameters.items():
            if isinstance(value, np.ndarray) and not np.isfinite(value).all():
                bad = int(np.size(value) - np.count_nonzero(np.isfinite(value)))
                raise ArgumentError(name, f"has {bad} entries that are not finite", "pass others")

    @property
    def dim(self) -> int:
        """D, width of the stream."""
        return int(self.parameters["W_Q"].shape[0])

    @property
    def attention(self) -> Attention:
        """The attention of its first sub-block."""
        return attention_of(self.blocks)

    @property
    def units(self) -> FeedForward | None:
        """The MLP, or None."""
        return units_of(self.blocks)

    def with_parameters(self, **changed: AnyArray) -> Layer:
        """The layer with some parameters replaced.

        Args:
            changed: by name.
        """
        return replace(self, parameters={**self.parameters, **changed})


def require_plain(blocks: Blocks) -> None:
    """Refuse what is not attention followed by, or beside, an MLP.

    Args:
        blocks: of a layer.

    Raises:
        NoSuchLimitError: another order, latent attention, experts.
    """
    kinds = [[type(one) for one in block.branches] for block in blocks]
    if kinds not in ([[Attention], [FeedForward]], [[Attention, FeedForward]], [[Attention]]):
        told = " then ".join(" beside ".join(kind.__name__ for kind in row) for row in kinds)
        raise NoSuchLimitError(
            "blocks", f"are {told}", "only attention and an MLP are read; use hooks for observables"
        )
    scores = attention_of(blocks).scores
    if scores.slopes or scores.bias_std or scores.sink:
        raise NoSuchLimitError(
            "scores",
            "have biases by distance or a sink of their own",
            "use hooks, which give the observables",
        )


def attention_of(blocks: Blocks) -> Attention:
    """The attention of a layer.

    Args:
        blocks: its sub-blocks.
    """
    every = (one for block in blocks for one in block.branches)
    return next(one for one in every if isinstance(one, Attention))


def units_of(blocks: Blocks) -> FeedForward | None:
    """The MLP of a layer, or None.

    Args:
        blocks: its sub-blocks.
    """
    every = (one for block in blocks for one in block.branches)
    return next((one for one in every if isinstance(one, FeedForward)), None)


def shapes(blocks: Blocks, dim: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the matrices of a layer, by name.

    Args:
        blocks: its sub-blocks.
        dim: D.
    """
    of, units = attention_of(blocks), units_of(blocks)
    told: dict[str, tuple[int, ...]] = {
        "W_Q": (dim, of.heads * of.head_dim),
        "W_K": (dim, of.key_heads * of.head_dim),
        "W_V": (dim, of.key_heads * of.values),
        "W_O": (of.heads * of.values, dim),
    }
    if units is not None:
        told |= {"W_1": (dim, units.width), "W_2": (units.width, dim)}
        told |= {"W_up": (dim, units.width)} if units.gated else {}
    return told


def pass_layer(
    blocks: Blocks, causal: bool, parameters: Parameters, x: Float[Array, "n D"]
) -> Passed:
    """The way of a sequence through a layer.

    Args:
        blocks: its sub-blocks.
        causal: whether a token sees only itself and the tokens before it.
        parameters: by name.
        x: the stream.
    """
    first, last = blocks[0], blocks[-1]
    read = normalised(first.norm_in, parameters, "attention_in", x)
    scores, attention, heads = attend(attention_of(blocks), causal, parameters, read)
    total = jnp.sum(heads, axis=0)
    free, branch = total, total + parameters.get("b_O", 0.0)
    branch = normalised(first.norm_out, parameters, "attention_out", first.branch * branch)
    free = branch if first.norm_out is not None else first.branch * free
    units = units_of(blocks)
    if len(first.branches) == 2 and units is not None:  # parallel
        own = "mlp_in" if "mlp_in.gain" in parameters else "attention_in"
        mlp_read = normalised(first.norm_in, parameters, own, x)
        mlp = first.branch * transform(units, parameters, mlp_read)
        total = first.residual * x + branch + mlp
        exit = normalised(first.norm_post, parameters, "attention_post", total)
        return Passed(read, scores, attention, heads, branch, free, None, mlp_read, mlp, exit)
    middle = normalised(first.norm_post, parameters, "attention_post", first.residual * x + branch)
    if units is None:
        return Passed(read, scores, attention, heads, branch, free, None, None, None, middle)
    mlp_read = normalised(last.norm_in, parameters, "mlp_in", middle)
    mlp = last.branch * transform(units, parameters, mlp_read)
    mlp = normalised(last.norm_out, parameters, "mlp_out", mlp)
    exit = normalised(last.norm_post, parameters, "mlp_post", last.residual * middle + mlp)
    return Passed(read, scores, attention, heads, branch, free, middle, mlp_read, mlp, exit)


def attend(
    of: Attention, causal: bool, parameters: Parameters, u: Float[Array, "n D"]
) -> tuple[Float[Array, "H n n"], Float[Array, "H n n"], Float[Array, "H n D"]]:
    """Scores, attention weights, and the outputs of the heads without b_O.

    Args:
        of: the attention.
        causal: whether a token sees only itself and the tokens before it.
        parameters: by name.
        u: what it reads.
    """

    def heads_of(name: str, count: int) -> Array:
        rows = u @ parameters[f"W_{name}"] + parameters.get(f"b_{name}", 0.0)
        gain, norm = parameters.get(f"{name.lower()}.gain", 1.0), of.qk_norm
        if norm is not None and norm.over == "all" and name != "V":
            rows = rms_or_layer(norm.kind, norm.eps, rows) * gain
        rows = rows.reshape(len(u), count, -1).swapaxes(0, 1)
        if norm is not None and norm.over == "head" and name != "V":
            rows = rms_or_layer(norm.kind, norm.eps, rows) * gain
        return rows if name == "V" else turned(of.rotary, rows)

    q = heads_of("Q", of.heads)
    k, v = (
        jnp.repeat(heads_of(name, of.key_heads), of.heads // of.key_heads, axis=0) for name in "KV"
    )
    scores = of.score_scale * jnp.einsum("hid,hjd->hij", q, k)
    cap = of.scores.softcap
    scores = scores if cap is None else cap * jnp.tanh(scores / cap)
    seen = visible(of, causal, len(u))
    attention = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
    out = parameters["W_O"].reshape(of.heads, of.values, -1)
    return scores, attention, jnp.einsum("hid,hdo->hio", attention @ v, out)


def transform(
    units: FeedForward, parameters: Parameters, v: Float[Array, "n D"]
) -> Float[Array, "n D"]:
    """The MLP: W_2 phi(W_1 v), or W_2 (phi(W_1 v) (W_up v + shift)) where gated.

    Args:
        units: the MLP.
        parameters: by name.
        v: what it reads.
    """
    hidden = units.activation(v @ parameters["W_1"] + parameters.get("b_1", 0.0))
    if units.gated:
        up = v @ parameters["W_up"] + parameters.get("b_up", 0.0)
        hidden = hidden * (up + units.shift)
    return hidden @ parameters["W_2"] + parameters.get("b_2", 0.0)


def normalised(
    norm: Normalisation | None, parameters: Parameters, place: str, x: Float[Array, "n D"]
) -> Float[Array, "n D"]:
    """Tokens after a norm with its gain and bias; as they are where there is none.

    Args:
        norm: its kind and its epsilon.
        parameters: by name.
        place: the norm's, as in `attention_in`.
        x: tokens.
    """
    if norm is None:
        return x
    rows = rms_or_layer(norm.kind, norm.eps, x)
    return rows * parameters.get(f"{place}.gain", 1.0) + parameters.get(f"{place}.bias", 0.0)


def rms_or_layer(kind: Norm, eps: float, x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
    """Rows without their mean where a layer norm says so, divided by their root mean square.

    Args:
        kind: of the norm.
        eps: under the root.
        x: rows.
    """
    if kind is Norm.LAYER:
        x = x - jnp.mean(x, axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + eps)


def turned(rotary: Frequencies | None, rows: Float[Array, "H n d"]) -> Float[Array, "H n d"]:
    """Queries or keys turned by their positions, which count from 0.

    Args:
        rotary: the frequencies, or None.
        rows: of every head.
    """
    if rotary is None:
        return rows
    angles = np.arange(rows.shape[1])[:, None] * np.array(rotary.thetas)
    cos, sin = (jnp.asarray(rotary.factor * f(angles), rows.dtype) for f in (np.cos, np.sin))
    half = rotary.dims // 2
    left, right, rest = rows[..., :half], rows[..., half : 2 * half], rows[..., 2 * half :]
    return jnp.concatenate([left * cos - right * sin, left * sin + right * cos, rest], axis=-1)


def visible(of: Attention, causal: bool, n: int) -> np.ndarray:
    """Which keys each query sees [n, n].

    Args:
        of: the attention.
        causal: whether a token sees only itself and the tokens before it.
        n: tokens.
    """
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    seen = j <= i if causal else np.ones((n, n), bool)
    shape = of.scores
    if shape.window is not None:
        seen = seen & (np.abs(i - j) < shape.window)
    return seen if shape.chunk is None else seen & (i // shape.chunk == j // shape.chunk)
