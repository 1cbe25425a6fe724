r"""Sharp heads: few heads a layer end what the slow law never settles.

With d_k = d the limit of the overlap of two tokens under sharp heads, kappa = 2, never settles. A
chain adds to the rate at which log(1 - |u|) falls near +-1, per unit of slow time,
(1 - 4 / H) dtau / (1 + dtau)^2, H heads a layer: with one head the pair settles, with more than
four it does not. The rate is measured over single layers on two tokens at an infinitesimal angle;
chains to slow time 8 show what follows.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

import translimit.experiments as ex
from translimit import core, figures, limits, models
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Two, Within
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.sharp_cells import Motion, Rate, motion, settling_rate

#: Long chains: heads of a layer, diffusive step, slow times; dimension of the settling rate.
HEADS, LONG_STEP, LONG_TIMES, RATE_DIM = (1, 8), 0.2, (1.0, 2.0, 4.0, 8.0), 64


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        dim: dimension of the tokens of the chains, at least 16.
        replicas: chains of every cell.
        samples: single layers near coincidence.
    """

    dim: Annotated[int, Within(16)] = 24
    replicas: Two = 4000
    samples: Two = 500_000


def compute_long(config: Config, heads: int, keys: ex.Keys) -> Motion:
    """Chains with d_k = d to slow time 8."""
    chain = models.SharpHeadChain(dim=config.dim, diffusive_step=LONG_STEP, heads=heads)
    return motion(chain, LONG_TIMES, config.replicas, keys.own)


def compute_rate(config: Config, heads: int, keys: ex.Keys) -> Rate:
    """Single layers near coincidence, d_k = d."""
    return settling_rate(RATE_DIM, heads, LONG_STEP, config.samples, keys.own)


LONG = ex.Part(
    "long/heads={heads}",
    Motion,
    compute_long,
    grid=lambda c: HEADS,
    # The diffusion, and layers times replicas.
    cost=lambda c, heads: ex.Cost(
        4.0 + 4e-7 * c.replicas * LONG_TIMES[-1] * c.dim / LONG_STEP * (1 + heads)
    ),
)
RATE = ex.Part(
    "rate/heads={heads}",
    Rate,
    compute_rate,
    grid=lambda c: HEADS,
    cost=lambda c, heads: ex.Cost(1.0 + 1e-6 * c.samples * (2 + heads)),
)


def _far(found: ex.Found[Config], heads: int) -> Estimate:
    """How much larger E u^2 of a long chain is than that of its diffusion."""
    data = found(LONG, heads)
    return common.estimate(data.last - data.diffusion[-1])


