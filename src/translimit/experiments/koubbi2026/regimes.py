r"""Regimes of random heads and their error rates: ballistic, modified, diffusive.

- Heads with a fixed mean and no noise, from three tokens in R^3 to paper time 1: the chain at
  several steps against X' = b(X), the modified equation as printed and as corrected, at the times
  of the layers and halfway between them; the same for the tangent chain.
- Two orthogonal tokens without scores in R^6 at unit diffusive time 1: E R^2 of the chain, exactly
  by backward layers, against the backward equation, both retractions; sampled chains beside it.
- Chains with scores at (step, heads), (2 step, 4 heads) and others: one diffusive step, one law.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, describe, figures, models
from translimit.core import UNAVAILABLE, Estimate
from translimit.experiments.checked import CheckedConfig, Entries, Steps, Two
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.mean_effect import (
    CHAINS,
    EQUATIONS,
    PLACES,
    Drift,
    deterministic_errors,
)
from translimit.experiments.koubbi2026.orders import at_zero, order_of
from translimit.experiments.koubbi2026.pair_chain import Biases, biases

#: Two tokens without scores, and diffusive steps of their chains.
DIM, DIFFUSIVE = 6, (0.5, 0.25, 0.125, 0.0625)
#: Sampled chains: step, heads, layers, deviation of the scores. Two are compared with exact means,
#: the others, with scores, are named by what they keep of the first.
SAMPLES = {
    "AMBIENT": (DIFFUSIVE[0] ** 0.5, 1, 2, 0.0),
    "TANGENT": (DIFFUSIVE[0] ** 0.5, 1, 2, 0.0),
    "first": (0.5, 1, 4, 1.5),
    "diffusive time": (1.0, 4, 4, 1.5),
    "paper time per head": (1.0, 2, 4, 1.5),
    "step alone": (1.0, 4, 1, 1.5),
}
#: The rows of one equation.
FIRST = {"equation": EQUATIONS[0]}
#: The paper's statements.
RATE = "$\\eta\\max(\\eta, \\alpha)$ for the modified equation $b - (\\eta/2)\\nabla_b b$"
ODE_RATE = "$\\eta\\max(\\eta, \\alpha)$ for $X' = b(X)$, with a leading $\\eta$"


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        steps: residual steps of the chain with a mean effect, 1 over an integer, decreasing.
        replicas: of the sampled chains.
    """

    steps: Annotated[Steps, Entries(3)] = (0.1, 0.05, 0.025, 0.0125)
    replicas: Two = 40_000


@dataclass(frozen=True)
class Squares(ex.Arrays):
    """Squared overlaps of sampled chains."""

    square: Annotated[Float[np.ndarray, " replica"], "$R_{12}^2$"]


def compute_drift(config: Config, at: ex.Alone, keys: ex.Keys) -> Drift:
    """Both chains and all equations at every step; nothing is random."""
    del at, keys
    return deterministic_errors(config.steps)


def compute_noise(config: Config, at: ex.Alone, keys: ex.Keys) -> Biases:
    """Exact means of both chains at every diffusive step, and of the limit."""
    del config, at, keys
    return biases(DIM, DIFFUSIVE)


def compute_sampled(config: Config, name: str, keys: ex.Keys) -> Squares:
    """Chains of two orthogonal tokens, in single precision."""
    step, heads, layers, score_std = SAMPLES[name]
    chain = models.RandomHeadChain(
        law=describe.WideHeads(dim=DIM, score_std=score_std),
        step=step,
        heads=heads,
        layers=layers,
        retraction=core.Retraction["TANGENT" if name == "TANGENT" else "AMBIENT"],
    )
    start = np.eye(2, dtype=np.float32)
    paths = chain.simulate_overlaps(
        start, replicas=config.replicas, key=keys.own, save_every=layers
    )
    return Squares(square=np.asarray(paths.overlaps[:, -1, 0, 1], dtype=np.float64) ** 2)


DRIFT = ex.Part("drift", Drift, compute_drift, grid=ex.alone, cost=lambda c, at: ex.Cost(15.0))
NOISE = ex.Part("noise", Biases, compute_noise, grid=ex.alone, cost=lambda c, at: ex.Cost(10.0))
SAMPLED = ex.Part(
    "sampled/{name}",
    Squares,
    compute_sampled,
    grid=lambda c: tuple(SAMPLES),
    # Compilation, and layers times replicas.
    cost=lambda c, name: ex.Cost(5.0 + 1e-5 * c.replicas * SAMPLES[name][1] * SAMPLES[name][2]),
)


