r"""Every observable of every layer, sequence by sequence.

A figure is taken of each sequence alone, roots and medians included, and averaged over sequences
afterwards. On a CPU sequences go through a layer side by side, in NumPy; on an accelerator one by
one, compiled. No attention matrix outlives its layer. Figures that are not defined are NaN.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from translimit import observe
from translimit.core import (
    AnyArray,
    ArgumentError,
    ArrayInput,
    Progress,
    available_threads,
    in_float64,
    one_blas_thread,
    side_by_side,
)
from translimit.describe import Layer as Blocks
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.layer_figures import NAMES, PLACES, layer_figures, stream_figures
from translimit.diagnose.layers import Layer, Parameters, attention_of
from translimit.diagnose.passing import leave, pass_layer, visible

#: Sequences, of one length or of several.
Rows = Sequence[np.ndarray] | np.ndarray


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
        straight: `observe.Straightness` of the branches of attention and of the MLPs, of layers
            that share their weights without the mean over tokens [sequences, 2].
    """

    values: Mapping[str, Float[np.ndarray, "sequences places"]]
    tokens: Int[np.ndarray, " sequences"]
    sink_keys: Int[np.ndarray, "sequences layers heads"] = field(repr=False)
    pairs: Int[np.ndarray, "sequences layers 2"] = field(repr=False)
    same_maps: Int[np.ndarray, "sequences layers 2"] = field(repr=False)
    losses: Float[np.ndarray, " sequences"] = field(repr=False)
    ends: Float[np.ndarray, "sequences places 3 dim"] = field(repr=False)
    straight: Float[np.ndarray, "sequences 2"] = field(repr=False)

    def __len__(self) -> int:
        return len(self.tokens)

    def between(self) -> dict[str, Float[np.ndarray, " places"]]:
        """`overlap_between` of the mean, the first and the last token, by layer."""
        rows = np.swapaxes(self.ends, 0, 1)
        return {
            name: np.asarray(observe.overlap_between(rows[:, :, place]))
            for place, name in enumerate(("mean", "first", "last"))
        }

    def without(self, sequence: int) -> Measured:
        """The figures of all sequences but one.

        Args:
            sequence: its number.
        """
        kept = np.arange(len(self)) != sequence
        rows = {name: value[kept] for name, value in self.values.items()}
        others = ("tokens", "sink_keys", "pairs", "same_maps", "losses", "ends", "straight")
        return replace(self, values=rows, **{name: getattr(self, name)[kept] for name in others})


#: A sequence through a layer: the stream after it, its figures, what they name, its branches.
Through = Callable[[np.ndarray, np.ndarray], tuple[Any, Any, Any, Any]]
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
            default `Checkpoint.specials`.
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
    streams = [np.asarray(entry, np.float64) for entry in entries]
    lengths = np.array([len(entry) for entry in entries])
    values = {name: np.full((count, depth + 1), np.nan) for name in NAMES}
    named: dict[str, list[list[Any]]] = {name: [] for name in PLACES}
    ends = np.empty((count, depth + 1, 3, checkpoint.dim))
    for number, x in enumerate(streams):
        with np.errstate(all="ignore"):
            _store(values, number, 0, stream_figures(x))
        ends[number, 0] = _ends(x)
    shared = checkpoint.shared
    sums = [[observe.Straightness(centred=shared) for _ in range(2)] for _ in streams]
    kept = [_kept(checkpoint, atoms, n) for n in lengths.tolist()]
    at_once = min(count, available_threads())
    for place in range(depth):
        through = _through(get(place))

        def one(_: object, number: int, through: Through = through) -> tuple[Any, Any, Any, Any]:
            return through(kept[number], streams[number])

        calls = [partial(one, number=number) for number in range(count)]
        with one_blas_thread():
            rows = side_by_side(calls, at_once, None)
        for number, (x, figures, _, branches) in enumerate(rows):
            if not np.isfinite(x).all():
                told = f"are not finite after layer {place + 1}"
                raise ArgumentError("activations", told, "pass a checkpoint that did not diverge")
            streams[number] = x
            _store(values, number, place + 1, figures)
            ends[number, place + 1] = _ends(x)
            for held, branch in zip(sums[number], branches, strict=True):
                if branch is not None:
                    held.add(np.asarray(branch))
        for name in PLACES:
            named[name].append([row[2][name] for row in rows])
        if progress is not None:
            progress((place + 1) / depth)
    losses = np.full(count, np.nan)
    if ids is not None and "readout" in checkpoint.tensors and checkpoint.causal:
        pairs = zip(ids, streams, strict=True)
        losses = np.array([checkpoint.loss(row, x) for row, x in pairs])
    told = {name: np.swapaxes(np.array(found), 0, 1) for name, found in named.items()}
    straight = np.array([[one.ratio() for one in row] for row in sums])
    return Measured(values, lengths, losses=losses, ends=ends, straight=straight, **told)


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
            x = leave(get(place), x)
    return found


def _through(layer: Layer) -> Through:
    """A layer with its figures: in NumPy on a CPU, compiled for every length on an accelerator."""
    if jax.default_backend() == "cpu":
        own = {name: np.asarray(value, np.float64) for name, value in layer.parameters.items()}

        def run(kept: np.ndarray, x: np.ndarray) -> tuple[Any, Any, Any, Any]:
            with np.errstate(all="ignore"):
                return _with_figures(layer.blocks, layer.causal, own, kept, x)

        return run
    return partial(
        in_float64, partial(compiled, layer.blocks, layer.causal), dict(layer.parameters)
    )


def _with_figures(
    blocks: Blocks,
    causal: bool,
    parameters: Parameters,
    kept: Bool[AnyArray, " n"],
    x: Float[AnyArray, "n D"],
) -> tuple[AnyArray, dict[str, AnyArray], dict[str, AnyArray], tuple[AnyArray, AnyArray | None]]:
    """The stream after a layer, its figures, what they name, and its branches."""
    passed = pass_layer(blocks, causal, parameters, x)
    seen = x.__array_namespace__().asarray(visible(attention_of(blocks), causal, len(x)))
    figures, places = layer_figures(seen, kept, x, passed)
    return passed.exit, figures, places, (passed.branch, passed.mlp)


#: The same for an accelerator.
compiled = partial(jax.jit, static_argnums=(0, 1))(_with_figures)


def _kept(checkpoint: Checkpoint, atoms: Sequence[int] | None, n: int) -> Bool[np.ndarray, " n"]:
    """Keys that count where maps are compared."""
    kept = np.ones(n, bool)
    chosen = checkpoint.specials if atoms is None else atoms
    kept[[one % n for one in chosen if -n <= one < n]] = False
    return kept if kept.sum() > 1 else np.ones(n, bool)


def _store(
    values: dict[str, np.ndarray], number: int, place: int, found: Mapping[str, AnyArray]
) -> None:
    for name, value in found.items():
        values[name][number, place] = value


def _ends(x: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "3 D"]:
    return np.stack([x.mean(axis=0), x[0], x[-1]])
