r"""Depth at alpha_L = 1/2 and 1: do blocks go on learning, and what does compute buy?

Every matrix of a block moves its pre-activations by L^(alpha_L - 1): at alpha_L = 1/2 keys,
queries and logits stop learning as depth grows, at alpha_L = 1 they do not. Beside it the loss
against the floating-point operations spent, six for every parameter and token of an update.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", derivation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import checks, core, describe, figures, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import PAPER, Networks
from translimit.experiments.checked import Count, Entries, IncreasingSizes, Positive, Within

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

ALPHAS = (1.0, 0.5)
QUANTITIES = ("learned_key_change", "learned_query_change", "learned_score_change")
#: What grows how with depth: a quantity, and alpha_L.
CASES = tuple((quantity, alpha) for alpha in ALPHAS for quantity in QUANTITIES)


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        layers: L.
        rate: of SGD at the base.
        early: updates after which movement is taken.
        steps: updates of the loss curves.
        observations: how many times the loss of the probe is taken, evenly spaced.
    """

    batch: Count = 64
    seeds: Count = 16
    layers: Annotated[IncreasingSizes, Entries(2)] = (2, 4, 8, 16)
    rate: Positive = 0.1
    early: Count = 10
    steps: Count = 60
    observations: Annotated[int, Within(1, 10_000)] = 6

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.early > self.steps:
            raise core.ConfigError(
                "early", f"got {self.early} of steps = {self.steps}", "pass at most all steps"
            )

    def times(self) -> tuple[int, ...]:
        """Numbers of updates after which is observed."""
        even = {int(t) for t in np.linspace(0, self.steps, self.observations + 1)}
        return tuple(sorted(even | {self.early}))


@dataclass(frozen=True)
class Trained(ex.Arrays):
    """Losses, and what keys and queries learn, at one depth."""

    alpha_L: Float[np.ndarray, " alpha_L"]
    updates: Int[np.ndarray, " updates"]
    loss: Float[np.ndarray, "alpha_L updates seed"]
    learned_key_change: Float[np.ndarray, "alpha_L updates seed"]
    learned_query_change: Float[np.ndarray, "alpha_L updates seed"]
    learned_score_change: Float[np.ndarray, "alpha_L updates seed"]
    operations: float
    linear_floor: float

    def change(self, quantity: str, alpha: float, updates: int) -> Float[np.ndarray, " seed"]:
        """One of `QUANTITIES` after some updates."""
        when = self.alpha_L.tolist().index(alpha), self.updates.tolist().index(updates)
        return getattr(self, quantity)[when]


def compute_networks(config: Config, layers: int, keys: ex.Keys) -> Trained:
    """Movement and losses of both exponents, which share a compiled program."""
    shape = networks.shape_at(config, "layers", layers)
    training = train.Training(
        steps=config.steps,
        rates=(config.rate,),
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
            values.append(history[name][:, :, 0])
    return Trained(
        alpha_L=np.array(ALPHAS),
        updates=np.array(config.times()),
        loss=np.array(found.pop("probe_loss")),
        **{name: np.array(values) for name, values in found.items()},
        operations=6.0 * shape.parameter_count * shape.tokens * config.batch,
        linear_floor=networks.linear_floor(config),
    )


NETWORKS = ex.Part(
    "L={layers}",
    Trained,
    compute_networks,
    grid=lambda c: c.layers,
    # Compilation, and updates.
    cost=lambda c, layers: ex.Cost(12.0 + 0.006 * c.steps * c.seeds * layers),
)


def _changes(found: ex.Found[Config], quantity: str, alpha: float) -> Float[np.ndarray, "L seed"]:
    """A quantity after the early updates, at every depth."""
    early = found.config.early
    return np.array([one.change(quantity, alpha, early) for _, one in found.each(NETWORKS)])


def _exponent(found: ex.Found[Config], case: tuple[str, float]) -> Estimate:
    return checks.power_law_exponent(found.config.layers, _changes(found, *case))


LEARNING = ex.Claims(
    "{quantity}-{alpha:g}",
    lambda found, case: (
        f"$\\alpha_L = {case[1]:g}$: exponent in $L$ of {case[0].replace('_', ' ')} after "
        f"{found.config.early} updates of SGD."
    ),
    estimate=_exponent,
    prediction=lambda found, case: case[1] - 1,
    tol=0.15,
    over=lambda c: CASES,
)


def _movement(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for quantity, alpha in CASES:
        fit = _exponent(found, (quantity, alpha))
        yield alpha, quantity, fit.value, fit.stderr, alpha - 1


def _draw_movement(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    del table
    for ax, quantity in zip(canvas.subplots(1, 3), QUANTITIES, strict=True):
        for series, alpha in enumerate(ALPHAS):
            figures.plot_power_law(
                ax,
                found.config.layers,
                _changes(found, quantity, alpha),
                _exponent(found, (quantity, alpha)),
                series=series,
                label=rf"$\alpha_L$ = {alpha:g}",
                expected=alpha - 1,
            )
        title = quantity.replace("_", " ")
        figures.finish(ax, xlabel=networks.AXIS_LABELS["layers"], ylabel="rms", title=title)


def _losses(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for index, alpha in enumerate(ALPHAS):
        for layers, one in found.each(NETWORKS):
            losses = np.exp(np.log(one.loss[index]).mean(axis=1))
            for t, loss in zip(one.updates.tolist(), losses.tolist(), strict=True):
                yield alpha, layers, t, one.operations * t, loss, one.linear_floor


MOVEMENT = ex.Figure(
    name="movement",
    title="What keys and queries learn, against depth",
    caption="Root mean squares over entries and all blocks after {early} updates of SGD, at the "
    "inputs of the start; means and standard errors over {seeds} seeds, fitted exponents in the "
    "legend, expected ones dashed. Dimensionless.",
    columns=("alpha_L", "quantity", "exponent", "stderr", "expected"),
    rows=_movement,
    draw=_draw_movement,
    shown=lambda found, table: len(table.rows),
    size=(12.0, 4.0),
)
COMPUTE = ex.Figure(
    name="compute",
    title="Loss against compute for growing depth",
    caption="Cross-entropy in nats on 64 training examples, geometric means over {seeds} seeds, "
    "against six operations for every parameter and token of an update, SGD at rate {rate:g} of "
    "the base; dotted: the linear model fitted to all examples.",
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
    shown=lambda found, table: len(ALPHAS) * len(found.config.layers),
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/depth",
    title="Learning of keys and queries against depth, and loss against compute",
    summary="At $\\alpha_L = 1/2$ what keys, queries and logits learn falls like $L^{-1/2}$: deep "
    "blocks become lazy. At $\\alpha_L = 1$ it does not fall.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(seeds=24, layers=(2, 4, 8), steps=20, observations=4),
        "standard": Config(),
        "paper": replace(Config(**PAPER), layers=(2, 4, 8, 16), rate=1.0, early=100, steps=10_000),
    },
    parts=(NETWORKS,),
    claims=(LEARNING,),
    figures=(MOVEMENT, COMPUTE),
)
