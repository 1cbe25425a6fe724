r"""Sweeps of learning rates over sizes, under the rules and in the standard parameterization.

Every size trains at a grid of rates in factors of two, from several seeds. The optimum of a size is
the vertex of the parabola through the lowest three points of the seed-averaged log loss; the drift
is log10 of the optimum of the largest size minus that of the base. The rules keep the optimum; the
standard parameterization moves it by log10 of the missing 1 / m_d under AdamW.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", hyper-parameter
transfer.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

import translimit.experiments as ex
from translimit import checks, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import AxisName, Networks
from translimit.experiments.checked import (
    Count,
    Distinct,
    Entries,
    Exponent,
    Increasing,
    IncreasingSizes,
    Within,
)
from translimit.experiments.ensembles import ensemble_bytes

if TYPE_CHECKING:
    from translimit.data import AbstractSource
    from translimit.describe import Parameterization, TransformerShape

Optimizer = Literal["adamw", "momentum"]
AXES: tuple[AxisName, ...] = ("head_dim", "heads", "layers")
OPTIMIZERS: tuple[Optimizer, ...] = ("adamw", "momentum")


@dataclass(frozen=True)
class Study:
    """One comparison over sizes.

    Attributes:
        optimizer: AdamW or SGD with momentum.
        axis: along which size.
        alpha_A: exponent of the scores.
    """

    optimizer: Optimizer
    axis: AxisName
    alpha_A: float


@dataclass(frozen=True)
class Sweeps(Networks, abc.ABC):
    """Sizes of the study, and what is trained.

    Attributes: those of `Networks`, and
        multiples: of the base along an axis.
        axes: which axes are swept.
        optimizers: AdamW, SGD with momentum.
        alphas: exponents of the scores along the head dimension.
        steps: updates after which the loss is taken.
        log2_rates: first and last exponent of the grid of AdamW.
        log2_momentum_rates: first and last exponent of the grid of SGD with momentum.
        probe: examples on which the loss is taken.
    """

    #: Log of the ratio of losses that is as good as nothing.
    negligible: ClassVar[float] = 0.1

    multiples: Annotated[IncreasingSizes, Entries(2)] = (1, 2, 4)
    axes: Annotated[tuple[AxisName, ...], Distinct()] = AXES
    optimizers: Annotated[tuple[Optimizer, ...], Distinct()] = OPTIMIZERS
    alphas: Annotated[tuple[Exponent, ...], Distinct()] = (1.0, 0.5)
    steps: Count = 60
    log2_rates: Annotated[tuple[int, int], Within(-60, 60), Increasing()] = (-12, -3)
    log2_momentum_rates: Annotated[tuple[int, int], Within(-60, 60), Increasing()] = (-8, -1)
    probe: Count = 256

    def rates(self, optimizer: str) -> tuple[float, ...]:
        """The grid of an optimiser."""
        first, last = self.log2_rates if optimizer == "adamw" else self.log2_momentum_rates
        return tuple(2.0**k for k in range(first, last + 1))

    def sizes(self, axis: AxisName) -> tuple[int, ...]:
        """Values of an axis."""
        return tuple(self.base[AXES.index(axis)] * m for m in self.multiples)

    @property
    def largest(self) -> int:
        """The largest multiple."""
        return self.multiples[-1]

    def pairs(self) -> list[tuple[Optimizer, AxisName]]:
        """Optimiser and axis of every comparison."""
        return [(optimizer, axis) for optimizer in self.optimizers for axis in self.axes]

    def studies(self, optimizer: Optimizer, axis: AxisName) -> list[Study]:
        """The comparisons along an axis under the rules."""
        alphas = self.alphas if axis == "head_dim" else self.alphas[:1]
        return [Study(optimizer, axis, alpha) for alpha in alphas]

    def all_studies(self) -> list[Study]:
        """Every comparison under the rules."""
        return [study for pair in self.pairs() for study in self.studies(*pair)]

    @property
    @abc.abstractmethod
    def positions(self) -> int:
        """Tokens of one input."""

    @property
    @abc.abstractmethod
    def classes(self) -> int:
        """Outputs of the readout."""

    @abc.abstractmethod
    def shape(self) -> TransformerShape:
        """The base."""

    @abc.abstractmethod
    def source(self) -> AbstractSource:
        """Where batches come from."""

    @abc.abstractmethod
    def ruled(
        self, shape: TransformerShape, optimizer: Optimizer, alpha_A: float
    ) -> Parameterization:
        """The numbers of a shape by the rules."""

    @abc.abstractmethod
    def standard(self, shape: TransformerShape) -> Parameterization:
        """The numbers of a shape in the standard parameterization."""

    @abc.abstractmethod
    def floor(self) -> float:
        """A loss to compare with."""

    @property
    @abc.abstractmethod
    def floor_label(self) -> str:
        """What the floor is."""

    @property
    @abc.abstractmethod
    def samples(self) -> str:
        """What the loss is a mean over."""

    @abc.abstractmethod
    def drift_tolerance(self, optimizer: Optimizer, axis: AxisName) -> float | None:
        """Of the drift under the rules, in decades; None where it separates nothing."""


@dataclass(frozen=True)
class Sweep(ex.Arrays):
    """Losses of all sizes, seeds and rates, and what follows from them."""

    size: Int[np.ndarray, " size"]
    rate: Float[np.ndarray, " rate"]
    loss: Annotated[Float[np.ndarray, "size seed rate"], "loss"]
    optimum: Float[np.ndarray, " size"]
    optimum_stderr: Float[np.ndarray, " size"]
    base_rate_loss: Float[np.ndarray, " size"]
    base_rate_stderr: Float[np.ndarray, " size"]
    best_loss: Float[np.ndarray, " size"]
    best_stderr: Float[np.ndarray, " size"]
    edge: Annotated[Bool[np.ndarray, " size"], "whether the optimum is a bound"]
    drift: float
    drift_stderr: float
    regret: float
    regret_stderr: float
    warnings: str
    floor: float

    def again(self, axis: AxisName) -> checks.TransferSweep:
        """The sweep as `checks` has it."""
        sizes, rates = self.size.tolist(), self.rate.tolist()
        return checks.TransferSweep(
            axis, tuple(sizes), tuple(rates), self.loss, float(self.loss.max())
        )

    def drift_estimate(self) -> Estimate:
        """The drift; without an error where an optimum is a bound."""
        stderr = float("nan") if self.edge.any() else float(self.drift_stderr)
        return Estimate(float(self.drift), stderr, self.loss.shape[1])


def compute_rules(config: Sweeps, study: Study, keys: ex.Keys) -> Sweep:
    """One sweep under the rules."""
    return _sweep(config, study, keys, ruled=True)


def compute_standard(config: Sweeps, at: tuple[Optimizer, AxisName], keys: ex.Keys) -> Sweep:
    """One sweep in the standard parameterization."""
    return _sweep(config, Study(*at, config.alphas[0]), keys, ruled=False)


def _sweep(config: Sweeps, study: Study, keys: ex.Keys, *, ruled: bool) -> Sweep:
    def numbers(shape: TransformerShape) -> Parameterization:
        if ruled:
            return config.ruled(shape, study.optimizer, study.alpha_A)
        return config.standard(shape)

    training = train.Training(
        steps=config.steps,
        rates=config.rates(study.optimizer),
        seeds=config.seeds,
        batch=config.batch,
        optimizer=networks.optimizer(study.optimizer),
    )
    sizes = config.sizes(study.axis)
    sweep = train.ensemble_transfer_sweep(
        config.shape(),
        study.axis,
        sizes,
        numbers,
        config.source(),
        training,
        key=keys.shared("starts"),
        probe=config.probe,
    )
    optima = [sweep.optimum(size) for size in sizes]
    at_base = [sweep.loss_at_base_rate(size) for size in sizes]
    at_best = [sweep.loss_at_optimum(size) for size in sizes]
    drift, regret = sweep.optimum_drift, sweep.regret(sizes[-1])
    return Sweep(
        size=np.array(sizes),
        rate=np.array(sweep.rates),
        loss=np.asarray(sweep.losses),
        optimum=np.array([one.value for one in optima]),
        optimum_stderr=np.array([one.stderr for one in optima]),
        base_rate_loss=np.array([one.value for one in at_base]),
        base_rate_stderr=np.array([one.stderr for one in at_base]),
        best_loss=np.array([one.value for one in at_best]),
        best_stderr=np.array([one.stderr for one in at_best]),
        edge=np.array([bool(sweep.bound(size)) for size in sizes]),
        drift=float(drift.value),
        drift_stderr=float(drift.stderr),
        regret=float(regret.value),
        regret_stderr=float(regret.stderr),
        warnings="; ".join(sweep.warnings()),
        floor=float(config.floor()),
    )


def _cost(config: Sweeps, optimizer: Optimizer, axis: AxisName) -> ex.Cost:
    """About 10 seconds of compilation, and the updates of all sizes, seeds and rates."""
    members = config.seeds * len(config.rates(optimizer))
    growth = 1.2 if axis == "layers" else 1.5
    sizes = sum(multiple**growth for multiple in config.multiples)
    base = float(np.prod(config.base)) / 32 * config.batch * config.positions / 256
    largest = list(config.base)
    largest[AXES.index(axis)] *= max(config.multiples)
    memory = ensemble_bytes(
        largest,
        members=members,
        batch=config.batch,
        tokens=config.positions,
        outputs=config.classes,
        vocabulary=config.classes,
        mlp_ratio=config.mlp_ratio,
    )
    return ex.Cost(10.0 + 1.25e-3 * config.steps * members * sizes * base, memory)


RULES = ex.Part(
    "{optimizer}/{axis}/rules, alpha_A={alpha_A:g}",
    Sweep,
    compute_rules,
    grid=lambda c: c.all_studies(),
    cost=lambda c, study: _cost(c, study.optimizer, study.axis),
)
STANDARD = ex.Part(
    "{optimizer}/{axis}/standard",
    Sweep,
    compute_standard,
    grid=lambda c: c.pairs(),
    cost=lambda c, at: _cost(c, *at),
)
PARTS = (RULES, STANDARD)
