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
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, figures, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import PAPER, Networks
from translimit.experiments.checked import Count, Entries, IncreasingSizes, Positive, Within

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


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

    def mean(self) -> Float[np.ndarray, " updates"]:
        """Geometric means over seeds."""
        return np.exp(np.log(self.loss).mean(axis=1))


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


CURVES = ex.Part(
    "H={heads}",
    Curves,
    compute_curves,
    grid=lambda c: c.heads,
    # Compilation, and updates.
    cost=lambda c, heads: ex.Cost(8.0 + 2.5e-4 * c.steps * c.seeds * heads),
)


def _log_ratio(found: ex.Found[Config], at: tuple[int, int]) -> Estimate:
    """Log of the last loss with more heads over that with fewer; their seeds are independent."""
    ends = [np.log(found(CURVES, heads).loss[-1]) for heads in at]
    more, fewer = (Estimate.over_seeds(end) for end in ends)
    error = float(np.hypot(more.stderr, fewer.stderr))
    return Estimate(more.value - fewer.value, error, more.count)


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
)


def _losses(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for heads, curves in found.each(CURVES):
        for t, loss in zip(curves.updates.tolist(), curves.mean().tolist(), strict=True):
            yield heads, t, loss


def _draw(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    """Curves with bands on the left, their ends against heads on the right."""
    del table
    config, curves = found.config, found.each(CURVES)
    left, right = canvas.subplots(1, 2)
    for series, (heads, one) in enumerate(curves):
        style = figures.marked(series, len(one.updates))
        factor = np.exp(figures.bars(core.standard_error(np.log(one.loss), 1)))
        mean = one.mean()
        low, high = mean / factor, mean * factor
        left.plot(one.updates, mean, label=f"$H$ = {heads}", **style)
        left.fill_between(one.updates, low, high, color=style["color"], alpha=0.2)
        right.errorbar(
            heads,
            mean[-1],
            yerr=[[mean[-1] - low[-1]], [high[-1] - mean[-1]]],
            fmt=style["marker"],
            color=style["color"],
            capsize=2.5,
        )
    for ax in (left, right):
        floor = curves[0][1].linear_floor
        ax.axhline(floor, color="0.5", linestyle=":", label="linear model, fitted")
        ax.set_yscale("log")
    right.set_xscale("log")
    right.set_xticks(config.heads, [str(heads) for heads in config.heads])
    right.minorticks_off()
    figures.finish(left, xlabel="updates", ylabel="loss", title=f"rate {config.rate:g}")
    title = f"after {config.steps} updates"
    figures.finish(right, xlabel=networks.AXIS_LABELS["heads"], ylabel="loss", title=title)


def _caption(found: ex.Found[Config]) -> str:
    config = found.config
    return (
        f"Cross-entropy in nats on {config.probe} training examples, geometric means over "
        f"{config.seeds} seeds with one standard error, under the rules from the base "
        f"$(N, H, L) = {config.base}$ with {networks.OPTIMIZER_LABELS[config.optimizer]} at the "
        "same rate of the base; dotted: the linear model fitted to all examples."
    )


LOSSES = ex.Figure(
    name="curves",
    title="Loss curves for growing numbers of heads at one rate",
    caption=_caption,
    columns=("heads", "updates", "loss"),
    rows=_losses,
    draw=_draw,
    shown=lambda found, table: len(found.config.heads),
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/head-scaling",
    title="Loss curves for growing numbers of heads",
    summary="Under the rules transformers with more heads follow the same loss curve at one rate "
    "of the base and end lower.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(seeds=3, heads=(4, 8, 16), steps=40, observations=10),
        "standard": Config(seeds=12),
        "paper": replace(
            Config(**PAPER), heads=(4, 8, 16, 32), optimizer="momentum", rate=1.0, steps=10_000
        ),
    },
    parts=(CURVES,),
    claims=(WIDER_IS_BETTER,),
    figures=(LOSSES,),
)
