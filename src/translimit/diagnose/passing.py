r"""The way of a sequence of tokens through a layer.

Of one sequence x [n, D], rows are tokens:

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

The functions take arrays of NumPy and of JAX, traced ones included, and return their kind: on a CPU
a layer of a few dozen tokens runs in NumPy, where compiling for every length would cost more than
the products; on an accelerator XLA compiles it.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from translimit.core import AnyArray, in_float64
from translimit.describe import Activation, Attention, FeedForward, Frequencies, Norm, Normalisation
from translimit.describe import Layer as Blocks
from translimit.diagnose.layers import Layer, Parameters, attention_of, units_of


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

    read: AnyArray
    scores: AnyArray
    attention: AnyArray
    heads: AnyArray
    branch: AnyArray
    free: AnyArray
    middle: AnyArray | None
    mlp_read: AnyArray | None
    mlp: AnyArray | None
    exit: AnyArray


class AfterAttention(NamedTuple):
    """What follows the branch of attention in a layer; see `Passed`.

    Attributes:
        middle: y [n, D], None in a parallel block and without an MLP.
        mlp_read: v [n, D], None without an MLP.
        mlp: f [n, D], None without an MLP.
        exit: x' [n, D].
    """

    middle: AnyArray | None
    mlp_read: AnyArray | None
    mlp: AnyArray | None
    exit: AnyArray


def leave(layer: Layer, x: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
    """The stream after a layer, in NumPy's float64.

    Args:
        layer: with its weights.
        x: the stream before it.
    """
    return np.asarray(in_layer(layer, x).exit)


def in_layer(layer: Layer, x: Float[np.ndarray, "n D"]) -> Passed:
    """What a sequence leaves in a layer, in NumPy's float64; overflow gives infinities.

    Args:
        layer: with its weights.
        x: the stream before it.
    """
    own = doubled(layer).parameters
    with np.errstate(all="ignore"):
        return pass_layer(layer.blocks, layer.causal, own, np.asarray(x, np.float64))


def doubled(layer: Layer) -> Layer:
    """The layer with its weights in NumPy's float64, which it then need not copy for every call.

    Args:
        layer: of any precision.
    """
    told = layer.parameters.items()
    return layer.with_parameters(**{name: np.asarray(one, np.float64) for name, one in told})


def pass_layer(
    blocks: Blocks, causal: bool, parameters: Parameters, x: Float[AnyArray, "n D"]
) -> Passed:
    """The way of a sequence through a layer.

    Args:
        blocks: its sub-blocks.
        causal: whether a token sees only itself and the tokens before it.
        parameters: by name.
        x: the stream.
    """
    first = blocks[0]
    read = normalised(first.norm_in, parameters, "attention_in", x)
    scores, attention, heads = attend(attention_of(blocks), causal, parameters, read)
    total = heads.sum(axis=0)
    branch = attention_branch(blocks, parameters, total)
    free = branch if first.norm_out is not None else first.branch * total
    rest = after_attention(blocks, parameters, x, branch)
    return Passed(read, scores, attention, heads, branch, free, *rest)


def attention_branch(
    blocks: Blocks, parameters: Parameters, total: Float[AnyArray, "n D"]
) -> Float[AnyArray, "n D"]:
    """a, from the outputs of the heads summed after W_O: with b_O, its factor and its norm.

    Args:
        blocks: of a layer.
        parameters: by name.
        total: the sum of the heads.
    """
    first = blocks[0]
    branch = first.branch * (total + parameters.get("b_O", 0.0))
    return normalised(first.norm_out, parameters, "attention_out", branch)


def after_attention(
    blocks: Blocks,
    parameters: Parameters,
    x: Float[AnyArray, "n D"],
    branch: Float[AnyArray, "n D"],
) -> AfterAttention:
    """The rest of a layer, whatever made the branch of attention.

    Args:
        blocks: of the layer.
        parameters: by name.
        x: the stream before it.
        branch: a.
    """
    first, last, units = blocks[0], blocks[-1], units_of(blocks)
    if len(first.branches) == 2 and units is not None:  # parallel
        own = "mlp_in" if "mlp_in.gain" in parameters else "attention_in"
        mlp_read = normalised(first.norm_in, parameters, own, x)
        mlp = first.branch * transform(units, parameters, mlp_read)
        total = first.residual * x + branch + mlp
        exit = normalised(first.norm_post, parameters, "attention_post", total)
        return AfterAttention(None, mlp_read, mlp, exit)
    middle = normalised(first.norm_post, parameters, "attention_post", first.residual * x + branch)
    if units is None:
        return AfterAttention(None, None, None, middle)
    mlp_read = normalised(last.norm_in, parameters, "mlp_in", middle)
    mlp = last.branch * transform(units, parameters, mlp_read)
    mlp = normalised(last.norm_out, parameters, "mlp_out", mlp)
    exit = normalised(last.norm_post, parameters, "mlp_post", last.residual * middle + mlp)
    return AfterAttention(middle, mlp_read, mlp, exit)


def attend(
    of: Attention, causal: bool, parameters: Parameters, u: Float[AnyArray, "n D"]
) -> tuple[Float[AnyArray, "H n n"], Float[AnyArray, "H n n"], Float[AnyArray, "H n D"]]:
    """Scores, attention weights, and the outputs of the heads without b_O.

    Args:
        of: the attention.
        causal: whether a token sees only itself and the tokens before it.
        parameters: by name.
        u: what it reads.
    """
    xp = u.__array_namespace__()
    q = _heads_of(of, parameters, "Q", of.heads, u)
    k = xp.repeat(_heads_of(of, parameters, "K", of.key_heads, u), of.heads // of.key_heads, axis=0)
    v = values_of(of, parameters, u)
    scores = of.score_scale * (q @ k.swapaxes(1, 2))
    cap = of.scores.softcap
    scores = scores if cap is None else cap * xp.tanh(scores / cap)
    seen = visible(of, causal, len(u))
    shown = xp.where(seen, scores, -xp.inf)
    weights = xp.exp(shown - shown.max(axis=-1, keepdims=True))
    attention = weights / weights.sum(axis=-1, keepdims=True)
    return scores, attention, (attention @ v) @ parameters["W_O"].reshape(of.heads, of.values, -1)


def values_of(
    of: Attention, parameters: Parameters, u: Float[AnyArray, "n D"]
) -> Float[AnyArray, "H n d_v"]:
    """Values of all heads; those that share theirs have them repeated.

    Args:
        of: the attention.
        parameters: by name.
        u: what it reads.
    """
    rows = _heads_of(of, parameters, "V", of.key_heads, u)
    return u.__array_namespace__().repeat(rows, of.heads // of.key_heads, axis=0)


def _heads_of(
    of: Attention, parameters: Parameters, name: str, count: int, u: Float[AnyArray, "n D"]
) -> Float[AnyArray, "heads n d"]:
    """Queries, keys or values head by head, with their norm and turned by their positions."""
    rows = u @ parameters[f"W_{name}"] + parameters.get(f"b_{name}", 0.0)
    gain, norm = parameters.get(f"{name.lower()}.gain", 1.0), of.qk_norm
    if norm is not None and norm.over == "all" and name != "V":
        rows = rms_or_layer(norm.kind, norm.norm_eps, rows) * gain
    rows = rows.reshape(len(u), count, -1).swapaxes(0, 1)
    if norm is not None and norm.over == "head" and name != "V":
        rows = rms_or_layer(norm.kind, norm.norm_eps, rows) * gain
    return rows if name == "V" else turned(of.rotary, rows)


def transform(
    units: FeedForward, parameters: Parameters, v: Float[AnyArray, "n D"]
) -> Float[AnyArray, "n D"]:
    """The MLP: W_2 phi(W_1 v), or W_2 (phi(W_1 v) (W_up v + shift)) where gated.

    Args:
        units: the MLP.
        parameters: by name.
        v: what it reads.
    """
    hidden = active(units.activation, v @ parameters["W_1"] + parameters.get("b_1", 0.0))
    if units.gated:
        up = v @ parameters["W_up"] + parameters.get("b_up", 0.0)
        hidden = hidden * (up + units.shift)
    return hidden @ parameters["W_2"] + parameters.get("b_2", 0.0)


def active(activation: Activation, x: Float[AnyArray, "*shape"]) -> Float[AnyArray, "*shape"]:
    """An activation of every entry; of NumPy without a way through JAX where it is common.

    Args:
        activation: which.
        x: the entries.
    """
    if not isinstance(x, np.ndarray):
        return activation(x)
    from scipy.special import expit, ndtr  # scipy is loaded when it is needed

    if activation is Activation.GELU:
        return x * ndtr(x)
    if activation is Activation.GELU_TANH:
        return x * expit((8 / np.pi) ** 0.5 * (x + 0.044715 * x**3))
    if activation is Activation.SILU:
        return x * expit(x)
    if activation is Activation.QUICK_GELU:
        return x * expit(1.702 * x)
    if activation is Activation.RELU:
        return np.maximum(x, 0.0)
    return in_float64(jax.jit(activation), x)


def normalised(
    norm: Normalisation | None, parameters: Parameters, place: str, x: Float[AnyArray, "n D"]
) -> Float[AnyArray, "n D"]:
    """Tokens after a norm with its gain and bias; as they are where there is none.

    Args:
        norm: its kind and its epsilon.
        parameters: by name.
        place: the norm's, as in `attention_in`.
        x: tokens.
    """
    if norm is None:
        return x
    rows = rms_or_layer(norm.kind, norm.norm_eps, x)
    return rows * parameters.get(f"{place}.gain", 1.0) + parameters.get(f"{place}.bias", 0.0)


def rms_or_layer(
    kind: Norm, norm_eps: float, x: Float[AnyArray, "*rows D"]
) -> Float[AnyArray, "*rows D"]:
    """Rows without their mean where a layer norm says so, divided by their root mean square.

    Args:
        kind: of the norm.
        norm_eps: under the root.
        x: rows.
    """
    if kind is Norm.LAYER:
        x = x - x.mean(axis=-1, keepdims=True)
    return x / ((x**2).mean(axis=-1, keepdims=True) + norm_eps) ** 0.5


def turned(rotary: Frequencies | None, rows: Float[AnyArray, "H n d"]) -> Float[AnyArray, "H n d"]:
    """Queries or keys turned by their positions, which count from 0.

    Args:
        rotary: the frequencies, or None.
        rows: of every head.
    """
    if rotary is None:
        return rows
    xp = rows.__array_namespace__()
    angles = np.arange(rows.shape[1])[:, None] * np.array(rotary.thetas)
    cos, sin = (xp.asarray(rotary.factor * f(angles), rows.dtype) for f in (np.cos, np.sin))
    half = rotary.dims // 2
    left, right, rest = rows[..., :half], rows[..., half : 2 * half], rows[..., 2 * half :]
    return xp.concatenate([left * cos - right * sin, left * sin + right * cos, rest], axis=-1)


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
