r"""What is read off a solved stack, copy by copy: overlaps, norms, entropies and gradients.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from translimit.describe import Stack, matrices
from translimit.limits.signal import SignalSolution, distinct_overlap
from translimit.observe import mean_overlap_of

#: Groups of weights in words.
GROUPS = {
    "query": "queries",
    "key": "keys",
    "value": "values",
    "attention_out": "attention's output",
    "in": "first matrix of hidden units",
    "up": "gated matrix of hidden units",
    "out": "last matrix of hidden units",
    "router": "router",
}


@dataclass(frozen=True)
class Measure:
    """One quantity of all copies.

    Attributes:
        says: what it is, in words.
        by: "level" or "layer".
        values: of every copy [copies, levels] or [copies, layers].
    """

    says: str
    by: str
    values: Float[np.ndarray, "copies places"]


def measure(
    solution: SignalSolution, stack: Stack, kinds: Int[np.ndarray, " n"]
) -> dict[str, Measure]:
    """All quantities of a solved stack by their names.

    Args:
        solution: of the stack.
        stack: its description.
        kinds: which tokens are equal where they enter [n].
    """
    overlaps, squares = solution.overlaps, _squares(solution.covs)
    found = {
        "overlap": Measure(
            "mean overlap of two tokens", "level", np.asarray(mean_overlap_of(overlaps))
        ),
        "overlap_all": Measure(
            "mean overlap, the diagonal included", "level", overlaps.mean(axis=(-2, -1))
        ),
        "effective_rank": Measure("effective rank of the overlaps", "level", _rank(overlaps)),
        "rms": Measure("rms of an entry of the stream", "level", np.sqrt(squares)),
        "attention_share": Measure(
            "share of the mean square that attention adds",
            "layer",
            _share(solution, stack, 0),
        ),
        "units_share": Measure(
            "share of the mean square that hidden units add",
            "layer",
            _share(solution, stack, 1),
        ),
        "entropy": Measure(
            "entropy of attention weights over its largest", "layer", solution.entropy_shares
        ),
        "entropy_nats": Measure(
            "entropy of attention weights in nats", "layer", solution.entropies
        ),
        "entropy_spread": Measure(
            "deviation of that entropy over heads", "layer", solution.entropy_stds
        ),
        "concentration": Measure(
            "sum of squared attention weights of the last query", "layer", solution.participations
        ),
    }
    different = distinct_overlap(overlaps, kinds)
    if different is not None:
        found["overlap_distinct"] = Measure(
            "mean overlap of two tokens that differ where they enter", "level", different
        )
    return found | gradients(solution, stack)


def gradients(solution: SignalSolution, stack: Stack) -> dict[str, Measure]:
    """The gradient of the stream by level, and of every group of weights by layer.

    Args:
        solution: of the stack, with its way back.
        stack: its description.
    """
    if solution.grad_grams.shape[1] == 0:
        return {}
    found = {
        "gradient": Measure(
            "rms over tokens of the norm of the stream's gradient",
            "level",
            np.sqrt(_squares(solution.grad_grams)),
        )
    }
    layers = [matrices(layer, stack.dim) for layer in stack.layers]
    for place, group in enumerate(solution.groups):
        stds = np.array([one[group].std if group in one else np.nan for one in layers])
        if np.isnan(stds).all():
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            norms = np.sqrt(solution.weight_squares[..., place]) / stds
        # A matrix of zeros has no such gradient, a layer without the group none at all.
        found[f"gradient_{group}"] = Measure(
            f"norm of the gradient of weights: {GROUPS[group]}",
            "layer",
            np.where(stds > 0, norms, 0.0),
        )
    return found


def _squares(grams: Float[np.ndarray, "copies levels n n"]) -> Float[np.ndarray, "copies levels"]:
    return np.diagonal(grams, axis1=-2, axis2=-1).mean(axis=-1)


def _rank(overlaps: Float[np.ndarray, "copies levels n n"]) -> Float[np.ndarray, "copies levels"]:
    """E to the entropy of the eigenvalues of R over their sum."""
    values = np.maximum(np.linalg.eigvalsh(overlaps), 0.0)
    total = values.sum(axis=-1, keepdims=True)
    share = values / np.where(total > 0, total, 1.0)
    logs = np.log(np.where(share > 0, share, 1.0))
    return np.exp(-np.sum(share * logs, axis=-1))


def _share(
    solution: SignalSolution, stack: Stack, place: int
) -> Float[np.ndarray, "copies layers"]:
    """What is added over what leaves, before a norm of the sum."""
    squares, added = _squares(solution.covs), solution.added[..., place]
    after = squares[:, 1:].copy()
    for number, layer in enumerate(stack.layers):
        if any(block.norm_post for block in layer):
            kept = max(block.residual**2 for block in layer) * squares[:, number]
            after[:, number] = kept + added[:, number]
    return added / np.where(after > 0, after, 1.0)
