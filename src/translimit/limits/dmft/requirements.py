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
from translimit.limits.dmft.optimizers import AbstractOptimizer


def require_limit(a: Architecture, optimizer: AbstractOptimizer) -> None:
    """Refuse what has no limit, or none that was compared with networks."""
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
    if a.activation_on_stream is not None or optimizer.elementwise:
        _require_particles(a, optimizer)


def _require_particles(a: Architecture, optimizer: AbstractOptimizer) -> None:
    """Refuse what `PopulationSampling` does not solve, where nothing else does either."""
    name, what = (
        ("optimizer", f"is {optimizer}")
        if optimizer.elementwise
        else ("activation_on_stream", f"is {a.activation_on_stream}")
    )
    if a.attention and math.isinf(a.head_dim):
        why = (
            "gradients of keys fall like N^(-1/2) with a sign that differs from head to head, and "
        )
        why += "the limit depends on how epsilon falls beside them"
        why = why if optimizer.elementwise else "coordinates of the stream are sampled"
        raise NoSuchLimitError(
            name, f"{what} with infinite head_dim: {why}", "take a finite head_dim"
        )
    if math.isinf(a.layers):
        raise NoSuchLimitError(
            name,
            f"{what} with infinite layers: coordinates of the stream obey no ODE in depth that was "
            "verified",
            "take finite layers, several of them to extrapolate",
        )
    if a.queries_per_key > 1:
        raise NoSuchLimitError(
            "queries_per_key",
            f"is {a.queries_per_key} where {name} {what}: particles have no groups",
            "leave it at 1",
        )
    if not optimizer.elementwise:
        return
    deep = a.layers > 1 and a.alpha_L != 1
    for field, value in (("alpha_A", a.alpha_A), ("alpha_L", a.alpha_L if deep else 1)):
        if value != 1 and (field == "alpha_L" or a.attention):
            raise NoSuchLimitError(
                field,
                f"is {value:g} under {optimizer}: only {field} = 1 was verified against networks",
                f"take {field}=1, or SGD()",
            )
    if a.score_gain_rate:
        raise NoSuchLimitError(
            "score_gain_rate",
            f"is {a.score_gain_rate:g} under {optimizer}: the rate of a single number is not known",
            "leave it at 0, or take SGD()",
        )
    if a.mlp is not None and a.mlp_ratio != 1:
        raise NoSuchLimitError(
            "mlp_ratio",
            f"is {a.mlp_ratio:g} under {optimizer}: only an MLP as wide as the stream was verified",
            "leave it at 1, or take SGD()",
        )


def require_optimizer(optimizer: object, momentum: float, *, tied: bool) -> AbstractOptimizer:
    """An optimiser of `limits.dmft`, not its name nor its class."""
    if not isinstance(optimizer, AbstractOptimizer):
        raise ArgumentTypeError(
            "optimizer",
            f"got {brief(optimizer)}",
            "pass SGD(), Adam(), AdamW() or Sign() of limits.dmft",
        )
    if optimizer.elementwise and momentum:
        raise ArgumentError(
            "momentum",
            f"got {momentum:g} beside {optimizer}",
            "leave it at 0: it is that of gradient descent (Adam has b1)",
        )
    if optimizer.elementwise and tied:
        raise NoSuchLimitError(
            "tied",
            f"is True under {optimizer}: one update of two gradients was not verified",
            "take a readout of its own, or SGD()",
        )
    return optimizer


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
