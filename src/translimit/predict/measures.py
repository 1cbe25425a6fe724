r"""What is read off a solved stack, copy by copy: overlaps, norms, entropies and gradients.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from translimit.describe import Embedding, PatchEmbedding, Stack, matrices
from translimit.limits.signal import (
    Gradients,
    SignalSolution,
    Summary,
    Watched,
    distinct_overlap,
    embedding_squares,
    patch_squares,
)
from translimit.observe import mean_overlap_of, overlaps_of

#: Groups of weights in words.
GROUPS = {
    "query": "queries",
    "key": "keys",
    "value": "values",
    "attention_out": "attention's output",
    "in": "first matrix of hidden units",
    "up": "gated matrix of hidden units",
    "out": "last matrix of hidden units",
    "query_down": "matrix down to the latent of queries",
    "query_up": "queries from their latent",
    "key_value_down": "matrix down to the latent of keys and values, and to the keys that turn",
    "key_value_up": "keys and values from their latent",
    "shared_in": "first matrix of the shared expert's units",
    "shared_up": "gated matrix of the shared expert's units",
    "shared_out": "last matrix of the shared expert's units",
    "router": "router",
    "shared_gate": "gate of the shared expert",
    "norm_in": "gains of the norms that branches read through",
    "norm_out": "gains of the norms of branches' outputs",
    "norm_post": "gains of the norms after a sum",
    "norm_query": "gains of the norm of queries",
    "norm_key": "gains of the norm of keys",
    "norm_query_latent": "gains of the norm of the latent of queries",
    "norm_key_value_latent": "gains of the norm of the latent of keys and values",
}
#: Tables below the first layer in words.
TABLES = {
    "embedding": "table of embeddings",
    "positions": "learned positions",
    "types": "the row of the token type",
    "patches": "the map of patches to tokens",
    "class_tokens": "class tokens",
    "registers": "registers",
}


class Entered(NamedTuple):
    """What the tokens of a stack were made of, as far as it is known.

    Attributes:
        ids: of tokens [n], or None.
        pixel_gram: inner products of the pixels of patches [patches, patches], or None.
    """

    ids: Int[np.ndarray, " n"] | None = None
    pixel_gram: Float[np.ndarray, "patches patches"] | None = None


#: A given covariance.
NOTHING_TOLD = Entered()


@dataclass(frozen=True)
class Measure:
    """One quantity of all copies.

    Attributes:
        says: what it is, in words.
        by: "level", "layer", or "stack" for one number of the whole.
        values: of every copy [copies, levels], [copies, layers] or [copies, 1].
    """

    says: str
    by: str
    values: Float[np.ndarray, "copies places"]


def looking(
    kinds: Int[np.ndarray, " n"], *, apart: bool = True
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What is looked at in the covariances of all levels, by name.

    Args:
        kinds: which tokens are equal where they enter [n].
        apart: whether the eigenvalues of every copy are taken, or those of the copies' mean.
    """

    def look(covs: Float[np.ndarray, "copies levels n n"]) -> dict[str, np.ndarray]:
        overlaps = np.asarray(overlaps_of(covs))
        found = {
            "overlap": np.asarray(mean_overlap_of(overlaps)),
            "overlap_all": overlaps.mean(axis=(-2, -1)),
            "effective_rank": _rank(overlaps if apart else overlaps.mean(axis=0, keepdims=True)),
        }
        different = distinct_overlap(overlaps, kinds)
        return found if different is None else {**found, "overlap_distinct": different}

    return look


def measure(
    watched: Watched,
    stack: Stack,
    top: str | None = None,
    entered: Entered = NOTHING_TOLD,
) -> dict[str, Measure]:
    """All quantities of a solved stack by their names.

    Args:
        watched: of the stack, by `looking`.
        stack: its description.
        top: whose gradients are told; none by default.
        entered: what tokens were made of, for the gradients of what makes them; none by default.
    """
    told, of = watched.told, watched.summary
    squares = watched.mean_squares
    added = (of.attention_added, of.units_added)
    found = {
        "overlap": Measure("mean overlap of two tokens", "level", told["overlap"]),
        "overlap_all": Measure("mean overlap, the diagonal included", "level", told["overlap_all"]),
        "effective_rank": Measure(
            "effective rank of the overlaps", "level", told["effective_rank"]
        ),
        "rms": Measure("rms of an entry of the stream", "level", np.sqrt(squares)),
        "attention_share": Measure(
            "share of the mean square that attention adds",
            "layer",
            _share(squares, added, stack, 0),
        ),
        "units_share": Measure(
            "share of the mean square that hidden units add",
            "layer",
            _share(squares, added, stack, 1),
        ),
        "entropy": Measure("entropy of attention weights over its largest", "layer", of.entropies),
        "attention_entropy": Measure(
            "entropy of attention weights in nats", "layer", of.attention_entropies
        ),
        "attention_entropy_std": Measure(
            "deviation of that entropy over heads", "layer", of.attention_entropy_stds
        ),
        "concentration": Measure(
            "sum of squared attention weights of the last query", "layer", of.participations
        ),
    }
    if "overlap_distinct" in told:
        found["overlap_distinct"] = Measure(
            "mean overlap of two tokens that differ where they enter",
            "level",
            told["overlap_distinct"],
        )
    if top is None:
        return found
    return found | gradients(watched.gradients[top], watched.groups, stack, entered)


