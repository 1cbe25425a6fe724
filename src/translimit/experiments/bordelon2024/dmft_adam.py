r"""Adam against gradient descent in the limit, at rates whose first updates are equally large.

Under Adam an update of a weight is a nonlinear function of its own gradients, and coordinates of
the residual stream are not Gaussian: the limit is solved with particles on both sides. Its first
updates move predictions at constant speed, where gradient descent slows down with the error. The
number of fields times evaluations is bounded by the innovations that populations have room for, a
few hundred.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.bordelon2024.adam_problem import (
    LIMIT,
    NETWORKS,
    OPTIMIZERS,
    WRONG,
    At,
    Config,
    Optimizer,
)
from translimit.experiments.bordelon2024.extrapolation import extrapolated
from translimit.experiments.bordelon2024.limit_and_networks import course

_WORDS = {"adam": "Adam", "sgd": "gradient descent"}


def courses(found: ex.Found[Config], name: Optimizer) -> list[Float[np.ndarray, "seed step"]]:
    """Predictions of networks towards the targets, size by size."""
    return [course(found(NETWORKS, At(name, heads)).predictions) for heads in found.config.heads]


def _gap(found: ex.Found[Config], name: Optimizer, theory: str) -> Estimate:
    """Networks at infinite size minus a limit, averaged before errors are taken."""
    limit = found(LIMIT, theory)
    ends = extrapolated([one[:, 1:].mean(axis=1) for one in courses(found, name)])
    # Predictions of one population move together at worst.
    floor = float(np.mean(limit.stderr[1:]))
    return ends.estimate(float(course(limit.predictions)[1:].mean()), floor)


def _difference(found: ex.Found[Config], evaluations: slice) -> Estimate:
    """Adam minus gradient descent, in networks at infinite size."""
    return _between(
        [[one[:, evaluations].mean(axis=1) for one in courses(found, name)] for name in OPTIMIZERS],
        1.0,
    )


def _first(found: ex.Found[Config], ratio: float = 1.0) -> Estimate:
    """What the first update changes under Adam, minus `ratio` times that of gradient descent."""
    moved = [[one[:, 1] - one[:, 0] for one in courses(found, name)] for name in OPTIMIZERS]
    return _between(moved, ratio)


def _between(samples: list[list[Float[np.ndarray, " seed"]]], ratio: float) -> Estimate:
    """The first minus `ratio` times the second of two quantities, each of growing networks."""
    ends = [extrapolated(one) for one in samples]
    adam, sgd = (one.estimate() for one in ends)
    stderr = float(np.hypot(adam.stderr, ratio * sgd.stderr))
    left = adam.discretisation + ratio * sgd.discretisation
    value = adam.value - ratio * sgd.value
    return Estimate(value, stderr, min(adam.count or 1, sgd.count or 1), left)


def _lead(found: ex.Found[Config]) -> Estimate:
    """Adam minus gradient descent in the limit, after the first update."""
    adam, sgd = (found(LIMIT, name) for name in OPTIMIZERS)
    later = slice(2, None)
    value = float(np.mean(course(adam.predictions)[later] - course(sgd.predictions)[later]))
    errors = [float(np.mean(one.stderr[later])) for one in (adam, sgd)]
    return Estimate(value, math.hypot(*errors), found.config.populations)


def _rate(found: ex.Found[Config]) -> Estimate:
    """The power of H with which Adam's networks approach the limit."""
    limit = found(LIMIT, "adam").predictions
    runs = [found(NETWORKS, At("adam", heads)).predictions for heads in found.config.heads]
    distances = [np.sqrt(np.mean((one - limit) ** 2, axis=(1, 2, 3))) for one in runs]
    return core.fit_rate(found.config.heads, distances).estimate()


