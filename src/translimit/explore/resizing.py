r"""A described stack at the sizes of the sliders, with variances that keep what they are.

Where a width changes from D to D', standard deviations of matrices that read it become
sigma (D / D')^{1/2}, so that D sigma^2 stays; the last matrices of branches keep fan-in times
variance in the same way. The score temperature sets beta_s of every layer, the step sets
gamma_A / q_0 = step^2 / heads of the first.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from translimit.core import ArgumentError
from translimit.describe import (
    Attention,
    Branch,
    Embedding,
    Experts,
    FeedForward,
    Frequencies,
    LatentAttention,
    Normalisation,
    PatchEmbedding,
    Scores,
    Stack,
    SubBlock,
    attentions,
    pre_norm_stack,
    score_std,
)
from translimit.limits.signal import value_gain


def plain_stack(heads: int, head_dim: int, layers: int) -> Stack:
    """Attention alone, with a root mean square norm and unit tokens that see one another.

    Args:
        heads: of a layer.
        head_dim: entries of a query.
        layers: how many.

    Raises:
        ArgumentError: a stream of width one.
    """
    dim = heads * head_dim
    if dim < 2:
        raise ArgumentError(
            "head_dim", f"got {head_dim}: the stream has width {dim}", "pass wider heads"
        )
    std = dim**-0.5
    attention = Attention(heads, head_dim, std, std, std, std)
    return pre_norm_stack(
        dim, layers, attention, norm=Normalisation(), embedding=Embedding(1.0), causal=False
    )


def initial_square(stack: Stack) -> float:
    """q_0, mean square of an entry of tokens that all differ.

    Args:
        stack: the stack.
    """
    return float(np.diagonal(distinct_cov(stack, 2)).mean())


def distinct_cov(stack: Stack, tokens: int) -> np.ndarray:
    """C of tokens that all differ: words, the first patches of an image, or unit tokens.

    Args:
        stack: the stack.
        tokens: how many.
    """
    if isinstance(stack.embedding, PatchEmbedding):
        return stack.image_cov()[-tokens:, -tokens:]
    if stack.embedding is None:
        return stack.free_dim / stack.dim * np.eye(tokens)
    padding = stack.embedding.padding
    ids = np.arange(tokens) + (0 if padding is None else padding + 1)
    return stack.initial_cov(ids)


def resized(stack: Stack, heads: int, head_dim: int, layers: int, dim: int) -> Stack:
    """The stack at other sizes, its layers repeated in their order.

    Args:
        stack: the stack.
        heads: of a layer.
        head_dim: entries of a query.
        layers: how many.
        dim: width of the stream.
    """
    first = next(attentions(stack), None)
    ratio = dim / stack.dim
    of_heads = 1.0 if first is None else heads / first.heads
    of_entries = 1.0 if first is None else head_dim / first.head_dim

    def change(branch: Branch) -> Branch:
        match branch:
            case Attention():
                return _attention(branch, ratio, of_heads, of_entries)
            case LatentAttention():
                return _latents(branch, ratio, of_heads, of_entries)
            case FeedForward():
                return _units(branch, ratio)
            case Experts():
                shared = None if branch.shared is None else _units(branch.shared, ratio)
                return replace(
                    branch,
                    expert=_units(branch.expert, ratio),
                    shared=shared,
                    router_std=branch.router_std / math.sqrt(ratio),
                    shared_gate_std=None
                    if branch.shared_gate_std is None
                    else branch.shared_gate_std / math.sqrt(ratio),
                )

    changed = replace(stack.with_branches(change), dim=dim)
    return changed if layers == len(stack.layers) else changed.with_layers(layers)


def with_scores(stack: Stack, wanted: float | int) -> Stack:
    """The stack with scores of this deviation in every layer.

    Args:
        stack: the stack.
        wanted: beta_s.
    """

    def change(branch: Branch) -> Branch:
        if isinstance(branch, (FeedForward, Experts)):
            return branch
        now = score_std(branch, stack.dim)
        if isinstance(branch, Attention) and branch.qk_norm is None and now > 0:
            factor = math.sqrt(wanted / now)
            return replace(
                branch, query_std=factor * branch.query_std, key_std=factor * branch.key_std
            )
        scale = branch.score_scale * wanted / now
        return replace(branch, scores=replace(branch.scores, score_scale=scale))

    return stack.with_branches(change)


def first_step(stack: Stack) -> float:
    """What the attention of the first layer adds for unit overlaps, over q_0: gamma_A / q_0.

    Behind a norm of the output that is its square times the multiplier's; in a post-LN stack the
    stream has mean square one.

    Args:
        stack: the stack.
    """
    for block in stack.sub_blocks:
        for branch in block.branches:
            if isinstance(branch, (Attention, LatentAttention)):
                square = 1.0 if block.norm_post else initial_square(stack)
                out = block.norm_out
                added = value_gain(branch, stack.dim) if out is None else out.gain**2
                return block.branch**2 * added / square
    return 0.0


def with_step(stack: Stack, wanted: float | int) -> Stack:
    """The stack whose attention adds more or less: by its last matrix, or by its multiplier.

    Args:
        stack: the stack.
        wanted: gamma_A / q_0 of the first layer.
    """
    now = first_step(stack)
    if now == 0:
        return stack
    factor = math.sqrt(wanted / now)

    def change(block: SubBlock) -> SubBlock:
        mixers = [one for one in block.branches if isinstance(one, (Attention, LatentAttention))]
        if not mixers:
            return block
        if block.norm_out is not None:
            return replace(block, branch=factor * block.branch)
        branches = tuple(
            replace(one, out_std=factor * one.out_std)
            if isinstance(one, (Attention, LatentAttention))
            else one
            for one in block.branches
        )
        return replace(block, branches=branches)

    return stack.with_blocks(change)


def _attention(one: Attention, ratio: float, of_heads: float, of_entries: float) -> Attention:
    """Attention at other sizes; groups of heads that share keys stay as large as they can."""
    heads, head_dim = round(one.heads * of_heads), round(one.head_dim * of_entries)
    values = None if one.value_dim is None else max(1, round(one.value_dim * of_entries))
    groups = one.heads // one.key_heads
    reads = 1 / math.sqrt(ratio)
    made = replace(
        one,
        heads=heads,
        head_dim=head_dim,
        value_dim=values,
        kv_heads=None if groups == 1 else heads // math.gcd(heads, groups),
        query_std=reads * one.query_std,
        key_std=reads * one.key_std,
        value_std=reads * one.value_std,
        rotary=_turning(one.rotary, head_dim / one.head_dim),
        scores=_scores(one.scores, heads, one.head_dim / head_dim),
    )
    fan_in = heads * made.values / (one.heads * one.values)
    return replace(made, out_std=one.out_std / math.sqrt(fan_in))


def _latents(
    one: LatentAttention, ratio: float, of_heads: float, of_entries: float
) -> LatentAttention:
    """Attention of latents at other sizes; ranks grow with the width."""
    heads, rope = round(one.heads * of_heads), 2 * max(1, round(one.rope_dim * of_entries / 2))
    nope = max(1, round(one.head_dim * of_entries) - rope)
    values = max(1, round(one.value_dim * of_entries))
    rank = None if one.query_rank is None else max(1, round(one.query_rank * ratio))
    made = replace(
        one,
        heads=heads,
        nope_dim=nope,
        rope_dim=rope,
        value_dim=values,
        kv_rank=max(1, round(one.kv_rank * ratio)),
        query_rank=rank,
        std=one.std / math.sqrt(ratio),
        rotary=_turning(one.rotary, rope / one.rope_dim),
        scores=_scores(one.scores, heads, one.head_dim / (nope + rope)),
    )
    fan_in = heads * values / (one.heads * one.value_dim)
    return replace(made, out_std=one.out_std / math.sqrt(fan_in))


def _units(one: FeedForward, ratio: float) -> FeedForward:
    width = max(1, round(one.width * ratio))
    return replace(
        one,
        width=width,
        in_std=one.in_std / math.sqrt(ratio),
        up_std=None if one.up_std is None else one.up_std / math.sqrt(ratio),
        out_std=one.out_std / math.sqrt(width / one.width),
    )


def _turning(old: Frequencies | None, ratio: float) -> Frequencies | None:
    """As many frequencies as the share of a head needs, on the old ones' geometric course."""
    if old is None or ratio == 1:
        return old
    count = round(len(old.thetas) * ratio)
    if count < 1:
        return None
    places = np.arange(count) * len(old.thetas) / count
    logs = np.interp(places, np.arange(len(old.thetas)), np.log(old.thetas))
    return replace(old, thetas=tuple(np.exp(logs).tolist()))


def _scores(old: Scores, heads: int, shrunk: float) -> Scores:
    """A given scale keeps its ratio to head_dim^-1/2, slopes their course over the heads."""
    if shrunk != 1 and old.score_scale is not None:
        old = replace(old, score_scale=old.score_scale * math.sqrt(shrunk))
    if old.slopes and heads != len(old.slopes):
        places = np.linspace(0, len(old.slopes) - 1, heads)
        logs = np.interp(places, np.arange(len(old.slopes)), np.log(old.slopes))
        old = replace(old, slopes=tuple(np.exp(logs).tolist()))
    return old