def gradients(
    own: Gradients,
    groups: tuple[str, ...],
    stack: Stack,
    entered: Entered = NOTHING_TOLD,
) -> dict[str, Measure]:
    """The gradient of the stream by level, of every group of weights by layer, and of tables.

    Of the weights of a layer it is told twice: |dW|, and |dW| / (sigma size^{1/2}), the root mean
    square of its entries over the deviation of the weights.

    Args:
        own: gradients of one at the top.
        groups: names of the groups of weights.
        stack: its description.
        entered: what tokens were made of, for the gradients of what makes them.
    """
    found = {
        "gradient": Measure(
            "rms over tokens of the norm of the stream's gradient", "level", np.sqrt(own.squares)
        )
    }
    layers = [matrices(layer, stack.dim) for layer in stack.layers]
    for place, group in enumerate(groups):
        stds = np.array([one[group].std if group in one else np.nan for one in layers])
        if np.isnan(stds).all():
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            norms = np.sqrt(own.weights[..., place]) / stds
        # A matrix of zeros has no such gradient, a layer without the group none at all.
        found[f"gradient_{group}"] = Measure(
            f"norm of the gradient of weights: {GROUPS[group]}",
            "layer",
            np.where(stds > 0, norms, 0.0),
        )
        sizes = np.array([one[group].entries if group in one else np.nan for one in layers])
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = norms / (stds * np.sqrt(sizes))
        found[f"normalised_gradient_{group}"] = Measure(
            f"the same over deviation and root of the number of entries: {GROUPS[group]}",
            "layer",
            np.where(stds > 0, relative, 0.0),
        )
    for name, squares in _tables(stack, entered, own.below).items():
        says = f"norm of the gradient of weights: {TABLES[name]}"
        found[f"gradient_{name}"] = Measure(says, "stack", np.sqrt(squares)[:, None])
    return found


def _tables(stack: Stack, entered: Entered, below: np.ndarray) -> dict[str, np.ndarray]:
    """Squares of the gradients of what makes tokens."""
    if entered.ids is not None and isinstance(stack.embedding, Embedding):
        return embedding_squares(stack, entered.ids, below)
    if entered.pixel_gram is not None and isinstance(stack.embedding, PatchEmbedding):
        return patch_squares(stack, entered.pixel_gram, below)
    return {}


def watched_of(solution: SignalSolution, kinds: Int[np.ndarray, " n"], top: str) -> Watched:
    """The numbers of a solution that holds its matrices.

    Args:
        solution: of a stack, with its way back.
        kinds: which tokens are equal where they enter [n].
        top: the name of what was at the top.
    """
    summary = Summary(
        solution.attention_entropies,
        solution.entropies,
        solution.attention_entropy_stds,
        solution.participations,
        solution.added[..., 0],
        solution.added[..., 1],
    )
    own = Gradients(
        _squares(solution.grad_grams), solution.weight_squares, solution.grad_grams[:, 0]
    )
    told = looking(kinds)(solution.covs)
    squares = _squares(solution.covs)
    return Watched(told, squares, summary, solution.cov[-1], {top: own}, solution.groups)


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
    squares: Float[np.ndarray, "copies levels"],
    added: tuple[np.ndarray, np.ndarray],
    stack: Stack,
    place: int,
) -> Float[np.ndarray, "copies layers"]:
    """What is added over what leaves, before a norm of the sum."""
    after = squares[:, 1:].copy()
    for number, layer in enumerate(stack.layers):
        if any(block.norm_post for block in layer):
            kept = max(block.residual**2 for block in layer) * squares[:, number]
            after[:, number] = kept + added[place][:, number]
    return added[place] / np.where(after > 0, after, 1.0)
