r"""Depth at alpha_L = 1/2 and 1: do blocks go on learning, and what does compute buy?

Every matrix of a block moves its pre-activations by L^(alpha_L - 1): at alpha_L = 1/2 keys,
queries and scores stop learning as depth grows, at alpha_L = 1 they do not, and end with the lower
loss at the same cost. Both start from the same weights and see the same batches, in pairs.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", derivation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import checks, core, describe, figures, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import PAPER, Networks
from translimit.experiments.bordelon2024.power_laws import NO_EFFECT, PowerLaw, power_law_figure
from translimit.experiments.checked import Count, Entries, Increasing, IncreasingSizes, Positive

ALPHAS = (1.0, 0.5)
QUANTITIES = ("learned_key_change", "learned_query_change", "learned_score_change")
#: What grows how with depth: a quantity, and alpha_L.
CASES = tuple((quantity, alpha) for alpha in ALPHAS for quantity in QUANTITIES)


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        layers: L.
        rates: of SGD at the base; movement is taken at the middle one.
        early: updates after which movement is taken.
        steps: updates of the loss curves; the loss of the probe is taken after every quarter.
    """

    batch: Count = 64
    seeds: Count = 16
    layers: Annotated[IncreasingSizes, Entries(2)] = (2, 4, 8, 16, 32)
    rates: Annotated[tuple[Positive, ...], Increasing()] = (0.05, 0.1, 0.2)
    early: Count = 10
    steps: Count = 100

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.early > self.steps:
            raise core.ConfigError(
                "early", f"got {self.early} of steps = {self.steps}", "pass at most all steps"
            )

    @property
    def first_quarter(self) -> int:
        """Updates after the first quarter."""
        return -(-self.steps // 4)

    @property
    def rate(self) -> float:
        """At which movement is taken."""
        return self.rates[len(self.rates) // 2]

    def times(self) -> tuple[int, ...]:
        """Numbers of updates after which is observed."""
        quarters = {-(-self.steps * quarter // 4) for quarter in range(5)}
        return tuple(sorted(quarters | {self.early}))

    def deep(self) -> list[int]:
        """Depths at which the exponents are other networks."""
        return [layers for layers in self.layers if layers != self.base[2]]


@dataclass(frozen=True)
class Trained(ex.Arrays):
    """Losses at every rate, and what keys and queries learn at one, at one depth."""

    alpha_L: Float[np.ndarray, " alpha_L"]
    updates: Int[np.ndarray, " updates"]
    loss: Float[np.ndarray, "alpha_L updates seed rate"]
    learned_key_change: Float[np.ndarray, "alpha_L updates seed"]
    learned_query_change: Float[np.ndarray, "alpha_L updates seed"]
    learned_score_change: Float[np.ndarray, "alpha_L updates seed"]
    operations: float
    linear_floor: float

    def log_losses(self, updates: int) -> Float[np.ndarray, "alpha_L seed rate"]:
        """Logs of the losses after some updates."""
        return np.log(self.loss[:, self.updates.tolist().index(updates)])


def compute_networks(config: Config, layers: int, keys: ex.Keys) -> Trained:
    """Movement and losses of both exponents, which share a compiled program."""
    shape = networks.shape_at(config, "layers", layers)
    training = train.Training(
        steps=config.steps,
        rates=config.rates,
        seeds=config.seeds,
        batch=config.batch,
        optimizer=networks.optimizer("sgd"),
    )
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("probe_loss", *QUANTITIES)}
    for alpha in ALPHAS:
        numbers = networks.ruled(config, shape, "sgd", alpha_L=alpha)
        history = train.train(
            shape,
            numbers.changed(describe.Role.KEY_BIAS, lr=0.0),
            networks.images(config.images),
            training,
            key=keys.shared("starts"),
            observe=(train.ProbeLoss(), train.Coordinates()),
            observe_at=config.times(),
        )
        for name, values in found.items():
            values.append(history[name])
    middle = config.rates.index(config.rate)
    return Trained(
        alpha_L=np.array(ALPHAS),
        updates=np.array(config.times()),
        loss=np.array(found.pop("probe_loss")),
        **{name: np.array(values)[..., middle] for name, values in found.items()},
        operations=6.0 * shape.parameter_count * shape.tokens * config.batch,
        linear_floor=networks.linear_floor(config),
    )


NETWORKS = ex.Part(
    "L={layers}",
    Trained,
    compute_networks,
    grid=lambda c: c.layers,
    # Compilation, and updates.
    cost=lambda c, layers: ex.Cost(12.0 + 0.004 * c.steps * c.seeds * layers * len(c.rates)),
)


def _law(found: ex.Found[Config], case: tuple[str, float]) -> PowerLaw:
    """A quantity after the early updates, at every depth."""
    quantity, alpha = case
    config, title = found.config, quantity.replace("_", " ")
    when = ALPHAS.index(alpha), config.times().index(config.early)
    rows = np.array([getattr(one, quantity)[when] for _, one in found.each(NETWORKS)])
    return PowerLaw(title, rf"$\alpha_L$ = {alpha:g}", config.layers, rows, alpha - 1)


def _laws(found: ex.Found[Config]) -> list[PowerLaw]:
    return [_law(found, case) for case in sorted(CASES)]


def _difference(found: ex.Found[Config], quantity: str) -> Estimate:
    """The exponent at alpha_L = 1 less that at 1/2, seed by seed."""
    laws = (_law(found, (quantity, alpha)) for alpha in ALPHAS)
    one, half = (checks.power_law_exponents(law.sizes, law.rows) for law in laws)
    return Estimate.over_seeds(one - half)


def _pairs(
    found: ex.Found[Config], layers: int, rate: float, updates: int
) -> Float[np.ndarray, " seed"]:
    """Log of the loss at alpha_L = 1 over that at 1/2, seed by seed."""
    losses = found(NETWORKS, layers).log_losses(updates)[..., found.config.rates.index(rate)]
    return losses[0] - losses[1]


def _at_best(found: ex.Found[Config], layers: int) -> Estimate:
    """The same at the best rate of each; seeds left out one after the other."""
    losses = found(NETWORKS, layers).log_losses(found.config.steps)

    def statistic(chosen: np.ndarray) -> float:
        best = losses[:, chosen].mean(axis=1).min(axis=-1)
        return float(best[0] - best[1])

    return core.jackknife(statistic, found.config.seeds)


LEARNING = ex.Claims(
    "{quantity}-{alpha:g}",
    lambda found, case: (
        f"$\\alpha_L = {case[1]:g}$: exponent in $L$ of {case[0].replace('_', ' ')} after "
        f"{found.config.early} updates of SGD."
    ),
    estimate=lambda found, case: _law(found, case).exponent,
    prediction=lambda found, case: case[1] - 1,
    tol=0.15,
    over=lambda c: CASES,
    rivals=(
        ex.Rival("the exponent of the other $\\alpha_L$", lambda found, at: 0.5 - at[1]),
        ex.Rival("it falls like $1/L$, as the weight of a branch", -1.0),
        ex.Rival("it grows like $L^{1/2}$", 0.5),
    ),
    decided_by="standard",
)
DIFFERENCE = ex.Claims(
    "{quantity}-by-alpha_L",
    lambda found, quantity: (
        f"From $\\alpha_L = 1/2$ to 1 the exponent in $L$ of {quantity.replace('_', ' ')} rises by "
        "1/2, seed by seed."
    ),
    estimate=_difference,
    prediction=0.5,
    tol=0.15,
    over=lambda c: QUANTITIES,
    rivals=(
        ex.Rival("both exponents learn alike", 0.0),
        ex.Rival("it rises by 1/4", 0.25),
        ex.Rival("it rises by 1, as the weight of a branch squared", 1.0),
    ),
)
COMPUTE = ex.Claims(
    "compute-L={layers}-rate={rate:g}",
    lambda found, at: (
        f"At the same compute, $L = {at[0]}$ and rate {at[1]:g} of SGD, the loss after "
        f"{found.config.steps} updates is lower at $\\alpha_L = 1$ than at 1/2 (log of the ratio, "
        "in pairs of the same start and batches, is below 0)."
    ),
    estimate=lambda found, at: Estimate.over_seeds(_pairs(found, *at, found.config.steps)),
    prediction=0.0,
    tol=0.0,
    over=lambda c: [(layers, rate) for layers in c.deep() for rate in c.rates],
    rivals=(ex.Rival(NO_EFFECT, 0.0), ex.Rival("1/2 is better by a tenth", 0.1)),
    one_sided=True,
)
AT_BEST = ex.Claims(
    "compute-L={layers}-best",
    lambda found, layers: (
        f"So it is at $L = {layers}$ where each exponent has its best rate of the grid."
    ),
    estimate=_at_best,
    prediction=0.0,
    tol=0.0,
    over=lambda c: c.deep() if len(c.rates) > 2 and c.seeds > 2 else [],
    rivals=(ex.Rival(NO_EFFECT, 0.0),),
    one_sided=True,
    decided_by="standard",
)
EARLY = ex.Claims(
    "early-L={layers}",
    lambda found, layers: (
        f"Early the order is the other one: after {found.config.first_quarter} updates at rate "
        f"{found.config.rates[0]:g} and $L = {layers}$ the loss is higher at $\\alpha_L = 1$ "
        "(minus the log of the ratio is below 0)."
    ),
    estimate=lambda found, layers: Estimate.over_seeds(
        -_pairs(found, layers, found.config.rates[0], found.config.first_quarter)
    ),
    prediction=0.0,
    tol=0.0,
    over=lambda c: [layers for layers in c.deep() if layers >= 32 and len(c.rates) > 2],
    rivals=(ex.Rival(NO_EFFECT, 0.0), ex.Rival("1 is ahead from the start by 5 %", 0.05)),
    one_sided=True,
    decided_by="standard",
)


def _losses(found: ex.Found[Config]) -> Iterator[figures.Row]:
    middle = found.config.rates.index(found.config.rate)
    for index, alpha in enumerate(ALPHAS):
        for layers, one in found.each(NETWORKS):
            losses = np.exp(np.log(one.loss[index, :, :, middle]).mean(axis=1))
            for t, loss in zip(one.updates.tolist(), losses.tolist(), strict=True):
                yield alpha, layers, t, one.operations * t, loss, one.linear_floor


def _gains(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for layers in found.config.deep():
        for rate in found.config.rates:
            gain = Estimate.over_seeds(_pairs(found, layers, rate, found.config.steps))
            yield layers, rate, gain.value, gain.stderr


FIGURES = (
    power_law_figure(
        _laws,
        name="movement",
        title="What keys and queries learn, against depth",
        caption="Root mean squares over entries and all blocks after {early} updates of SGD, at "
        "the inputs of the start; means and standard errors over {seeds} seeds, fitted exponents "
        "in the legend, expected ones dashed. Dimensionless.",
        xlabel=networks.AXIS_LABELS["layers"],
        size=(12.0, 4.0),
    ),
    ex.Figure(
        name="compute",
        title="Loss against compute for growing depth",
        caption="Cross-entropy in nats on 64 training examples, geometric means over {seeds} "
        "seeds, against six operations for every parameter and token of an update, SGD at rate "
        "{rate:g} of the base; dotted: the linear model fitted to all examples.",
        columns=("alpha_L", "layers", "updates", "operations", "loss", "linear model"),
        rows=_losses,
        x="operations",
        by="layers",
        panels="alpha_L",
        titles={alpha: rf"$\alpha_L$ = {alpha:g}" for alpha in ALPHAS},
        layers=lambda c: (
            # The logarithmic axis has no place for what is spent before the first update.
            figures.points("loss", joined=True, label="$L$ = {}", where={"updates": c.times()[1:]}),
            figures.level("linear model", label="linear model, fitted", dash="1.5 2"),
        ),
        xlabel="floating-point operations",
        ylabel="loss",
        log="xy",
        size=(9.0, 4.0),
    ),
    ex.Figure(
        name="gain",
        title="Both exponents at the same compute",
        caption="Log of the loss at $\\alpha_L = 1$ over that at 1/2 after {steps} updates, means "
        "and standard errors over {seeds} pairs of the same start and batches.",
        columns=("layers", "rate", "log ratio", "stderr"),
        rows=_gains,
        x="layers",
        by="rate",
        layers=(
            figures.points("log ratio", "stderr", joined=True, label="rate {}"),
            figures.level(0.0),
        ),
        xlabel=networks.AXIS_LABELS["layers"],
        ylabel="log ratio of losses",
        log="x",
        ticks=True,
        when=lambda c: len(c.deep()) > 1,
    ),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/depth",
    title="Learning of keys and queries against depth, and loss against compute",
    question="Do deep networks still learn keys and queries, and at which depth exponent?",
    summary="At $\\alpha_L = 1/2$ what keys, queries and scores learn falls like $L^{-1/2}$: deep "
    "blocks become lazy. At $\\alpha_L = 1$ it does not fall, and at the same compute deep "
    "networks end with a lower loss.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(seeds=12, layers=(2, 8), rates=(0.1,)),
        "standard": Config(),
        "paper": replace(
            Config(**PAPER), layers=(2, 4, 8, 16), rates=(1.0,), early=100, steps=10_000
        ),
    },
    parts=(NETWORKS,),
    claims=(LEARNING, DIFFERENCE, COMPUTE, AT_BEST, EARLY),
    figures=FIGURES,
    finding=ex.Finding("At $\\alpha_L = 1$ keys learn as $L$ to {0}", ("learned_key_change-1",)),
)
