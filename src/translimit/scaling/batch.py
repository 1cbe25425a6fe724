r"""Another batch size, another number of steps: what rate, memory, epsilon and decay become.

With kappa = B / B_0, m_T = T / T_0 and m_D = kappa m_T the ratio of examples seen, to first order
where the noise of the gradient dominates a step,

| optimiser | rate | memory | epsilon |
|---|---|---|---|
| SGD; averaged momentum | kappa | 1 - mu -> kappa (1 - mu) | - |
| heavy ball (PyTorch's) | kappa (1 - mu') / (1 - mu): kappa^2 with memory rescaled, kappa at kept mu | the same | - |
| Adam, AdamW | kappa^{1/2} | beta -> beta^kappa | kappa^{-1/2} |
| sign, Muon | kappa^{1/2} | mu -> mu^kappa | - |

Adam's direction is g / v^{1/2}: drift and diffusion of a sample stay if eta ~ B^{1/2} (the square
root scaling rule), and epsilon follows v^{1/2} ~ B^{-1/2}. Toward the critical batch the rate
saturates, eta ~ (B / (B + B_crit))^{1/2} under Adam and B / (B + B_crit) under SGD.

A longer run has no exact rule: drift grows like T eta and diffusion like T eta^2. What codes do is
offered as folklore.

Reference: Malladi et al., arXiv 2205.10287 (square root); McCandlish et al., arXiv 1812.06162
(critical batch).
"""  # noqa: E501

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from translimit.core import (
    POSITIVE,
    ArgumentError,
    ArgumentTypeError,
    DataError,
    Estimate,
    Json,
    brief,
    nearest,
    require_real,
)
from translimit.describe import (
    OptimizerKind,
    OptimizerName,
    Update,
    WeightDecay,
    optimizer_kind,
)

Duration = Literal["keep", "sqrt"]
Memory = Literal["rescaled", "kept"]
BatchDecay = Literal["timescale", "constant", "independent"]

#: The least memory to which a beta may fall.
LEAST_BETA = 0.5
#: Ratios of batches within which the square root was looked at.
FAR = 4.0
#: Steps over which squared gradients should be averaged.
ENOUGH = 20


@dataclass(frozen=True)
class BatchRule:
    """What another batch and another number of steps ask for.

    Attributes:
        lr: factor of the rate.
        betas: Adam's memories at the target, absolute; None for an optimiser without.
        momentum: mu at the target, absolute; None for an optimiser without.
        eps: factor of Adam's epsilon, or None.
        decay: factor of the weight decay lambda, or None where the optimiser has none.
        warmup: factor of the steps of warm-up, which cover the memory.
        batch: B_0 and B.
        steps: T_0 and T.
        assumptions: a sentence for each.
        warnings: where this leaves what was measured.
    """

    lr: float
    betas: tuple[float, float] | None
    momentum: float | None
    eps: float | None
    decay: float | None
    warmup: float
    batch: tuple[float, float]
    steps: tuple[float, float]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """Everything as plain data."""
        return {
            "lr": self.lr,
            "betas": None if self.betas is None else list(self.betas),
            "momentum": self.momentum,
            "eps": self.eps,
            "decay": self.decay,
            "warmup": self.warmup,
            "batch": list(self.batch),
            "steps": list(self.steps),
            "assumptions": list(self.assumptions),
            "warnings": list(self.warnings),
        }


