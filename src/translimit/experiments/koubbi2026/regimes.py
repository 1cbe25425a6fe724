r"""Regimes of random heads and their error rates: ballistic, modified, diffusive.

- Heads with a fixed mean and no noise, from three tokens in R^3 to paper time 1: the chain at
  several steps against X' = b(X), the modified equation as printed and as corrected, at the times
  of the layers and halfway between them; the same for the tangent chain.
- Two orthogonal tokens without scores in R^6 at unit diffusive time 1, at several diffusive steps:
  E R^2 of the chain against the backward equation, both retractions.
- Chains at (step, heads) and (2 step, 4 heads): one diffusive step, one law.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models
from translimit.core import UNAVAILABLE, Estimate
from translimit.experiments.checked import CheckedConfig, Steps, Two
from translimit.experiments.koubbi2026 import common
from translimit.experiments.koubbi2026.mean_effect import (
    CHAINS,
    EQUATIONS,
    PLACES,
    Drift,
    deterministic_errors,
)

if TYPE_CHECKING:
    from translimit.core import Key, Retraction

#: Two tokens without scores.
DIM = 6
#: Step and heads of chains with one diffusive step.
CLOCKS = {"step 0.5, 1 head": (0.5, 1), "step 1, 4 heads": (1.0, 4)}
#: The rows of one equation.
FIRST = {"equation": EQUATIONS[0]}
#: The paper's statement.
RATE = "$\\eta\\max(\\eta, \\alpha)$ for the modified equation $b - (\\eta/2)\\nabla_b b$"


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        steps: residual steps of the chain with a mean effect, 1 over an integer, decreasing.
        diffusive_steps: of the chains without one, dividing 1, decreasing.
        replicas: of these chains.
    """

    steps: Steps = (0.1, 0.05, 0.025, 0.0125)
    diffusive_steps: Steps = (0.5, 0.25)
    replicas: Two = 40_000


@dataclass(frozen=True)
class Squares(ex.Arrays):
    """Squared overlaps of chains at unit diffusive time 1."""

    chain: Shaped[np.ndarray, " chain"]
    square: Annotated[Float[np.ndarray, "chain replica"], "$R_{12}^2$"]


def compute_drift(config: Config, at: ex.Alone, keys: ex.Keys) -> Drift:
    """Both chains and all equations at every step; nothing is random."""
    del at, keys
    return deterministic_errors(config.steps)


def compute_noise(config: Config, step: float, keys: ex.Keys) -> Squares:
    """Both chains at one diffusive step, in single precision."""
    values = [
        _squares(step**0.5, 1, config.replicas, one, core.named_key(keys.own, one.name))
        for one in core.Retraction
    ]
    return Squares(chain=np.array([one.name for one in core.Retraction]), square=np.array(values))


def compute_clock(config: Config, at: ex.Alone, keys: ex.Keys) -> Squares:
    """The printed chain at both steps and heads, in single precision."""
    del at
    values = [
        _squares(
            step, heads, config.replicas, core.Retraction.AMBIENT, core.named_key(keys.own, heads)
        )
        for step, heads in CLOCKS.values()
    ]
    return Squares(chain=np.array(list(CLOCKS)), square=np.array(values))


def _squares(
    step: float, heads: int, replicas: int, retraction: Retraction, key: Key
) -> Float[np.ndarray, " replica"]:
    """R_12^2 of two orthogonal tokens at unit diffusive time 1."""
    law = describe.WideHeads(dim=DIM, score_std=0.0)
    layers = round(heads / step**2)
    chain = models.RandomHeadChain(
        law=law, step=step, heads=heads, layers=layers, retraction=retraction
    )
    start = np.eye(2, dtype=np.float32)
    paths = chain.simulate_overlaps(start, replicas=replicas, key=key)
    return np.asarray(paths.overlaps[:, -1, 0, 1], dtype=np.float64) ** 2


DRIFT = ex.Part("drift", Drift, compute_drift, grid=ex.alone, cost=lambda c, at: ex.Cost(15.0))
CLOCK = ex.Part(
    "clock",
    Squares,
    compute_clock,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(5.0 + 5e-6 * c.replicas),
)
NOISE = ex.Part(
    "noise/step={step:g}",
    Squares,
    compute_noise,
    grid=lambda c: c.diffusive_steps,
    # Compilation, and layers times replicas.
    cost=lambda c, step: ex.Cost(2.5 + 1.2e-5 * c.replicas / step),
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
    ),
    Order(
        *("modified-order-printed", "AMBIENT", "modified, as printed", "layers", 2.0),
        "As printed, the modified equation is of second order for the printed chain.",
        RATE,
    ),
    Order(
        *("modified-order-corrected", "AMBIENT", "modified, corrected", "layers", 2.0),
        "With $-\\eta\\langle x_i, \\bar B_i\\rangle b_i$ it is of second order.",
        RATE,
    ),
    Order(
        *("tangent-order", "TANGENT", "modified, as printed", "layers", 2.0),
        "The printed equation is of second order for the tangent chain.",
    ),
    Order(
        *("between-layers", "AMBIENT", "modified, corrected", "between", 1.0),
        "Between the times of the layers every limit is off by O(step): order one.",
        "the rate at all times",
    ),
)


