r"""The matrices of a layer at initialisation: shapes, standard deviations, and their draw.

Every matrix is its standard deviation times standard normals, so that a gradient with respect to
the normals is sigma_W dW. A layer is drawn from a key of its own; what all layers share (the
table of relative positions) from a key
of the network. The draw is in single precision whatever the
computation's, so that both precisions see the same network.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array

from translimit.core import Key, named_key
from translimit.describe import (
    Attention,
    Branch,
    Experts,
    FeedForward,
    LatentAttention,
    Layer,
    Scores,
)

#: Groups of weights whose gradients are told.
GROUPS: tuple[str, ...] = (
    *("query", "key", "value", "attention_out", "in", "up", "out"),
    *("query_down", "query_up", "key_value_down", "key_value_up"),
    *("shared_in", "shared_up", "shared_out", "router", "shared_gate"),
)
#: The matrices of a branch by name.
Weights: TypeAlias = Mapping[str, Array]
#: Of all branches of all sub-blocks of a layer.
LayerWeights: TypeAlias = tuple[tuple[Weights, ...], ...]


@dataclass(frozen=True)
class Matrix:
    """One matrix of a branch.

    Attributes:
        shape: inputs first; experts in front of them.
        std: of its entries.
        group: one of `GROUPS`, or None for what is in no group.
        shared: whether all layers have the same.
    """

    shape: tuple[int, ...]
    std: float
    group: str | None = None
    shared: bool = False


def matrices(branch: Branch, dim: int) -> dict[str, Matrix]:
    """The matrices of a branch by name.

    Args:
        branch: what is added to the stream.
        dim: of the tokens.
    """
    if isinstance(branch, Attention):
        return _of_attention(branch, dim)
    if isinstance(branch, LatentAttention):
        return _of_latents(branch, dim)
    if isinstance(branch, FeedForward):
        return _of_units(branch, dim)
    return _of_experts(branch, dim)


def _of_attention(branch: Attention, dim: int) -> dict[str, Matrix]:
    asked, kept = branch.heads * branch.head_dim, branch.key_heads * branch.head_dim
    return {
        "query": Matrix((dim, asked), branch.query_std, "query"),
        "key": Matrix((dim, kept), branch.key_std, "key"),
        "value": Matrix((dim, branch.key_heads * branch.values), branch.value_std, "value"),
        "out": Matrix((branch.heads * branch.values, dim), branch.out_std, "attention_out"),
        **_table(branch.scores, branch.heads),
    }


def _of_latents(branch: LatentAttention, dim: int) -> dict[str, Matrix]:
    heads, std, rank = branch.heads, branch.std, branch.kv_rank
    asks = "query" if branch.query_rank is None else "query_up"
    found = {
        "kv_latent": Matrix((dim, rank), std, "key_value_down"),
        "query": Matrix((branch.query_rank or dim, heads * branch.head_dim), std, asks),
        "rope_key": Matrix((dim, branch.rope_dim), std, "key_value_down"),
        "nope_key": Matrix((rank, heads * branch.nope_dim), std, "key_value_up"),
        "value": Matrix((rank, heads * branch.value_dim), std, "key_value_up"),
        "out": Matrix((heads * branch.value_dim, dim), branch.out_std, "attention_out"),
    }
    if branch.query_rank is not None:
        found["query_latent"] = Matrix((dim, branch.query_rank), std, "query_down")
    return found | _table(branch.scores, heads)


def _table(scores: Scores, heads: int) -> dict[str, Matrix]:
    """The table of relative positions, where there is one."""
    shape = (scores.bias_buckets, heads)
    return {"table": Matrix(shape, scores.bias_std, shared=True)} if scores.bias_std > 0 else {}


def _of_units(branch: FeedForward, dim: int, *experts: int, kind: str = "") -> dict[str, Matrix]:
    into, out = (*experts, dim, branch.width), (*experts, branch.width, dim)
    found = {
        f"{kind}in": Matrix(into, branch.in_std, f"{kind}in"),
        f"{kind}out": Matrix(out, branch.out_std, f"{kind}out"),
    }
    if branch.gated:
        std = branch.in_std if branch.up_std is None else branch.up_std
        found[f"{kind}up"] = Matrix(into, std, f"{kind}up")
    return found


def _of_experts(branch: Experts, dim: int) -> dict[str, Matrix]:
    found = _of_units(branch.expert, dim, branch.count)
    found["router"] = Matrix((dim, branch.count), branch.router_std, "router")
    if branch.bias_std > 0:
        found["router_bias"] = Matrix((branch.count,), branch.bias_std)
    if branch.shared is not None:
        found |= _of_units(branch.shared, dim, kind="shared_")
    if branch.shared_gate_std is not None:
        found["shared_gate"] = Matrix((dim, 1), branch.shared_gate_std, "shared_gate")
    return found


def draw(
    layer: Layer, dim: int, network: Key, index: Array | int, dtype: DTypeLike
) -> LayerWeights:
    """Standard normals in the shapes of a layer's matrices.

    Args:
        layer: the layer.
        dim: of the tokens.
        network: key of the network.
        index: of the layer.
        dtype: to which single precision is cast.
    """
    specs = [[matrices(branch, dim) for branch in block.branches] for block in layer]
    places = [
        ((place, number, name), one.shape, one.shared)
        for place, block in enumerate(specs)
        for number, branch in enumerate(block)
        for name, one in branch.items()
    ]
    drawn = _normals(
        jax.random.fold_in(network, index), [(at, shape) for at, shape, held in places if not held]
    )
    for at, shape, held in places:
        if held:  # from the branch's own name, whatever the layer
            drawn |= _normals(named_key(network, "shared", at[2]), [(at, shape)])
    return tuple(
        tuple(
            {name: drawn[place, number, name].astype(dtype) for name in branch}
            for number, branch in enumerate(block)
        )
        for place, block in enumerate(specs)
    )


#: A matrix of a layer: sub-block, branch and name.
_Place: TypeAlias = tuple[int, int, str]


def _normals(key: Key, shapes: list[tuple[_Place, tuple[int, ...]]]) -> dict[_Place, Array]:
    """One draw for all matrices: each further one would cost compilation."""
    sizes = [math.prod(shape) for _, shape in shapes]
    flat = jax.random.normal(key, (sum(sizes),), jnp.float32)
    ends = itertools.accumulate(sizes)
    return {
        at: flat[end - size : end].reshape(shape)
        for (at, shape), size, end in zip(shapes, sizes, ends, strict=True)
    }


def scaled(layer: Layer, dim: int, normals: LayerWeights) -> LayerWeights:
    """The matrices from the standard normals.

    Args:
        layer: the layer.
        dim: of the tokens.
        normals: what `draw` returns.
    """
    return tuple(
        tuple(
            {name: one.std * of[name] for name, one in matrices(branch, dim).items()}
            for branch, of in zip(block.branches, ofs, strict=True)
        )
        for block, ofs in zip(layer, normals, strict=True)
    )


def squares(layer: Layer, dim: int, gradients: LayerWeights) -> Array:
    """Sums of squares by group [groups], in the order of `GROUPS`.

    Args:
        layer: the layer.
        dim: of the tokens.
        gradients: with respect to the standard normals.
    """
    told: dict[str, Array] = dict.fromkeys(GROUPS, jnp.zeros(()))
    for block, ofs in zip(layer, gradients, strict=True):
        for branch, of in zip(block.branches, ofs, strict=True):
            for name, one in matrices(branch, dim).items():
                if one.group is not None:
                    told[one.group] = told[one.group] + jnp.sum(of[name] ** 2)
    return jnp.stack([told[name] for name in GROUPS])
