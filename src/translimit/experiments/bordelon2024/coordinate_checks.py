r"""Coordinate checks of networks of five sizes along one axis, and controls without one factor.

Networks take ten steps on one batch of digits. Root mean squares of fields and of their changes are
fitted by power laws. In every control one factor of the rules is left out. Key biases have no
gradient but round-off (softmax removes them), so they do not move here.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", the coordinate check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import checks, core, describe, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.controls import CONTROLS, Control
from translimit.experiments.bordelon2024.networks import AxisName, Networks
from translimit.experiments.checked import (
    Count,
    Distinct,
    Entries,
    Increasing,
    IncreasingSizes,
    OneOf,
    Positive,
    Within,
)

if TYPE_CHECKING:
    from translimit.describe import Parameterization, TransformerShape

Optimizer = Literal["adamw", "sgd", "muon"]
KNOWN = tuple(CONTROLS)


@dataclass(frozen=True)
class Check:
    """What is checked.

    Attributes:
        optimizer: under which.
        axis: along which size.
        alpha_A: exponent of the scores.
        alpha_L: exponent of the branches.
    """

    optimizer: Optimizer
    axis: AxisName
    alpha_A: float = 1.0
    alpha_L: float = 1.0

    def __str__(self) -> str:
        where = f"{networks.OPTIMIZER_LABELS[self.optimizer]}, {networks.AXIS_LABELS[self.axis]}"
        return f"{where}, $(\\alpha_A, \\alpha_L) = ({self.alpha_A:g}, {self.alpha_L:g})$"

    def promises(self, steps: tuple[int, ...]) -> dict[tuple[str, int], float]:
        """Exponents that the rules promise, by coordinate and number of updates."""
        return checks.expected_exponents(
            self.axis, steps, self.optimizer == "sgd", self.alpha_A, self.alpha_L
        )


#: All checks; those at other exponents than 1 follow the one at 1 of their optimiser and axis.
CHECKS = (
    Check("adamw", "head_dim"),
    Check("adamw", "head_dim", alpha_A=0.5),
    Check("adamw", "heads"),
    Check("adamw", "layers"),
    Check("adamw", "layers", alpha_L=0.5),
    Check("sgd", "head_dim"),
    Check("sgd", "head_dim", alpha_A=0.5),
    Check("sgd", "heads"),
    Check("sgd", "layers"),
    Check("sgd", "layers", alpha_L=0.5),
    Check("muon", "head_dim"),
    Check("muon", "heads"),
    Check("muon", "layers"),
    Check("muon", "layers", alpha_L=0.5),
)


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        optimizers: which to check.
        axes: along which sizes.
        multiples_of_least: sizes of an axis, over the least one: 4 of the head dimension, 2 else.
        steps: numbers of updates after which is recorded.
        all_exponents: whether alpha_A and alpha_L also take the value 1/2.
        adamw_rate: of the base.
        sgd_rate: of the base.
        muon_rate: of the base.
        controls: names of the controls.
    """

    batch: Count = 64
    seeds: Count = 4
    optimizers: Annotated[tuple[Optimizer, ...], Distinct()] = ("adamw", "sgd", "muon")
    axes: Annotated[tuple[AxisName, ...], Distinct()] = ("head_dim", "heads", "layers")
    multiples_of_least: Annotated[IncreasingSizes, Within(1, 16), Entries(2)] = (1, 2, 4, 8, 16)
    steps: Annotated[tuple[int, ...], Within(0), Increasing()] = (0, 1, 2, 5, 10)
    all_exponents: bool = True
    adamw_rate: Positive = 0.01
    sgd_rate: Positive = 0.3
    muon_rate: Positive = 0.05
    controls: Annotated[tuple[str, ...], Entries(0), OneOf(KNOWN), Distinct()] = KNOWN

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        for name in self.used_controls():
            step = CONTROLS[name].step
            if step not in self.steps:
                raise core.ConfigError(
                    "steps",
                    f"got {self.steps}",
                    f"add {step}, at which the control {name!r} is read",
                )

    def sizes(self, axis: AxisName) -> tuple[int, ...]:
        """Values of an axis; at most 16 layers and heads, as in the acceptance table."""
        least = 4 if axis == "head_dim" else 2
        most = 64 if axis == "head_dim" else 16
        found = [least * m for m in self.multiples_of_least]
        return tuple(size for size in found if size <= most)

    def rate(self, optimizer: Optimizer) -> float:
        """The rate of an optimiser."""
        return {"adamw": self.adamw_rate, "sgd": self.sgd_rate, "muon": self.muon_rate}[optimizer]

    def checks(self) -> list[Check]:
        """The checks, by optimiser and axis in the order of the configuration."""
        found = [check for check in CHECKS if check.optimizer in self.optimizers]
        found = [check for check in found if check.axis in self.axes]
        found = [c for c in found if self.all_exponents or c.alpha_A == c.alpha_L == 1.0]
        place = (self.optimizers.index, self.axes.index)
        return sorted(found, key=lambda c: (place[0](c.optimizer), place[1](c.axis)))

    def used_controls(self) -> list[str]:
        """The controls of an optimiser and an axis that are checked."""
        return [
            name
            for name in self.controls
            if CONTROLS[name].optimizer in self.optimizers and CONTROLS[name].axis in self.axes
        ]

    @property
    def last(self) -> int:
        """The largest number of updates."""
        return self.steps[-1]


