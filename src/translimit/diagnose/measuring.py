r"""Every observable of every layer, sequence by sequence.

A figure is taken of each sequence alone, roots and medians included, and averaged over sequences
afterwards. Sequences of one length go through a layer together; no attention matrix outlives its
layer. Figures that are not defined are NaN.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from translimit import observe
from translimit.core import ArgumentError, ArrayInput, Progress, in_float64
from translimit.describe import Layer as Blocks
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.layers import (
    Layer,
    Parameters,
    Passed,
    attention_of,
    pass_layer,
    visible,
)

#: Figures of the stream after a layer, and of the tokens that enter.
STREAM = (
    *("overlap", "mean_share", "effective_rank", "participation", "mean_square"),
    *("mean_square_median", "largest_share"),
)
#: Figures of what happens in a layer.
INSIDE = (
    *("overlap_mid", "ratio_a", "ratio_f", "ratio_a_median", "ratio_f_median", "ratio_var"),
    *("act_median", "entropy", "tv", "score_spread", "ipr", "one_hot", "sink", "first"),
    *("head_var", "head_cos", "head_pair", "head_eff", "head_map"),
    *("overlap_drift", "overlap_coherent", "overlap_independent", "z_flip"),
)
#: All of them: the last axis of `Measured.values` is the place after 0, 1, ..., L layers.
NAMES = (*STREAM, *INSIDE)
#: Sequences, of one length or of several.
Rows = Sequence[np.ndarray] | np.ndarray
#: Numbers that the layers of sequences that go together hold at most.
MOST_NUMBERS = 2**27


@dataclass(frozen=True, eq=False)
class Measured:
    """Observables of sequences in all layers.

    Attributes:
        values: by name [sequences, L + 1], place 0 the tokens that enter; what belongs to a layer
            is NaN there.
        tokens: n of every sequence [sequences].
        sink_keys: the key with the largest weight, by layer and head [sequences, L, heads].
        pairs: the two heads that are most alike, by layer [sequences, L, 2].
        same_maps: the two heads whose maps differ least, by layer [sequences, L, 2].
        losses: of every sequence in nats; NaN where nothing is predicted.
        ends: the mean, the first and the last token after every layer [sequences, L + 1, 3, D].
    """

    values: Mapping[str, Float[np.ndarray, "sequences places"]]
    tokens: Int[np.ndarray, " sequences"]
    sink_keys: Int[np.ndarray, "sequences layers heads"] = field(repr=False)
    pairs: Int[np.ndarray, "sequences layers 2"] = field(repr=False)
    same_maps: Int[np.ndarray, "sequences layers 2"] = field(repr=False)
    losses: Float[np.ndarray, " sequences"] = field(repr=False)
    ends: Float[np.ndarray, "sequences places 3 dim"] = field(repr=False)

    def __len__(self) -> int:
        return len(self.tokens)

    def between(self) -> dict[str, Float[np.ndarray, " places"]]:
        """`overlap_between` of the mean, the first and the last token, by layer."""
        rows = np.swapaxes(self.ends, 0, 1)
        return {
            name: np.asarray(observe.overlap_between(rows[:, :, place]))
            for place, name in enumerate(("mean", "first", "last"))
        }


#: Gives the layer at a place: the checkpoint's own, or one with redrawn weights.
LayerAt = Callable[[int], Layer]


def measure(
    checkpoint: Checkpoint,
    entries: Sequence[np.ndarray],
    *,
    ids: Rows | None = None,
    layer_at: LayerAt | None = None,
    atoms: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Send sequences through all layers and measure.

    Args:
        checkpoint: the network.
        entries: tokens that enter, of every sequence [n, D].
        ids: of the sequences, for losses; without them none are taken.
        layer_at: the layer at a place, in place of the checkpoint's own; called once a place.
        atoms: keys that are left out where maps are compared, negative ones from the end; by
            default token 0 under a mask, the first and the last otherwise.
        progress: called with the fraction done.

    Raises:
        ArgumentError: fewer than two tokens in a sequence, tokens or activations not finite.
    """
    for entry in entries:
        if entry.ndim != 2 or len(entry) < 2:
            told = f"has shape {entry.shape}"
            raise ArgumentError("inputs", told, "pass sequences of two tokens at least")
    get = layer_at or (lambda place: checkpoint.layers[place])
    depth, count = len(checkpoint.layers), len(entries)
    lengths = np.array([len(entry) for entry in entries])
    groups = [np.flatnonzero(lengths == n) for n in sorted(set(lengths.tolist()))]
    streams = [
        np.stack([entries[i] for i in group.tolist()]).astype(np.float64) for group in groups
    ]
    values = {name: np.full((count, depth + 1), np.nan) for name in NAMES}
    extra: dict[str, list[list[Any]]] = {name: [] for name in ("sink_keys", "pairs", "same_maps")}
    ends = np.empty((count, depth + 1, 3, checkpoint.dim))
    for group, x in zip(groups, streams, strict=True):
        _store(values, group, 0, in_float64(stream_figures, x))
        ends[group, 0] = _ends(x)
    default = (0,) if checkpoint.causal else (0, -1)
    for place in range(depth):
        layer = get(place)
        parameters = dict(layer.parameters)
        rows: dict[str, list[Any]] = {name: [None] * count for name in extra}
        for number, group in enumerate(groups):
            x, n = streams[number], int(lengths[group[0]])
            kept = np.ones(n, bool)
            kept[[one % n for one in (default if atoms is None else atoms) if -n <= one < n]] = (
                False
            )
            kept = np.ones(n, bool) if kept.sum() < 2 else kept
            run = partial(_through, layer.blocks, layer.causal)
            x, figures, places = in_float64(run, parameters, kept, x)
            if not np.isfinite(x).all():
                told = f"are not finite after layer {place + 1}"
                raise ArgumentError("activations", told, "pass a checkpoint that did not diverge")
            streams[number] = x
            _store(values, group, place + 1, figures)
            ends[group, place + 1] = _ends(x)
            for name, found in places.items():
                for i, one in zip(group, found, strict=True):
                    rows[name][i] = one
        for name, found in rows.items():
            extra[name].append(found)
        if progress is not None:
            progress((place + 1) / depth)
    losses = np.full(count, np.nan)
    if ids is not None and "readout" in checkpoint.tensors and checkpoint.causal:
        for group, x in zip(groups, streams, strict=True):
            losses[group] = [
                checkpoint.loss(ids[i], one) for i, one in zip(group.tolist(), x, strict=True)
            ]
    told = {name: np.swapaxes(np.array(found), 0, 1) for name, found in extra.items()}
    return Measured(values, lengths, losses=losses, ends=ends, **told)