PREDICTIONS = ex.Claims[Config, Optimizer](
    "predictions-{name}",
    lambda found, name: (
        f"Predictions of networks under {_WORDS[name]}, extrapolated from "
        f"$H = {found.config.heads}$, are those of its limit (mean over updates and inputs, "
        "towards the targets)."
    ),
    estimate=lambda found, name: _gap(found, name, name),
    prediction=0.0,
    tol=0.02,
    over=lambda c: OPTIMIZERS,
    rivals=(
        ex.Rival(
            WRONG["without"],
            estimate=lambda found, name: _gap(found, name, "without"),
            when=lambda c, name: name == "adam",
        ),
        ex.Rival(
            WRONG["faster"],
            estimate=lambda found, name: _gap(found, name, "faster"),
            when=lambda c, name: name == "adam",
        ),
        ex.Rival(
            "the limit of the other optimiser at an equal first update",
            estimate=lambda found, name: _gap(found, name, "sgd" if name == "adam" else "adam"),
        ),
    ),
    decided_by="standard",
)
FIRST = ex.Claims[Config, ex.Alone](
    "first-update",
    lambda found, at: (
        f"At $\\eta_0 = {found.config.eta0:g}$ under Adam and {found.config.eta0_sgd:g} under "
        "gradient descent the first updates move predictions equally far (their difference)."
    ),
    estimate=lambda found, at: _first(found),
    prediction=0.0,
    tol=0.01,
    over=ex.alone,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "one rate for both",
            estimate=lambda found, at: _first(found, found.config.eta0 / found.config.eta0_sgd),
        ),
    ),
)
LEAD = ex.Claims[Config, ex.Alone](
    "lead",
    "After it Adam is ahead of gradient descent by what the two limits say: predictions towards "
    "the targets in networks, extrapolated, mean over the later evaluations.",
    estimate=lambda found, at: _difference(found, slice(2, None)),
    prediction=lambda found, at: _lead(found).value,
    tol=0.02,
    over=ex.alone,
    rivals=(
        ex.Rival("gradient descent at another rate: no lead", 0.0),
        ex.Rival("half of it", lambda found, at: _lead(found).value / 2),
    ),
)
RATE = ex.claim(
    "rate",
    "The distance of one network under Adam from its limit falls like $H^{-1/2}$.",
    _rate,
    prediction=-0.5,
    tol=0.1,
    rivals=(
        ex.Rival("as the bias alone, exponent -1", -1.0),
        ex.Rival("exponent -3/4", -0.75),
        ex.Rival("exponent -1/4", -0.25),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for name in OPTIMIZERS:
        limit = course(found(LIMIT, name).predictions)
        one = courses(found, name)[-1]
        errors = 2 * one.std(axis=0) / len(one) ** 0.5
        rows = zip(limit, one.mean(axis=0), errors, strict=True)
        for t, (value, mean, error) in enumerate(rows):
            yield (_WORDS[name], t, float(value), float(mean), float(error))


COURSES = ex.Figure(
    name="courses",
    title="Adam and gradient descent after equal first updates",
    caption="Predictions towards the targets, mean over inputs. Lines: the limits; points: "
    "networks of the largest $H$ with two standard errors.",
    columns=("optimiser", "updates", "limit", "networks", "two standard errors"),
    rows=_rows,
    x="updates",
    by="optimiser",
    layers=(
        figures.line("limit", label="{}"),
        figures.points("networks", "two standard errors", label=""),
    ),
    ylabel="predictions towards the targets",
    size=(6.5, 4.0),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-adam",
    title="Adam against gradient descent in the limit, at equal first updates",
    question="Does training under Adam have a limit, and how does it differ from SGD?",
    summary="Under Adam the residual stream is not Gaussian; its limit is solved with particles "
    "on both sides. Networks trained under Adam approach it like $H^{-1/2}$; at rates with equal "
    "first updates they run ahead of gradient descent by what the two limits say.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(units=256, populations=6, samples=2000, seeds=(6000, 6000, 4000)),
        "standard": Config(),
        "paper": Config(
            heads=(16, 32, 64, 128), seeds=(24_000, 24_000, 16_000, 8000), populations=16, units=512
        ),
    },
    parts=(LIMIT, NETWORKS),
    claims=(PREDICTIONS, FIRST, LEAD, RATE),
    figures=(COURSES,),
    finding=ex.Finding(
        "Networks under Adam, extrapolated in $H$, predict what its limit does up to {0}; after"
        " an equal first update they lead networks under gradient descent by {1}",
        ("predictions-adam", "lead"),
    ),
)
