"""Whether the batches of a source fit a network and a loss."""

from __future__ import annotations

import numpy as np

from translimit.core import ArgumentError
from translimit.describe import TransformerShape
from translimit.train.losses import AbstractLoss


def require_fit(
    shape: TransformerShape,
    loss: AbstractLoss,
    inputs: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
) -> None:
    """Refuse batches that are not what the shape and the loss say.

    Args:
        shape: of the network.
        loss: of its rows.
        inputs: patches [batch, tokens, patch_dim], or token ids [batch, tokens].
        targets: integers are labels, [batch] or [batch, tokens], -1 where there is none; numbers
            are vectors [batch, outputs] or [batch, tokens, outputs].
        weights: of rows, [batch] or [batch, tokens].

    Raises:
        ArgumentError: anything else.
    """
    if shape.patch_dim is not None:
        wanted = (shape.tokens, shape.patch_dim)
        if inputs.shape[1:] != wanted:
            raise ArgumentError(
                "source",
                f"sequences have shape {inputs.shape[1:]}",
                f"pass {wanted}, or another shape",
            )
    elif inputs.ndim != 2 or inputs.shape[1] > shape.tokens:
        raise ArgumentError(
            "source",
            f"sequences have shape {inputs.shape[1:]}",
            f"pass at most {shape.tokens} token ids, or a shape of more tokens",
        )
    elif shape.vocabulary is not None and int(inputs.max()) >= shape.vocabulary:
        raise ArgumentError(
            "source",
            f"has the token id {int(inputs.max())}",
            f"pass ids below the vocabulary, {shape.vocabulary}, or a larger vocabulary",
        )
    if np.issubdtype(targets.dtype, np.integer):
        _require_labels(shape, loss, targets)
    else:
        _require_vectors(shape, loss, targets)
    rows = targets.shape[: 1 if shape.pooled else 2]
    if weights is not None and (weights.shape != rows or np.any(weights < 0)):
        raise ArgumentError(
            "source",
            f"has weights of shape {weights.shape}, the least {np.min(weights, initial=0):g}",
            f"give numbers of at least 0, {list(rows)}",
        )


def _require_labels(shape: TransformerShape, loss: AbstractLoss, targets: np.ndarray) -> None:
    if not loss.takes_labels:
        raise ArgumentError(
            "source",
            f"targets are labels of type {targets.dtype}, and {loss} takes numbers",
            "give the two classes as -1.0, 1.0, or pass another loss",
        )
    if int(targets.min()) < -1:
        raise ArgumentError(
            "source",
            f"has the label {int(targets.min())}",
            "give labels from 0 on, and -1 for none",
        )
    if int(targets.max()) >= shape.outputs:
        raise ArgumentError(
            "source",
            f"has the label {int(targets.max())}",
            f"pass labels below {shape.outputs}, or a shape of more outputs",
        )
    if targets.ndim != (1 if shape.pooled else 2):
        raise ArgumentError(
            "source",
            f"targets have shape {targets.shape}",
            "pass one target a sequence for a pooled readout, else one a token; integers are "
            "labels, so that vectors are numbers of floating point",
        )


def _require_vectors(shape: TransformerShape, loss: AbstractLoss, targets: np.ndarray) -> None:
    if not loss.takes_vectors:
        raise ArgumentError(
            "source",
            f"targets are numbers of type {targets.dtype}, and cross_entropy takes labels",
            'pass integers, or loss="mse"',
        )
    if not loss.takes_labels and np.any(np.abs(targets) != 1):
        raise ArgumentError(
            "source", "has targets other than -1 and 1", "give the signs of classes"
        )
    wanted = (shape.outputs,) if shape.pooled else (shape.tokens, shape.outputs)
    if targets.shape[1:] != wanted:
        places = "" if shape.pooled else f"{shape.tokens}, "
        raise ArgumentError(
            "source",
            f"targets have shape {targets.shape}",
            f"pass [batch, {places}{shape.outputs}] numbers with this readout, or labels",
        )