def stream_of(
    checkpoint: Checkpoint, given: ArrayInput, *, layer_at: LayerAt | None = None
) -> list[Float[np.ndarray, "n D"]]:
    """The stream at the entry and after every layer.

    Args:
        checkpoint: the network.
        given: ids or patches of one sequence.
        layer_at: the layer at a place, in place of the checkpoint's own.
    """
    x, found = checkpoint.embed(given), []
    get = layer_at or (lambda place: checkpoint.layers[place])
    for place in range(len(checkpoint.layers) + 1):
        found.append(x)
        if place < len(checkpoint.layers):
            layer = get(place)
            x = in_float64(partial(_exit, layer.blocks, layer.causal), dict(layer.parameters), x)
    return found


def figures_of(
    blocks: Blocks, causal: bool, kept: Bool[Array, " n"], x: Float[Array, "n D"], passed: Passed
) -> tuple[dict[str, Array], dict[str, Array]]:
    """All observables of one sequence in one layer, and which keys and heads they name.

    Args:
        blocks: sub-blocks of the layer.
        causal: whether a token sees only itself and the tokens before it.
        kept: keys that count where maps are compared.
        x: the stream before the layer.
        passed: what it left in the layer.
    """
    seen = jnp.asarray(visible(attention_of(blocks), causal, len(x)))
    return _inside_figures(seen, kept, x, passed)


