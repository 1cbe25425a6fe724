r"""How fast networks converge in law to the covariance SDE as they widen.

Attention alone: E 1 / (1 + D) of two tokens over the exact covariance chain of networks of width n
and depth n, against the backward equation of the limit; predicted rate 1 / n. Each layer multiplies
D by a number whose mean is known given the covariance; what is beyond the mean, times functions of
D, has mean zero, and takes most of the noise of 1 / (1 + D) away. One shaped ReLU with
c_+ + c_- != 0: n times the change of a covariance, by quadrature, against the drift of the SDE;
predicted rate n^(-1/2).

Reference: Noci et al., arXiv 2306.17759; documentation, "The shaped Transformer".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

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

PAIR = ((1.0, 0.2), (0.2, 1.0))
DISTANCE = 1.6
#: Largest variance of scores at which a layer's control is used.
LARGEST_SCORES = 2.0
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

    def block(self, factor: float = 1.0) -> describe.Block:
        """Attention alone, with a multiple of the temperature."""
        return describe.Block(gamma=self.gamma, tau0=factor * self.tau0)


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
    """Networks of one width, in float64, with their control variates."""
    import jax

    chain = models.CompressedShapedTransformer(block=config.block(), dim=dim, layers=dim)
    weights, groups = np.zeros(0), []
    for group in range(GROUPS):
        key = jax.random.fold_in(keys.own, group)
        seeds = config.networks // GROUPS
        covs = np.asarray(chain.simulate(PAIR, key=key, seeds=seeds, save_every=1).cov)
        distance = covs[..., 0, 0] + covs[..., 1, 1] - 2 * covs[..., 0, 1]
        values, controls = 1 / (1 + distance[:, -1]), _controls(config, dim, covs, distance)
        if not groups:
            weights = np.linalg.lstsq(controls, values - values.mean(), rcond=None)[0]
        groups.append(float(np.mean(values - controls @ weights)))
    exact = _limit(config.block())
    return Groups(np.array(groups) - exact, exact)


def _controls(
    config: Config, dim: int, covs: np.ndarray, distance: np.ndarray
) -> Float[np.ndarray, "network control"]:
    """Sums over layers of (D' / E[D' | V] - 1) times functions of depth and D; of mean zero."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    weights = weights / weights.sum()
    root = np.linalg.cholesky(covs[:, :-1] + 1e-12 * np.eye(2))
    here = distance[:, :-1]
    square = np.zeros_like(here)
    for spread in (1 - (2 / dim) ** 0.5, 1 + (2 / dim) ** 0.5):  # of |k|^2 in head_dim = dim
        scale = np.sqrt(np.maximum(spread, 0.0) * here / dim) / config.tau0
        for first, one in zip(nodes, weights, strict=True):
            for second, other in zip(nodes, weights, strict=True):
                query = scale * root[..., 0, 0] * first
                next_query = scale * (root[..., 1, 0] * first + root[..., 1, 1] * second)
                gap = (np.tanh(query / 2) - np.tanh(next_query / 2)) / 2
                square += one * other * gap**2 / 2
    mean = 1 + config.gamma**2 * square  # lam^2 + gamma^2 E (1 + p)^2
    beyond = distance[:, 1:] / (here * mean) - 1
    # Nothing where scores are so large that the quadrature errs; chosen before the layer is drawn.
    largest = here * np.maximum(covs[:, :-1, 0, 0], covs[:, :-1, 1, 1]) / dim / config.tau0**2
    share, depth = here / (1 + here), np.arange(dim) / dim
    slope = np.where(largest < LARGEST_SCORES, share * (1 - share), 0.0)
    functions = (slope, slope * share, slope**2, slope * depth, slope**2 * depth, slope * share**2)
    return np.stack([np.sum(beyond * one, axis=1) for one in functions], axis=1)


def _limit(block: describe.Block) -> float:
    """E 1 / (1 + D) at t = 1 by the backward equation."""
    return limits.shaped.two_token_expectation(
        block, DISTANCE, 1.0, lambda d: 1 / (1 + d), at_explosion=0.0
    )


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
    # Compilation, and layers of all networks with their controls, about 10 microseconds each.
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


def _last_mean(found: ex.Found[Config]) -> Estimate:
    last = found(ATTENTION, found.config.dims[-1])
    return Estimate.from_samples(last.error + last.exact)


def _extrapolated(found: ex.Found[Config]) -> Estimate:
    """The last two widths, extrapolated in 1 / n."""
    small, large = found.config.dims[-2:]
    weight = large / (large - small)
    coarse, fine = (found(ATTENTION, dim) for dim in (small, large))
    groups = weight * fine.error - (weight - 1) * coarse.error
    return Estimate.from_samples(groups + fine.exact)


def _other(name: str, change: Callable[[Config], describe.Block]) -> ex.Rival[Config, ex.Alone]:
    """The backward equation of another block."""
    return ex.Rival(name, lambda found, at: _limit(change(found.config)))


