r"""Coordinate checks of the rules, and controls that must fail them.

Networks of five sizes along one axis take ten steps on one batch of digits. Root mean squares of
fields and of their changes are fitted by power laws, whose exponents the rules promise. In every
control one factor of the rules is left out.

Key biases have no gradient but round-off (softmax removes them), so they do not move here.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", the coordinate check.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from translimit import core, describe, train
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
)
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.controls import CONTROLS
from translimit.experiments.bordelon2024.coordinate_figures import (
    BITE,
    check_figure,
    control_figure,
    exponent,
    promised_exponents,
)
from translimit.experiments.bordelon2024.networks import PAPER, REFERENCE, AxisName, Networks
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
    import xarray as xr

Optimizer = Literal["adamw", "sgd", "muon"]
KNOWN = tuple(CONTROLS)
#: A check at (alpha_A, alpha_L) for every optimiser and axis.
CHECKS: dict[tuple[str, str], tuple[tuple[float, float], ...]] = {
    ("adamw", "head_dim"): ((1.0, 1.0), (0.5, 1.0)),
    ("adamw", "heads"): ((1.0, 1.0),),
    ("adamw", "layers"): ((1.0, 1.0), (1.0, 0.5)),
    ("sgd", "head_dim"): ((1.0, 1.0), (0.5, 1.0)),
    ("sgd", "heads"): ((1.0, 1.0),),
    ("sgd", "layers"): ((1.0, 1.0), (1.0, 0.5)),
    ("muon", "head_dim"): ((1.0, 1.0),),
    ("muon", "heads"): ((1.0, 1.0),),
    ("muon", "layers"): ((1.0, 1.0), (1.0, 0.5)),
}
#: What claims are made of: coordinate, and whether it is that of the start.
CLAIMED = (
    ("stream_change", False),
    ("output_change", False),
    ("hidden_change", False),
    ("learned_key_change", False),
    ("score", True),
    ("output", True),
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
        for name in self.controls:
            control = CONTROLS[name]
            if control.optimizer not in self.optimizers or control.axis not in self.axes:
                continue
            if control.step not in self.steps:
                raise core.ConfigError(
                    "steps",
                    f"got {self.steps}",
                    f"add {control.step}, at which the control {name!r} is read",
                )

    def sizes(self, axis: str) -> tuple[int, ...]:
        """Values of an axis; at most 16 layers and heads, as in the acceptance table."""
        least = 4 if axis == "head_dim" else 2
        most = 64 if axis == "head_dim" else 16
        found = [least * m for m in self.multiples_of_least]
        return tuple(size for size in found if size <= most)

    def rate(self, optimizer: str) -> float:
        """The rate of an optimiser."""
        return {"adamw": self.adamw_rate, "sgd": self.sgd_rate, "muon": self.muon_rate}[optimizer]


class Coordinates(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cost(self, config: Config) -> Cost:
        """Compilation of every size under every optimiser, shared by its checks, and the steps."""
        sizes = sum(len(config.sizes(axis)) for axis in config.axes)
        return Cost(14.0 * sizes * len(config.optimizers) + 8.0 * len(self.cells(config)))

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The checks, with the controls of an optimiser and an axis behind them."""
        made = []
        for optimizer in config.optimizers:
            for axis in config.axes:
                pairs = CHECKS[optimizer, axis]
                for alpha_A, alpha_L in pairs if config.all_exponents else pairs[:1]:
                    facts = {"optimizer": optimizer, "axis": axis}
                    facts |= {"alpha_A": alpha_A, "alpha_L": alpha_L, "control": ""}
                    made.append(Cell(f"{optimizer}/{axis}/{alpha_A:g},{alpha_L:g}", facts))
                for name in config.controls:
                    control = CONTROLS[name]
                    if (control.optimizer, control.axis) == (optimizer, axis):
                        facts = {"optimizer": optimizer, "axis": axis, "control": name}
                        facts |= {"alpha_A": 1.0, "alpha_L": control.alpha_L}
                        made.append(Cell(f"control/{name}", facts))
        return tuple(made)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """An exponent of every check, and the failure of every control."""
        names = []
        for cell in self.cells(Config()):
            if cell.parameters["control"]:
                names.append(cell.name.replace("/", "-"))
            else:
                names += [_claim_name(cell, coordinate) for coordinate, _ in CLAIMED]
        return (*names, "plain-logit-change")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """One check: every coordinate of every size, step and seed, and the check's sentences."""
        import xarray as xr

        facts = cell.parameters
        optimizer, axis = facts["optimizer"], facts["axis"]
        control = CONTROLS.get(facts["control"])
        base = networks.base_shape(config)

        def numbers(shape: Any) -> Any:
            made = networks.ruled(config, shape, optimizer, facts["alpha_A"], facts["alpha_L"])
            if control is not None:
                made = control.change(made, base.size)
            return made.changed(describe.Role.KEY_BIAS, lr=0.0)

        check = train.ensemble_coordinate_check(
            base,
            axis,
            config.sizes(axis),
            numbers,
            networks.images(config.images),
            optimizer=networks.optimizer(optimizer),
            rate=config.rate(optimizer),
            key=cell.shared_key("starts"),
            steps=config.steps,
            seeds=config.seeds,
            batch=config.batch,
            alpha_A=facts["alpha_A"],
            alpha_L=facts["alpha_L"],
        )
        promised = [
            {"coordinate": name, "step": step, "exponent": exponent}
            for (name, step), exponent in check.expected.items()
        ]
        return xr.Dataset(
            {n: (("size", "updates", "seed"), v) for n, v in check.values.items()},
            coords={"size": list(check.sizes), "updates": list(check.steps)},
            attrs={
                "reference": REFERENCE,
                "coordinates": [one["coordinate"] for one in promised],
                "steps": [one["step"] for one in promised],
                "promised": [one["exponent"] for one in promised],
                "refuted": "; ".join(check.refuted()),
            },
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The acceptance rows, and that every control fails."""
        made = []
        for cell in self.cells(config):
            if cell.parameters["control"]:
                made.append(_control_claim(config, cell, results))
            else:
                made += _check_claims(config, cell, results[cell.name])
        plain = results.get("adamw/head_dim/1,1")
        if plain is not None:
            made.append(
                Claim(
                    name="plain-logit-change",
                    statement="AdamW, head dimension: the plain change of the logits cannot tell, "
                    "since what keys and queries are fed moves as well: its exponent is near "
                    "$-0.4$ although what they learn has exponent 0.",
                    prediction=-0.4,
                    estimate=exponent(plain, "score_change", config.steps[-1]),
                    tol=0.2,
                    reference=REFERENCE,
                )
            )
        return made

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """A figure of panels for each check, and one of all controls."""
        made = [
            check_figure(config, cell, results[cell.name])
            for cell in self.cells(config)
            if not cell.parameters["control"]
        ]
        if any(cell.parameters["control"] for cell in self.cells(config)):
            made.append(control_figure(self, config, results))
        return made


def _claim_name(cell: Cell, coordinate: str) -> str:
    facts = cell.parameters
    exponents = f"{facts['alpha_A']:g}-{facts['alpha_L']:g}"
    return f"{facts['optimizer']}-{facts['axis']}-{exponents}-{coordinate}"


def _tolerance(axis: str, coordinate: str, first: bool) -> float:
    """Those of the acceptance table, and of the protocol for what it does not list."""
    if coordinate == "learned_key_change":
        return 0.15
    if axis == "head_dim":
        return 0.1
    return 0.2 if axis == "layers" and not first else 0.15


def _check_claims(config: Config, cell: Cell, check: xr.Dataset) -> list[Claim]:
    facts, promised = cell.parameters, promised_exponents(check)
    where = (
        f"{networks.OPTIMIZER_LABELS[facts['optimizer']]}, {networks.AXIS_LABELS[facts['axis']]}"
    )
    made = []
    for coordinate, first in CLAIMED:
        step = 0 if first else config.steps[-1]
        if (coordinate, step) not in promised:
            continue
        expected = promised[coordinate, step]
        made.append(
            Claim(
                name=_claim_name(cell, coordinate),
                statement=f"{where}, $(\\alpha_A, \\alpha_L) = ({facts['alpha_A']:g}, "
                f"{facts['alpha_L']:g})$: exponent of {coordinate.replace('_', ' ')} after "
                f"{step} updates.",
                prediction=expected,
                estimate=exponent(check, coordinate, step),
                tol=_tolerance(facts["axis"], coordinate, first),
                reference=REFERENCE,
            )
        )
    return made


def _control_claim(config: Config, cell: Cell, results: Results) -> Claim:
    name, check = cell.parameters["control"], results[cell.name]
    control = CONTROLS[name]
    promised = promised_exponents(check)[control.coordinate, control.step]
    found = exponent(check, control.coordinate, control.step)
    where = f"{networks.OPTIMIZER_LABELS[control.optimizer]}, {networks.AXIS_LABELS[control.axis]}"
    subject = f"{where}: {control.roles} have {control.wrong}"
    what = f"{control.coordinate.replace('_', ' ')} after {control.step} update"
    distance = abs(found.value - promised)
    if control.bites:
        return Claim(
            name=f"control-{name}",
            statement=f"{subject}; the exponent of {what} misses the promised {promised:+.2f} by "
            f"more than {BITE} (the estimate is minus the distance).",
            prediction=-BITE,
            estimate=Estimate(-distance, found.stderr, config.seeds),
            tol=0.0,
            reference=REFERENCE,
            one_sided=True,
        )
    return Claim(
        name=f"control-{name}",
        statement=f"{subject}; this control does not bite: {what} keeps its exponent (the "
        "estimate is its distance).",
        prediction=0.0,
        estimate=Estimate(distance, found.stderr, config.seeds),
        tol=BITE,
        reference=REFERENCE,
    )


EXPERIMENT = Coordinates(
    name="bordelon2024/coordinates",
    title="Coordinate checks along head dimension, heads and layers",
    summary="Under the rules the sizes of fields and of their changes keep the promised exponents "
    "in head dimension, heads and layers for AdamW, SGD and Muon. Every control with one factor "
    "left out fails at the coordinate that the count names; two that cannot bite do not.",
    citations=("bordelon2024", "digits", "jax"),
    presets={
        "demo": Config(
            seeds=6,
            optimizers=("adamw",),
            axes=("head_dim",),
            multiples_of_least=(1, 2, 4, 8),
            all_exponents=False,
            controls=("hidden-rate-head_dim",),
        ),
        "standard": Config(seeds=12),
        "paper": replace(
            Config(**PAPER), optimizers=("adamw", "sgd"), adamw_rate=0.03, sgd_rate=1.0
        ),
    },
)
