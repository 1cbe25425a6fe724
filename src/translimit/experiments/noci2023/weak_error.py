r"""How fast networks converge in law to the covariance SDE as they widen.

Attention alone: E 1 / (1 + D) of two tokens over the exact covariance chain of networks of width n
and depth n, against the backward equation of the limit; predicted rate 1 / n. One shaped ReLU with
c_+ + c_- != 0: n times the change of a covariance, by quadrature, against the drift of the SDE;
predicted rate n^(-1/2).

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models
from translimit.core import Estimate
from translimit.experiments.checked import (
    BranchWeight,
    CheckedConfig,
    Entries,
    IncreasingSizes,
    Positive,
    Within,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAIR = ((1.0, 0.2), (0.2, 1.0))
DISTANCE = 1.6
#: Groups of networks, the replicates of the fit.
GROUPS = 16


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        dims: widths, increasing; layers = dims.
        networks: networks at each width.
        gamma: branch weight.
        tau0: temperature.
        kernel_dims: widths at which the kernel of the shaped ReLU is compared with its drift.
    """

    dims: Annotated[IncreasingSizes, Entries(2)] = (10, 20, 40)
    networks: Annotated[int, Within(GROUPS)] = 60_000
    gamma: BranchWeight = 0.5
    tau0: Positive = 0.5
    kernel_dims: Annotated[IncreasingSizes, Entries(2)] = (50, 100, 200, 400, 800)

    def block(self) -> describe.Block:
        """Attention alone."""
        return describe.Block(gamma=self.gamma, tau0=self.tau0)


@dataclass(frozen=True)
class Groups(ex.Arrays):
    """Error of the functional, group by group of networks."""

    error: Annotated[Float[np.ndarray, " group"], "error of E 1 / (1 + D)"]
    exact: float


@dataclass(frozen=True)
class Kernel(ex.Arrays):
    """Error of the change by one shaped ReLU."""

    dim: Int[np.ndarray, " dim"]
    error: Annotated[Float[np.ndarray, " dim"], "error of the drift"]
    drift: float


def compute_attention(config: Config, dim: int, keys: ex.Keys) -> Groups:
    """Networks of one width, in float64."""
    chain = models.CompressedShapedTransformer(block=config.block(), dim=dim, layers=dim)
    per_group = config.networks // GROUPS
    networks = chain.simulate(PAIR, key=keys.own, seeds=GROUPS * per_group)
    end = np.asarray(networks.cov)[:, -1]
    distance = end[:, 0, 0] + end[:, 1, 1] - 2 * end[:, 0, 1]
    exact = limits.shaped.two_token_expectation(
        config.block(), DISTANCE, 1.0, lambda d: 1 / (1 + d), at_explosion=0.0
    )
    groups = (1 / (1 + distance)).reshape(GROUPS, per_group).mean(axis=1)
    return Groups(groups - exact, float(exact))


def compute_kernel(config: Config, at: ex.Alone, keys: ex.Keys) -> Kernel:
    """N (c E phi phi - V) - b of the shaped ReLU, its expectation by Gauss-Legendre on arcs."""
    c_plus, c_minus, rho = 0.0, -1.0, 0.2
    mlp = describe.ShapedMLP(gamma=1.0, c_plus=c_plus, c_minus=c_minus)
    drift = limits.shaped.covariance_drift(mlp, PAIR)[0, 1]
    # The kinks lie at angle zero: polar coordinates make the integrand smooth on arcs.
    angle = np.arccos(rho)
    edges = np.sort(np.mod([0.5, 1.5, 0.5 + angle / np.pi, 1.5 + angle / np.pi], 2) * np.pi)
    edges = np.append(edges, edges[0] + 2 * np.pi)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    half = np.diff(edges)[:, None] / 2
    phi = edges[:-1, None] + half * (1 + nodes)
    measure = half * weights / np.pi  # E r^2 = 2 over the circle's 2 pi
    errors = []
    for dim in config.kernel_dims:
        plus, minus = 1 + c_plus / dim**0.5, 1 + c_minus / dim**0.5

        def relu(x: np.ndarray, plus: float = plus, minus: float = minus) -> np.ndarray:
            return np.where(x > 0, plus * x, minus * x)

        product = relu(np.cos(phi)) * relu(np.cos(phi - angle))
        kernel = 2 / (plus**2 + minus**2) * np.sum(product * measure)
        errors.append(dim * (kernel - rho) - drift)
    return Kernel(np.array(config.kernel_dims), np.array(errors), float(drift))


ATTENTION = ex.Part(
    "attention/n={dim}",
    Groups,
    compute_attention,
    grid=lambda c: c.dims,
    # Compilation, and layers of all networks, about 5 microseconds each.
    cost=lambda c, dim: ex.Cost(5.0 + 5e-6 * dim * c.networks),
)
KERNEL = ex.Part("mlp", Kernel, compute_kernel, grid=ex.alone, cost=lambda c, at: ex.Cost(5.0))


