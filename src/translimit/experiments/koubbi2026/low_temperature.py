r"""Sharp heads: what one head does to a cosine, and the slow law of the overlap.

With m = A x / |A x| imposed, as infinitely many tokens that fill the sphere make it, the overlap u
of two tokens moves on the slow clock t = tau / d, as u = tanh y with y driven by the coefficient
kappa = 3/2 + d / (2 d_k); printed is kappa = 1. What is computed:

- the mean cosine after one random head A = W W'^T, sampled, beside the coefficient 1 / (2 d) of one
  Gaussian layer (printed) and that of two;
- chains of one head a layer to slow time 1, d_k = d and 32 d, beside their diffusion at this
  dimension, and the limit of that diffusion beside the slow equation.

The order of the limits is strong scores first, then d to infinity. A law of tokens with a density
of at most rho_max times the uniform one has E <x, y>^2 <= rho_max / d for two tokens drawn from
it, so that bounds on the density that do not depend on d exclude an overlap of order one.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures, limits, models
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Step, Two, Within
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.sharp_cells import (
    KERNEL_DIM,
    Kernel,
    Motion,
    kernel,
    mean_square,
    motion,
)

#: d_k / d of the kernels and of the short chains; kappa; heads of a layer of these chains.
RATIOS = {"square": 1, "narrow": 32}
KAPPAS = {name: 1.5 + 0.5 / ratio for name, ratio in RATIOS.items()}
SHORT_HEADS, TIMES = 1, (0.25, 0.5, 0.75, 1.0)
#: Coefficients that are compared: no drift, printed, one Gaussian layer, two.
OTHERS = (0.0, 1.0, 1.5, 2.0)
#: Dimensions from which the limit is extrapolated.
DIMS = (48, 96)


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        dim: dimension of the tokens of the chains, at least 16.
        replicas: chains of every cell.
        step: diffusive step of the short chains.
        samples: heads of the kernels.
    """

    dim: Annotated[int, Within(16)] = 24
    replicas: Two = 8000
    step: Step = 0.025
    samples: Two = 8_000_000


@dataclass(frozen=True)
class Limits(ex.Arrays):
    """Mean squares at slow time 1: of diffusions at two dimensions, of the slow equation."""

    square: Float[np.ndarray, " dim"]
    narrow: Float[np.ndarray, " dim"]
    kappa: Float[np.ndarray, " kappa"]
    slow: Float[np.ndarray, "kappa time"]


def compute_kernel(config: Config, name: str, keys: ex.Keys) -> Kernel:
    """Cosines after one head of two Gaussian layers."""
    return kernel(RATIOS[name] * KERNEL_DIM, config.samples, keys.own)


def compute_short(config: Config, name: str, keys: ex.Keys) -> Motion:
    """Chains of one head a layer to slow time 1."""
    chain = models.SharpHeadChain(
        dim=config.dim,
        head_dim=RATIOS[name] * config.dim,
        diffusive_step=config.step,
        heads=SHORT_HEADS,
    )
    return motion(chain, TIMES, config.replicas, keys.own)


def compute_limits(config: Config, at: ex.Alone, keys: ex.Keys) -> Limits:
    """Nothing is random."""
    del config, at, keys
    slow = limits.homogenized.low_temperature.slow_expectation
    rows = [
        [slow(np.square, kappa, initial=0.0, t1=time) for time in TIMES]
        for kappa in (*OTHERS, KAPPAS["narrow"])
    ]
    return Limits(
        square=np.array([mean_square(dim, dim, TIMES[-1]) for dim in DIMS]),
        narrow=np.array([mean_square(dim, 32 * dim, TIMES[-1]) for dim in DIMS]),
        kappa=np.array([*OTHERS, KAPPAS["narrow"]]),
        slow=np.array(rows),
    )


def _cost(config: Config, layers: float) -> ex.Cost:
    """The diffusion, and layers of one head times replicas."""
    return ex.Cost(4.0 + 4e-7 * config.replicas * layers)


KERNEL = ex.Part(
    "kernel/{name}",
    Kernel,
    compute_kernel,
    grid=lambda c: tuple(RATIOS),
    cost=lambda c, name: ex.Cost(2.0 + 4e-7 * c.samples),
)
SHORT = ex.Part(
    "{name}",
    Motion,
    compute_short,
    grid=lambda c: tuple(RATIOS),
    cost=lambda c, name: _cost(c, SHORT_HEADS * c.dim / c.step),
)
LIMITS = ex.Part("limits", Limits, compute_limits, grid=ex.alone, cost=lambda c, at: ex.Cost(12.0))


def _slow(kappa: float) -> Callable[[ex.Found[Config], str], float]:
    """E u^2 of the slow equation at slow time 1."""

    def prediction(found: ex.Found[Config], name: str) -> float:
        del name
        data = found(LIMITS)
        return float(data.slow[data.kappa.tolist().index(kappa), -1])

    return prediction


def _to_infinity(found: ex.Found[Config], name: str) -> Estimate:
    """Extrapolated in 1 / d; half of what that adds is its error."""
    values = getattr(found(LIMITS), name)
    added = float(values[1] - values[0])
    return Estimate(float(values[1]) + added, 0.0, len(values), abs(added) / 4)


