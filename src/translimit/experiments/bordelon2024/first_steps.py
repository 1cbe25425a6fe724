r"""First steps against later ones: how far attention scores move as heads get larger.

At the start the gradient of a score is a sum over the N values of a head of incoherent terms; it
becomes coherent once W_O has moved. Under SGD the first update of the scores, by what keys and
queries learn, is therefore N^(-1/2) below the later order. Adam divides the gradient by itself and
has no such suppression; its heads move apart at once.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", first-step
suppression.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import checks, core, describe, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import PAPER, Networks
from translimit.experiments.bordelon2024.power_laws import PowerLaw, power_law_figure
from translimit.experiments.checked import Count, Entries, IncreasingSizes, Positive

if TYPE_CHECKING:
    from translimit.describe import Parameterization, TransformerShape

Optimizer = Literal["sgd", "adamw"]
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "adamw")
QUANTITIES = ("learned_score_change", "learned_score_head_var", "learned_key_change")
#: Exponents of the first update.
EXPECTED: dict[tuple[Optimizer, str], float] = {
    ("sgd", "learned_score_change"): -0.5,
    ("sgd", "learned_score_head_var"): -1.0,
    ("adamw", "learned_score_change"): 0.0,
    ("adamw", "learned_score_head_var"): 0.0,
}
#: A variance is a square.
TOLERANCE = {"learned_score_change": 0.2, "learned_score_head_var": 0.4}
SCORES = ("sgd", "learned_score_change")
HEADS = ("sgd", "learned_score_head_var")


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        head_dims: N.
        steps: numbers of updates after which is recorded.
        sgd_rate: of the base.
        adamw_rate: of the base.
        precision: of the networks.
    """

    batch: Count = 64
    seeds: Count = 6
    head_dims: Annotated[IncreasingSizes, Entries(2)] = (8, 16, 32, 64, 128)
    steps: IncreasingSizes = (1, 2, 5, 10)
    sgd_rate: Positive = 0.3
    adamw_rate: Positive = 0.003
    precision: Literal["float32", "float64"] = "float64"


@dataclass(frozen=True)
class Changes(ex.Arrays):
    """What keys and queries learn in the first updates, over head dimensions."""

    size: Int[np.ndarray, " size"]
    updates: Int[np.ndarray, " updates"]
    learned_score_change: Float[np.ndarray, "size updates seed"]
    learned_score_head_var: Float[np.ndarray, "size updates seed"]
    learned_key_change: Float[np.ndarray, "size updates seed"]

    def after(self, quantity: str, updates: int) -> Float[np.ndarray, "size seed"]:
        """One of `QUANTITIES` after some updates."""
        return getattr(self, quantity)[:, self.updates.tolist().index(updates)]


def compute_changes(config: Config, optimizer: Optimizer, keys: ex.Keys) -> Changes:
    """Networks of all sizes after a few steps of one optimiser, on one batch."""

    def numbers(shape: TransformerShape) -> Parameterization:
        return networks.ruled(config, shape, optimizer).changed(describe.Role.KEY_BIAS, lr=0.0)

    check = train.ensemble_coordinate_check(
        networks.base_shape(config),
        "head_dim",
        config.head_dims,
        numbers,
        networks.images(config.images),
        optimizer=networks.optimizer(optimizer),
        rate=config.sgd_rate if optimizer == "sgd" else config.adamw_rate,
        key=keys.shared("starts"),
        steps=config.steps,
        seeds=config.seeds,
        batch=config.batch,
        precision=config.precision,
    )
    return Changes(
        size=np.array(check.sizes),
        updates=np.array(check.steps),
        **{name: np.asarray(check.values[name]) for name in QUANTITIES},
    )


def _cost(config: Config, optimizer: Optimizer) -> ex.Cost:
    """Compilation, and updates whose price grows with the square of the width."""
    del optimizer
    updates = config.steps[-1] * config.seeds * sum((n / 32) ** 2 for n in config.head_dims)
    return ex.Cost(12.0 * len(config.head_dims) + 0.15 * updates)


CHANGES = ex.Part("{optimizer}", Changes, compute_changes, grid=lambda c: OPTIMIZERS, cost=_cost)


def _law(found: ex.Found[Config], optimizer: Optimizer, quantity: str, updates: int) -> PowerLaw:
    """A quantity after some updates, with the exponent of the first one."""
    changes = found(CHANGES, optimizer)
    first = updates == found.config.steps[0]
    return PowerLaw(
        f"{networks.OPTIMIZER_LABELS[optimizer]}: {quantity.replace('_', ' ')}",
        f"step {updates}",
        changes.size.tolist(),
        changes.after(quantity, updates),
        EXPECTED.get((optimizer, quantity)) if first else None,
    )