def _inside_figures(
    seen: Array, kept: Array, x: Array, passed: Passed
) -> tuple[dict[str, Array], dict[str, Array]]:
    p, z, nan = passed.attention, passed.heads, jnp.asarray(jnp.nan, x.dtype)
    heads = len(p)
    alike, largest = observe.head_alikeness(z)
    update = observe.overlap_update(x, z)
    below = x if passed.middle is None else passed.middle
    apart = observe.map_distances(p, seen, kept) if heads > 1 else jnp.full((1, 1), jnp.nan)
    f = passed.mlp
    found = {
        "overlap_mid": nan if passed.middle is None else observe.token_overlap(passed.middle),
        "ratio_a": observe.branch_ratio(passed.branch, x),
        "ratio_f": nan if f is None else observe.branch_ratio(f, below),
        "ratio_a_median": observe.median_ratio(passed.branch, x),
        "ratio_f_median": nan if f is None else observe.median_ratio(f, below),
        "ratio_var": observe.varying_ratio(passed.branch, x),
        "act_median": observe.median_ratio(passed.free, x),
        "entropy": observe.relative_entropy_of_maps(p, seen),
        "tv": observe.uniform_distance(p, seen),
        "score_spread": observe.score_spread(passed.scores, seen),
        "ipr": observe.inverse_participation(p),
        "one_hot": observe.one_hot_share(p, seen),
        "sink": observe.sink(p),
        "first": observe.first_key(p),
        "head_var": observe.head_variance(p, seen),
        "head_cos": alike,
        "head_pair": largest,
        "head_eff": observe.effective_heads(z),
        "head_map": jnp.min(jnp.where(jnp.isnan(apart), jnp.inf, apart)),
        "overlap_drift": update.drift,
        "overlap_coherent": update.coherent,
        "overlap_independent": update.independent,
        "z_flip": update.z_flip,
    }
    found["head_map"] = jnp.where(jnp.isfinite(found["head_map"]), found["head_map"], jnp.nan)
    cosines = jnp.abs(observe.head_cosines(z)) * (1 - jnp.eye(heads))
    places = {
        "sink_keys": observe.sink_keys(p),
        "pairs": _pair(jnp.where(jnp.isnan(cosines), 0.0, cosines)),
        "same_maps": _pair(-jnp.where(jnp.isnan(apart), jnp.inf, apart)),
    }
    return found, places


def _pair(matrix: Array) -> Array:
    """Row and column of the largest entry."""
    place = jnp.argmax(matrix)
    return jnp.stack([place // len(matrix), place % len(matrix)])


@jax.jit
def stream_figures(x: Float[Array, "batch n D"]) -> dict[str, Array]:
    """The figures of `STREAM` of several clouds.

    Args:
        x: the clouds.
    """
    return jax.vmap(_of_stream)(x)


def _of_stream(x: Float[Array, "n D"]) -> dict[str, Array]:
    overlaps = observe.cosines(x)
    told = {
        "overlap": observe.mean_overlap_of(overlaps),
        "mean_share": observe.mean_share(x),
        "effective_rank": observe.effective_rank_of(overlaps),
        "participation": observe.participation(overlaps),
        "mean_square": jnp.mean(x**2),
        "mean_square_median": jnp.median(jnp.mean(x**2, axis=1)),
        "largest_share": observe.largest_share(x),
    }
    return {name: jnp.asarray(value) for name, value in told.items()}


@partial(jax.jit, static_argnums=(0, 1))
def _through(
    blocks: Blocks,
    causal: bool,
    parameters: Parameters,
    kept: Bool[Array, " n"],
    x: Float[Array, "batch n D"],
) -> tuple[Array, dict[str, Array], dict[str, Array]]:
    """A group of sequences through a layer, with their figures."""

    def one(x: Array) -> tuple[Array, dict[str, Array], dict[str, Array]]:
        passed = pass_layer(blocks, causal, parameters, x)
        found, places = figures_of(blocks, causal, kept, x, passed)
        return passed.exit, {**found, **_of_stream(passed.exit)}, places

    n, dim = x.shape[1:]
    heads = attention_of(blocks).heads
    at_once = max(1, min(len(x), MOST_NUMBERS // (heads * n * (dim + 6 * n))))
    return jax.lax.map(one, x, batch_size=at_once)


@partial(jax.jit, static_argnums=(0, 1))
def _exit(blocks: Blocks, causal: bool, parameters: Parameters, x: Array) -> Array:
    return pass_layer(blocks, causal, parameters, x).exit


def _store(
    values: dict[str, np.ndarray], group: np.ndarray, place: int, found: Mapping[str, np.ndarray]
) -> None:
    for name, row in found.items():
        values[name][group, place] = row


def _ends(x: Float[np.ndarray, "batch n D"]) -> Float[np.ndarray, "batch 3 D"]:
    return np.stack([x.mean(axis=1), x[:, 0], x[:, -1]], axis=1)
