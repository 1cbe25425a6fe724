"""What a layer's attention looks at, and what its branches add to the stream.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from translimit.describe import Attention, LatentAttention, Layer, SubBlock
from translimit.limits.signal.heads import visible
from translimit.limits.signal.sub_blocks import Passed


class Summary(NamedTuple):
    """Numbers of a layer for every copy, or of all layers [copies, layers].

    Attributes:
        attention_entropies: of attention weights in nats, mean over queries that see two keys or
            more.
        entropies: over the logarithm of the keys that a query sees, in the same mean; 1 where
            none sees two.
        attention_entropy_stds: of a head's mean entropy, over heads.
        participations: mean sum of squared attention weights of the last query.
        attention_added: mean square that attention adds to an entry of the stream.
        units_added: that of hidden units.
    """

    attention_entropies: np.ndarray
    entropies: np.ndarray
    attention_entropy_stds: np.ndarray
    participations: np.ndarray
    attention_added: np.ndarray
    units_added: np.ndarray


def summary(layer: Layer, passed: Sequence[Sequence[Passed]], causal: bool) -> Summary:
    """The numbers of a layer.

    Args:
        layer: its sub-blocks.
        passed: what came of each, for every copy.
        causal: whether a token sees only itself and the tokens before it.
    """
    total = np.zeros((6, len(passed[0])))
    for block, ones in zip(layer, passed, strict=True):
        entropy = np.stack([one.attention_entropy for one in ones])
        first = min(int(causal), entropy.shape[1] - 1)  # queries that see two keys or more
        total[:4] += (
            entropy[:, first:].mean(axis=1),
            _share(block, entropy, causal),
            np.stack([one.attention_entropy_std for one in ones]),
            np.stack([one.squares for one in ones])[:, -1],
        )
        total[4:] += np.stack([_added(block, one) for one in ones], axis=1)
    return Summary(*total)


def over_layers(layers: Sequence[Summary]) -> Summary:
    """The numbers of all layers [copies, layers].

    Args:
        layers: of each, from the first to the last.
    """
    return Summary(*(np.stack(column, axis=1) for column in zip(*layers, strict=True)))


def _share(block: SubBlock, entropy: np.ndarray, causal: bool) -> np.ndarray:
    """Entropy over its largest; 1 without a query that sees two keys, 0 without attention."""
    for branch in block.branches:
        if isinstance(branch, (Attention, LatentAttention)):
            counts = visible(branch.scores, causal, entropy.shape[1]).sum(axis=1)
            seen = counts > 1
            if seen.any():
                return np.mean(entropy[:, seen] / np.log(counts[seen]), axis=1)
            return np.ones(len(entropy))
    return np.zeros(len(entropy))


def _added(block: SubBlock, one: Passed) -> Float[np.ndarray, 2]:
    """Mean squares that attention and that hidden units add, behind a norm of their sum."""
    added, norm = np.zeros(2), block.norm_out
    s = np.ones(len(one.out))
    if norm is not None:
        squares = np.diagonal(np.asarray(one.out)) + norm.norm_eps
        s = np.where(squares > 0, norm.gain**2 / np.where(squares > 0, squares, 1.0), 0.0)
    for branch, part in zip(block.branches, one.parts, strict=True):
        place = 0 if isinstance(branch, (Attention, LatentAttention)) else 1
        added[place] += block.branch**2 * np.mean(np.diagonal(np.asarray(part)) * s)
    return added