@dataclass(frozen=True)
class Order:
    """What order an equation has for a chain.

    Attributes:
        name: of the claim.
        chain: one of CHAINS.
        equation: one of EQUATIONS.
        where: one of PLACES.
        order: what is predicted.
        statement: of the claim.
        printed: the paper's statement.
    """

    name: str
    chain: str
    equation: str
    where: str
    order: float
    statement: str
    printed: str = UNAVAILABLE


ORDERS = (
    Order(
        *("ballistic-order", "AMBIENT", "ballistic", "layers", 1.0),
        "The chain is within O(step) of $X' = b(X)$ at a fixed paper time.",
        ODE_RATE,
    ),
    Order(
        *("modified-order-corrected", "AMBIENT", "modified, corrected", "layers", 2.0),
        "With $-\\eta\\langle x_i, \\bar B_i\\rangle b_i$ the modified equation is of order 2.",
        RATE,
    ),
    Order(
        *("tangent-order", "TANGENT", "modified, as printed", "layers", 2.0),
        "The printed modified equation is of second order for the tangent chain.",
    ),
    Order(
        *("between-layers", "AMBIENT", "modified, corrected", "between", 1.0),
        "Between the times of the layers every limit is off by O(step): order one.",
        "the rate at all times",
    ),
)


def _order(found: ex.Found[Config], at: Order, equation: str = "") -> Estimate:
    errors = found(DRIFT).at(at.chain, equation or at.equation, at.where)
    return order_of(found.config.steps, errors.tolist())


def _with(equation: str, *, printed: bool = False) -> ex.Rival[Config, Order]:
    """Another equation in the place of one of second order."""
    return ex.Rival(
        equation,
        estimate=lambda found, at: _order(found, at, equation),
        printed=printed,
        when=lambda c, at: at.order == 2.0 and at.equation != equation,
    )


