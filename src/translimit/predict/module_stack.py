r"""The numbers of a module written into the stack that its configuration describes.

Matrices give standard deviations, norms and branches their gains, attention its score scale, tables
and rows the embedding.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError
from translimit.describe import (
    Attention,
    Branch,
    Embedding,
    Experts,
    FeedForward,
    NameTable,
    Normalisation,
    PatchEmbedding,
    Role,
    Stack,
    SubBlock,
)
from translimit.predict.fresh_draws import Draw
from translimit.predict.module_weights import INSTEAD, Weight
from translimit.scaling.adapters import attention_modules, bare_name, match_names

#: Relative difference of gains, and of scales, that rounding explains.
ROUNDING = 2e-3


@dataclass(frozen=True)
class Drawn:
    """A matrix with the law of its entries, and the standard deviation that it is given."""

    weight: Weight
    draw: Draw
    std: float


def with_weights(stack: Stack, drawn: list[Drawn]) -> Stack:
    """The stack with the standard deviations of every layer.

    Args:
        stack: as the configuration describes it.
        drawn: the module's matrices.

    Raises:
        ArgumentError: a matrix of the stack is not in the module.
    """
    stds = {(one.weight.layer, one.weight.role, one.weight.shared): one.std for one in drawn}

    def std(layer: int, role: Role, *, shared: bool = False) -> float:
        found = stds.get((layer, role, shared))
        if found is None:
            problem = f"layer {layer} has no parameter of the role {role.value}"
            raise ArgumentError("module", problem, INSTEAD)
        return found

    def units(one: FeedForward, layer: int, *, shared: bool = False) -> FeedForward:
        read, out = std(layer, Role.MLP_IN, shared=shared), std(layer, Role.MLP_OUT, shared=shared)
        if not one.gated:
            return replace(one, in_std=read, out_std=out)
        gate = std(layer, Role.MLP_GATE, shared=shared)
        return replace(one, in_std=gate, up_std=read, out_std=out)

    def branch(one: Branch, layer: int) -> Branch:
        if isinstance(one, Attention):
            return replace(
                one,
                query_std=std(layer, Role.QUERY),
                key_std=std(layer, Role.KEY),
                value_std=std(layer, Role.VALUE),
                out_std=std(layer, Role.ATTENTION_OUT),
            )
        if isinstance(one, FeedForward):
            return units(one, layer)
        if isinstance(one, Experts):
            shared = None if one.shared is None else units(one.shared, layer, shared=True)
            expert, router = units(one.expert, layer), std(layer, Role.ROUTER)
            gate = one.shared_gate_std
            gate = None if gate is None else std(layer, Role.ROUTER, shared=True)
            return replace(
                one, expert=expert, shared=shared, router_std=router, shared_gate_std=gate
            )
        raise ArgumentError("module", "the weights of latent attention are not read", INSTEAD)

    layers = tuple(
        tuple(
            replace(block, branches=tuple(branch(one, number) for one in block.branches))
            for block in layer
        )
        for number, layer in enumerate(stack.layers)
    )
    return replace(stack, layers=layers)


def with_gains(stack: Stack, weights: list[Weight], table: NameTable) -> Stack:
    """The stack with the gains of its norms and branches.

    Args:
        stack: as the configuration describes it.
        weights: of the module.
        table: the names of its family.

    Raises:
        ArgumentError: gains that vary, or are not positive.
    """
    layers = []
    for number, layer in enumerate(stack.layers):
        own = [one for one in weights if one.layer == number]
        norms = _in_order([one for one in own if one.role is Role.BLOCK_NORM_GAIN], table)
        gains = [_gain(one, table.gain_offset) for one in norms]
        slots = [
            (index, name)
            for index, block in enumerate(layer)
            for name in ("norm_in", "norm_out", "norm_post")
            if getattr(block, name) is not None
        ]
        if gains and len(gains) != len(slots):
            if not math.isclose(min(gains), max(gains), rel_tol=ROUNDING):
                problem = f"layer {number} has {len(gains)} norms of gains {min(gains):.4g} to "
                raise ArgumentError("module", f"{problem}{max(gains):.4g}", INSTEAD)
            gains = gains[:1] * len(slots)
        blocks = list(layer)
        for (index, name), gain in zip(slots, gains, strict=False):
            norm = _gained(getattr(blocks[index], name), gain)
            blocks[index] = replace(blocks[index], **{name: norm})
        scales = [_gain(one, 0.0) for one in own if one.role is Role.BRANCH_GAIN]
        for index, scale in enumerate(scales):
            blocks[index] = replace(blocks[index], branch=_kept(blocks[index].branch, scale))
        layers.append(tuple(_query_key_gain(one, own, table) for one in blocks))
    final = [_gain(one, table.gain_offset) for one in weights if one.role is Role.FINAL_NORM_GAIN]
    norm = stack.norm_final
    if norm is not None and final:
        norm = _gained(norm, final[0])
    return replace(stack, layers=tuple(layers), norm_final=norm)


def _in_order(norms: list[Weight], table: NameTable) -> list[Weight]:
    """Norms of a layer in the order of the stream."""
    if not table.norm_order:
        return norms
    return sorted(norms, key=lambda one: table.norm_order.index(one.name.split(".")[-2]))


def _query_key_gain(block: SubBlock, own: list[Weight], table: NameTable) -> SubBlock:
    """Gains of queries and keys: what scores see is their product."""
    kinds = (Role.QUERY_NORM_GAIN, Role.KEY_NORM_GAIN)
    gains = [_gain(one, table.gain_offset) for one in own if one.role in kinds]
    if not gains:
        return block
    gain = math.prod(gains) ** (1 / len(gains))
    return replace(
        block,
        branches=tuple(
            replace(one, qk_norm=replace(one.qk_norm, gain=_kept(one.qk_norm.gain, gain)))
            if isinstance(one, Attention) and one.qk_norm is not None
            else one
            for one in block.branches
        ),
    )


def _gain(weight: Weight, offset: float) -> float:
    """The constant of a gain.

    Raises:
        ArgumentError: it varies, or is not positive.
    """
    gains = weight.numbers().astype(float) + offset
    low, high, mean = float(gains.min()), float(gains.max()), float(gains.mean())
    if high - low > ROUNDING * abs(mean):
        raise ArgumentError(
            "module",
            f"the gains {weight.name} vary from {low:.4g} to {high:.4g}",
            "a trained network is not what this predicts: its gains begin as one constant",
        )
    if mean <= 0:
        raise ArgumentError(
            "module", f"the gains {weight.name} are {mean:.4g}", "only positive gains are described"
        )
    return mean


def _gained(norm: Normalisation, gain: float) -> Normalisation:
    return replace(norm, gain=_kept(norm.gain, gain))


def _kept(described: float, read: float) -> float:
    """What is described where the module differs by rounding alone."""
    return described if math.isclose(described, read, rel_tol=1e-6) else read


def with_scales(stack: Stack, model: Any, table: NameTable) -> tuple[Stack, tuple[str, ...]]:
    """The stack with the score scales that the module's attention holds, and what was changed.

    Args:
        stack: as the configuration describes it.
        model: the module.
        table: the names of its family.
    """
    modules = dict(model.named_modules())
    found = match_names(table, dict(model.named_parameters(remove_duplicate=False)))
    names = attention_modules(table, found, list(modules))
    held = [getattr(modules[name], one, None) for name in names for one in table.score_scale[:1]]
    scales = [float(one) for one in held if isinstance(one, float | int)]
    if len(scales) != len(stack.layers):
        return stack, ()
    layers = tuple(
        tuple(_scaled(block, scale) for block in layer)
        for layer, scale in zip(stack.layers, scales, strict=True)
    )
    if layers == stack.layers:
        return stack, ()
    return replace(stack, layers=layers), (f"score scales are the module's, {told_range(scales)}",)


def _scaled(block: SubBlock, scale: float) -> SubBlock:
    """A sub-block with the score scale of its module, where the two are not the same."""
    return replace(
        block,
        branches=tuple(
            replace(one, scores=replace(one.scores, score_scale=scale))
            if isinstance(one, Attention)
            and not math.isclose(one.score_scale, scale, rel_tol=ROUNDING)
            else one
            for one in block.branches
        ),
    )


def with_embedding(
    stack: Stack, weights: list[Weight], drawn: list[Drawn]
) -> Embedding | PatchEmbedding | None:
    """The embedding with what the module's tables and rows were drawn from.

    Args:
        stack: as the configuration describes it.
        weights: of the module.
        drawn: its matrices.
    """
    embedding = stack.embedding
    if embedding is None:
        return None
    gains = [one for one in weights if one.role is Role.EMBEDDING_NORM_GAIN]
    norm = embedding.norm
    tokens = isinstance(embedding, Embedding)
    width = embedding.width(stack.dim) if tokens else stack.dim
    if norm is not None and gains:
        norm = _gained(norm, _gain(gains[0], 0.0))
    extra = [one for one in weights if one.role is Role.POSITION_EMBEDDING]
    rows: dict[str, list[np.ndarray]] = {"type": [], "class": [], "position": []}
    for one in extra:
        kind = _kind(bare_name(one.name))
        if kind == "bias" and one.numbers().any():
            problem = f"{one.name} is not zero"
            raise ArgumentError("module", problem, "biases of scores are read where they are zero")
        if kind in rows:
            rows[kind].append(one.numbers().reshape(-1, width))
    if embedding.sinusoids is not None:
        for one in rows.pop("position"):
            embedding = _around_fixed(embedding, one)
    position = [rms(without_padding(one)) for one in rows.get("position", [])]
    positions = math.sqrt(sum(one**2 for one in position))
    if isinstance(embedding, PatchEmbedding):
        (std,) = (one.std for one in drawn if one.weight.role is Role.PATCH_EMBEDDING)
        classes = tuple(rms(one) for several in rows["class"] for one in several)
        if len(classes) != len(embedding.class_stds):
            classes = embedding.class_stds
        return replace(embedding, std=std, position_std=positions, class_stds=classes, norm=norm)
    table = next(one for one in drawn if one.weight.role is Role.TOKEN_EMBEDDING)
    zero = np.flatnonzero(~table.weight.numbers().any(axis=1))
    inner = [one.std for one in drawn if one.weight.role is Role.EMBEDDING_MATRIX]
    return replace(
        embedding,
        inner_std=inner[0] if inner else 0.0,
        std=table.std,
        position_std=positions,
        type_std=math.sqrt(sum(rms(one[:1]) ** 2 for one in rows["type"])),
        padding=int(zero[0]) if len(zero) == 1 else None,
        norm=norm,
    )


def _around_fixed(
    embedding: Embedding | PatchEmbedding, rows: Float[np.ndarray, "n dim"]
) -> Embedding | PatchEmbedding:
    """The embedding with its fixed positions, or without them where the module's are zero.

    Raises:
        ArgumentError: they are neither.
    """
    if not rows.any():
        return replace(embedding, sinusoids=None)
    fixed = embedding.fixed(len(rows), centred=False)
    own = rows.astype(float) @ rows.T.astype(float) / rows.shape[1]
    if fixed is None or not np.allclose(own, fixed, atol=1e-4):
        problem = "the positions are neither zero nor those of the family"
        raise ArgumentError("module", problem, INSTEAD)
    return embedding


#: Rows that stand in front of the patches of an image.
_IN_FRONT = ("cls_token", "class_embedding", "distillation_token", "register_tokens")


#: A drawn table of relative positions, one for all layers.
_TABLE = "relative_attention_bias"


def with_table(stack: Stack, drawn: list[Drawn]) -> Stack:
    """The stack with the deviation of the module's table of relative positions.

    Args:
        stack: as the configuration describes it.
        drawn: the module's matrices.
    """
    stds = [one.std for one in drawn if _TABLE in one.weight.name]
    if not stds:
        return stack

    def change(one: Branch) -> Branch:
        if not isinstance(one, Attention):
            return one
        return replace(one, scores=replace(one.scores, bias_std=stds[0]))

    return stack.with_branches(change)


def _kind(name: str) -> str | None:
    """What a row beside the tokens is for, by the name of its parameter."""
    if "mask_token" in name:
        return None
    if "relative_position_bias" in name:
        return "bias"
    if _TABLE in name:
        return None
    if "token_type" in name:
        return "type"
    if any(one in name for one in _IN_FRONT):
        return "class"
    return "position"


def rms(rows: Float[np.ndarray, ...]) -> float:
    """Root mean square of all entries.

    Args:
        rows: any numbers.
    """
    return math.sqrt(float(np.mean(np.square(rows, dtype=np.float64))))


def without_padding(rows: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "rows n"]:
    """A table without the one row that is zero, where there is one.

    Args:
        rows: of the table.
    """
    zero = np.flatnonzero(~rows.any(axis=1))
    return np.delete(rows, zero, axis=0) if len(zero) == 1 < len(rows) else rows


def told_range(values: list[float]) -> str:
    """A number, or the least and the largest of several.

    Args:
        values: at least one.

    >>> told_range([0.02, 0.0225])
    '0.02 to 0.0225'
    """
    low, high = min(values), max(values)
    same = math.isclose(low, high, rel_tol=1e-3)
    return f"{low:.4g}" if same else f"{low:.4g} to {high:.4g}"
