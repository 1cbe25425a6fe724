r"""The best rate of a noisy quadratic, exactly: how it falls with the horizon and drifts with size.

Modes, runs that are drawn, spectra of several exponents, sizes with 1/n corrections, and the cliff
on which the best rate sits where there is no noise (see `quadratic_parts`, `modes` and `cliff`).

Reference: documentation, "Horizons"; Ghosh, Wu and Bietti, arXiv 2512.22768.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np

import translimit.experiments as ex
from translimit import figures
from translimit.core import Estimate
from translimit.experiments.horizons import modes
from translimit.experiments.horizons.quadratic_parts import (
    CLIFF,
    DRAWN,
    GROWN,
    OPTIMA,
    Config,
    Grown,
    Spectrum,
    grown,
    spectra,
)

#: Error of a best rate by scans, in decades.
_RESOLUTION = 1e-5


def _slope(found: ex.Found[Config], at: Spectrum) -> Estimate:
    """Between the last two horizons; its error is what it changes from the two before."""
    told = found(OPTIMA, at)
    slopes = np.diff(told.optimum) / np.diff(np.log10(told.horizon))
    error = _RESOLUTION if len(slopes) == 1 else abs(float(slopes[-1] - slopes[-2]))
    return Estimate(float(slopes[-1]), 0.0, 1, max(error, _RESOLUTION))


def _ratio(found: ex.Found[Config], at: Grown, what: Literal["drift", "regret"]) -> Estimate:
    """Of the largest size to the formula."""
    told = found(GROWN, at)
    n, power = float(told.size[-1]), 1 if what == "drift" else 2
    value, formula = float(getattr(told, what)[-1]), float(getattr(told, f"predicted_{what}"))
    error = n**power * _RESOLUTION / abs(formula) if what == "drift" else 1e-3
    return Estimate(n**power * value / formula, 0.0, 1, error)


def _other(found: ex.Found[Config], at: Grown, what: Literal["drift", "regret"]) -> float:
    told = found(GROWN, at)
    return float(getattr(told, f"noise_{what}") / getattr(told, f"predicted_{what}"))


def _exponent(found: ex.Found[Config]) -> Estimate:
    """Of the regret on the cliff in the number of layers, over the last octave and over all."""
    told = found(CLIFF)
    logs, paid = np.log(told.layers), np.log(told.regret)
    whole = float(np.polyfit(logs, paid, 1)[0])
    last = float((paid[-1] - paid[-2]) / (logs[-1] - logs[-2]))
    return Estimate(last, 0.0, 1, abs(whole - last))


CLAIMS = (
    ex.claim(
        "recursion",
        "The loss of stochastic gradient descent on a quadratic under cosine decay is that of the "
        "recursion of squared errors (mean over drawn runs).",
        estimate=lambda found: Estimate.over_seeds(found(DRAWN).loss),
        prediction=lambda found: float(found(DRAWN).exact),
        tol=2e-4,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "without the noise", lambda found, at: float(found(DRAWN).without_noise)
            ),
            ex.Rival[Config, ex.Alone](
                "the rate stays constant", lambda found, at: float(found(DRAWN).constant)
            ),
        ),
    ),
    ex.Claims(
        "{schedule}-slope-{spectrum}",
        lambda found, at: (
            f"Spectrum $\\alpha = {at.exponents[0]:g}$, $\\beta = {at.exponents[1]:g}$, noise "
            f"{at.exponents[2]:g}, {at.schedule} rate: slope of the best rate in the horizon is "
            f"{at.predicted:.3g}."
        ),
        estimate=_slope,
        prediction=lambda found, at: at.predicted,
        tol=lambda config, at: 0.03 if at.schedule == "constant" else 0.1,
        over=spectra,
        rivals=(
            ex.Rival(
                "it does not depend on the horizon",
                0.0,
                when=lambda config, at: at.predicted != 0,
            ),
            ex.Rival("it falls like one over the horizon", -1.0),
            ex.Rival[Config, Spectrum](
                "it falls as at a constant rate",
                lambda found, at: modes.slope(at.exponents[0], at.exponents[1], "constant"),
                when=lambda config, at: at.predicted == 0,
            ),
        ),
        decided_by="standard",
    ),
    ex.Claims(
        "{schedule}-{steps}-drift",
        lambda found, at: (
            f"{at.schedule} rate, {at.steps} updates: the drift of the largest size from the limit "
            "is $-a'(x^*) / (l''(x^*) n)$ (ratio)."
        ),
        estimate=lambda found, at: _ratio(found, at, "drift"),
        prediction=1.0,
        tol=0.03,
        over=grown,
        rivals=(
            ex.Rival[Config, Grown](
                "that of the noise alone", lambda found, at: _other(found, at, "drift")
            ),
        ),
    ),
    ex.Claims(
        "{schedule}-{steps}-regret",
        lambda found, at: (
            f"{at.schedule} rate, {at.steps} updates: the regret of the limit's rate at the "
            "largest size is $a'(x^*)^2 / (2 l''(x^*) n^2)$ (ratio)."
        ),
        estimate=lambda found, at: _ratio(found, at, "regret"),
        prediction=1.0,
        tol=0.03,
        over=grown,
        rivals=(
            ex.Rival[Config, Grown](
                "that of the noise alone", lambda found, at: _other(found, at, "regret")
            ),
        ),
    ),
    ex.claim(
        "cliff",
        "Without noise the best rate sits at the edge of stability, and the limit's costs a "
        "network of L layers an amount of order 1/L (exponent).",
        estimate=_exponent,
        prediction=-1.0,
        tol=0.1,
        rivals=(
            ex.Rival("fast transfer, 1/L^2", -2.0),
            ex.Rival("it costs the same at every depth", 0.0),
        ),
    ),
)


def _slope_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for at, told in found.each(OPTIMA):
        alpha, beta, c = at.exponents
        name = f"alpha {alpha:g}, beta {beta:g}, noise {c:g}"
        for steps, best in zip(told.horizon.tolist(), told.optimum.tolist(), strict=True):
            line = told.optimum[-1] + at.predicted * math.log10(steps / told.horizon[-1])
            yield at.schedule, name, steps, best, float(line)


def _size_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for at, told in found.each(GROWN):
        name = f"{at.schedule}, {at.steps} updates"
        for n, drift, regret in zip(told.size, told.drift, told.regret, strict=True):
            yield (
                *(name, float(n), float(drift), told.predicted_drift / float(n)),
                *(float(regret), told.predicted_regret / float(n) ** 2),
            )
    told = found(CLIFF)
    for layers, drift, regret in zip(told.layers, told.drift, told.regret, strict=True):
        yield "no noise, at the edge", float(layers), float(drift), None, float(regret), None


SLOPES = ex.Figure(
    name="slopes",
    title="Best rate against the horizon",
    caption="log10 of the best stable rate of noisy quadratics against the number of updates, with "
    "the predicted slope through the last one.",
    columns=("schedule", "spectrum", "updates", "best rate", "predicted"),
    rows=_slope_rows,
    x="updates",
    by="spectrum",
    panels="schedule",
    layers=(figures.points("best rate"), figures.line("predicted")),
    xlabel="updates",
    ylabel="log10 of the best rate",
    log="x",
    size=(9.0, 4.2),
)
FAST = ex.Figure(
    name="fast-transfer",
    title="Regret against size",
    caption="What the limit's best rate costs a network of size n, with the prediction from the "
    "limit alone; without noise the best rate sits on a cliff, and the price falls like 1/n.",
    columns=("case", "n", "drift", "predicted drift", "regret", "predicted regret"),
    rows=_size_rows,
    x="n",
    by="case",
    layers=(figures.points("regret"), figures.line("predicted regret")),
    xlabel="size n",
    ylabel="nats",
    log="xy",
)

EXPERIMENT = ex.Experiment(
    name="horizons/quadratic",
    title="Best rates of a noisy quadratic fall with the horizon and drift with size as computed",
    question="On a noisy quadratic, how does the best rate fall with the number of updates?",
    summary="In the kernel limit with noise of the gradient the loss of every rate, schedule and "
    "horizon is computed exactly. The best rate falls with the horizon at a constant rate and less "
    "under a decay; between sizes it drifts by $1/n$ and costs $1/n^2$, except on the cliff of a "
    "run without noise.",
    citations=("ghosh2025",),
    reference='documentation, "Horizons"',
    presets={
        "demo": Config(
            drawn=8000,
            horizons=(1000, 8000, 64_000),
            slow_horizons=(250, 1000),
            times=(60,),
            cliff_steps=512,
        ),
        "standard": Config(),
        "paper": Config(drawn=200_000, horizons=(1000, 8000, 64_000, 512_000)),
    },
    parts=(DRAWN, OPTIMA, GROWN, CLIFF),
    claims=CLAIMS,
    figures=(SLOPES, FAST),
    finding=ex.Finding(
        "The best rate of a noisy quadratic falls with slope {0} at a constant rate; on the cliff "
        "of a run without noise the price of the limit's rate has the exponent {1} in the depth",
        ("constant-slope-a", "cliff"),
    ),
)
