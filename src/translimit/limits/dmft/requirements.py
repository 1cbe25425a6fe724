"""What of a training problem has a limit, and what of its arrays has one meaning."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    NoSuchLimitError,
    as_float64,
    brief,
    require_count,
)
from translimit.limits.dmft.architecture import Architecture
from translimit.limits.dmft.losses import AbstractLoss, CrossEntropy


def require_limit(a: Architecture, optimizer: str) -> None:
    """Refuse what has no limit."""
    if a.attention and math.isinf(a.head_dim) and a.alpha_A < 1:
        raise NoSuchLimitError(
            "alpha_A",
            f"is {a.alpha_A:g} with infinite head_dim: gradients of keys and queries diverge "
            "after two updates, there is no limit beyond initialisation",
            "take alpha_A=1, a finite head_dim, or initial_score_cov for the initialisation",
        )
    if math.isinf(a.layers) and a.alpha_L < 1:
        raise NoSuchLimitError(
            "alpha_L",
            f"is {a.alpha_L:g} with infinite layers: only alpha_L = 1 has the depth ODE",
            "take alpha_L=1, or extrapolate finite layers in 1 / layers",
        )
    if optimizer != "sgd":
        raise NoSuchLimitError(
            "optimizer",
            f"got {optimizer!r}: an update that is no outer product leaves this theory",
            "take optimizer='sgd', with or without momentum",
        )


def require_loss(loss: Any) -> AbstractLoss:
    """A loss of `limits.dmft`, not its name nor its class."""
    if not isinstance(loss, AbstractLoss):
        raise ArgumentTypeError(
            "loss",
            f"got {brief(loss)}",
            "pass SquaredError(), Huber(), Logistic() or CrossEntropy() of limits.dmft",
        )
    return loss


def require_features(inputs: ArrayInput) -> Float[np.ndarray, "inputs tokens dim"]:
    """Real inputs."""
    x = np.asarray(as_float64(inputs, "inputs"))
    if x.ndim != 3 or 0 in x.shape:
        raise ArgumentError("inputs", f"has shape {x.shape}", "pass [inputs, tokens, dim]")
    return x


def require_tokens(
    token_ids: ArrayInput, vocabulary: int | None
) -> tuple[Int[np.ndarray, "inputs tokens"], int]:
    """Tokens of a vocabulary, and its size."""
    ids = np.asarray(token_ids)
    if ids.dtype.kind not in "iu" or ids.ndim != 2 or not ids.size:
        raise ArgumentTypeError(
            "token_ids",
            f"are {ids.dtype} of shape {ids.shape}",
            "pass integers [inputs, tokens]",
        )
    if vocabulary is None:
        raise ArgumentTypeError(
            "vocabulary", "is missing beside token_ids", "pass how many tokens there are"
        )
    size = require_count(vocabulary, "vocabulary", 1)
    if ids.min() < 0 or ids.max() >= size:
        raise ArgumentError(
            "token_ids",
            f"go from {ids.min()} to {ids.max()} in a vocabulary of {size}",
            f"pass integers from 0 to {size - 1}",
        )
    return ids.astype(np.int64), size


def require_tied(
    *, tokens: bool, readout_std: float, outputs: int, vocabulary: int | None, loss: AbstractLoss
) -> None:
    """Refuse a tied readout that is none."""
    if not tokens:
        raise ArgumentTypeError(
            "tied", "is True without token_ids", "pass token_ids and their vocabulary"
        )
    if readout_std != 1:
        raise ArgumentError(
            "readout_std",
            f"got {readout_std:g} for a tied readout, which is the embedding",
            "leave it at 1",
        )
    if outputs != vocabulary:
        remedy = "predict words" if isinstance(loss, CrossEntropy) else "pass as many outputs"
        raise ArgumentError(
            "tied", f"has {outputs} outputs for a vocabulary of {vocabulary}", remedy
        )