def _laws(found: ex.Found[Config]) -> list[PowerLaw]:
    return [
        _law(found, optimizer, quantity, updates)
        for optimizer in OPTIMIZERS
        for quantity in QUANTITIES
        for updates in found.config.steps
    ]


def _lost(found: ex.Found[Config]) -> Estimate:
    """The exponent of the scores under SGD after the first update less that after the last."""
    laws = [_law(found, "sgd", "learned_score_change", found.config.steps[i]) for i in (0, -1)]
    first, last = (checks.power_law_exponents(law.sizes, law.rows) for law in laws)
    return Estimate.from_samples(first - last)


def _sgd(config: Config, at: tuple[Optimizer, str]) -> bool:
    del config
    return at[0] == "sgd"


FIRST = ex.Claims(
    "{optimizer}-{quantity}",
    lambda found, at: (
        f"{networks.OPTIMIZER_LABELS[at[0]]}: exponent in $N$ of {at[1].replace('_', ' ')} after "
        "the first update."
    ),
    estimate=lambda found, at: _law(found, *at, found.config.steps[0]).exponent,
    prediction=lambda found, at: EXPECTED[at],
    tol=lambda config, at: TOLERANCE[at[1]],
    over=lambda c: list(EXPECTED),
    rivals=(
        ex.Rival("coherent from the first update on", 0.0, when=_sgd),
        ex.Rival(
            "the square goes like $N^{-2}$, as the appendix is reported to say",
            -1.0,
            printed=True,
            when=lambda c, at: at == SCORES,
        ),
        ex.Rival("the square of that of the scores", -2.0, when=lambda c, at: at == HEADS),
        ex.Rival(
            "suppressed, as under SGD",
            lambda found, at: EXPECTED["sgd", at[1]],
            when=lambda c, at: at[0] == "adamw",
        ),
        ex.Rival(
            "it grows, like $N^{1/2}$, or squared $N$",
            lambda found, at: 1.0 if at[1] == HEADS[1] else 0.5,
            when=lambda c, at: at[0] == "adamw",
        ),
    ),
    decided_by="standard",
)
RECOVERS = ex.Claims(
    "sgd-recovers",
    lambda found, at: (
        f"SGD: after {found.config.steps[-1]} updates the exponent of the scores is larger than "
        "after the first (minus the difference is below 0)."
    ),
    estimate=lambda found, at: _lost(found),
    prediction=0.0,
    tol=0.0,
    over=ex.alone,
    rivals=(ex.Rival("every update is as incoherent as the first", 0.0),),
    one_sided=True,
    decided_by="standard",
)
FIRST_STEPS = power_law_figure(
    _laws,
    name="first-steps",
    title="What keys and queries learn in the first steps, against head dimension",
    caption="Root mean squares (and the mean variance over heads) of the changes of scores and "
    "keys at the inputs of the start, by what keys and queries learn; $\\alpha_A = 1$, "
    "$H = {base[1]}$, means and standard errors over {seeds} seeds, fitted exponents in the "
    "legend, expected ones of the first update dashed. Dimensionless.",
    xlabel=networks.AXIS_LABELS["head_dim"],
    ylabel="size",
    size=(12.0, 6.8),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/first-steps",
    title="First updates of the attention scores against later ones",
    question="By how much does the first update move the scores less than later ones?",
    summary="At $\\alpha_A = 1$ the first update of SGD moves the scores by $N^{-1/2}$ less than "
    "later ones, squared $N^{-1}$; the paper's appendix is reported to say $N^{-2}$. Adam has no "
    "such suppression, and the variance over heads of its first change does not fall.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(seeds=8, head_dims=(8, 16, 32), steps=(1, 2), precision="float32"),
        "standard": Config(seeds=24, head_dims=(8, 16, 32, 64)),
        "paper": replace(Config(**PAPER), sgd_rate=1.0, adamw_rate=0.03, precision="float32"),
    },
    parts=(CHANGES,),
    claims=(FIRST, RECOVERS),
    figures=(FIRST_STEPS,),
    finding=ex.Finding(
        "After the first update learned scores go with the exponent {0} in $N$ under SGD, and "
        "with {1} under AdamW",
        ("sgd-learned_score_change", "adamw-learned_score_change"),
    ),
)