def batch_rule(
    *,
    optimizer: OptimizerName | OptimizerKind,
    batch: tuple[float | int, float | int] = (1, 1),
    steps: tuple[float | int, float | int] | None = None,
    betas: tuple[float | int, float | int] = (0.9, 0.999),
    momentum: float | int | None = None,
    averaged: bool = False,
    memory: Memory = "rescaled",
    duration: Duration | float | int = "keep",
    decay: BatchDecay = "timescale",
    critical: float | int | None = None,
    dataset: float | int | None = None,
    clipping: bool = False,
    unsafe: bool = False,
) -> BatchRule:
    """The rate, memory, epsilon and decay of another batch and another number of steps.

    Args:
        optimizer: as in `rules`.
        batch: B_0 and B, in any unit.
        steps: T_0 and T; by default as many examples are seen, T = T_0 B_0 / B.
        betas: of Adam, at the base.
        momentum: mu at the base; the record's own by default.
        averaged: whether the velocity is an average, v <- mu v + (1 - mu) g; PyTorch's is not.
        memory: `rescaled` keeps it in examples, `kept` keeps betas and mu as they are.
        duration: `keep` (the rate does not depend on the examples seen), `sqrt` (m_D^{-1/2}, which
            keeps the diffusion), or the exponent of m_D that was fitted.
        decay: `timescale` keeps 1 / (eta lambda) as a share of the run, `constant` keeps
            eta lambda, `independent` keeps lambda of w <- w - lambda w, which no rate multiplies.
        critical: B_crit in the unit of the batch, from `critical_batch`.
        dataset: examples there are, in the unit of the batch, to tell epochs.
        clipping: whether the norm of the gradient is clipped.
        unsafe: allow memories below 1/2.

    Raises:
        ArgumentError: a batch, number of steps or memory outside its range; a clip, which a batch
            changes by itself; a memory that cannot be rescaled.
        ArgumentTypeError: a pair that is none.

    >>> rule = batch_rule(batch=(256, 1024), optimizer="adamw", betas=(0.9, 0.95))
    >>> rule.lr, rule.eps, rule.decay
    (2.0, 0.5, 2.0)
    >>> round(rule.betas[1], 4)
    0.8145
    """
    kind = optimizer_kind(optimizer)
    B_0, B = _pair(batch, "batch")
    T_0, T = (1.0, B_0 / B) if steps is None else _pair(steps, "steps")
    kappa, m_T = B / B_0, T / T_0
    m_D = kappa * m_T
    for value, name, known in ((memory, "memory", Memory), (decay, "decay", BatchDecay)):
        if value not in get_args(known):
            raise ArgumentError(name, f"got {brief(value)}", nearest(str(value), get_args(known)))
    if clipping and kappa != 1:
        raise ArgumentError(
            "clipping",
            "a norm that noise dominates falls like B^(-1/2), so that the same clip acts otherwise",
            "tune the clip again at the new batch, or train without one",
        )
    gradient = kind.update is Update.GRADIENT
    noise = kappa if critical is None else _saturated(B_0, B, critical)
    mu = kind.momentum if momentum is None else require_real(momentum, "momentum")
    new_betas, new_mu, lr = None, None, noise if gradient else noise**0.5
    exponent = {"keep": 0.0, "sqrt": -0.5}.get(str(duration))
    if exponent is None:
        if isinstance(duration, str):
            raise ArgumentError(
                "duration", f"got {brief(duration)}", nearest(duration, get_args(Duration))
            )
        exponent = require_real(duration, "duration")
    keeps = memory == "kept"
    if kind.update is Update.ADAM or kind.beside is not None:
        new_betas = tuple(_remembered(one, "betas", keeps, kappa, unsafe) for one in betas)
        new_betas = (new_betas[0], new_betas[1])
    if gradient and kind.slots:
        new_mu = _velocity(mu, kappa, keeps)
        if not averaged:
            lr *= (1 - new_mu) / (1 - mu)
    elif kind.update is Update.ORTHOGONAL:
        new_mu = _remembered(mu, "momentum", keeps, kappa, unsafe)
    elif kind.update is Update.SIGN:
        new_betas = tuple(_remembered(one, "betas", keeps, kappa, unsafe) for one in betas)
        new_betas = (new_betas[0], new_betas[1])
    lr *= m_D**exponent
    eps = noise**-0.5 if kind.update is Update.ADAM or kind.beside is not None else None
    # The time scale of the decay is that of the effective rate, eta / (1 - mu) of heavy ball.
    effective = lr
    if gradient and kind.slots and new_mu is not None and not averaged:
        effective = lr * (1 - mu) / (1 - new_mu)
    factor = {"timescale": 1 / (effective * m_T), "constant": 1 / effective, "independent": 1.0}
    made = None if kind.weight_decay is WeightDecay.NONE else factor[decay]
    return BatchRule(
        lr,
        new_betas,
        new_mu,
        eps,
        made,
        1.0 if keeps else 1 / kappa,
        (B_0, B),
        (T_0, T),
        tuple(_assumptions(kind, kappa, m_D, exponent, decay, critical)),
        tuple(_warnings(kappa, m_D, B, T, duration, critical, dataset, steps is not None)),
    )


