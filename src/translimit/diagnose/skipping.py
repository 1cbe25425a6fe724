r"""What a network does without a layer or a head: influence, and the loss.

The influence of a layer is 1 - cos(x_l, x_{l+1}), the median over tokens. Without the layer the
stream stays as it is; without a head, its rows of W_O are zero. The loss is that of the next token,
sequence by sequence, and its change is paired: the error is that of the mean difference over
sequences.

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from translimit.core import ArgumentError, JsonObject, Progress, with_error
from translimit.diagnose.checkpoint import Checkpoint
from translimit.diagnose.layers import Layer
from translimit.diagnose.measuring import Rows
from translimit.diagnose.passing import doubled, leave
from translimit.diagnose.statistics import sequence_error


@dataclass(frozen=True)
class Skipped:
    """What one layer or head is worth.

    Attributes:
        layer: from 1.
        head: from 0; None of a whole layer.
        influence: 1 - cos of the stream before and after; NaN of a head.
        influence_error: over sequences.
        rise: of the loss without it, in nats; NaN where nothing is predicted.
        rise_error: over sequences, paired.
    """

    layer: int
    head: int | None
    influence: float
    influence_error: float
    rise: float
    rise_error: float

    def __str__(self) -> str:
        name = f"layer {self.layer}" + ("" if self.head is None else f", head {self.head}")
        told = [name]
        if np.isfinite(self.influence):
            told.append(f"influence {with_error(self.influence, self.influence_error)}")
        if np.isfinite(self.rise):
            more = "higher" if self.rise >= 0 else "lower"
            told.append(
                f"loss without it {with_error(abs(self.rise), self.rise_error)} nats {more}"
            )
        return ": ".join([told[0], ", ".join(told[1:])])

    def to_json(self) -> JsonObject:
        """As plain data; what is not known is null."""
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in vars(self).items()
        }


def skip(
    checkpoint: Checkpoint,
    inputs: Rows,
    what: Literal["layers", "heads"] = "layers",
    *,
    progress: Progress | None = None,
) -> tuple[Skipped, ...]:
    """Every layer or head by what is lost without it, the least first.

    Args:
        checkpoint: the network.
        inputs: sequences of ids, or of patches.
        what: layers or heads.
        progress: called with the fraction done.

    Raises:
        ArgumentError: something else to skip; heads of a network that predicts nothing.
    """
    if what not in ("layers", "heads"):
        raise ArgumentError("skip", f"got {what!r}", "pass layers or heads")
    losing = checkpoint.causal and "readout" in checkpoint.tensors and not checkpoint.patches
    if what == "heads" and not losing:
        raise ArgumentError("skip", "heads need a loss", "pass layers, or a causal language model")
    depth, heads = len(checkpoint.layers), checkpoint.layers[0].attention.heads
    influence = np.empty((len(inputs), depth))
    rises = np.full((len(inputs), depth, heads if what == "heads" else 1), np.nan)
    layers = [doubled(layer) for layer in checkpoint.layers]
    for number, row in enumerate(inputs):
        x = [checkpoint.embed(row)]
        for layer in layers:
            x.append(leave(layer, x[-1]))
        influence[number] = [_influence(a, b) for a, b in itertools.pairwise(x)]
        whole = checkpoint.loss(row, x[-1]) if losing else np.nan
        for place in range(depth if losing else 0):
            for h in range(rises.shape[2]):
                y = x[place]
                if what == "heads":
                    y = leave(without_head(layers[place], h), y)
                for layer in layers[place + 1 :]:
                    y = leave(layer, y)
                rises[number, place, h] = checkpoint.loss(row, y) - whole
        if progress is not None:
            progress((number + 1) / len(inputs))
    found = [
        Skipped(
            layer=place + 1,
            head=h if what == "heads" else None,
            influence=float(influence[:, place].mean()) if what == "layers" else float("nan"),
            influence_error=float(sequence_error(influence[:, place])),
            rise=float(rises[:, place, h].mean()),
            rise_error=float(sequence_error(rises[:, place, h])),
        )
        for place in range(depth)
        for h in range(rises.shape[2])
    ]
    return tuple(sorted(found, key=lambda one: one.rise if losing else one.influence))


def without_head(layer: Layer, head: int) -> Layer:
    """The layer without the output of a head.

    Args:
        layer: the layer.
        head: from 0.
    """
    of = layer.attention
    rows = np.array(layer.parameters["W_O"]).reshape(of.heads, of.values, -1)
    rows[head] = 0.0
    return layer.with_parameters(W_O=rows.reshape(of.heads * of.values, -1))


def _influence(before: Float[np.ndarray, "n D"], after: Float[np.ndarray, "n D"]) -> float:
    size = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.median(1 - (before * after).sum(axis=1) / size))
