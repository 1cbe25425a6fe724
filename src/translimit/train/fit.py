"""Whether the batches of a source fit a network and a loss."""

from __future__ import annotations

import numpy as np

from translimit.core import ArgumentError
from translimit.describe import TransformerShape


def require_fit(
    shape: TransformerShape, loss: str, inputs: np.ndarray, targets: np.ndarray
) -> None:
    """Refuse batches that are not what the shape and the loss say.

    Args:
        shape: of the network.
        loss: "cross_entropy" or "mse".
        inputs: patches [batch, tokens, patch_dim], or token ids [batch, tokens].
        targets: integers are labels, [batch] or [batch, tokens]; numbers are vectors [batch,
            outputs], which a mean square alone takes.

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
        _require_labels(shape, targets)
    else:
        _require_vectors(shape, loss, targets)


def _require_labels(shape: TransformerShape, targets: np.ndarray) -> None:
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


def _require_vectors(shape: TransformerShape, loss: str, targets: np.ndarray) -> None:
    if loss != "mse":
        raise ArgumentError(
            "source",
            f"targets are numbers of type {targets.dtype}, and {loss} takes labels",
            'pass integers, or loss="mse"',
        )
    if not shape.pooled or targets.shape[1:] != (shape.outputs,):
        raise ArgumentError(
            "source",
            f"targets have shape {targets.shape}",
            f"pass [batch, {shape.outputs}] numbers with a pooled readout, or labels",
        )
