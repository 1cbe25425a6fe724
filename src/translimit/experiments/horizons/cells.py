r"""What the ledgers of horizons share: which networks are trained, how long, and their losses.

A cell of a ledger is data, optimiser, axis, schedule and number of updates. Networks of one size
that share optimiser and schedule are one cell of the run: at a constant rate for all numbers of
updates, under a decaying one for each. Seed s has one order of batches at all sizes, rates and
schedules.

Reference: documentation, "Horizons".
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import checks, train
from translimit.checks import AxisName, TransferSweep
from translimit.core import ConfigError
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import Networks
from translimit.experiments.checked import (
    Count,
    Distinct,
    Entries,
    Increasing,
    IncreasingSizes,
    Within,
)
from translimit.experiments.ensembles import ensemble_bytes

if TYPE_CHECKING:
    from translimit.data import AbstractSource
    from translimit.describe import Parameterization, TransformerShape

Optimizer = Literal["adamw", "momentum", "muon"]
Schedule = Literal["constant", "cosine", "linear", "wsd"]
AXES: tuple[AxisName, ...] = ("head_dim", "heads", "layers")
OPTIMIZERS: tuple[Optimizer, ...] = ("adamw", "momentum", "muon")
#: Base-two logarithms of the first and the last rate of a grid.
Grid = Annotated[tuple[int, int], Within(-60, 60), Increasing()]
#: The loss that stands for a diverged run.
CAP = 10.0
#: Seconds of one core for an update of a block of 16 channels, 16 examples and 8 tokens, and for
#: compiling a block and all else.
UPDATE_SECONDS, LAYER_SECONDS, OTHER_SECONDS = 7e-4, 1.0, 10.0


@dataclass(frozen=True)
class At:
    """Networks that are trained at once.

    Attributes:
        optimizer: that trains them.
        schedule: of the rate.
        horizons: updates after which their loss is taken.
        head_dim: of the networks.
        heads: of the networks.
        layers: of the networks.
    """

    optimizer: Optimizer
    schedule: Schedule
    horizons: tuple[int, ...]
    head_dim: int
    heads: int
    layers: int

    @property
    def until(self) -> str:
        """The numbers of updates in the name of a cell."""
        return "-".join(map(str, self.horizons))

    @property
    def size(self) -> tuple[int, int, int]:
        """Head dimension, heads, layers."""
        return self.head_dim, self.heads, self.layers


@dataclass(frozen=True)
class Entry:
    """One cell of the ledger.

    Attributes:
        optimizer: that trains.
        axis: which size changes.
        schedule: of the rate.
        steps: updates.
    """

    optimizer: Optimizer
    axis: AxisName
    schedule: Schedule
    steps: int


@dataclass(frozen=True)
class Ledger(Networks, abc.ABC):
    """Sizes of the study, and what is trained.

    Attributes: those of `Networks`, and
        multiples: of the base along an axis.
        axes: which axes change under AdamW; the other optimisers change layers alone.
        optimizers: AdamW, SGD with momentum, Muon.
        schedules: of the rate.
        horizons: updates under AdamW.
        other_horizons: updates under the other optimisers.
        seeds: at a constant rate.
        decay_seeds: under a decaying one, where valleys are smoother.
        adamw_rates: first and last exponent of the grid of the first horizon.
        momentum_rates: the same of SGD with momentum.
        muon_rates: the same of Muon.
        probe: examples on which the loss is taken.
    """

    #: What the ledger calls its data.
    data: ClassVar[str]

    base: tuple[Count, Count, Count] = (4, 4, 2)
    batch: Count = 16
    seeds: Annotated[int, Within(2, 100_000)] = 20
    decay_seeds: Annotated[int, Within(2, 100_000)] = 8
    multiples: Annotated[IncreasingSizes, Entries(2)] = (1, 2, 4)
    axes: Annotated[tuple[AxisName, ...], Distinct()] = ("layers", "head_dim")
    optimizers: Annotated[tuple[Optimizer, ...], Distinct()] = OPTIMIZERS
    schedules: Annotated[tuple[Schedule, ...], Distinct()] = ("constant", "cosine")
    horizons: IncreasingSizes = (60, 240, 1000)
    other_horizons: IncreasingSizes = (60, 240)
    adamw_rates: Grid = (-10, -3)
    momentum_rates: Grid = (-8, -1)
    muon_rates: Grid = (-9, -2)
    probe: Count = 256

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.multiples[0] != 1:
            raise ConfigError("multiples", f"got {self.multiples}", "start with 1, the base")
        for name in ("adamw_rates", "momentum_rates", "muon_rates"):
            first, last = getattr(self, name)
            if last - first < 2:
                raise ConfigError(name, f"got {(first, last)}", "pass a grid of 3 rates or more")

    @property
    def largest(self) -> int:
        """The largest multiple."""
        return self.multiples[-1]

    def rates(self, optimizer: Optimizer) -> tuple[float, ...]:
        """The grid of the first horizon."""
        first, last = getattr(self, f"{optimizer}_rates")
        return tuple(2.0**power for power in range(first, last + 1))

    def times(self, optimizer: Optimizer) -> tuple[int, ...]:
        """The horizons of an optimiser."""
        return self.horizons if optimizer == "adamw" else self.other_horizons

    def grids(self, optimizer: Optimizer, schedule: Schedule) -> dict[int, tuple[float, ...]]:
        """The rates of every horizon: at a constant rate they follow T^{-1/2} by whole points."""
        rates, times = self.rates(optimizer), self.times(optimizer)
        if schedule != "constant":
            return dict.fromkeys(times, rates)
        return dict(zip(times, checks.shifted_grids(rates, times), strict=True))

    def members(self, schedule: Schedule) -> int:
        """Seeds under a schedule."""
        return self.seeds if schedule == "constant" else self.decay_seeds

    def size(self, axis: AxisName, multiple: int) -> tuple[int, int, int]:
        """Head dimension, heads and layers at a multiple of the base."""
        sizes = list(self.base)
        sizes[AXES.index(axis)] *= multiple
        return sizes[0], sizes[1], sizes[2]

    def entries(self) -> list[Entry]:
        """All cells of the ledger."""
        return [
            Entry(optimizer, axis, schedule, steps)
            for optimizer in self.optimizers
            for axis in (self.axes if optimizer == "adamw" else ("layers",))
            for schedule in self.schedules
            for steps in self.times(optimizer)
        ]

    def at(self, entry: Entry, multiple: int) -> At:
        """The networks of a cell of the ledger at one size."""
        shared = entry.schedule == "constant"
        times = self.times(entry.optimizer) if shared else (entry.steps,)
        return At(entry.optimizer, entry.schedule, times, *self.size(entry.axis, multiple))

    @abc.abstractmethod
    def shape(self, size: tuple[int, int, int]) -> TransformerShape:
        """The networks of a size."""

    @abc.abstractmethod
    def source(self) -> AbstractSource:
        """Where batches come from."""

    @abc.abstractmethod
    def ruled(self, shape: TransformerShape, optimizer: Optimizer) -> Parameterization:
        """The numbers of a shape by the rules."""

    @property
    @abc.abstractmethod
    def positions(self) -> int:
        """Tokens of one input."""

    @property
    @abc.abstractmethod
    def classes(self) -> int:
        """Outputs of the readout."""

    @abc.abstractmethod
    def epochs(self, steps: int) -> float:
        """How often a run sees its data."""


@dataclass(frozen=True)
class Losses(ex.Arrays):
    """Losses on the probe; NaN once a run has diverged, or at rates that a horizon lacks."""

    rate: Float[np.ndarray, " rate"]
    loss: Annotated[Float[np.ndarray, "seed rate time"], "loss on the probe"]


def compute(config: Ledger, at: At, keys: ex.Keys) -> Losses:
    """Train the networks of one size; starts and orders are those of all cells."""
    rates = _rates(config, at)
    found = train.ladder_losses(
        [config.shape(at.size)],
        lambda shape: config.ruled(shape, at.optimizer),
        config.source(),
        train.Training(
            steps=at.horizons[-1],
            rates=rates,
            seeds=config.members(at.schedule),
            batch=config.batch,
            optimizer=networks.optimizer(at.optimizer),
            schedule=train.Schedule(decay=at.schedule),
        ),
        at.horizons,
        key=keys.shared("starts"),
        probe=config.probe,
    )
    return Losses(np.array(rates), found[0])


def _rates(config: Ledger, at: At) -> tuple[float, ...]:
    """All rates that any horizon has."""
    grids = config.grids(at.optimizer, at.schedule)
    return tuple(sorted({rate for steps in at.horizons for rate in grids[steps]}))


def _grid(config: Ledger) -> list[At]:
    points = (config.at(entry, m) for entry in config.entries() for m in config.multiples)
    return list(dict.fromkeys(points))


def _cost(config: Ledger, at: At) -> ex.Cost:
    """Blocks, updates and members; a fixed share of an update does not grow with the width."""
    members = config.members(at.schedule) * len(_rates(config, at))
    width = at.head_dim * at.heads / 16
    examples = config.batch * config.positions / 128
    each = UPDATE_SECONDS * examples * (0.4 + 0.6 * width**1.5)
    if at.optimizer == "muon":
        each *= 3
    seconds = OTHER_SECONDS + LAYER_SECONDS * at.layers
    seconds += members * at.horizons[-1] * at.layers * each
    memory = ensemble_bytes(
        at.size,
        members=members,
        batch=config.batch,
        tokens=config.positions,
        outputs=config.classes,
        vocabulary=config.classes,
        mlp_ratio=config.mlp_ratio,
    )
    return ex.Cost(seconds, memory)


NETWORKS = ex.Part(
    "{optimizer}/{schedule}-{until}/N={head_dim},H={heads},L={layers}",
    Losses,
    compute,
    grid=_grid,
    cost=_cost,
)


def sweep(found: ex.Found[Ledger], entry: Entry) -> TransferSweep:
    """The losses of one cell of the ledger, as `checks` has them.

    Args:
        found: the results.
        entry: the cell.
    """
    config = found.config
    grid = config.grids(entry.optimizer, entry.schedule)[entry.steps]
    losses = []
    for multiple in config.multiples:
        at = config.at(entry, multiple)
        told = found(NETWORKS, at)
        rates, time = told.rate.tolist(), at.horizons.index(entry.steps)
        losses.append(told.loss[:, [rates.index(rate) for rate in grid], time])
    capped = np.array(losses)
    capped = np.where(capped < CAP, capped, CAP)  # NaN is not below
    sizes = tuple(config.base[AXES.index(entry.axis)] * m for m in config.multiples)
    return TransferSweep(entry.axis, sizes, grid, capped, CAP, entry.steps, entry.schedule)