def _one_head(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    return _far(found, 1)


def _settling(found: ex.Found[Config], heads: int, damped: float = 1.0) -> float:
    """The predicted rate; with damped = 0 without the norm that a layer divides by."""
    sharp = limits.homogenized.low_temperature
    rest = sharp.settling_exponent(RATE_DIM)
    added = sharp.settling_exponent(RATE_DIM, heads=heads, step=LONG_STEP) - rest
    return rest + added * (1.0 + LONG_STEP) ** (2.0 * (1.0 - damped))


CLAIMS = (
    ex.Claims(
        "settling-heads={heads}",
        "Near $\\pm 1$, $\\log(1 - |u|)$ falls in a chain of $H$ heads a layer at the rate of the "
        "limit less $(1 - 4/H) \\Delta\\tau / (1 + \\Delta\\tau)^2$ per unit of slow time.",
        estimate=lambda found, heads: Estimate(
            found(RATE, heads).rate, found(RATE, heads).stderr, found.config.samples
        ),
        prediction=_settling,
        tol=0.03,
        over=lambda c: HEADS,
        rivals=(
            ex.Rival(
                "heads have no effect",
                lambda found, heads: limits.homogenized.low_temperature.settling_exponent(RATE_DIM),
            ),
            ex.Rival("kappa = 1", -2.0),
            ex.Rival(
                "not damped",
                lambda found, heads: _settling(found, heads, 0.0),
                when=lambda c, heads: heads == 1,
            ),
        ),
    ),
    ex.claim(
        "long-one-head-settles",
        "At slow time 8 a chain with one head a layer is nearer to $\\pm 1$ than its diffusion, by "
        "at least 0.02 in $E\\,u^2$.",
        lambda found: common.estimate(found(LONG, 1).diffusion[-1] - found(LONG, 1).last),
        -0.02,
        tol=0.005,
        one_sided=True,
        rivals=(ex.Rival("as near as its diffusion", 0.0),),
    ),
    ex.claim(
        "long-eight-heads-do-not",
        "With eight heads a layer it is not nearer than its diffusion.",
        lambda found: _far(found, 8),
        0.0,
        tol=0.01,
        one_sided=True,
        rivals=(ex.Rival("as one head", _one_head),),
    ),
)


def _long_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Mean squares in time, and histograms at the last time beside the limit's density."""
    edges = np.linspace(-1.0, 1.0, 41)
    middle = 0.5 * (edges[1:] + edges[:-1])
    last = LONG_TIMES[-1]
    density = np.exp(-(np.arctanh(middle) ** 2) / (4 * last)) / np.sqrt(4 * np.pi * last)
    for heads, data in found.each(LONG):
        word = f"{heads} {'head' if heads == 1 else 'heads'}"
        columns = (data.time, *common.mean_and_stderr(data.overlap**2), data.diffusion)
        for row in zip(*(one.tolist() for one in columns), strict=True):
            yield ("time", word, *row)
        heights, _ = np.histogram(data.overlap[:, -1], edges, density=True)
        limit = density / (1 - middle**2)
        for place, height, law in zip(
            middle.tolist(), heights.tolist(), limit.tolist(), strict=True
        ):
            yield ("law", word, place, height, None, law)


LONG_TIME = ex.Figure(
    name="long-time",
    title="Long times: the limit never settles, the chain with one head does",
    caption="{replicas} chains of two tokens at $d = d_k = {dim}$ with sharp heads and diffusive "
    "step 0.2: mean square overlap (bars of one standard error) beside that of their diffusion, "
    "and histograms at slow time 8 beside the limit $u = \\tanh(\\sqrt{{2}} B_t)$.",
    columns=("panel", "heads", "place", "value", "stderr", "theory"),
    rows=_long_rows,
    x="place",
    by="heads",
    layers=(
        figures.panel(
            "mean square",
            figures.line(
                "theory", by="", series=None, where={"heads": "1 head"}, label="diffusion"
            ),
            figures.points("value", "stderr"),
            where={"panel": "time"},
            xlabel="slow time $t = \\tau / d$",
            ylabel="$E\\,u^2$",
        ),
        figures.panel(
            "law at slow time 8",
            figures.line("theory", by="", series=None, where={"heads": "1 head"}, label="limit"),
            figures.steps("value"),
            where={"panel": "law"},
            xlabel="overlap $u$",
            ylabel="density",
            log="y",
        ),
    ),
    size=(10.0, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/settling",
    title="Sharp heads: few heads a layer end what the limit never settles",
    question="With sharp heads, do few heads a layer settle what many never do?",
    summary="With $d_k = d$ the slow law of the overlap under sharp heads is marginal: it never "
    "settles at $\\pm 1$. A chain with few heads a layer does, at a rate that is known, and one "
    "with many does not.",
    citations=("koubbi2026",),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(dim=64, replicas=8000, samples=4_000_000),
        "paper": Config(dim=128, replicas=40_000, samples=10_000_000),
    },
    parts=(LONG, RATE),
    claims=CLAIMS,
    figures=(LONG_TIME,),
    finding=ex.Finding(
        "With one head a layer $\\log(1 - |u|)$ falls at the rate {0} near $\\pm 1$, with eight"
        " heads at {1}",
        ("settling-heads=1", "settling-heads=8"),
    ),
)
