r"""Classes of digits under cross-entropy: networks of H heads approach their limit.

The pass of the limit needs of a loss only its error, (yhat - p) / T for cross-entropy, which is a
function of outputs of the same time. Networks of the library minimise the same loss by automatic
differentiation. Their distances from the limit fall like H^{-1/2}, and means over seeds of outputs
and of the loss, extrapolated in 1 / H, are the limit. A limit that is trained on the squared
distance from one-hot labels, or whose features do not move, misses.

At small gamma_0 the outputs of one network at its start, of order (gamma_0^2 n)^{-1/2}, are most of
its distance. The limit has none, and networks whose start is subtracted have the same limit.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.bordelon2024.class_losses import (
    accuracies,
    distance_ratio,
    losses,
)
from translimit.experiments.bordelon2024.class_problem import (
    LAZIER,
    LIMIT,
    NETWORKS,
    PAIRS,
    SQUARED,
    Config,
    Pair,
)
from translimit.experiments.bordelon2024.extrapolation import extrapolated
from translimit.experiments.bordelon2024.limit_and_networks import (
    Limit,
    Networks,
    distances,
    extrapolated_gap,
)

#: The factor by which centring lowers the mean squared distance at small gamma_0, at least.
GAIN = 4.0


def _networks(found: ex.Found[Config], sizes: Sequence[int]) -> list[Networks]:
    return [found(NETWORKS, heads) for heads in sizes]


def _all(found: ex.Found[Config]) -> list[Networks]:
    """Networks that are extrapolated."""
    return _networks(found, found.config.largest)


def _rate(found: ex.Found[Config]) -> Estimate:
    """The exponent in H of the distance of one network's outputs from the limit."""
    rows = [distances(one, found(LIMIT)) for one in _networks(found, found.config.sizes)]
    return core.fit_rate(found.config.sizes, rows).estimate()


def _pairs(found: ex.Found[Config], start: Literal["plain", "centred"]) -> list[Networks]:
    return [found(PAIRS, Pair(start, heads)) for heads in found.config.pair]


def _predictions(found: ex.Found[Config], theory: Limit) -> Estimate:
    return extrapolated_gap(_all(found), theory, "predictions")


def _loss_gap(found: ex.Found[Config], f: Float[np.ndarray, "step sample output"]) -> Estimate:
    """The loss of networks, extrapolated, minus that of outputs of a theory; mean over updates."""
    labels = found.config.data()[1]
    theory = float(losses(f, labels)[1:].mean())
    # What errors of the outputs do to the loss, all in one direction.
    floor = float(np.abs(found(LIMIT).predictions_stderr[1:]).mean())
    samples = [one.loss[:, 1:].mean(axis=1) for one in _all(found)]
    return extrapolated(samples).estimate(theory, floor)


