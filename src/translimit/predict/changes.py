"""A stack with one thing changed: its weights, its norms, its scores.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

from dataclasses import replace

from translimit.describe import (
    Attention,
    Branch,
    Experts,
    FeedForward,
    LatentAttention,
    Normalisation,
    QueryKeyNorm,
    Stack,
    SubBlock,
    attentions,
)

#: Placements of norms: which of in, out and post stand.
PLACEMENTS = {
    "pre-LN": (True, False, False),
    "post-LN": (False, False, True),
    "peri-LN": (True, True, False),
    "reordered": (False, True, False),
}


def scaled(stack: Stack, inner: float | int, outer: float | int) -> Stack:
    """Weights that read times `inner`, the last weights of branches times `outer`.

    Args:
        stack: the stack.
        inner: of queries, keys, values, hidden units and routers.
        outer: of the last matrix of a branch.
    """

    def units(one: FeedForward) -> FeedForward:
        up = None if one.up_std is None else inner * one.up_std
        return replace(one, in_std=inner * one.in_std, out_std=outer * one.out_std, up_std=up)

    def change(branch: Branch) -> Branch:
        match branch:
            case Attention():
                return replace(
                    branch,
                    query_std=inner * branch.query_std,
                    key_std=inner * branch.key_std,
                    value_std=inner * branch.value_std,
                    out_std=outer * branch.out_std,
                )
            case LatentAttention():
                return replace(branch, std=inner * branch.std, out_std=outer * branch.out_std)
            case FeedForward():
                return units(branch)
            case Experts():
                shared = None if branch.shared is None else units(branch.shared)
                return replace(
                    branch,
                    expert=units(branch.expert),
                    shared=shared,
                    router_std=inner * branch.router_std,
                    shared_gate_std=None
                    if branch.shared_gate_std is None
                    else inner * branch.shared_gate_std,
                )

    return stack.with_branches(change)


def depth_scaled(stack: Stack) -> bool:
    """Whether the output of attention has smaller weights than its values.

    Args:
        stack: the stack.
    """
    plain = [one for one in attentions(stack) if isinstance(one, Attention)]
    return bool(plain) and all(one.out_std < 0.99 * one.value_std for one in plain)


def placement(stack: Stack) -> str | None:
    """Where norms stand: a key of `PLACEMENTS`, or None where sub-blocks differ.

    Args:
        stack: the stack.
    """
    kinds = {
        (bool(one.norm_in), bool(one.norm_out), bool(one.norm_post)) for one in stack.sub_blocks
    }
    if len(kinds) != 1:
        return None
    own = kinds.pop()
    return next((name for name, places in PLACEMENTS.items() if places == own), None)


def placed(stack: Stack, name: str) -> Stack:
    """The stack with its norms elsewhere.

    Args:
        stack: the stack.
        name: a key of `PLACEMENTS`.
    """

    def change(block: SubBlock) -> SubBlock:
        norm = next(iter(block.norms), Normalisation())
        before, out, post = (norm if stands else None for stands in PLACEMENTS[name])
        return replace(block, norm_in=before, norm_out=out, norm_post=post)

    return stack.with_blocks(change)


def normed(stack: Stack) -> Stack:
    """The stack with a norm of the queries and keys of every head.

    Args:
        stack: the stack.
    """

    def change(branch: Branch) -> Branch:
        if not isinstance(branch, Attention):
            return branch
        scores = replace(branch.scores, score_scale=None)
        return replace(branch, qk_norm=QueryKeyNorm(norm_eps=1e-6), scores=scores)

    return stack.with_branches(change)


def bare(stack: Stack) -> Stack:
    """The stack without a norm of queries and keys.

    Args:
        stack: the stack.
    """
    return stack.with_branches(
        lambda one: replace(one, qk_norm=None) if isinstance(one, Attention) else one
    )