def _order(found: ex.Found[Config], at: Order) -> Estimate:
    """The order between the two smallest steps, and how far the one before differs."""
    logs = np.log(found(DRIFT).at(at.chain, at.equation, at.where))
    orders = np.diff(logs) / np.diff(np.log(found.config.steps))
    spread = float(abs(orders[-1] - orders[-2]) / 2)
    return Estimate(float(orders[-1]), 0.0, len(found.config.steps), spread)


def _exact(found: ex.Found[Config]) -> float:
    """E R^2 of two tokens without scores at unit diffusive time 1, by the backward equation."""
    del found
    two = limits.homogenized.two_tokens
    return float(two.pair_expectation(np.square, two.without_scores, initial=0.0, t1=1.0, dim=DIM))


def _bias(
    found: ex.Found[Config], chain: str
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """E R^2 of a chain minus that of the limit at every diffusive step, and standard errors."""
    place = list(CHAINS).index(chain)
    rows = [common.mean_and_stderr(data.square[place]) for _, data in found.each(NOISE)]
    means, stderrs = np.array(rows).T
    return means - found.once(_exact), stderrs


def _weak_order(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """Between the largest and the smallest diffusive step."""
    del at
    steps, (bias, stderr) = found.config.diffusive_steps, _bias(found, "AMBIENT")
    ratio = math.log(steps[0] / steps[-1])
    slope = math.log(abs(bias[0]) / abs(bias[-1])) / ratio
    error = math.hypot(stderr[0] / bias[0], stderr[-1] / bias[-1]) / ratio
    return Estimate(slope, error, found.config.replicas, 0.05)


def _difference(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    del at
    first, second = found(CLOCK).square
    return common.estimate(first - second)


DETERMINISTIC = ex.Claims(
    "{name}",
    lambda found, at: at.statement,
    estimate=_order,
    prediction=lambda found, at: at.order,
    tol=0.25,
    over=lambda c: ORDERS,
    printed=lambda found, at: at.printed,
)
DIFFUSIVE = ex.Claims(
    "diffusive-order",
    "The weak error of the chain against the stochastic limit is linear in the diffusive step.",
    estimate=_weak_order,
    prediction=1.0,
    tol=0.4,
    over=ex.alone,
)
ONE_CLOCK = ex.Claims(
    "one-clock",
    "Chains at (step, heads) and (2 step, 4 heads) have the same mean of $R_{12}^2$.",
    estimate=_difference,
    prediction=0.0,
    tol=0.02,
    over=ex.alone,
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
    """Biases, and a line through that of the smallest step and the origin."""
    steps = found.config.diffusive_steps
    for chain in CHAINS:
        bias, stderr = (one.tolist() for one in _bias(found, chain))
        for step, value, error in zip(steps, bias, stderr, strict=True):
            yield (chain, step, value, error, bias[-1] / steps[-1] * step)


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
    caption=lambda found: (
        "Two orthogonal tokens in six dimensions without scores, unit diffusive time 1: mean of "
        f"$R_{{12}}^2$ over {found.config.replicas} chains minus that of the limit (backward "
        "equation), bars of one standard error; lines through the smallest step and the origin."
    ),
    columns=("chain", "diffusive step", "bias", "stderr", "linear"),
    rows=_bias_rows,
    x="diffusive step",
    by="chain",
    layers=(
        figures.points("bias", "stderr", where={"chain": "AMBIENT"}, label="ambient chain"),
        figures.points("bias", "stderr", where={"chain": "TANGENT"}, label="tangent chain"),
        figures.line("linear", label="linear in the step", dash="6 3"),
        figures.level(0.0, label="stochastic limit"),
    ),
    xlabel="diffusive step $\\Delta\\tau$ of a layer",
    ylabel="$E\\,R_{12}^2$ of the chain minus the limit's",
    xlim=(0.0, None),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/regimes",
    title="Regimes of random heads and their error rates",
    summary="A chain of random attention heads follows an ordinary differential equation where the "
    "heads have a mean, a modified one over longer times, and a stochastic one with common noise "
    "where they have none. The orders of the errors are measured, for the equations as printed and "
    "as corrected, at the times of the layers and between them.",
    citations=("koubbi2026", "diffrax", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(diffusive_steps=(0.5, 0.25, 0.125), replicas=400_000),
        "paper": Config(diffusive_steps=(0.5, 0.25, 0.125, 0.0625), replicas=2_000_000),
    },
    parts=(DRIFT, CLOCK, NOISE),
    claims=(DETERMINISTIC, DIFFUSIVE, ONE_CLOCK),
    figures=(ERRORS, BIASES),
)
