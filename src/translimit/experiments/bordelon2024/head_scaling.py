r"""Loss curves of transformers with more and more heads at one rate of the base: wider is better.

Under the rules networks of all numbers of heads follow one curve at first, and those with more
heads stay on it longer. The floor of the linear model of all pixels is drawn.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", hyper-parameter
transfer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, figures, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import PAPER, Networks
from translimit.experiments.bordelon2024.power_laws import NO_EFFECT
from translimit.experiments.checked import Count, Entries, IncreasingSizes, Positive, Within
from translimit.experiments.ensembles import ensemble_bytes


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        heads: H, increasing.
        optimizer: AdamW, or SGD with momentum.
        rate: of the base, the same for all.
        steps: updates.
        observations: how many times the loss of the probe is taken, evenly spaced.
        probe: examples on which it is taken.
    """

    base: tuple[Count, Count, Count] = (4, 4, 2)
    seeds: Count = 4
    heads: Annotated[IncreasingSizes, Entries(2)] = (2, 4, 8, 16, 32)
    optimizer: Literal["adamw", "momentum"] = "adamw"
    rate: Positive = 0.016
    steps: Count = 80
    observations: Annotated[int, Within(1, 10_000)] = 20
    probe: Count = 256

    def times(self) -> tuple[int, ...]:
        """Numbers of updates after which the loss is taken."""
        return tuple(sorted({int(t) for t in np.linspace(0, self.steps, self.observations + 1)}))


@dataclass(frozen=True)
class Curves(ex.Arrays):
    """Loss curves of networks with one number of heads."""

    updates: Int[np.ndarray, " updates"]
    loss: Float[np.ndarray, "updates seed"]
    parameters: int
    linear_floor: float


def compute_curves(config: Config, heads: int, keys: ex.Keys) -> Curves:
    """Losses of the probe along training."""
    shape = networks.shape_at(config, "heads", heads)
    history = train.train(
        shape,
        networks.ruled(config, shape, config.optimizer),
        networks.images(config.images),
        train.Training(
            steps=config.steps,
            rates=(config.rate,),
            seeds=config.seeds,
            batch=config.batch,
            optimizer=networks.optimizer(config.optimizer),
        ),
        key=keys.shared("starts"),
        observe=(train.ProbeLoss(),),
        observe_at=config.times(),
        probe=config.probe,
    )
    return Curves(
        updates=np.array(config.times()),
        loss=np.asarray(history["probe_loss"][:, :, 0]),
        parameters=shape.parameter_count,
        linear_floor=networks.linear_floor(config),
    )


def _cost(config: Config, heads: int) -> ex.Cost:
    """Compilation, and updates."""
    tokens, features = networks.patches(config.images)
    memory = ensemble_bytes(
        (config.base[0], heads, config.base[2]),
        members=config.seeds,
        batch=config.batch,
        tokens=tokens,
        outputs=10,
        features=features,
        mlp_ratio=config.mlp_ratio,
    )
    return ex.Cost(8.0 + 2.5e-4 * config.steps * config.seeds * heads, memory)


CURVES = ex.Part(
    "H={heads}",
    Curves,
    compute_curves,
    grid=lambda c: c.heads,
    cost=_cost,
)


def _log_ratio(found: ex.Found[Config], at: tuple[int, int]) -> Estimate:
    """Log of the last loss with more heads over that with fewer; a seed has one order of data."""
    more, fewer = (np.log(found(CURVES, heads).loss[-1]) for heads in at)
    return Estimate.over_seeds(more - fewer)


WIDER_IS_BETTER = ex.Claims(
    "H={more}-below-H={fewer}",
    lambda found, at: (
        f"After {found.config.steps} steps at one rate of the base the loss with {at[0]} heads is "
        f"below that with {at[1]} (log of the ratio is below 0)."
    ),
    estimate=_log_ratio,
    prediction=0.0,
    tol=0.0,
    one_sided=True,
    over=lambda c: [(more, fewer) for fewer, more in pairwise(c.heads)],
    rivals=(ex.Rival(NO_EFFECT, 0.0),),
)


def _losses(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for heads, curves in found.each(CURVES):
        for t, loss in zip(curves.updates.tolist(), curves.loss, strict=True):
            log = Estimate.over_seeds(np.log(loss))
            mean, bar = float(np.exp(log.value)), log.stderr
            low, high = float(np.exp(log.value - bar)), float(np.exp(log.value + bar))
            yield heads, t, mean, low, high, mean * bar, curves.linear_floor


FLOOR = figures.level("linear model", label="linear model, fitted", dash="1.5 2")
LOSSES = ex.Figure(
    name="curves",
    title="Loss curves for growing numbers of heads at one rate",
    caption=lambda found: (
        f"Cross-entropy in nats on {found.config.probe} training examples, geometric means over "
        f"{found.config.seeds} seeds with one standard error, under the rules from the base "
        f"$(N, H, L) = {found.config.base}$ with "
        f"{networks.OPTIMIZER_LABELS[found.config.optimizer]} at the same rate of the base; "
        "dotted: the linear model fitted to all examples."
    ),
    columns=("heads", "updates", "loss", "low", "high", "stderr", "linear model"),
    rows=_losses,
    layers=lambda c: (
        figures.panel(
            f"rate {c.rate:g}",
            figures.band("low", "high", label=""),
            figures.line("loss", joined=True, label="$H$ = {}"),
            FLOOR,
            x="updates",
            by="heads",
        ),
        figures.panel(
            f"after {c.steps} updates",
            figures.points("loss", "stderr", joined=True, label="loss"),
            FLOOR,
            where={"updates": c.times()[-1]},
            x="heads",
            xlabel=networks.AXIS_LABELS["heads"],
            log="xy",
            ticks=True,
        ),
    ),
    ylabel="loss",
    log="y",
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/head-scaling",
    title="Loss curves for growing numbers of heads",
    question="Do transformers with more heads follow one loss curve?",
    summary="Under the rules transformers with more heads follow the same loss curve at one rate "
    "of the base and end lower.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(seeds=32, heads=(4, 8, 16), steps=40, observations=10),
        "standard": Config(seeds=192),
        "paper": replace(
            Config(**PAPER), heads=(4, 8, 16, 32), optimizer="momentum", rate=1.0, steps=10_000
        ),
    },
    parts=(CURVES,),
    claims=(WIDER_IS_BETTER,),
    figures=(LOSSES,),
    finding=ex.Finding(
        "Between the two largest numbers of heads the logarithm of the ratio of final losses is "
        "{0}",
        ("H=*-below-H=*",),
    ),
)