def critical_batch(
    batches: tuple[float | int, float | int], squared_gradients: ArrayLike
) -> Estimate:
    """The batch at which noise and signal of a gradient are equal, tr Sigma / |G|^2.

    Args:
        batches: B_1 < B_2.
        squared_gradients: |g|^2 of gradients of both batches [2] or [2, steps]; they are averaged
            over steps before anything is divided, of which 20 are few enough.

    Returns:
        B_crit in the unit of the batches, with the standard error of a jackknife over steps (NaN
        for one step).

    Raises:
        ArgumentError: batches that do not increase, or squares of another shape.
        DataError: no signal or no noise is left: squares that do not resolve it.

    Equation: |G|^2 = (B_2 |g_2|^2 - B_1 |g_1|^2) / (B_2 - B_1),
        tr Sigma = (|g_1|^2 - |g_2|^2) / (1 / B_1 - 1 / B_2), both exact in expectation.

    >>> round(critical_batch((8, 32), [1 + 450 / 8, 1 + 450 / 32]).value, 6)
    450.0
    """
    small, large = _pair(batches, "batches")
    if small >= large:
        raise ArgumentError("batches", f"got {small:g} and {large:g}", "pass B_1 < B_2")
    squares = np.asarray(squared_gradients, float)
    squares = squares[:, None] if squares.ndim == 1 else squares
    if squares.ndim != 2 or squares.shape[0] != 2 or squares.shape[1] == 0:
        raise ArgumentError(
            "squared_gradients", f"have shape {squares.shape}", "pass [2, steps], B_1 first"
        )
    if not np.all(np.isfinite(squares)) or np.any(squares < 0):
        raise ArgumentError("squared_gradients", "are not all finite and positive", "pass |g|^2")

    def ratio(one: float, other: float) -> float:
        signal = (large * other - small * one) / (large - small)
        noise = (one - other) / (1 / small - 1 / large)
        return float(noise / signal) if signal > 0 and noise > 0 else math.nan

    count = squares.shape[1]
    value = ratio(*squares.mean(axis=1))
    if math.isnan(value):
        raise DataError(
            "squared_gradients",
            f"do not resolve signal and noise in {count} steps",
            f"average more steps ({ENOUGH} at least), or batches further apart",
        )
    if count == 1:
        return Estimate(value, math.nan, 1)
    total = squares.sum(axis=1)
    left = [ratio(*((total - squares[:, i]) / (count - 1))) for i in range(count)]
    spread = np.sqrt((count - 1) / count * np.sum((np.array(left) - np.mean(left)) ** 2))
    return Estimate(value, float(spread), count)


def _pair(value: object, name: str) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ArgumentTypeError(name, f"got {brief(value)}", "pass a pair, base and target")
    first, second = (require_real(one, name, POSITIVE) for one in value)
    return first, second


def _saturated(B_0: float, B: float, critical: float | int) -> float:
    of = require_real(critical, "critical", POSITIVE)
    return B / B_0 * (B_0 + of) / (B + of)


def _remembered(value: float | int, name: str, keeps: bool, kappa: float, unsafe: bool) -> float:
    """Beta^kappa, the same half-life in examples."""
    beta = require_real(value, name)
    if not 0 <= beta < 1:
        raise ArgumentError(name, f"got {beta:g}", "pass numbers in [0, 1)")
    new = beta if keeps else beta**kappa
    if new < LEAST_BETA <= beta and not unsafe:
        raise ArgumentError(
            name,
            f"{beta:g} becomes {new:.3g} at a batch {kappa:g} times as large: hardly a memory",
            "pass memory='kept', a smaller batch, or unsafe=True",
        )
    return new


def _velocity(mu: float, kappa: float, keeps: bool) -> float:
    """1 - kappa (1 - mu)."""
    if not 0 <= mu < 1:
        raise ArgumentError("momentum", f"got {mu:g}", "pass a number in [0, 1)")
    new = mu if keeps else 1 - kappa * (1 - mu)
    if new < 0:
        raise ArgumentError(
            "momentum",
            f"{mu:g} cannot be rescaled for a batch {kappa:g} times as large",
            "pass memory='kept', with which the rate grows like the batch",
        )
    return new


def _assumptions(
    kind: OptimizerKind,
    kappa: float,
    m_D: float,
    exponent: float,
    decay: str,
    critical: float | int | None,
) -> list[str]:
    said = []
    if kappa != 1:
        power = "the batch" if kind.update is Update.GRADIENT else "the root of the batch"
        edge = "" if critical is None else ", saturating at the critical one"
        said.append(f"the rate follows {power}{edge}: noise dominates the gradient of a step")
    if m_D != 1:
        said.append(
            "the rate does not follow the number of examples: folklore, no rule is exact"
            if exponent == 0
            else f"the rate falls like the examples seen to the power {exponent:g}: "
            + ("folklore" if exponent == -0.5 else "as fitted")
        )
    if kind.weight_decay is not WeightDecay.NONE:
        said.append(
            {
                "timescale": "weights remember the same share of the run",
                "constant": "weights remember the same number of steps",
                "independent": "the decay is not multiplied by the rate",
            }[decay]
        )
    return said


def _warnings(
    kappa: float,
    m_D: float,
    B: float,
    T: float,
    duration: object,
    critical: float | int | None,
    dataset: float | int | None,
    counted: bool,
) -> list[str]:
    said = []
    if not 1 / FAR <= kappa <= FAR:
        said.append(f"the batch changes by {kappa:g}: the square root was looked at up to {FAR:g}")
    if critical is not None and critical < B:
        said.append("the batch is beyond the critical one: a larger one buys nothing")
    if m_D != 1 and duration == "keep":
        said.append("the best rate of a constant schedule falls with the length of a run")
    elif m_D != 1:
        said.append("no run verified the exponent of the duration here")
    if dataset is not None and counted and require_real(dataset, "dataset", POSITIVE) < B * T:
        said.append(f"the target sees its data {B * T / dataset:.3g} times: more than one epoch")
    return said