def _bias(
    found: ex.Found[Config], chain: str
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"]]:
    """E R^2 of a chain minus that of the limit, and itself, at every diffusive step."""
    data = found(NOISE)
    squares = data.square[list(CHAINS).index(chain)]
    return squares - data.limit[0], squares


def _sampled(found: ex.Found[Config], name: str) -> Estimate:
    return common.estimate(found(SAMPLED, name).square)


def _difference(name: str) -> Callable[[ex.Found[Config], ex.Alone], Estimate]:
    """The mean of R^2 of the first chain with scores minus that of another."""
    return lambda found, at: common.estimate(
        found(SAMPLED, "first").square - found(SAMPLED, name).square
    )


DETERMINISTIC = ex.Claims(
    "{name}",
    lambda found, at: at.statement,
    estimate=_order,
    prediction=lambda found, at: at.order,
    tol=0.1,
    over=lambda c: ORDERS,
    rivals=(
        _with("modified, as printed", printed=True),
        _with("modified, corrected"),
        _with("ballistic"),
        ex.Rival("one order more", lambda found, at: at.order + 1, when=lambda c, at: at.order > 1),
        ex.Rival("one order less", lambda found, at: at.order - 1, when=lambda c, at: at.order > 1),
        ex.Rival("order 2", 2.0, printed=True, when=lambda c, at: at.order == 1),
        ex.Rival("order 1/2", 0.5, when=lambda c, at: at.order == 1),
    ),
    printed=lambda found, at: at.printed,
)
DIFFUSIVE_ORDER = ex.Claims(
    "diffusive-order-{chain}",
    "The weak error of the chain against the stochastic limit is linear in the diffusive step.",
    estimate=lambda found, chain: order_of(DIFFUSIVE[1:], _bias(found, chain)[0][1:].tolist()),
    prediction=1.0,
    tol=0.1,
    over=lambda c: tuple(CHAINS),
    rivals=(ex.Rival("order 1/2", 0.5), ex.Rival("order 2", 2.0)),
    printed=r"$\eta\max(1, \alpha)$, for $b = 0$",
)
DIFFUSIVE_LIMIT = ex.Claims(
    "diffusive-limit-{chain}",
    "As the diffusive step falls the mean of $R_{12}^2$ tends to that of the stochastic limit.",
    estimate=lambda found, chain: at_zero(DIFFUSIVE, _bias(found, chain)[1].tolist()),
    prediction=lambda found, chain: float(found(NOISE).limit[0]),
    tol=0.001,
    over=lambda c: tuple(CHAINS),
    rivals=(
        ex.Rival("a clock of d - 1", lambda found, chain: float(found(NOISE).limit[1])),
        ex.Rival("dimension d + 1", lambda found, chain: float(found(NOISE).limit[2])),
    ),
)
EXACT = ex.Claims(
    "sampled-{chain}",
    "Sampled chains of diffusive step 1/2 have the exact mean of $R_{12}^2$.",
    estimate=_sampled,
    prediction=lambda found, chain: float(_bias(found, chain)[1][0]),
    tol=0.006,
    over=lambda c: tuple(CHAINS),
    rivals=(ex.Rival("the limit", lambda found, chain: float(found(NOISE).limit[0])),),
)
ONE_CLOCK = ex.claim(
    "one-clock",
    "With scores, chains at (step, heads) and (2 step, 4 heads) have the same mean of $R_{12}^2$ "
    "after as many layers.",
    lambda found: _difference("diffusive time")(found, ex.Alone()),
    0.0,
    tol=0.015,
    rivals=tuple(
        ex.Rival(f"one law at equal {name}", estimate=_difference(name))
        for name in list(SAMPLES)[4:]
    ),
)


def _error_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Errors, and slopes through half the largest step."""
    first = found.config.steps[0]
    for chain, equation, where in itertools.product(CHAINS, EQUATIONS, PLACES):
        panel = f"{CHAINS[chain]}, {PLACES[where]}"
        errors = found(DRIFT).at(chain, equation, where).tolist()
        for step, error in zip(found.config.steps, errors, strict=True):
            slopes = 0.5 * step, 0.5 * step**2 / first
            yield (chain, equation, where, step, error, panel, *slopes)


def _bias_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Biases, a line through that of the smallest step and the origin, and sampled chains."""
    limit = float(found(NOISE).limit[0])
    for chain in CHAINS:
        bias = _bias(found, chain)[0].tolist()
        sampled = _sampled(found, chain)
        for place, (step, value) in enumerate(zip(DIFFUSIVE, bias, strict=True)):
            drawn = (sampled.value - limit, sampled.stderr) if place == 0 else (None, None)
            yield (chain.lower(), step, value, bias[-1] / DIFFUSIVE[-1] * step, *drawn)


ERRORS = ex.Figure(
    name="deterministic",
    title="Heads with a mean effect: orders of the deterministic limits",
    caption="Error at paper time 1 against the residual step, exact. The printed modified "
    "equation is of order one for the printed chain and of order two for the tangent chain; "
    "the corrected one is of order two where the chain is printed. Halfway between two layers "
    "no limit is better than order one.",
    columns=("chain", "equation", "where", "step", "error", "panel", "slope 1", "slope 2"),
    rows=_error_rows,
    x="step",
    by="equation",
    panels="panel",
    across=2,
    layers=(
        *(
            figures.line(one, by="", series=None, where=FIRST, label=one, dash=dash)
            for one, dash in (("slope 1", "6 3"), ("slope 2", "1.5 2"))
        ),
        figures.points("error", joined=True),
    ),
    xlabel="step $\\eta$",
    ylabel="largest entry of $|X_{\\rm chain} - X|$",
    log="xy",
    ticks=True,
    size=(9.0, 7.2),
)
BIASES = ex.Figure(
    name="diffusive",
    title="Centred heads: the weak error is linear in the diffusive step",
    caption="Two orthogonal tokens in six dimensions without scores, unit diffusive time 1: mean "
    "of $R_{{12}}^2$ of the chain, exact, minus that of the limit (backward equation); lines "
    "through the smallest step and the origin. Bars: {replicas} sampled chains, one stderr.",
    columns=("chain", "diffusive step", "bias", "linear", "sampled", "stderr"),
    rows=_bias_rows,
    x="diffusive step",
    by="chain",
    layers=(
        figures.line("linear", label="linear in the step", dash="6 3"),
        figures.points("bias", label="{} chain"),
        figures.points("sampled", "stderr", label=""),
        figures.level(0.0, label="stochastic limit"),
    ),
    xlabel="diffusive step $\\Delta\\tau$ of a layer",
    ylabel="$E\\,R_{12}^2$ of the chain minus the limit's",
    xlim=(0.0, None),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/regimes",
    title="Regimes of random heads and their error rates",
    question="Which limit of random heads holds at which depth, and with what error?",
    summary="A chain of random attention heads follows an ordinary differential equation where the "
    "heads have a mean, a modified one over longer times, and a stochastic one with common noise "
    "where they have none. The orders of the errors are measured, for the equations as printed and "
    "as corrected, at the times of the layers and between them.",
    citations=("koubbi2026", "diffrax", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(replicas=200_000),
        "paper": Config(steps=(0.1, 0.05, 0.025, 0.0125, 0.00625), replicas=1_000_000),
    },
    parts=(DRIFT, NOISE, SAMPLED),
    claims=(*(DETERMINISTIC, DIFFUSIVE_ORDER, DIFFUSIVE_LIMIT, EXACT, ONE_CLOCK),),
    figures=(ERRORS, BIASES),
    finding=ex.Finding("The ballistic limit has an error of order {0}", ("ballistic-order",)),
)
