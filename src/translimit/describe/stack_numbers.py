r"""Numbers of a stack that decide how its signal propagates, and the sizes of its matrices.

The score of two unit tokens has deviation beta_s = tau (d w_q w_k)^{1/2}, with w = D sigma^2; under
a norm of queries and keys tau d^{1/2} g^2. Finite widths act like one of
1 / D_eff = 1 / D + 1 / (H_kv d_v) + 1 / d_m.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from translimit.describe.blocks import Layer
from translimit.describe.mixers import Attention, Experts, FeedForward, LatentAttention
from translimit.describe.stack import Stack


@dataclass(frozen=True)
class Matrices:
    """The matrices of a group in one layer, or the gains of its norms.

    Attributes:
        group: query, key, value, attention_out, in, up, out; query_down, query_up, key_value_down
            and key_value_up of latents; shared_in, shared_up, shared_out, router, shared_gate; of
            norms norm_in, norm_out, norm_post, norm_query, norm_key, norm_query_latent and
            norm_key_value_latent.
        std: of their entries; 1 for gains, which are constant.
        entries: of all of them.
    """

    group: str
    std: float
    entries: int


def score_std(mixer: Attention | LatentAttention, dim: int) -> float:
    """beta_s, the deviation of the score of two unit tokens.

    Args:
        mixer: the attention.
        dim: D, of the tokens.
    """
    if isinstance(mixer, Attention):
        if mixer.qk_norm is not None:
            return mixer.score_scale * math.sqrt(mixer.head_dim) * mixer.qk_norm.gain**2
        std = dim * mixer.query_std * mixer.key_std
        return mixer.score_scale * math.sqrt(mixer.head_dim) * std
    query = (mixer.query_rank or dim) * mixer.std**2
    keys = mixer.nope_dim * mixer.kv_rank + mixer.rope_dim * dim
    return mixer.score_scale * math.sqrt(query * keys * mixer.std**2)


def attentions(stack: Stack) -> Iterator[Attention | LatentAttention]:
    """All attention of a stack, from the first layer on.

    Args:
        stack: the stack.
    """
    for block in stack.sub_blocks:
        for branch in block.branches:
            if isinstance(branch, (Attention, LatentAttention)):
                yield branch


def feed_forwards(stack: Stack) -> Iterator[FeedForward]:
    """All feed-forward blocks of a stack, one expert for all experts of a mixture.

    Args:
        stack: the stack.
    """
    for block in stack.sub_blocks:
        for branch in block.branches:
            if isinstance(branch, FeedForward):
                yield branch
            elif isinstance(branch, Experts):
                yield branch.expert


def effective_dim(stack: Stack) -> float:
    """D_eff: networks differ from infinite width like n / D_eff.

    Args:
        stack: the stack.
    """
    inverse = 1 / stack.dim
    values = [
        one.key_heads * one.values if isinstance(one, Attention) else one.heads * one.value_dim
        for one in attentions(stack)
    ]
    widths = [one.width for one in feed_forwards(stack)]
    inverse += 1 / min(values) if values else 0.0
    inverse += 1 / min(widths) if widths else 0.0
    return 1 / inverse


def matrices(layer: Layer, dim: int) -> dict[str, Matrices]:
    """The matrices and gains of a layer by group.

    In a mixture in, up and out are those of all routed experts together.

    Args:
        layer: the layer.
        dim: of the tokens.
    """
    found: dict[str, Matrices] = {}

    def add(group: str, std: float, entries: int) -> None:
        old = found.get(group)
        found[group] = Matrices(group, std, entries + (old.entries if old else 0))

    for block in layer:
        for place in ("norm_in", "norm_out", "norm_post"):
            if getattr(block, place) is not None:
                add(place, 1.0, dim)
        for branch in block.branches:
            if isinstance(branch, Attention):
                add("query", branch.query_std, dim * branch.heads * branch.head_dim)
                add("key", branch.key_std, dim * branch.key_heads * branch.head_dim)
                add("value", branch.value_std, dim * branch.key_heads * branch.values)
                add("attention_out", branch.out_std, dim * branch.heads * branch.values)
                if (norm := branch.qk_norm) is not None and norm.gains != "none":
                    own = norm.is_own
                    add("norm_query", 1.0, branch.head_dim * (branch.heads if own else 1))
                    add("norm_key", 1.0, branch.head_dim * (branch.key_heads if own else 1))
            elif isinstance(branch, LatentAttention):
                asked, rank = branch.heads * branch.head_dim, branch.kv_rank
                if branch.query_rank is None:
                    add("query", branch.std, dim * asked)
                else:
                    add("query_down", branch.std, dim * branch.query_rank)
                    add("query_up", branch.std, branch.query_rank * asked)
                    add("norm_query_latent", 1.0, branch.query_rank)
                add("key_value_down", branch.std, dim * (rank + branch.rope_dim))
                read = branch.heads * (branch.nope_dim + branch.value_dim)
                add("key_value_up", branch.std, rank * read)
                add("norm_key_value_latent", 1.0, rank)
                add("attention_out", branch.out_std, dim * branch.heads * branch.value_dim)
            else:
                for kind, unit, count in _units(branch):
                    add(f"{kind}in", unit.in_std, count * dim * unit.width)
                    if unit.gated:
                        up = unit.in_std if unit.up_std is None else unit.up_std
                        add(f"{kind}up", up, count * dim * unit.width)
                    add(f"{kind}out", unit.out_std, count * dim * unit.width)
                if isinstance(branch, Experts):
                    add("router", branch.router_std, dim * branch.count)
                    if branch.shared_gate_std is not None:
                        add("shared_gate", branch.shared_gate_std, dim)
    return found


def _units(branch: FeedForward | Experts) -> list[tuple[str, FeedForward, int]]:
    """Hidden units, how many times, and what stands before the names of their groups."""
    if isinstance(branch, FeedForward):
        return [("", branch, 1)]
    shared = [] if branch.shared is None else [("shared_", branch.shared, 1)]
    return [("", branch.expert, branch.count), *shared]
