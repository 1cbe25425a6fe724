"""A layer of a stack with given matrices, in NumPy: independent of the limits and of the classes.

The matrices are those of a class of transformers, found by its family's table of names. What the
class makes of a layer's input must be what the stack says, entry by entry: placement, epsilons and
gains of norms, widths, shared keys, rotary positions, scales, caps, masks, activations, routing.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Iterable

import numpy as np
from scipy import special

from translimit.describe import (
    Activation,
    Attention,
    Experts,
    FeedForward,
    LatentAttention,
    NameTable,
    Norm,
    Normalisation,
    QueryKeyNorm,
    Role,
    Stack,
)
from translimit.scaling.adapters.names import match_names

Matrices = dict[Role, list[np.ndarray]]
_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
PACKED = (Role.QUERY, Role.KEY, Role.VALUE)


def matrices(
    parameters: Iterable[tuple[str, np.ndarray]], table: NameTable, stack: Stack
) -> list[Matrices]:
    """Matrices of every layer by role, [in, out], packed ones taken apart."""
    named = {name: one for name, one in parameters if one.ndim >= 2 and _LAYER.search(name)}
    layers: list[Matrices] = [{} for _ in stack.layers]
    for name, match in match_names(table, named).items():
        number, value = _LAYER.search(name), named[name]
        if number is None or not match.role.in_block or match.role.is_bias or match.role.is_gain:
            continue
        matrix = value if match.transposed else np.swapaxes(value, -1, -2)
        mixer = stack.layers[int(number[1])][0].branches[0]
        parts = [matrix]
        if match.parts == PACKED:
            assert isinstance(mixer, Attention)
            if table.interleaved:
                rows = matrix.reshape(len(matrix), mixer.heads, 3, mixer.head_dim)
                parts = [rows[:, :, i].reshape(len(matrix), -1) for i in range(3)]
            else:
                queries, keys = mixer.heads * mixer.head_dim, mixer.key_heads * mixer.head_dim
                parts = np.split(matrix, [queries, queries + keys], axis=1)
        elif match.packed:
            parts = np.split(matrix, len(match.parts), axis=-1)
        for role, part in zip(match.parts, parts, strict=True):
            layers[int(number[1])].setdefault(role, []).append(part)
    return layers


def norm(x: np.ndarray, of: Normalisation | QueryKeyNorm | None) -> np.ndarray:
    if of is None:
        return x
    if of.kind is Norm.LAYER:
        x = x - x.mean(axis=-1, keepdims=True)
    return of.gain * x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + of.norm_eps)


class Turning(enum.Enum):
    """How a class lays out rotary positions; the law of its scores is the same."""

    HALVES = "entries a half apart turn"
    NEIGHBOURS = "neighbouring entries turn"
    BACKWARDS = "entries a half apart turn the other way"


def turned(x: np.ndarray, branch: Attention | LatentAttention, how: Turning) -> np.ndarray:
    """Rotary positions by complex numbers."""
    if branch.rotary is None:
        return x
    half = len(branch.rotary.thetas)
    first, rest = x[..., : 2 * half], x[..., 2 * half :]
    beside = how is Turning.NEIGHBOURS
    one, other = (first[..., ::2], first[..., 1::2]) if beside else np.split(first, 2, axis=-1)
    sign = -1j if how is Turning.BACKWARDS else 1j
    phase = np.exp(sign * np.arange(len(x))[:, None] * np.array(branch.rotary.thetas))[:, None, :]
    z = branch.rotary.factor * (one + 1j * other) * phase
    made = np.concatenate([z.real, z.imag], axis=-1)
    if beside:
        made = np.stack([z.real, z.imag], axis=-1).reshape(first.shape)
    return np.concatenate([made, rest], axis=-1)


def attend(branch: Attention, y: np.ndarray, w: Matrices, causal: bool, how: Turning) -> np.ndarray:
    n, own, shape = len(y), branch.qk_norm, branch.scores
    q, k, v = (y @ w[role][0] for role in PACKED)
    if own is not None and own.over == "all":
        q, k = norm(q, own), norm(k, own)
    q, k = q.reshape(n, branch.heads, -1), k.reshape(n, branch.key_heads, -1)
    v = branch.value_scale * v.reshape(n, branch.key_heads, -1)
    if own is not None and own.over == "head" and not own.turned:
        q, k = norm(q, own), norm(k, own)
    q, k = (turned(one, branch, how) for one in (q, k))
    if own is not None and own.over == "head" and own.turned:
        q, k = norm(q, own), norm(k, own)
    apart = np.arange(n)[None, :] - np.arange(n)[:, None]
    hidden = apart > 0 if causal else np.zeros((n, n), bool)
    if shape.window is not None:
        hidden = hidden | (np.abs(apart) >= shape.window)
    heads = []
    for h in range(branch.heads):
        g = h // (branch.heads // branch.key_heads)
        scores = branch.score_scale * q[:, h] @ k[:, g].T
        if shape.softcap is not None:
            scores = shape.softcap * np.tanh(scores / shape.softcap)
        if shape.slopes:
            scores = scores + shape.slopes[h] * apart
        e = np.where(hidden, 0.0, np.exp(scores))
        heads.append(e / (e.sum(axis=1, keepdims=True) + shape.sink) @ v[:, g])
    return np.concatenate(heads, axis=-1) @ w[Role.ATTENTION_OUT][0]


def attend_latents(branch: LatentAttention, y: np.ndarray, w: Matrices, how: Turning) -> np.ndarray:
    """Causal attention of latents; queries and keys have two matrices each, one after the other."""
    n, plain = len(y), Normalisation(norm_eps=1e-6)
    asks = norm(y @ w[Role.QUERY][0], plain) @ w[Role.QUERY][1]
    reads, rope = np.split(y @ w[Role.KEY][0], [branch.kv_rank], axis=1)
    both = (norm(reads, plain) @ w[Role.KEY][1]).reshape(n, branch.heads, -1)
    q = asks.reshape(n, branch.heads, -1)
    ends = [turned(one, branch, how) for one in (q[..., branch.nope_dim :], rope[:, None, :])]
    heads = []
    for h in range(branch.heads):
        nope, values = np.split(both[:, h], [branch.nope_dim], axis=1)
        scores = q[:, h, : branch.nope_dim] @ nope.T + ends[0][:, h] @ ends[1][:, 0].T
        e = np.where(np.triu(np.ones((n, n), bool), 1), 0.0, np.exp(branch.score_scale * scores))
        heads.append(e / e.sum(axis=1, keepdims=True) @ values)
    return np.concatenate(heads, axis=-1) @ w[Role.ATTENTION_OUT][0]


ACTIVATIONS: dict[Activation, Callable[[np.ndarray], np.ndarray]] = {
    Activation.GELU: lambda x: x * special.ndtr(x),
    Activation.GELU_TANH: lambda x: (
        x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2
    ),
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.RELU_SQUARED: lambda x: np.maximum(x, 0) ** 2,
    Activation.SILU: lambda x: x * special.expit(x),
    Activation.QUICK_GELU: lambda x: x * special.expit(1.702 * x),
    # 0.8 twice, as the class holds it: through bfloat16.
    Activation.XIELU: lambda x: (
        np.where(x > 0, 0.7998606 * x**2, 0.8008740 * (np.expm1(np.minimum(x, 0)) - x)) + x / 2
    ),
}


def feed(branch: FeedForward, y: np.ndarray, first: list[np.ndarray]) -> np.ndarray:
    hidden = ACTIVATIONS[branch.activation](y @ first[0])
    if branch.gated:
        hidden = hidden * (y @ first[1] + branch.shift)
    return hidden @ first[2]


def units(branch: FeedForward, w: Matrices, axes: int = 2) -> list[np.ndarray]:
    """W_1, W_up and W_2 of a block, or of the stacked experts, which have one more axis."""

    def own(role: Role) -> np.ndarray:
        return next(one for one in w[role] if one.ndim == axes)

    if branch.gated:
        return [own(role) for role in (Role.MLP_GATE, Role.MLP_IN, Role.MLP_OUT)]
    return [own(Role.MLP_IN), np.zeros(0), own(Role.MLP_OUT)]


def mix(branch: Experts, y: np.ndarray, w: Matrices) -> np.ndarray:
    """Weights of experts by sorting."""
    logits = y @ w[Role.ROUTER][0]
    sigmoid = branch.routing in ("sigmoid", "sigmoid_kept")
    scores = 1 / (1 + np.exp(-logits)) if sigmoid else logits
    if branch.groups > 1:  # those with the two best in sum are open
        rows = scores.reshape(len(y), branch.groups, -1)
        best = np.sort(rows, axis=2)[:, :, -2:].sum(axis=2)
        closed = np.argsort(np.argsort(-best, axis=1), axis=1) >= branch.open_groups
        scores = np.where(closed[:, :, None], -np.inf, rows).reshape(scores.shape)
    rank = np.argsort(np.argsort(-scores, axis=1), axis=1)
    chosen = rank < branch.active
    if sigmoid:
        omega = np.where(chosen, scores, 0.0)
    else:
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        omega = chosen * p / p.sum(axis=1, keepdims=True)
    if branch.routing not in ("softmax", "sigmoid_kept"):
        omega = omega / omega.sum(axis=1, keepdims=True)
    stacked = units(branch.expert, w, 3)
    each = [feed(branch.expert, y, [one[e] for one in stacked]) for e in range(branch.count)]
    total = branch.factor * sum(omega[:, e, None] * one for e, one in enumerate(each))
    if branch.shared is None:
        return total
    beside = feed(branch.shared, y, units(branch.shared, w))
    if branch.shared_gate_std is not None:
        beside = beside / (1 + np.exp(-y @ w[Role.ROUTER][1]))
    return total + beside


def layer(stack: Stack, index: int, x: np.ndarray, w: Matrices, how: Turning) -> np.ndarray:
    """What a layer makes of its input [tokens, dim].

    Args:
        stack: the stack.
        index: of the layer.
        x: its input.
        w: its matrices.
        how: rotary positions are laid out.
    """
    for block in stack.layers[index]:
        y = norm(x, block.norm_in)
        added = np.zeros_like(x)
        for branch in block.branches:
            if isinstance(branch, Attention):
                added = added + attend(branch, y, w, stack.causal, how)
            elif isinstance(branch, LatentAttention):
                added = added + attend_latents(branch, y, w, how)
            elif isinstance(branch, FeedForward):
                added = added + feed(branch, y, units(branch, w))
            else:
                assert isinstance(branch, Experts)
                added = added + mix(branch, y, w)
        x = norm(block.residual * x + block.branch * norm(added, block.norm_out), block.norm_post)
    return x


def stds(stack: Stack, index: int) -> dict[Role, float]:
    """Standard deviations of the matrices of a layer, by role."""
    made: dict[Role, float] = {}
    for block in stack.layers[index]:
        for branch in block.branches:
            if isinstance(branch, Attention):
                made[Role.QUERY], made[Role.KEY] = branch.query_std, branch.key_std
                made[Role.VALUE], made[Role.ATTENTION_OUT] = branch.value_std, branch.out_std
            if isinstance(branch, LatentAttention):
                made[Role.QUERY] = made[Role.KEY] = branch.std
                made[Role.ATTENTION_OUT] = branch.out_std
            plain = branch.expert if isinstance(branch, Experts) else branch
            if isinstance(plain, FeedForward):
                made[Role.MLP_GATE] = plain.in_std
                made[Role.MLP_IN] = plain.in_std if plain.up_std is None else plain.up_std
                made[Role.MLP_OUT] = plain.out_std
            if isinstance(branch, Experts):
                made[Role.ROUTER] = branch.router_std
    return made


def off(std: float, matrix: np.ndarray) -> float:
    """How many standard errors the root mean square of a normal matrix lies from one expected."""
    own = math.sqrt(float((matrix.astype(float) ** 2).mean()))
    return abs(own / std - 1) * math.sqrt(2 * matrix.size)
