r"""Words for what a stack does at initialisation, each with the number and the threshold behind it.

| label | where |
|---|---|
| rank collapse | different tokens have overlap above 0.9 at the top, or 1 - R shrinks tenfold |
| entropy collapse | a layer's last query has sum p^2 > 0.5, or entropies below 0.3 log n_i |
| vanishing, exploding gradients | rms gradient after the first layer over that at the top |
| overflow of fp16 | the largest of all entries, sqrt(2 q log(n D)), passes 65504 |
| increments lost in bf16 | what a sub-block adds is below 2^-8 of the stream, and is rounded away |

The thresholds are conventions; entries are Gaussian at initialisation.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, ArrayInput, as_float64, require_count

#: Mean overlap of different tokens at the top, and log of what the layers make of 1 - R.
COLLAPSED, CONTRACTION = 0.9, -2.3
#: Sum of squared weights of the last query, and entropy over that of equal weights.
CONCENTRATED, FOCUSED = 0.5, 0.3
#: Bounds of the rms gradient after the first layer over that at the top.
VANISHED, EXPLODED = 0.1, 10.0
#: The largest number of fp16, and the relative spacing of bf16.
LARGEST_FP16, SPACING_BF16 = 65504.0, 2.0**-8


@dataclass(frozen=True)
class Label:
    """A word and what it stands on.

    Attributes:
        name: the word.
        number: what was found.
        threshold: where the word begins to hold.
        holds: whether it does.
        says: one sentence with the number.
    """

    name: str
    number: float
    threshold: float
    holds: bool
    says: str


def distinct_overlap(
    overlaps: Float[np.ndarray, "*levels n n"], groups: ArrayInput
) -> Float[np.ndarray, "*levels"] | None:
    """The mean overlap of tokens of different groups; None where there is one group.

    Args:
        overlaps: R of the tokens.
        groups: which tokens are equal at the start (their ids).
    """
    groups = np.asarray(groups)
    if groups.shape != np.shape(overlaps)[-1:]:
        raise ArgumentError(
            "groups", f"have shape {groups.shape}", f"pass {np.shape(overlaps)[-1]} labels"
        )
    other = groups[:, None] != groups[None, :]
    if not other.any():
        return None
    matrices = np.asarray(overlaps)
    # A product of long vectors: to select pairs costs ten times as much.
    flat = matrices.reshape(*matrices.shape[:-2], -1)
    return np.asarray(flat @ other.ravel().astype(flat.dtype) / other.sum())


def rank_collapse(overlap: float, contraction: float | None = None) -> Label:
    """Whether different tokens have become one direction.

    Args:
        overlap: of tokens that differ at the start, at the top of the stack.
        contraction: log of what the layers make of 1 - R between nearly equal tokens, or None.
    """
    if contraction is not None and contraction < CONTRACTION and overlap <= COLLAPSED:
        says = f"layers bring nearly equal tokens {math.exp(-contraction):.3g} times nearer"
        return Label("rank collapse", contraction, CONTRACTION, holds=True, says=says)
    says = f"different tokens have overlap {overlap:.3g} at the top"
    return Label("rank collapse", overlap, COLLAPSED, overlap > COLLAPSED, says)


def entropy_collapse(participations: ArrayInput, shares: Float[np.ndarray, " layers"]) -> Label:
    """Whether attention of some layer looks at one key.

    Args:
        participations: mean over heads of sum p^2 of the last query [layers].
        shares: entropy over that of equal weights [layers], NaN where it is not defined.
    """
    squares = np.asarray(as_float64(participations, "participations"))
    found = np.asarray(shares, dtype=float)
    layer, lowest = int(np.argmax(squares)), int(np.argmin(np.where(np.isnan(found), 2.0, found)))
    largest = float(squares[layer])
    if largest <= CONCENTRATED and found[lowest] < FOCUSED:
        says = f"the entropy in layer {lowest + 1} is {found[lowest]:.3g} of that of equal weights"
        return Label("entropy collapse", float(found[lowest]), FOCUSED, holds=True, says=says)
    keys = 1 / max(largest, 1e-300)
    says = f"the last query of layer {layer + 1} looks at {keys:.3g} keys, sum p^2 = {largest:.3g}"
    return Label("entropy collapse", largest, CONCENTRATED, largest > CONCENTRATED, says)


def gradient_label(grad_squares: ArrayInput) -> Label:
    """Whether gradients vanish or explode on their way down to the first layer.

    Args:
        grad_squares: tr B of every level, that of the embedding (level 0) included [levels].
    """
    squares = np.asarray(as_float64(grad_squares, "grad_squares"))
    if squares.ndim != 1 or len(squares) < 2 or not squares[-1] > 0:
        raise ArgumentError(
            "grad_squares", f"got {squares}", "pass tr B of every level, positive at the top"
        )
    ratio, embedding = (float(np.sqrt(squares[i] / squares[-1])) for i in (1, 0))
    name = "vanishing gradients" if ratio < 1 else "exploding gradients"
    threshold = VANISHED if ratio < 1 else EXPLODED
    says = (
        f"the gradient after the first layer is {ratio:.3g} times that at the top "
        f"({embedding:.3g} times at the embedding)"
    )
    return Label(name, ratio, threshold, not VANISHED <= ratio <= EXPLODED, says)


def overflow(mean_squares: ArrayInput, n: int, dim: int) -> Label:
    """Whether the largest entry of the stream passes fp16.

    Args:
        mean_squares: q of every level [levels].
        n: tokens.
        dim: of them.
    """
    squares = np.asarray(as_float64(mean_squares, "mean_squares"))
    entries = require_count(n, "n", 1) * require_count(dim, "dim", 2)
    largest = float(np.sqrt(2 * math.log(entries) * squares.max()))
    says = f"the largest entry of the stream is about {largest:.3g}"
    return Label("overflow of fp16", largest, LARGEST_FP16, largest > LARGEST_FP16, says)


def lost_in_bf16(added: ArrayInput, mean_squares: ArrayInput) -> Label:
    """Whether a sub-block adds less than bf16 resolves.

    Args:
        added: b^2 U after the norm of the output, mean square of what each sub-block adds.
        mean_squares: q of the stream that it is added to, of the same shape.
    """
    one, stream = (
        np.asarray(as_float64(v, k)) for v, k in ((added, "added"), (mean_squares, "mean_squares"))
    )
    if one.shape != stream.shape or one.ndim != 1 or one.size == 0:
        raise ArgumentError("added", f"has shape {one.shape}", f"pass {stream.shape}, not empty")
    safe = np.where(stream > 0, stream, 1.0)
    shares = np.where(stream > 0, np.sqrt(np.maximum(one, 0.0) / safe), np.inf)
    block = int(np.argmin(shares))
    share = float(shares[block])
    says = f"sub-block {block + 1} adds {share:.3g} of the stream's size"
    return Label("increments lost in bf16", share, SPACING_BF16, share < SPACING_BF16, says)