@dataclass(frozen=True)
class Coordinates(ex.Arrays):
    """Root mean squares of every size, number of updates and seed, and what they refute."""

    size: Int[np.ndarray, " size"]
    updates: Int[np.ndarray, " updates"]
    stream: Float[np.ndarray, "size updates seed"]
    stream_change: Float[np.ndarray, "size updates seed"]
    hidden: Float[np.ndarray, "size updates seed"]
    hidden_change: Float[np.ndarray, "size updates seed"]
    key: Float[np.ndarray, "size updates seed"]
    query: Float[np.ndarray, "size updates seed"]
    learned_key_change: Float[np.ndarray, "size updates seed"]
    learned_query_change: Float[np.ndarray, "size updates seed"]
    score: Float[np.ndarray, "size updates seed"]
    score_change: Float[np.ndarray, "size updates seed"]
    learned_score_change: Float[np.ndarray, "size updates seed"]
    learned_score_mean: Float[np.ndarray, "size updates seed"]
    learned_score_head_var: Float[np.ndarray, "size updates seed"]
    output: Float[np.ndarray, "size updates seed"]
    output_change: Float[np.ndarray, "size updates seed"]
    refuted: str

    def of(self, coordinate: str, step: int) -> Float[np.ndarray, "size seed"]:
        """A coordinate after some updates."""
        values: np.ndarray = getattr(self, coordinate)
        return values[:, self.updates.tolist().index(step)]

    def exponent(self, coordinate: str, step: int) -> Estimate:
        """The fitted exponent of a coordinate after some updates."""
        return checks.power_law_exponent(self.size, self.of(coordinate, step))


def controlled(control: Control) -> Check:
    """The check that a control must fail."""
    return Check(control.optimizer, control.axis, alpha_L=control.alpha_L)


def compute_check(config: Config, check: Check, keys: ex.Keys) -> Coordinates:
    """One check: every coordinate of every size, step and seed."""
    return _coordinates(config, check, keys)


def compute_control(config: Config, name: str, keys: ex.Keys) -> Coordinates:
    """The check of a control."""
    return _coordinates(config, controlled(CONTROLS[name]), keys, CONTROLS[name])


def _coordinates(
    config: Config, check: Check, keys: ex.Keys, control: Control | None = None
) -> Coordinates:
    base = networks.base_shape(config)

    def numbers(shape: TransformerShape) -> Parameterization:
        made = networks.ruled(config, shape, check.optimizer, check.alpha_A, check.alpha_L)
        if control is not None:
            made = control.change(made, base.size)
        return made.changed(describe.Role.KEY_BIAS, lr=0.0)

    found = train.ensemble_coordinate_check(
        base,
        check.axis,
        config.sizes(check.axis),
        numbers,
        networks.images(config.images),
        optimizer=networks.optimizer(check.optimizer),
        rate=config.rate(check.optimizer),
        key=keys.shared("starts"),
        steps=config.steps,
        seeds=config.seeds,
        batch=config.batch,
        alpha_A=check.alpha_A,
        alpha_L=check.alpha_L,
    )
    return Coordinates(
        **{name: np.asarray(values) for name, values in found.values.items()},
        size=np.array(found.sizes),
        updates=np.array(found.steps),
        refuted="; ".join(found.refuted()),
    )


def _cost(config: Config, check: Check) -> ex.Cost:
    """Steps, and compilation of every size, shared by the checks of an optimiser and an axis."""
    every = [*config.checks(), *(controlled(CONTROLS[name]) for name in config.used_controls())]
    here = (check.optimizer, check.axis)
    sharing = sum((one.optimizer, one.axis) == here for one in every)
    return ex.Cost(14.0 * len(config.sizes(check.axis)) / sharing + 8.0)


CHECK = ex.Part(
    "{optimizer}/{axis}/{alpha_A:g},{alpha_L:g}",
    Coordinates,
    compute_check,
    grid=lambda c: c.checks(),
    cost=_cost,
)
CONTROL = ex.Part(
    "control/{name}",
    Coordinates,
    compute_control,
    grid=lambda c: c.used_controls(),
    cost=lambda c, name: _cost(c, controlled(CONTROLS[name])),
)
