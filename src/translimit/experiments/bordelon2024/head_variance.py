r"""Do heads become alike? Laws of the logits over heads, at the start and after training.

- `trained/N=...`: variance over heads of the logits before SGD, after a few of its steps and after
  many, for alpha_A = 1 (falls like 1/N: heads collapse onto one) and 1/2 (does not fall). At a
  fixed number of heads and a large rate the fall becomes slower with the steps, since what heads
  learn differs: the rate says how long the law of the start holds.
- `law/N=...`: at the start a logit is N^(-alpha_A) times a sum of N products of independent
  Gaussians, so its excess kurtosis over heads is 6 / N.
- `kernels/H=...`: at the start, residual-stream kernels fluctuate around their limit H to infinity
  with squared error 1/H.

Reference: Bordelon et al., arXiv 2405.15712; documentation, "Scaling rules", head statement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import checks, core, figures, train
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024.networks import PAPER, REFERENCE, Networks
from translimit.experiments.checked import Count, Entries, IncreasingSizes, Positive, Within

if TYPE_CHECKING:
    import xarray as xr

ALPHAS = (1.0, 0.5)
#: What is compared with the start: a few steps, all of them at a small rate, all of them.
TRAINED = ("early", "slow", "trained")


@dataclass(frozen=True)
class Config(Networks):
    """Sizes of the study.

    Attributes: those of `Networks`, and
        head_dims: N of the networks that train.
        steps: updates.
        early: updates after which is also recorded.
        rate: of SGD at the base.
        slow: the part of that rate at which networks train besides.
        law_head_dims: N of the laws at the start.
        law_width: N H of the networks of the laws.
        law_seeds: independent networks of each law.
        kernel_heads: H of the kernels at the start; the last is the reference, not fitted.
        kernel_head_dim: N of the kernels.
        kernel_seeds: independent networks of each H.
    """

    batch: Count = 64
    seeds: Count = 8
    head_dims: Annotated[IncreasingSizes, Entries(2)] = (4, 8, 16, 32)
    steps: Count = 60
    early: Count = 10
    rate: Positive = 0.3
    slow: Annotated[float, Within(0, 1, above=True)] = 0.1
    law_head_dims: IncreasingSizes = (1, 4, 16)
    law_width: Count = 256
    law_seeds: Count = 64
    kernel_heads: Annotated[IncreasingSizes, Entries(3)] = (4, 8, 16, 32, 128)
    kernel_head_dim: Count = 4
    kernel_seeds: Count = 32

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.early > self.steps:
            raise core.ConfigError(
                "early", f"got {self.early} of steps = {self.steps}", "pass at most all steps"
            )
        if any(self.law_width % n for n in self.law_head_dims):
            raise core.ConfigError(
                "law_width", f"got {self.law_width}", "pass a multiple of each of law_head_dims"
            )


class HeadVariance(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, updates of trained networks, and draws at the start."""
        if cell.name.startswith("trained"):
            size = cell.parameters["head_dim"] / 8 * config.batch / 64
            return Cost(12.0 + 0.012 * config.steps * config.seeds * size)
        return Cost(5.0)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for each size; both exponents share a compiled program."""
        trained = tuple(Cell(f"trained/N={n}", {"head_dim": n}) for n in config.head_dims)
        laws = tuple(Cell(f"law/N={n}", {"head_dim": n}) for n in config.law_head_dims)
        kernels = tuple(Cell(f"kernels/H={h}", {"heads": h}) for h in config.kernel_heads)
        return (*trained, *laws, *kernels)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Rates of the variances, kurtosis of the laws, rate of the kernels."""
        return (
            "start-1",
            "start-0.5",
            *(f"{when}-{alpha:g}" for alpha in ALPHAS for when in TRAINED),
            "trained-1-as-reported",
            *(f"kurtosis-{n}" for n in Config().law_head_dims),
            "kernel-rate",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Variances of trained networks, or logits and kernels of networks at the start."""
        key = cell.shared_key("starts")
        if cell.name.startswith("trained"):
            return _trained(config, cell.parameters["head_dim"], key)
        if cell.name.startswith("law"):
            return _law(config, cell.parameters["head_dim"], key)
        return _kernels(config, cell.parameters["heads"], key)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The rates and the laws."""
        fits = _fits(config, results)
        made = []
        for alpha in ALPHAS:
            expected = 1 - 2 * alpha
            for when in ("start", *TRAINED):
                text = _words(config, when)
                made.append(
                    Claim(
                        name=f"{when}-{alpha:g}",
                        statement=f"$\\alpha_A = {alpha:g}$: the variance of logits over heads "
                        f"{text} goes like $N^{{{expected:g}}}$.",
                        prediction=expected,
                        estimate=fits[alpha, when],
                        tol=0.2,
                        reference=REFERENCE,
                    )
                )
        made.append(
            Claim(
                name="trained-1-as-reported",
                statement="$\\alpha_A = 1$: after training it goes like $N^{-2}$, as a figure of "
                "the paper is reported to say.",
                prediction=-2.0,
                estimate=fits[1.0, "trained"],
                tol=0.2,
                reference=REFERENCE,
            )
        )
        made += [
            Claim(
                name=f"kurtosis-{n}",
                statement=f"At the start the law of a logit over heads has excess kurtosis "
                f"$6 / N$, $N = {n}$ (the estimate is relative to $3 + 6 / N$).",
                prediction=1.0,
                estimate=_kurtosis(results[f"law/N={n}"], n),
                tol=0.15,
                reference=REFERENCE,
            )
            for n in config.law_head_dims
        ]
        made.append(
            Claim(
                name="kernel-rate",
                statement="At the start the squared error of residual-stream kernels goes like "
                "$1/H$.",
                prediction=-1.0,
                estimate=_kernel_fit(config, results)[1],
                tol=0.2,
                reference=REFERENCE,
            )
        )
        return made

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Variances against N, histograms of the laws, errors of the kernels."""
        return [
            _variance_figure(config, results),
            _law_figure(config, results),
            _kernel_figure(config, results),
        ]


def _trained(config: Config, head_dim: int, key: Any) -> xr.Dataset:
    import xarray as xr

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
            key=key,
            observe=(train.HeadVariance(),),
            observe_at=(0, config.early, config.steps),
        )
        start, early, trained = history["score_head_var"].mean(axis=-1)  # each [seeds, rates]
        rows.append([start[:, 1], early[:, 1], trained[:, 0], trained[:, 1]])
    return xr.Dataset(
        {"variance": (("alpha_A", "when", "seed"), np.array(rows))},
        coords={"alpha_A": list(ALPHAS), "when": ["start", *TRAINED]},
        attrs={"reference": REFERENCE},
    )


def _at_start(config: Config, shape: Any, seeds: int, observable: Any, key: Any) -> Any:
    """Observations of networks that do not train, in the standard parameterization."""
    training = train.Training(
        steps=0, rates=(1.0,), seeds=seeds, batch=1, optimizer=networks.optimizer("sgd")
    )
    source = networks.images(config.images)
    numbers = networks.standard(shape)
    return train.train(
        shape, numbers, source, training, key=key, observe=(observable,), observe_at=(0,), probe=16
    )


def _law(config: Config, head_dim: int, key: Any) -> xr.Dataset:
    import xarray as xr

    base = networks.base_shape(config)
    heads = config.law_width // head_dim
    shape = replace(base, head_dim=head_dim, heads=heads, layers=1, mlp_ratio=0.0)
    tokens = shape.tokens
    places = tuple((s, s % tokens, (s + 3) % tokens) for s in range(8))
    law = train.AttentionLaw(places=places)
    history = _at_start(config, shape, config.law_seeds, law, key)
    logits = history["score"][0, :, 0, 0]  # seeds, heads, places
    return xr.Dataset(
        {"score": (("seed", "head", "place"), logits)}, attrs={"reference": REFERENCE}
    )


def _kernels(config: Config, heads: int, key: Any) -> xr.Dataset:
    import xarray as xr

    shape = replace(networks.base_shape(config), head_dim=config.kernel_head_dim, heads=heads)
    history = _at_start(config, shape, config.kernel_seeds, train.StreamKernel(), key)
    last = history["stream_kernel"][0, :, 0, -1]
    return xr.Dataset(
        {"kernel": (("seed", "sample", "sample_2"), last)}, attrs={"reference": REFERENCE}
    )


def _words(config: Config, when: str) -> str:
    return {
        "start": "at the start",
        "early": f"after {config.early} steps of SGD at rate {config.rate:g}",
        "slow": f"after {config.steps} steps of SGD at rate {config.slow * config.rate:g}",
        "trained": f"after {config.steps} steps of SGD at rate {config.rate:g}",
    }[when]


def _rows(config: Config, results: Results, alpha: float, when: str) -> np.ndarray:
    cells = [results[f"trained/N={n}"]["variance"] for n in config.head_dims]
    return np.array([cell.sel(alpha_A=alpha, when=when).values for cell in cells])


def _fits(config: Config, results: Results) -> dict[tuple[float, str], Estimate]:
    return {
        (alpha, when): checks.power_law_exponent(
            config.head_dims, _rows(config, results, alpha, when)
        )
        for alpha in ALPHAS
        for when in ("start", *TRAINED)
    }


def _kurtosis(law: xr.Dataset, head_dim: int) -> Estimate:
    """Fourth over squared second moment, divided by 3 + 6 / N; groups of seeds, jackknifed."""
    logits = law["score"].values.astype(np.float64)
    groups = np.array_split(logits, min(16, len(logits)))
    second = np.array([np.mean(g**2, axis=(0, 1)) for g in groups])
    fourth = np.array([np.mean(g**4, axis=(0, 1)) for g in groups])

    def ratio(chosen: np.ndarray) -> float:
        moments = fourth[chosen].mean(axis=0) / second[chosen].mean(axis=0) ** 2
        return float(moments.mean() / (3 + 6 / head_dim))

    return core.jackknife(ratio, len(groups))


def _kernel_fit(config: Config, results: Results) -> tuple[np.ndarray, Estimate]:
    """Squared errors [H, seeds] against the mean of the largest H, and their rate."""
    kernels = [results[f"kernels/H={h}"]["kernel"].values for h in config.kernel_heads]
    limit = kernels[-1].mean(axis=0)
    errors = np.array([np.mean((k - limit) ** 2, axis=(1, 2)) for k in kernels[:-1]])
    # Groups of seeds, so that the logarithm is of means.
    groups = errors.reshape(len(errors), 4, -1).mean(axis=-1)
    return groups, checks.power_law_exponent(config.kernel_heads[:-1], groups)


def _variance_figure(config: Config, results: Results) -> FigureSpec:
    fits = _fits(config, results)

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, 2)
        for ax, alpha in zip(panels, ALPHAS, strict=True):
            for series, when in enumerate(("start", *TRAINED)):
                figures.plot_power_law(
                    ax,
                    config.head_dims,
                    _rows(config, results, alpha, when),
                    fits[alpha, when],
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

    rows = tuple(
        (alpha, when, n, float(v.mean()))
        for alpha, when in fits
        for n, v in zip(config.head_dims, _rows(config, results, alpha, when), strict=True)
    )
    return FigureSpec(
        name="variance",
        title="Variance over heads of the logits",
        caption=f"Means over blocks, entries and {config.seeds} seeds with one standard error, at "
        f"the start, after {config.early} steps of SGD (early), after {config.steps} at "
        f"{config.slow:g} of the rate (slow) and at the rate (all steps); fitted exponents in the "
        "legend, expected ones dashed. Dimensionless.",
        draw=draw,
        table=Table(("alpha_A", "when", "head_dim", "variance"), rows),
        shown=len(rows),
        size=(9.0, 4.0),
    )


def _law_figure(config: Config, results: Results) -> FigureSpec:
    edges = np.linspace(-4.5, 4.5, 46)
    middle = (edges[1:] + edges[:-1]) / 2
    histograms, rows = {}, []
    for n in config.law_head_dims:
        logits = results[f"law/N={n}"]["score"].values.ravel()
        counts, _ = np.histogram(logits / logits.std(), edges)
        histograms[n] = counts / (len(logits) * np.diff(edges))
        kurtosis = _kurtosis(results[f"law/N={n}"], n)
        rows.append((n, (3 + 6 / n) * kurtosis.value - 3, (3 + 6 / n) * kurtosis.stderr, 6 / n))
    normal = np.exp(-(middle**2) / 2) / (2 * np.pi) ** 0.5

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (n, found, error, expected) in enumerate(rows):
            measured = core.with_error(found, error)
            ax.step(
                middle,
                histograms[n],
                where="mid",
                color=figures.COLOURS[series],
                linestyle=figures.DASHES[series],
                label=f"$N$ = {n}: excess kurtosis {measured} ({expected:.2f})",
            )
        ax.plot(middle, normal, color=figures.LIMIT, label="$N$ to infinity: Gaussian")
        ax.set_yscale("log")
        figures.finish(ax, xlabel="logit over its standard deviation", ylabel="density")

    return FigureSpec(
        name="laws",
        title="Law of a logit over heads at the start",
        caption=f"Histograms over heads of {config.law_seeds} networks of width "
        f"{config.law_width} with attention alone, 8 entries; in the legend the excess kurtosis "
        "with one standard error and, in brackets, $6/N$. Dimensionless.",
        draw=draw,
        table=Table(("head_dim", "excess_kurtosis", "stderr", "predicted"), tuple(rows)),
        shown=len(rows),
    )


def _kernel_figure(config: Config, results: Results) -> FigureSpec:
    errors, rate = _kernel_fit(config, results)
    heads = config.kernel_heads[:-1]

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        figures.plot_power_law(ax, heads, errors, rate, series=0, label="networks", expected=-1.0)
        figures.finish(ax, xlabel=networks.AXIS_LABELS["heads"], ylabel="squared error")

    rows = tuple((h, float(e.mean())) for h, e in zip(heads, errors, strict=True))
    return FigureSpec(
        name="kernels",
        title="Convergence of the initial residual-stream kernel in heads",
        caption=f"Mean squared difference of the pooled kernel of 16 images after the last block "
        f"from the mean over {config.kernel_seeds} networks with {config.kernel_heads[-1]} heads, "
        f"$N = {config.kernel_head_dim}$; bars: one standard error over four groups of seeds; "
        "fitted exponent in the legend, $-1$ dashed. Dimensionless.",
        draw=draw,
        table=Table(("heads", "squared_error"), rows),
        shown=len(rows),
    )


EXPERIMENT = HeadVariance(
    name="bordelon2024/head-variance",
    title="Laws of attention logits over heads",
    summary="At $\\alpha_A = 1$ the variance of logits over heads falls like $1/N$ at the start "
    "and after SGD at a small rate, so that heads become alike; at a large rate it falls more "
    "slowly, since heads learn different things. At $\\alpha_A = 1/2$ it stays. At the start the "
    "law over heads has excess kurtosis $6/N$, and kernels converge like $1/H$ in square.",
    citations=("bordelon2024", "digits", "jax"),
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
)
