"""The way in: a checkpoint, sequences, and a null to hold it against.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from translimit.core import (
    ArgumentError,
    Key,
    NoSuchLimitError,
    Progress,
    format_count,
    named_key,
    part_of,
    require_count,
)
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.closures import closure_figures
from translimit.diagnose.costs import DiagnosisCost, diagnosis_cost, require_memory
from translimit.diagnose.diagnosis import Diagnosis
from translimit.diagnose.inputs import as_inputs
from translimit.diagnose.measuring import Measured, measure
from translimit.diagnose.nulls import DrawnNetwork, Null, redrawn_entry, second_moments
from translimit.diagnose.reading import read_checkpoint
from translimit.diagnose.surrogate_layers import Surrogates, surrogate_figures
from translimit.diagnose.surrogates import SURROGATES
from translimit.limits.signal import RedrawnLayer, RedrawnPrediction, redrawn_prediction

#: Sequences that the recursion predicts at most: their mean is what is shown.
MOST_PREDICTED = 8

_SHARED = "shared layers: the prediction assumes independent ones; z is taken from drawn networks"


def diagnose(
    model: object,
    inputs: object,
    *,
    key: Key | int,
    null: str | None = "matched",
    null_entry: Literal["measured", "drawn"] = "measured",
    draws: int = 8,
    predict: bool = True,
    surrogates: int = SURROGATES,
    progress: Progress | None = None,
    announce: Callable[[DiagnosisCost], object] | None = None,
) -> Diagnosis:
    """A checkpoint beside its null model and the limit.

    Args:
        model: a folder, a file of nanoGPT, a module of transformers, or a `Checkpoint`.
        inputs: sequences of ids, rows of one length or of several; patches [n, pixels] of images.
        key: of the drawn networks and of the sampled heads.
        null: matched, reference, spectrum, permuted, `part:W_1,W_2`, or None for none.
        null_entry: whether tokens that enter drawn networks are the checkpoint's own, or its
            tables are drawn as well.
        draws: R, drawn networks.
        predict: whether the Gram recursion is run beside them.
        surrogates: rotated copies of the tokens of up to eight sequences, against which sub-blocks
            of models without a mask are tested; 0 for no test.
        progress: called with the fraction done.
        announce: called with the cost before anything is computed.

    Raises:
        ConfigError: the checkpoint cannot be read.
        ArgumentError: an unknown null, fewer than two draws, no sequence of two tokens, ids beyond
            the vocabulary, activations that are not finite.
        NoSuchLimitError: a block that is not read.
        MemoryLimitError: it does not fit into memory.

    Examples:
        >>> from translimit.diagnose import diagnose, held_out_windows, packaged_folder
        >>> found = diagnose(packaged_folder(), held_out_windows(8)[:, :24], null=None, key=0)
        >>> found.observables["overlap"].sizes["layer"]  # the entry and four layers
        5
    """
    checkpoint = model if isinstance(model, Checkpoint) else read_checkpoint(model)
    given, chosen = as_inputs(inputs, checkpoint), None if null is None else Null.named(null)
    if null_entry not in ("measured", "drawn"):
        raise ArgumentError("null_entry", f"got {null_entry!r}", "pass measured or drawn")
    draws = 0 if chosen is None else require_count(draws, "draws", 2)
    root = named_key(key, "diagnose")
    entries = [checkpoint.embed(row) for row in given.rows]
    expected = min(len(entries), MOST_PREDICTED) if _predictable(chosen, predict) else 0
    rotated = require_count(surrogates, "surrogates", 0) if _rotatable(checkpoint) else 0
    tested = entries[:MOST_PREDICTED] if rotated and min(map(len, entries)) > 5 else []
    lengths = [len(one) for one in entries]
    cost = diagnosis_cost(checkpoint, lengths, draws, expected, rotated * len(tested))
    require_memory(cost)
    if announce is not None:
        announce(cost)
    ids = None if checkpoint.patches else given.rows
    share = 1 / (1 + draws + (1 if expected else 0) + (2 if tested else 0))
    measured = measure(checkpoint, entries, ids=ids, progress=part_of(progress, 0.0, share))
    drawn: list[Measured] = []
    for index in range(draws):
        assert chosen is not None
        one = named_key(root, "network", index)
        network, start = DrawnNetwork(checkpoint, chosen, one), entries
        if null_entry == "drawn":
            other = redrawn_entry(checkpoint, named_key(one, "entry"))
            start = [other.embed(row) for row in given.rows]
        step = part_of(progress, share * (1 + index), share * (2 + index))
        drawn.append(measure(checkpoint, start, layer_at=network.layer, progress=step))
    notes, predicted = list(given.notes), None
    if expected and chosen is not None:
        try:
            predicted = predict_null(checkpoint, chosen, entries[:expected], key=root)
        except NoSuchLimitError as error:
            notes.append(f"no prediction: {error.problem}")
    closed: dict[str, np.ndarray] = {}
    try:
        closed = closure_figures(checkpoint, entries)
    except NoSuchLimitError as error:
        notes.append(f"no closures: {error.problem}")
    found: dict[str, Surrogates] = {}
    if tested:
        last = part_of(progress, 1 - 2 * share, 1.0)
        one = named_key(root, "surrogates")
        found = surrogate_figures(checkpoint, tested, key=one, draws=rotated, progress=last)
        if len(tested) < len(entries):
            notes.append(f"rotated tokens are of the first {len(tested)} sequences")
    if predicted is not None and checkpoint.shared:
        notes.append(_SHARED)
    if progress is not None:
        progress(1.0)
    return Diagnosis(
        source=_named(checkpoint),
        inputs=given.source,
        measured=measured,
        nulls=tuple(drawn),
        null="none" if chosen is None else str(chosen),
        null_entry=null_entry,
        prediction=predicted,
        predicted_sequences=0 if predicted is None else expected,
        checkpoint=checkpoint,
        closures=closed,
        surrogates=found,
        notes=tuple(notes),
    )


def predict_null(
    checkpoint: Checkpoint,
    null: Null,
    entries: list[np.ndarray],
    *,
    key: Key | int,
    pairs: int | None = None,
) -> RedrawnPrediction:
    """What the Gram recursion says of a null, averaged over sequences.

    Args:
        checkpoint: whose tensors tell the second moments.
        null: matched or reference.
        entries: tokens that enter, of every sequence.
        key: of the sampled heads.
        pairs: antithetic pairs of heads in a batch.

    Raises:
        ArgumentError: another null.
    """
    layers = [
        RedrawnLayer(one.blocks, one.causal, second_moments(one, null)) for one in checkpoint.layers
    ]
    run = partial(redrawn_prediction, layers)
    more = {} if pairs is None else {"pairs": pairs}
    each = [
        run(entry, key=named_key(key, "prediction", place), **more)
        for place, entry in enumerate(entries)
    ]
    values = {name: np.mean([one.values[name] for one in each], axis=0) for name in each[0].values}
    errors = {
        name: np.sqrt(np.mean([one.errors[name] ** 2 for one in each], axis=0) / len(each))
        for name in each[0].errors
    }
    return RedrawnPrediction(values, errors)


def _predictable(null: Null | None, predict: bool) -> bool:
    return predict and null is not None and null.predicted


def _rotatable(checkpoint: Checkpoint) -> bool:
    """Whether tokens may be rotated among each other."""
    return not checkpoint.causal and checkpoint.layers[0].attention.rotary is None


def _named(checkpoint: Checkpoint) -> str:
    layers = format_count(len(checkpoint.layers), "layer")
    heads = format_count(checkpoint.layers[0].attention.heads, "head")
    of = f"{checkpoint.family}, {layers}, width {checkpoint.dim}"
    name = Path(checkpoint.source).name if checkpoint.source else "checkpoint"
    return f"{name} ({of}, {heads})"
