r"""Do heads become alike? Laws of the logits over heads, at the start and after training.

- In training, the variance over heads of the logits goes like N^(1 - 2 alpha_A): for alpha_A = 1 it
  falls like 1/N, heads collapse onto one, for alpha_A = 1/2 it does not fall. At a fixed number of
  heads and a large rate the fall becomes slower with the steps, since what heads learn differs: the
  rate says how long the law of the start holds.
- At the start the excess kurtosis of a logit over heads is 6 / N, and residual-stream kernels
  fluctuate around their limit H to infinity with squared error 1/H (see `initial_laws`).

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", head statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import checks, core, figures, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import initial_laws, networks
from translimit.experiments.bordelon2024.initial_laws import Kernels, Law
from translimit.experiments.bordelon2024.networks import PAPER
from translimit.experiments.checked import Count, Entries, IncreasingSizes, Positive, Within

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


ALPHAS = (1.0, 0.5)
#: When the variance is taken: at the start, after a few steps, after all of them at a small rate,
#: after all of them.
TIMES = ("start", "early", "slow", "trained")
#: A time, and alpha_A.
CASES = tuple((when, alpha) for alpha in ALPHAS for when in TIMES)


@dataclass(frozen=True)
class Config(initial_laws.Config):
    """Sizes of the study.

    Attributes: those of the networks that do not train, and
        head_dims: N of the networks that train.
        steps: updates.
        early: updates after which is also recorded.
        rate: of SGD at the base.
        slow: the part of that rate at which networks train besides.
    """

    batch: Count = 64
    seeds: Count = 8
    head_dims: Annotated[IncreasingSizes, Entries(2)] = (4, 8, 16, 32)
    steps: Count = 60
    early: Count = 10
    rate: Positive = 0.3
    slow: Annotated[float, Within(0, 1, above=True)] = 0.1

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.early > self.steps:
            raise core.ConfigError(
                "early", f"got {self.early} of steps = {self.steps}", "pass at most all steps"
            )


@dataclass(frozen=True)
class Variances(ex.Arrays):
    """Variance over heads of the logits of networks with one head dimension."""

    alpha_A: Float[np.ndarray, " alpha_A"]
    when: Shaped[np.ndarray, " when"]
    variance: Float[np.ndarray, "alpha_A when seed"]

    def at(self, when: str, alpha: float) -> Float[np.ndarray, " seed"]:
        """One of `CASES`."""
        return self.variance[self.alpha_A.tolist().index(alpha), self.when.tolist().index(when)]


def compute_variances(config: Config, head_dim: int, keys: ex.Keys) -> Variances:
    """Networks that train at two rates; both exponents share a compiled program."""
    shape = networks.shape_at(config, "head_dim", head_dim)
    training = train.Training(
        steps=config.steps,
        rates=(config.slow * config.rate, config.rate),
        seeds=config.seeds,
        batch=config.batch,
        optimizer=networks.optimizer("sgd"),
    )
    rows = []
    for alpha in ALPHAS:
        history = train.train(
            shape,
            networks.ruled(config, shape, "sgd", alpha_A=alpha),
            networks.images(config.images),
            training,
            key=keys.shared("starts"),
            observe=(train.HeadVariance(),),
            observe_at=(0, config.early, config.steps),
        )
        start, early, trained = history["score_head_var"].mean(axis=-1)  # each [seeds, rates]
        rows.append([start[:, 1], early[:, 1], trained[:, 0], trained[:, 1]])
    return Variances(alpha_A=np.array(ALPHAS), when=np.array(TIMES), variance=np.array(rows))


VARIANCES = ex.Part(
    "trained/N={head_dim}",
    Variances,
    compute_variances,
    grid=lambda c: c.head_dims,
    # Compilation, and updates.
    cost=lambda c, head_dim: ex.Cost(
        12.0 + 0.012 * c.steps * c.seeds * (head_dim / 8 * c.batch / 64)
    ),
)
LAW: ex.Part[Config, int, Law] = ex.Part(
    "law/N={head_dim}",
    Law,
    initial_laws.compute_law,
    grid=lambda c: c.law_head_dims,
    cost=lambda c, head_dim: ex.Cost(5.0),
)
KERNELS: ex.Part[Config, int, Kernels] = ex.Part(
    "kernels/H={heads}",
    Kernels,
    initial_laws.compute_kernels,
    grid=lambda c: c.kernel_heads,
    cost=lambda c, heads: ex.Cost(5.0),
)


def _variances(found: ex.Found[Config], at: tuple[str, float]) -> Float[np.ndarray, "N seed"]:
    return np.array([one.at(*at) for _, one in found.each(VARIANCES)])


def _exponent(found: ex.Found[Config], at: tuple[str, float]) -> Estimate:
    return checks.power_law_exponent(found.config.head_dims, _variances(found, at))


def _after_training(found: ex.Found[Config]) -> Estimate:
    return _exponent(found, ("trained", 1.0))


def _statement(found: ex.Found[Config], at: tuple[str, float]) -> str:
    (when, alpha), config = at, found.config
    words = {
        "start": "at the start",
        "early": f"after {config.early} steps of SGD at rate {config.rate:g}",
        "slow": f"after {config.steps} steps of SGD at rate {config.slow * config.rate:g}",
        "trained": f"after {config.steps} steps of SGD at rate {config.rate:g}",
    }
    return (
        f"$\\alpha_A = {alpha:g}$: the variance of logits over heads {words[when]} goes like "
        f"$N^{{{1 - 2 * alpha:g}}}$."
    )


def _kurtosis(found: ex.Found[Config], head_dim: int) -> Estimate:
    return initial_laws.kurtosis(found(LAW, head_dim), head_dim)


def _kernel_errors(found: ex.Found[Config]) -> Float[np.ndarray, "heads groups"]:
    return initial_laws.kernel_errors([one for _, one in found.each(KERNELS)])


def _kernel_rate(found: ex.Found[Config]) -> Estimate:
    return checks.power_law_exponent(found.config.kernel_heads[:-1], _kernel_errors(found))


RATES = ex.Claims(
    "{when}-{alpha:g}",
    _statement,
    estimate=_exponent,
    prediction=lambda found, at: 1 - 2 * at[1],
    tol=0.2,
    over=lambda c: CASES,
)
AS_REPORTED = ex.claim(
    "trained-1-as-reported",
    "$\\alpha_A = 1$: after training it goes like $N^{-2}$, as a figure of the paper is reported "
    "to say.",
    _after_training,
    prediction=-2.0,
    tol=0.2,
)
KURTOSIS = ex.Claims(
    "kurtosis-{head_dim}",
    lambda found, head_dim: (
        f"At the start the law of a logit over heads has excess kurtosis $6 / N$, $N = {head_dim}$ "
        "(the estimate is relative to $3 + 6 / N$)."
    ),
    estimate=_kurtosis,
    prediction=1.0,
    tol=0.15,
    over=lambda c: c.law_head_dims,
)
KERNEL_RATE = ex.claim(
    "kernel-rate",
    "At the start the squared error of residual-stream kernels goes like $1/H$.",
    _kernel_rate,
    prediction=-1.0,
    tol=0.2,
)


def _variance_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for when, alpha in CASES:
        means = _variances(found, (when, alpha)).mean(axis=1)
        for head_dim, mean in zip(found.config.head_dims, means.tolist(), strict=True):
            yield alpha, when, head_dim, mean


def _draw_variance(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    del table
    for ax, alpha in zip(canvas.subplots(1, 2), ALPHAS, strict=True):
        for series, when in enumerate(TIMES):
            figures.plot_power_law(
                ax,
                found.config.head_dims,
                _variances(found, (when, alpha)),
                _exponent(found, (when, alpha)),
                series=series,
                label="all steps" if when == "trained" else when,
                expected=1 - 2 * alpha,
            )
        figures.finish(
            ax,
            xlabel=networks.AXIS_LABELS["head_dim"],
            ylabel="variance of logits over heads",
            title=rf"$\alpha_A$ = {alpha:g}",
        )


def _excess(found: ex.Found[Config], head_dim: int) -> tuple[float, float]:
    """The excess kurtosis and its standard error."""
    normal, ratio = 3 + 6 / head_dim, _kurtosis(found, head_dim)
    return normal * ratio.value - 3, normal * ratio.stderr


def _law_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for head_dim in found.config.law_head_dims:
        yield head_dim, *_excess(found, head_dim), 6 / head_dim


def _draw_laws(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    del table
    laws = []
    for head_dim, law in found.each(LAW):
        measured = core.with_error(*_excess(found, head_dim))
        label = f"$N$ = {head_dim}: excess kurtosis {measured} ({6 / head_dim:.2f})"
        laws.append((law, label))
    initial_laws.plot_laws(canvas, laws)


def _kernel_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    means = _kernel_errors(found).mean(axis=1).tolist()
    yield from zip(found.config.kernel_heads[:-1], means, strict=True)


def _draw_kernels(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    del table
    figures.plot_power_law(
        ax := canvas.subplots(),
        found.config.kernel_heads[:-1],
        _kernel_errors(found),
        _kernel_rate(found),
        series=0,
        label="networks",
        expected=-1.0,
    )
    figures.finish(ax, xlabel=networks.AXIS_LABELS["heads"], ylabel="squared error")


VARIANCE = ex.Figure(
    name="variance",
    title="Variance over heads of the logits",
    caption="Means over blocks, entries and {seeds} seeds with one standard error, at the start, "
    "after {early} steps of SGD (early), after {steps} at {slow:g} of the rate (slow) and at the "
    "rate (all steps); fitted exponents in the legend, expected ones dashed. Dimensionless.",
    columns=("alpha_A", "when", "head_dim", "variance"),
    rows=_variance_rows,
    draw=_draw_variance,
    shown=lambda found, table: len(table.rows),
    size=(9.0, 4.0),
)
LAWS = ex.Figure(
    name="laws",
    title="Law of a logit over heads at the start",
    caption="Histograms over heads of {law_seeds} networks of width {law_width} with attention "
    "alone, 8 entries; in the legend the excess kurtosis with one standard error and, in "
    "brackets, $6/N$. Dimensionless.",
    columns=("head_dim", "excess_kurtosis", "stderr", "predicted"),
    rows=_law_rows,
    draw=_draw_laws,
    shown=lambda found, table: len(table.rows),
)
KERNEL_ERRORS = ex.Figure(
    name="kernels",
    title="Convergence of the initial residual-stream kernel in heads",
    caption="Mean squared difference of the pooled kernel of 16 images after the last block from "
    "the mean over {kernel_seeds} networks with {reference_heads} heads, "
    "$N = {kernel_head_dim}$; bars: one standard error over four groups of seeds; fitted exponent "
    "in the legend, $-1$ dashed. Dimensionless.",
    columns=("heads", "squared_error"),
    rows=_kernel_rows,
    draw=_draw_kernels,
    shown=lambda found, table: len(table.rows),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/head-variance",
    title="Laws of attention logits over heads",
    summary="At $\\alpha_A = 1$ the variance of logits over heads falls like $1/N$ at the start "
    "and after SGD at a small rate, so that heads become alike; at a large rate it falls more "
    "slowly, since heads learn different things. At $\\alpha_A = 1/2$ it stays. At the start the "
    "law over heads has excess kurtosis $6/N$, and kernels converge like $1/H$ in square.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            head_dims=(4, 8, 16),
            steps=20,
            law_head_dims=(1, 4),
            kernel_heads=(4, 8, 16, 64),
        ),
        "standard": Config(seeds=24),
        "paper": replace(
            Config(**PAPER),
            head_dims=(4, 8, 16, 32, 64),
            steps=10_000,
            rate=1.0,
            law_seeds=128,
            kernel_heads=(4, 8, 16, 32, 64, 256),
        ),
    },
    parts=(VARIANCES, LAW, KERNELS),
    claims=(RATES, AS_REPORTED, KURTOSIS, KERNEL_RATE),
    figures=(VARIANCE, LAWS, KERNEL_ERRORS),
)