def _smallest(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """The same for the smallest networks, as if they were infinite."""
    del at
    one = _networks(found, found.config.sizes[:1])[0]
    theory = losses(found(LIMIT).predictions, found.config.data()[1])[1:].mean()
    return Estimate.from_samples(one.loss[:, 1:].mean(axis=1) - theory)


def _accuracy(found: ex.Found[Config]) -> Estimate:
    """Accuracy of the largest networks at the end minus that of the limit."""
    theory = accuracies(found(LIMIT).predictions[-1:], found.config.data()[1])[0]
    last = _networks(found, found.config.sizes[-1:])[0]
    return Estimate.from_samples(last.accuracy[:, -1] - theory)


def _chance(found: ex.Found[Config], at: ex.Alone) -> float:
    """Chance minus the accuracy of the limit."""
    del at
    theory = accuracies(found(LIMIT).predictions[-1:], found.config.data()[1])[0]
    return float(1 / found.config.classes - theory)


def _centring(found: ex.Found[Config]) -> Estimate:
    """Minus the factor by which centring lowers the squared distance, at the larger size."""
    plain, centred = (
        distances(_pairs(found, start)[-1], found(LAZIER)) ** 2 for start in ("plain", "centred")
    )
    ratio = distance_ratio(plain, centred)
    return Estimate(-ratio.value, ratio.stderr, ratio.count)


RATE = ex.claim(
    "rate",
    "The distance of the outputs of one network from the limit falls like $H^{-1/2}$.",
    _rate,
    prediction=-0.5,
    tol=0.1,
    rivals=(
        ex.Rival("as the bias alone, exponent -1", -1.0),
        ex.Rival("exponent -3/4", -0.75),
        ex.Rival("exponent -1/4", -0.25),
    ),
)
OUTPUTS = ex.Claims(
    "predictions",
    lambda found, at: (
        f"Outputs, extrapolated from $H$ in {found.config.largest}, are those of the limit (mean "
        "over evaluations, inputs and classes, with the signs of the limit's last ones)."
    ),
    estimate=lambda found, at: _predictions(found, found(LIMIT)),
    prediction=0.0,
    tol=lambda config, at: config.tol,
    over=ex.alone,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "features that do not move",
            estimate=lambda found, at: _predictions(found, found(LIMIT).frozen()),
        ),
        ex.Rival[Config, ex.Alone](
            "the squared error of one-hot labels",
            estimate=lambda found, at: _predictions(found, found(SQUARED)),
        ),
    ),
    decided_by="standard",
)
LOSS = ex.Claims(
    "loss",
    "The cross-entropy of networks, extrapolated alike, is that of the limit (mean over "
    "evaluations after the first).",
    estimate=lambda found, at: _loss_gap(found, found(LIMIT).predictions),
    prediction=0.0,
    tol=0.01,
    over=ex.alone,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "features that do not move",
            estimate=lambda found, at: _loss_gap(found, found(LIMIT).lazy),
        ),
        ex.Rival("the smallest networks, as if they were infinite", estimate=_smallest),
    ),
    decided_by="standard",
)
ACCURACY = ex.claim(
    "accuracy",
    "At the end the largest networks class as many digits right as the limit (difference).",
    _accuracy,
    prediction=0.0,
    tol=0.02,
    rivals=(ex.Rival("chance", _chance),),
)
CENTRING = ex.Claims(
    "centring",
    lambda found, at: (
        f"At $\\gamma_0 = {found.config.lazier:g}$ and $H = {found.config.pair[-1]}$, networks "
        "whose start is subtracted are closer to the limit: their mean squared distance is "
        f"smaller by a factor of at least {GAIN:g} (compared with a minus sign)."
    ),
    estimate=lambda found, at: _centring(found),
    prediction=-GAIN,
    tol=0.0,
    over=ex.alone,
    one_sided=True,
    rivals=(ex.Rival("no gain", -1.0), ex.Rival("a factor of two", -2.0)),
)
CENTRED = ex.Claims(
    "centred",
    "Their outputs, extrapolated from both sizes, are those of the same limit.",
    estimate=lambda found, at: extrapolated_gap(
        _pairs(found, "centred"), found(LAZIER), "predictions"
    ),
    prediction=0.0,
    tol=lambda config, at: config.tol,
    over=ex.alone,
    rivals=(
        ex.Rival[Config, ex.Alone](
            "the limit at the larger $\\gamma_0$",
            estimate=lambda found, at: extrapolated_gap(
                _pairs(found, "centred"), found(LIMIT), "predictions"
            ),
        ),
    ),
    decided_by="standard",
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    theory = accuracies(found(LIMIT).predictions, found.config.data()[1])
    for one in _networks(found, found.config.ends):
        for t, values in enumerate(one.accuracy.T):
            stderr = float(values.std(ddof=1) / len(values) ** 0.5)
            yield (one.heads, t, float(values.mean()), 2 * stderr, float(theory[t]))


def _courses(found: ex.Found[Config]) -> Iterator[figures.Row]:
    labels = found.config.data()[1]
    theory, lazy = (losses(f, labels) for f in (found(LIMIT).predictions, found(LIMIT).lazy))
    for one in _networks(found, found.config.ends):
        for t, values in enumerate(one.loss.T):
            error = 2 * float(values.std(ddof=1)) / len(values) ** 0.5
            yield (one.heads, t, float(values.mean()), error, float(theory[t]), float(lazy[t]))


COURSE = ex.Figure[Config](
    name="loss",
    title="Cross-entropy of networks and of the limit",
    caption="Means over {seeds} networks of each size with two standard errors, the limit, and the "
    "limit whose features do not move (dashed).",
    columns=("heads", "updates", "networks", "two standard errors", "limit", "lazy"),
    rows=_courses,
    x="updates",
    panels="heads",
    layers=(
        figures.points("networks", "two standard errors", label="networks"),
        figures.line("limit", label="limit", series=None, joined=True),
        figures.line("lazy", label="features that do not move", series=None, dash="4 3"),
    ),
    ylabel="cross-entropy in nats",
    size=(9.0, 4.0),
)
RIGHT = ex.Figure[Config](
    name="accuracy",
    title="Accuracy of networks and of the limit",
    caption="Share of digits that are classed right: means over {seeds} networks of each size with "
    "two standard errors, and the limit. Where $k$ outputs are the largest, as at the start of the "
    "limit, $1/k$ counts.",
    columns=("heads", "updates", "networks", "two standard errors", "limit"),
    rows=_rows,
    x="updates",
    panels="heads",
    layers=(
        figures.points("networks", "two standard errors", label="networks"),
        figures.line("limit", label="limit", series=None, joined=True),
    ),
    ylabel="accuracy",
    size=(9.0, 4.0),
)

EXPERIMENT = ex.Experiment[Config](
    name="bordelon2024/dmft-cross-entropy",
    title="Networks in the number of heads under cross-entropy, and their limit",
    question="Do networks under cross-entropy approach the limit of many heads?",
    summary="Transformers of $H$ heads learn three classes of digits under cross-entropy. Their "
    "distance from the limit, solved in one causal pass, falls like $H^{-1/2}$, and outputs and "
    "loss, extrapolated in $1/H$, are the limit's. Where training is nearly lazy, networks whose "
    "start is subtracted are much closer to it.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            samples=1000,
            neurons=2000,
            populations=4,
            sizes=(8, 16, 32),
            seeds=800,
            pair=(16, 32),
            pair_seeds=300,
            tol=0.03,
        ),
        "standard": Config(
            inputs=9,
            steps=10,
            samples=2000,
            neurons=4000,
            sizes=(8, 16, 32, 64),
            seeds=3000,
            at_once=1000,
        ),
        "paper": Config(
            inputs=20,
            classes=10,
            layers=2,
            steps=12,
            samples=4000,
            neurons=8000,
            sizes=(16, 32, 64, 128),
            seeds=4000,
            pair=(64, 128),
            at_once=200,
        ),
    },
    parts=(LIMIT, SQUARED, LAZIER, NETWORKS, PAIRS),
    claims=(RATE, OUTPUTS, LOSS, ACCURACY, CENTRING, CENTRED),
    figures=(COURSE, RIGHT),
    finding=ex.Finding(
        "Under cross-entropy one network's outputs approach the limit with the exponent {0} in "
        "$H$; the loss of networks, extrapolated, lies {1} from that of the limit",
        ("rate", "loss"),
    ),
)