PRINTED_SLOW = "$du = -u(1-u^2)dt + \\sqrt{2}(1-u^2)dB$"
CLAIMS = (
    ex.Claims(
        "kernel-{name}",
        "One random head draws the mean cosine of two tokens together as two Gaussian layers do: "
        "the coefficient of $R(1 - R^2)/d$ is $(1 + d / d_k) / 2$ to leading order.",
        estimate=lambda found, name: Estimate(
            found(KERNEL, name).coefficient, found(KERNEL, name).stderr, found.config.samples
        ),
        prediction=lambda found, name: found(KERNEL, name).exact,
        tol=0.015,
        over=lambda c: tuple(RATIOS),
        rivals=(
            ex.Rival("1/(2d)", 0.5, printed=True, when=lambda c, name: name == "square"),
            ex.Rival(
                "one layer",
                lambda found, name: found(KERNEL, name).one,
                when=lambda c, name: name == "square",
            ),
            ex.Rival("1/d", 1.0, when=lambda c, name: name == "narrow"),
            ex.Rival("unchanged cosines", 0.0),
            ex.Rival("times 1.1", lambda found, name: 1.1 * found(KERNEL, name).exact),
        ),
        printed="$R - R(1-R^2)/(2d)$",
    ),
    ex.Claims(
        "{name}-chain",
        lambda found, name: (
            "$E\\,u^2$ of the chain at slow time 1 is that of its diffusion at this dimension, "
            f"$d_k = {RATIOS[name]} d$."
        ),
        estimate=lambda found, name: common.estimate(found(SHORT, name).last),
        prediction=lambda found, name: float(found(SHORT, name).diffusion[-1]),
        tol=0.02,
        over=lambda c: tuple(RATIOS),
        rivals=(
            ex.Rival("kappa = 1", _slow(1.0)),
            ex.Rival("no drift", _slow(0.0)),
            ex.Rival(
                "one Gaussian layer",
                lambda found, name: float(found(SHORT, name).one[-1]),
                when=lambda c, name: name == "square",
            ),
            ex.Rival(
                "d_k = d",
                lambda found, name: float(found(SHORT, "square").diffusion[-1]),
                when=lambda c, name: name == "narrow",
            ),
        ),
    ),
    ex.Claims(
        "{name}-limit",
        lambda found, name: (
            "As the dimension grows that of the diffusion tends to the slow equation's with "
            f"$\\kappa = 3/2 + d / (2 d_k) = {KAPPAS[name]:.4g}$."
        ),
        estimate=_to_infinity,
        prediction=lambda found, name: _slow(KAPPAS[name])(found, name),
        tol=0.002,
        over=lambda c: tuple(RATIOS),
        rivals=(
            ex.Rival("kappa = 1", _slow(1.0), printed=True, when=lambda c, name: name == "square"),
            ex.Rival("kappa = 1", _slow(1.0), when=lambda c, name: name == "narrow"),
            ex.Rival("no drift", _slow(0.0)),
            ex.Rival("kappa = 3/2", _slow(1.5), when=lambda c, name: name == "square"),
            ex.Rival("kappa = 2", _slow(2.0), when=lambda c, name: name == "narrow"),
        ),
        printed=PRINTED_SLOW,
    ),
)


def _short_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for name, data in found.each(SHORT):
        means = common.mean_and_stderr(data.overlap**2)
        columns = (data.time, *means, data.diffusion, *found(LIMITS).slow[1:4])
        for row in zip(*(one.tolist() for one in columns), strict=True):
            yield (name, *row)


SLOW_LAW = ex.Figure(
    name="slow-law",
    title="The slow law has the coefficient of two Gaussian layers",
    caption="Mean square overlap of two tokens from orthogonal, {replicas} chains with sharp heads "
    "at $d = {dim}$, one head a layer (points, bars of one standard error); their diffusions "
    "at this dimension (full lines), and the slow equation at three coefficients (dashed). "
    "Infinitely many tokens are imposed. Left $d_k = d$, right $d_k = 32 d$.",
    columns=(
        *("chain", "slow time", "mean square overlap", "stderr", "diffusion"),
        *("kappa = 1", "kappa = 3/2", "kappa = 2"),
    ),
    rows=_short_rows,
    x="slow time",
    panels="chain",
    titles={"square": "$d_k = d$", "narrow": "$d_k = 32 d$"},
    layers=(
        figures.line("kappa = 1", label="$\\kappa = 1$, as printed", series=1, dash="6 3"),
        figures.line("kappa = 3/2", label="$\\kappa = 3/2$", series=2, dash="7 2 1.5 2"),
        figures.line("kappa = 2", label="$\\kappa = 2$", series=3, dash="1.5 2"),
        figures.line("diffusion", label="diffusion", series=None),
        figures.points("mean square overlap", "stderr", label="chains"),
    ),
    xlabel="slow time $t = \\tau / d$",
    ylabel="$E\\,u^2$",
    size=(9.0, 4.2),
)
EXPERIMENT = ex.Experiment(
    name="koubbi2026/low-temperature",
    title="Strong scores: the slow law of the overlap",
    question="With strong scores, which slow law does the overlap of two tokens follow?",
    summary="For strong scores and tokens that fill the sphere, the overlap of two tokens moves on "
    "the slow clock $\\tau/d$. The equation as printed ($\\kappa = 1$) ends at $\\pm 1$; with the "
    "exact kernel of $A = WW'^\\top$ it is $\\kappa = 2$, which never settles. Chains and "
    "their diffusions tell them apart.",
    citations=("koubbi2026",),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(dim=64, replicas=20_000, samples=12_000_000),
        "paper": Config(dim=128, replicas=40_000, samples=20_000_000),
    },
    parts=(KERNEL, SHORT, LIMITS),
    claims=CLAIMS,
    figures=(SLOW_LAW,),
    finding=ex.Finding(
        "One random head with $d_k = d$ draws the mean cosine of two tokens together with the "
        "coefficient {0}, and as the dimension grows $E\\,u^2$ at slow time 1 tends to {1}",
        ("kernel-square", "square-limit"),
    ),
)