NO_ATTENTION = _other("no attention", lambda c: describe.Block(gamma=c.gamma, tau0=40 * c.tau0))

CLAIMS = (
    ex.claim(
        "attention-rate",
        "Attention: the error of $E\\,1/(1 + D)$ falls like $1/n$.",
        _rate,
        -1.0,
        0.2,
        rivals=(ex.Rival("$n^{-1/2}$", -0.5), ex.Rival("$n^{-2}$", -2.0)),
        decided_by="standard",
    ),
    ex.claim(
        "attention-mean",
        "Attention: at the largest width $E\\,1/(1 + D)$ is that of the SDE within 0.006.",
        _last_mean,
        lambda found: found(ATTENTION, found.config.dims[-1]).exact,
        0.006,
        rivals=(
            NO_ATTENTION,
            _other("four times the temperature", lambda c: c.block(4.0)),
            _other(
                "a projection",
                lambda c: describe.Block(gamma=c.gamma, tau0=c.tau0, projection=True),
            ),
        ),
    ),
    ex.claim(
        "attention-limit",
        "Attention: extrapolated in $1/n$ from the last two widths $E\\,1/(1 + D)$ is that of the "
        "SDE.",
        _extrapolated,
        lambda found: found(ATTENTION, found.config.dims[-1]).exact,
        0.0015,
        rivals=(
            NO_ATTENTION,
            _other("1 / tau0 in place of its square", lambda c: c.block(c.tau0**-0.5)),
            _other("twice the temperature", lambda c: c.block(2.0)),
        ),
        decided_by="standard",
    ),
    ex.claim(
        "mlp-rate",
        "Shaped ReLU with $c_+ + c_- \\ne 0$: the drift of one layer differs from that of the SDE "
        "like $n^{-1/2}$.",
        _kernel_rate,
        -0.5,
        0.05,
        rivals=(
            ex.Rival("$1/n$, as attention", -1.0),
            ex.Rival("$n^{-1/4}$", -0.25),
            ex.Rival("$n^{-0.6}$", -0.6),
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    first = None
    for dim, one in found.each(ATTENTION):
        mean, error = float(one.error.mean()), float(one.error.std(ddof=1) / GROUPS**0.5)
        first = first or mean * dim
        yield ("attention", dim, mean, error, first / dim)
    kernel = found(KERNEL)
    gaps = np.abs(kernel.error).tolist()
    for dim, gap in zip(kernel.dim.tolist(), gaps, strict=True):
        yield ("mlp", dim, gap, 0.0, gaps[0] * (dim / int(kernel.dim[0])) ** -0.5)


def _panel(block: str, title: str, rate: str, ylabel: str) -> figures.Panel:
    """An error with its rate."""
    return figures.panel(
        title,
        figures.points("error", "stderr", label="networks" if block == "attention" else "kernel"),
        figures.line("predicted", label=f"predicted rate {rate}", series=None),
        where={"block": block},
        ylabel=ylabel,
    )


RATES = ex.Figure(
    name="rates",
    title="Weak error against width",
    caption="Left: mean of $1/(1 + D)$ over {networks} networks of $n$ layers and width $n$ minus "
    "its value in the limit (backward equation), bars of one standard error. Right: $n$ times the "
    "change of a covariance by one shaped ReLU with $(c_+, c_-) = (0, -1)$, minus the drift of the "
    "SDE, by quadrature. Dimensionless.",
    columns=("block", "width", "error", "stderr", "predicted"),
    rows=_rows,
    x="width",
    layers=(
        _panel("attention", "attention", "−1", "error of $E\\,1/(1 + D)$"),
        _panel("mlp", "MLP", "−1/2", "error of one layer's drift"),
    ),
    xlabel="width $n$",
    log="xy",
    ticks=True,
    shown=lambda found, table: len(table.rows),
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="noci2023/weak-error",
    title="Weak error of networks against the covariance SDE",
    question="How fast do shaped networks approach the SDE as their width grows?",
    summary="Bounded functionals of networks with attention alone converge to those of the SDE "
    "like $1/n$. The drift of one shaped ReLU whose slopes do not cancel tends to that of the SDE "
    "only like $n^{-1/2}$.",
    citations=("noci2023", "li2022", "jax"),
    presets={
        "demo": Config(dims=(10, 20), networks=16_000),
        # One network deviates by 0.085 after its controls, and the error is 0.07 / n: 700,000
        # networks give the rate between n = 10 and 40 to 0.043, its tolerance over 4.6.
        "standard": Config(networks=700_000),
        "paper": Config(dims=(10, 20, 40, 80), networks=1_000_000),
    },
    reference=core.reference("noci2023"),
    parts=(ATTENTION, KERNEL),
    claims=CLAIMS,
    figures=(RATES,),
    finding=ex.Finding(
        "The weak error of attention goes with the exponent {0} in the width, that of the drift"
        " of shaped ReLU with {1}",
        ("attention-rate", "mlp-rate"),
    ),
)
