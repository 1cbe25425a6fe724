"""What a model is beside its sizes: the facts on which rules depend, read from its stack.

Rules are for stacks of attention and feed-forward blocks, dense or of experts, whose branches read
the stream through a norm or end in one. Facts that change a rule are fields of `ReadSize`; facts
that must be the same in base and target are its `fixed` ones.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from translimit.core import ArgumentError, Json, JsonObject, NoSuchLimitError, nearest
from translimit.describe import (
    FAMILIES,
    Attention,
    Embedding,
    Experts,
    FeedForward,
    LatentAttention,
    Norm,
    PatchEmbedding,
    Role,
    Size,
    Stack,
    StackReading,
)
from translimit.scaling.errors import ShapeMismatchError


@dataclass(frozen=True)
class ReadSize:
    """Sizes with what their source says about the module.

    Attributes:
        size: the sizes.
        vocabulary: entries of the vocabulary, or None where it is not told.
        tied: whether token embedding and readout are one tensor.
        packed_qkv: whether query, key and value are one tensor.
        qk_norm: whether queries and keys are normalised.
        branch_gain: whether a gain ends every branch, of a norm or of its own (LayerScale).
        scaled_embedding: whether the embedding is multiplied by the root of the width.
        normalised_gates: whether the gates of active experts sum to a constant.
        score_multiplier: of the scores over head_dim^(-1/2), as that of stretched rotary positions
            in attention of latents.
        fixed: names and values of what must not differ between base and target.
        absent: roles that the model is known not to have.
    """

    size: Size
    vocabulary: int | None = None
    tied: bool = False
    packed_qkv: bool = False
    qk_norm: bool = False
    branch_gain: bool = False
    scaled_embedding: bool = False
    normalised_gates: bool = True
    score_multiplier: float = 1.0
    fixed: tuple[tuple[str, Json], ...] = ()
    absent: frozenset[Role] = frozenset()


def size_of(reading: StackReading, values: JsonObject, where: str) -> ReadSize:
    """Sizes and facts of a stack.

    Args:
        reading: the stack and what it was read as.
        values: the configuration that it was read from.
        where: how errors call it.

    Raises:
        NoSuchLimitError: a stack whose blocks the rules are not known for.
    """
    require_known_block(reading, where)
    stack = reading.stack
    branches = [branch for block in stack.sub_blocks for branch in block.branches]
    mixtures = [one for one in branches if isinstance(one, Experts)]
    hidden = mixtures[0].expert.width if mixtures else reading.mlp_dim
    told: dict[str, Any] = {} if hidden is None else {"mlp_ratio": hidden / stack.dim}
    if mixtures:
        told |= {"experts": mixtures[0].count, "active_experts": mixtures[0].active}
    latent = next((one for one in branches if isinstance(one, LatentAttention)), None)
    if latent is not None:
        told |= {
            "kv_rank": latent.kv_rank,
            "query_rank": latent.query_rank,
            "rope_dim": latent.rope_dim,
            "value_dim": latent.value_dim,
        }
    size = Size(
        head_dim=reading.head_dim,
        heads=reading.heads,
        layers=reading.layers,
        kv_heads=reading.kv_heads,
        dim=stack.dim,
        **told,
    )
    return ReadSize(
        size,
        reading.vocabulary,
        reading.tied,
        reading.packed_qkv,
        reading.qk_norm,
        **module_facts(reading),
        score_multiplier=1.0 if latent is None else _multiplier(latent),
        fixed=tuple(_fixed(stack, values).items()),
        absent=frozenset(_absent(reading, values)),
    )


def _multiplier(latent: LatentAttention) -> float:
    """What scores have beside N^{-1/2}, to 9 digits: the same at every head dimension."""
    return round(latent.score_scale * latent.head_dim**0.5, 9)


def module_facts(reading: StackReading) -> dict[str, bool]:
    """The facts that are options of `rules`: `branch_gain`, and two more."""
    stack = reading.stack
    branches = [branch for block in stack.sub_blocks for branch in block.branches]
    sums = ("softmax_renormalised", "softmax_top", "sigmoid")
    return {
        "branch_gain": reading.branch_gain or any(block.norm_out for block in stack.sub_blocks),
        "scaled_embedding": _multiplies_by_root_of_width(stack),
        "normalised_gates": all(
            one.routing in sums for one in branches if isinstance(one, Experts)
        ),
    }


def _multiplies_by_root_of_width(stack: Stack) -> bool:
    of = stack.embedding
    if not isinstance(of, Embedding) or of.multiplier == 1:
        return False
    return math.isclose(of.multiplier, stack.dim**0.5, rel_tol=1e-2)


def _fixed(stack: Stack, values: JsonObject) -> dict[str, Json]:
    """What base and target must share, by the name that errors and overrides use."""
    branches = [branch for block in stack.sub_blocks for branch in block.branches]
    first = stack.sub_blocks[0]
    of, found = stack.embedding, {}
    if isinstance(std := values.get("initializer_range"), float | int):
        found["initializer_range"] = float(std)
    if isinstance(of, PatchEmbedding):
        found |= {"patch": of.patch, "channels": of.channels}
    if isinstance(of, Embedding):
        if of.multiplier != 1 and not _multiplies_by_root_of_width(stack):
            found["embedding_multiplier"] = of.multiplier
        found["learned_positions"] = of.position_std > 0
    found["causal"] = stack.causal
    found["parallel_blocks"] = any(len(block.branches) > 1 for block in stack.sub_blocks)
    found["branch_multiplier"] = first.branch
    norms = {one.kind.value for block in stack.sub_blocks for one in block.norms}
    found["norm"] = ", ".join(sorted(norms))
    found["norm_in"] = first.norm_in is not None
    dense: list[FeedForward] = []
    for one in branches:
        if isinstance(one, FeedForward):
            dense.append(one)
        if isinstance(one, Experts):
            dense.append(one.expert)
            found["shared_expert"] = one.shared is not None
            found["routing"] = one.routing
    units = {one.width for one in branches if isinstance(one, FeedForward)}
    mixed = [one for one in branches if isinstance(one, Experts)]
    for name, widths in (
        ("dense_over_expert", units),
        ("shared_over_expert", {one.shared.width for one in mixed if one.shared is not None}),
    ):
        if mixed and len(widths) == 1:
            found[name] = widths.pop() / mixed[0].expert.width
    if dense:
        found["activation"] = dense[-1].activation.value
        found["gated"] = dense[-1].gated
    return found


def _absent(reading: StackReading, values: JsonObject) -> set[Role]:
    """Roles of which the stack has no parameter."""
    stack, qk_norm = reading.stack, reading.qk_norm
    branches = [branch for block in stack.sub_blocks for branch in block.branches]
    of, made = stack.embedding, {Role.SHAPED_GAIN}
    if isinstance(of, Embedding):
        made |= {Role.PATCH_EMBEDDING, Role.PATCH_BIAS}
        if of.position_std == 0:
            made.add(Role.POSITION_EMBEDDING)
    if isinstance(of, PatchEmbedding):
        made.add(Role.TOKEN_EMBEDDING)
    norms = [one for block in stack.sub_blocks for one in block.norms]
    if all(one.kind is Norm.RMS for one in norms):
        made |= {Role.BLOCK_NORM_BIAS, Role.FINAL_NORM_BIAS}
    if stack.norm_final is None:
        made |= {Role.FINAL_NORM_GAIN, Role.FINAL_NORM_BIAS}
    if not all(block.norm_in for block in stack.sub_blocks):
        made |= {Role.BLOCK_NORM_GAIN, Role.BLOCK_NORM_BIAS}
    if not (reading.branch_gain or any(block.norm_out for block in stack.sub_blocks)):
        made.add(Role.BRANCH_GAIN)
    made |= {Role.QUERY_NORM_GAIN, Role.KEY_NORM_GAIN}  # as `qk_gain` or `qk_gain_shared`
    normed = [one.qk_norm for one in branches if isinstance(one, Attention) and one.qk_norm]
    shared = [one for one in normed if qk_norm and one.is_shared]
    if not any(qk_norm and one.is_own for one in normed):
        made.add(Role.QK_GAIN)
    if not shared:
        made.add(Role.QK_GAIN_SHARED)
    if all(one.kind is Norm.RMS for one in shared):
        made.add(Role.QK_BIAS_SHARED)
    if not isinstance(of, Embedding | PatchEmbedding) or of.norm is None:
        made |= {Role.EMBEDDING_NORM_GAIN, Role.EMBEDDING_NORM_BIAS}
    made |= {Role.READOUT_DENSE, Role.READOUT_DENSE_BIAS} - _named(reading.family)
    latents = [one for one in branches if isinstance(one, LatentAttention)]
    if not latents:
        made |= {role for role in Role if role.is_of_latent}
    else:
        made |= {Role.KEY, Role.KEY_BIAS, Role.VALUE, Role.VALUE_BIAS, Role.QUERY_BIAS}
        queries = {Role.QUERY_DOWN, Role.QUERY_LATENT_GAIN, Role.QUERY_UP}
        made |= {Role.QUERY} if latents[0].query_rank is not None else queries
    mixtures = [one for one in branches if isinstance(one, Experts)]
    dense = [one for one in branches if isinstance(one, FeedForward)]
    dense += [one.shared for one in mixtures if one.shared is not None]
    if not mixtures:
        made |= {role for role in Role if role.is_routed}
    if not dense:
        made |= {role for role in Role if role.is_of_mlp}
    if not any(one.gated for one in dense):
        made |= {Role.MLP_GATE, Role.MLP_GATE_BIAS}
    if values.get("attention_bias") is False:
        made |= {Role.QUERY_BIAS, Role.KEY_BIAS, Role.VALUE_BIAS, Role.ATTENTION_OUT_BIAS}
    if values.get("mlp_bias") is False:
        made |= {Role.MLP_IN_BIAS, Role.MLP_GATE_BIAS, Role.MLP_OUT_BIAS}
        made |= {Role.EXPERT_IN_BIAS, Role.EXPERT_OUT_BIAS}
    return made


def _named(family: str) -> set[Role]:
    """The roles that the table of a family has names for."""
    one = FAMILIES.get(family)
    if one is None or one.names is None:
        return set()
    roles = one.names.roles.values()
    return {part for role in roles for part in ((role,) if isinstance(role, Role) else role)}


def absent_by_size(read: ReadSize) -> frozenset[Role]:
    """Roles that a model is known not to have, where sizes alone tell nothing of its modules."""
    if read.absent:
        return read.absent
    made = {Role.SHAPED_GAIN, Role.BRANCH_GAIN, Role.QUERY_NORM_GAIN, Role.KEY_NORM_GAIN}
    if not read.qk_norm:
        made |= {Role.QK_GAIN, Role.QK_GAIN_SHARED, Role.QK_BIAS_SHARED}
    made |= {Role.EMBEDDING_NORM_GAIN, Role.EMBEDDING_NORM_BIAS}
    made |= {Role.READOUT_DENSE, Role.READOUT_DENSE_BIAS}
    if read.size.experts is None:
        made |= {role for role in Role if role.is_routed}
    return frozenset(made)


#: Facts of `ReadSize` that base and target must share.
_SHARED = (
    *("vocabulary", "tied", "packed_qkv", "qk_norm", "branch_gain", "scaled_embedding"),
    *("normalised_gates", "score_multiplier"),
)


def require_same_module(base: ReadSize, target: ReadSize, allow: Collection[str] = ()) -> None:
    """Refuse a target that differs from its base in what is never scaled.

    Args:
        base: the tuned one.
        target: the one to train.
        allow: facts that may differ, such as a vocabulary padded to another multiple.

    Raises:
        ShapeMismatchError: another vocabulary, standard deviation of the start, patch, activation
            or norm; tied embeddings, a packed projection, parallel blocks or normalised queries
            in one; the message names what differs.
        ArgumentError: an unknown fact in `allow`.
    """
    facts = [(name, getattr(base, name), getattr(target, name)) for name in _SHARED]
    small, large = dict(base.fixed), dict(target.fixed)
    facts += [(name, value, large.get(name)) for name, value in small.items()]
    known = {*_SHARED, *small, *large}
    for name in allow:
        if name not in known and (small or large):
            raise ArgumentError("allow", f"unknown fact {name!r}", nearest(name, known))
    for name, one, other in facts:
        if one != other and None not in (one, other) and name not in allow:
            keep = "keep it as it is in the base"
            free = name == "vocabulary" or name not in _SHARED
            raise ShapeMismatchError(
                name,
                f"is {one} in the base and {other} in the target",
                f"{keep}, or pass allow=({name!r},) where it does not matter" if free else keep,
            )


def require_known_block(reading: StackReading, where: str) -> None:
    """Refuse a stack whose blocks the rules are not known for.

    Args:
        reading: the stack and what it was read as.
        where: how errors call it.

    Raises:
        NoSuchLimitError: a norm after the sum, a branch without a norm before or behind it,
            latents in some layers only, a multiplied stream, or scores of another scale than
            head_dim^(-1/2).
    """
    if (problem := unknown_block(reading.stack)) is not None:
        raise NoSuchLimitError(
            where,
            f"{reading.family!r} {problem}",
            "the rules are for stacks of attention, feed-forward blocks and experts with norms in "
            "the branches, like GPT-2, Llama, Gemma or ViT; for other blocks tell the sizes alone, "
            "and make a coordinate check",
        )


def unknown_block(stack: Stack, *, any_scale: bool = False) -> str | None:
    """What the rules do not know of in a stack, in words; None where they know all.

    Args:
        stack: the stack.
        any_scale: whether scores may have another scale than head_dim^(-1/2).
    """
    blocks = stack.sub_blocks
    branches = [branch for block in blocks for branch in block.branches]
    attention = [one for one in branches if isinstance(one, Attention | LatentAttention)]
    latents = [one for one in attention if isinstance(one, LatentAttention)]
    mixtures = [one for one in branches if isinstance(one, Experts)]
    ends = [block.norm_out is not None for block in blocks]
    if any(block.norm_post for block in blocks):
        return "normalises after the residual sum (post-LN)"
    if any(ends) and not all(ends):
        return "normalises what some of its branches return, and not what the others do"
    if not any(ends) and not all(block.norm_in for block in blocks):
        return "has a branch that reads the stream without a norm and ends in none"
    if latents and any(one != latents[0] for one in attention):
        return "has attention of latents in some layers only, or of several kinds"
    if not all(
        isinstance(one, Attention | LatentAttention | FeedForward | Experts) for one in branches
    ):
        return "has a branch that is neither attention nor a feed-forward block"
    if len({(one.count, one.active, one.routing, one.expert.width) for one in mixtures}) > 1:
        return "has layers with different experts"
    if any(block.residual != 1 for block in blocks):
        return "multiplies the stream"
    if len({block.branch for block in blocks}) > 1:
        return "multiplies its branches by different numbers"
    if not any_scale and any(
        abs(one.score_scale * one.head_dim**0.5 - 1) > 1e-6
        for one in attention
        if isinstance(one, Attention)
    ):
        return "does not divide its scores by head_dim^(1/2)"
    return None