def _rate(found: ex.Found[Config]) -> Estimate:
    """The slope of log |mean error| with its delete-one-group jackknife error."""
    errors = np.array([one.error for _, one in found.each(ATTENTION)])

    def slope(groups: np.ndarray) -> float:
        means = np.abs(errors[:, groups].mean(axis=1))
        return float(np.polyfit(np.log(found.config.dims), np.log(means), 1)[0])

    return core.jackknife(slope, GROUPS)


def _kernel_rate(found: ex.Found[Config]) -> Estimate:
    kernel = found(KERNEL)
    return Estimate(float(np.polyfit(np.log(kernel.dim), np.log(np.abs(kernel.error)), 1)[0]))


def _last_error(found: ex.Found[Config], at: int) -> Estimate:
    return Estimate.from_samples(found(ATTENTION, at).error)


CLAIMS = (
    ex.claim(
        "attention-rate",
        "Attention: the error of $E\\,1/(1 + D)$ falls like $1/n$.",
        _rate,
        -1.0,
        0.45,
    ),
    ex.Claims(
        "attention-error",
        lambda found, dim: f"Attention: at width {dim} it is below 0.004.",
        estimate=_last_error,
        prediction=0.0,
        tol=0.004,
        over=lambda c: c.dims[-1:],
    ),
    ex.claim(
        "mlp-rate",
        "Shaped ReLU with $c_+ + c_- \\ne 0$: the drift of one layer differs from that of the SDE "
        "like $n^{-1/2}$.",
        _kernel_rate,
        -0.5,
        0.05,
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    first = None
    for dim, one in found.each(ATTENTION):
        mean, error = float(one.error.mean()), float(one.error.std(ddof=1) / GROUPS**0.5)
        first = first or mean * dim
        yield ("attention", dim, mean, error, first / dim)
    kernel = found(KERNEL)
    gap = abs(float(kernel.error[0]))
    for dim, error in zip(kernel.dim.tolist(), kernel.error.tolist(), strict=True):
        yield ("mlp", dim, error, 0.0, gap * (dim / int(kernel.dim[0])) ** -0.5)


def _draw(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """Both errors, each with its rate."""
    rate = found.once(_rate)
    words = f"networks, fitted rate {core.with_error(rate.value, rate.stderr)}"
    panels = (
        ("attention", words, "−1", "width $n$ = layers", "error of $E\\,1/(1 + D)$"),
        ("mlp", "kernel of the shaped ReLU", "−1/2", "width $n$", "error of one layer's drift"),
    )
    charts = []
    for series, (block, label, predicted, xlabel, ylabel) in enumerate(panels):
        here = table.where({"block": block})
        size = here.numbers("width")
        error = here.numbers("error") if block == "attention" else np.abs(here.numbers("error"))
        marks = (
            figures.Points(
                size,
                error,
                figures.COLOURS[series],
                label,
                figures.SHAPES[series],
                error=here.numbers("stderr"),
            ),
            figures.Line(size, here.numbers("predicted"), label=f"predicted rate {predicted}"),
        )
        ticks = tuple((float(n), f"{n:g}") for n in size)
        x = figures.ChartAxis(xlabel, log=True, ticks=ticks)
        y = figures.ChartAxis(ylabel, log=True)
        title = "attention" if block == "attention" else "MLP"
        charts.append(figures.Chart("Weak error against width", x, y, marks, title))
    figures.draw_charts(charts, canvas)


RATES = ex.Figure(
    name="rates",
    title="Weak error against width",
    caption="Left: mean of $1/(1 + D)$ over {networks} networks of $n$ layers and width $n$ minus "
    "its value in the limit (backward equation), bars of one standard error. Right: $n$ times the "
    "change of a covariance by one shaped ReLU with $(c_+, c_-) = (0, -1)$, minus the drift of the "
    "SDE, by quadrature. Dimensionless.",
    columns=("block", "width", "error", "stderr", "predicted"),
    rows=_rows,
    draw=_draw,
    shown=lambda found, table: len(table.rows),
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="noci2023/weak-error",
    title="Weak error of networks against the covariance SDE",
    summary="Bounded functionals of networks with attention alone converge to those of the SDE "
    "like $1/n$. The drift of one shaped ReLU whose slopes do not cancel tends to that of the SDE "
    "only like $n^{-1/2}$.",
    citations=("noci2023", "li2022", "jax"),
    presets={
        "demo": Config(dims=(10, 20), networks=40_000),
        "standard": Config(networks=600_000),
        "paper": Config(dims=(10, 20, 40, 80), networks=1_000_000),
    },
    reference=core.reference("noci2023"),
    parts=(ATTENTION, KERNEL),
    claims=CLAIMS,
    figures=(RATES,),
)
