r"""Two routes to the loss of infinitely many heads: from finite networks, and from the theory.

Networks of H heads learn a few inputs by full-batch gradient descent. Their log losses, averaged
over starts, are extrapolated in 1 / H; the dynamical mean-field theory computes the loss of
infinitely many heads and knows no network. Both carry errors: of seeds and of the unknown series
here, of sampled heads there.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "From small runs to the
infinite network" and "Training dynamics".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import translimit.experiments as ex
from translimit import core, extrapolate, figures
from translimit.core import ConfigError, Estimate
from translimit.experiments.bordelon2024.growing_networks import (
    PARTS,
    Config,
    limit,
    networks,
    other,
)
from translimit.experiments.bordelon2024.limit_and_networks import Limit


@dataclass(frozen=True)
class Routes:
    """Log losses after 1, 2, ... updates by both routes.

    Attributes:
        networks: extrapolated along heads.
        theory: of the limit.
        theory_error: of its sampled heads.
    """

    networks: extrapolate.Predicted
    theory: np.ndarray
    theory_error: np.ndarray


def routes(found: ex.Found[Config]) -> Routes:
    """The infinite curve by both routes; the loss before the first update is left out."""
    config, told = found.config, limit(found)
    runs = [one.loss[:, 1:] for one in networks(found, config.sizes)]
    if not all(np.isfinite(one).all() for one in runs) or not np.isfinite(told.loss).all():
        raise ConfigError("eta0", "networks or the limit diverged", "pass a smaller one")
    curves = extrapolate.Curves.from_arrays(
        {config.axis: config.sizes}, np.array(runs), np.arange(1, config.steps), paired=False
    )
    fitted = extrapolate.fit(curves, rate="1")
    answer = fitted.series[0].at(np.array([np.inf]))
    predicted = extrapolate.Predicted(
        {config.axis: np.inf},
        fitted.steps,
        (1.0,),
        answer.value[None],
        answer.error[None],
        answer.seed_error[None],
        fitted.series[0].means[-1],
        config.seeds,
    )
    return Routes(predicted, np.log(told.loss[1:]), _log_error(config, told)[1:])


def _log_error(config: Config, told: Limit) -> np.ndarray:
    """What the errors of the limit's predictions do to its log loss; entries move together."""
    _, targets = config.data()
    rest = np.abs(told.predictions - targets.reshape(len(targets), -1))
    moved = (rest * told.predictions_stderr).sum(axis=-1).mean(axis=-1)
    return moved / told.loss


def _gap(found: ex.Found[Config], theory: np.ndarray) -> Estimate:
    """Networks minus a theory, mean over updates; errors of one course move together."""
    told = found.once(routes)
    one = told.networks
    away = float((one.log_loss[0] - theory).mean())
    seeds = float(np.hypot(one.seed_error[0], told.theory_error).mean())
    return Estimate(away, seeds, one.seeds, float(one.misspecification[0].mean()))


def _smallest_gap(found: ex.Found[Config]) -> Estimate:
    """The smallest networks, taken for the infinite one."""
    told = found.once(routes)
    logs = np.log(networks(found, found.config.sizes[:1])[0].loss[:, 1:]).mean(axis=1)
    error = float(np.hypot(core.standard_error(logs), told.theory_error.mean()))
    return Estimate(float(logs.mean() - told.theory.mean()), error, len(logs))


def _lazy(found: ex.Found[Config]) -> np.ndarray:
    """Log loss where features do not move."""
    told = limit(found)
    _, targets = found.config.data()
    square = (told.lazy - targets.reshape(len(targets), -1)) ** 2
    return np.log(square.sum(axis=-1).mean(axis=-1) / 2)[1:]


CLAIMS = (
    ex.claim(
        "loss",
        "The log loss of infinitely many heads, extrapolated from finite networks, is that of the "
        "mean-field theory (mean over updates).",
        estimate=lambda found: _gap(found, found.once(routes).theory),
        prediction=0.0,
        tol=0.02,
        rivals=(
            ex.Rival[Config, ex.Alone](
                "the smallest networks as they are",
                estimate=lambda found, at: _smallest_gap(found),
            ),
            ex.Rival[Config, ex.Alone](
                "features that do not move",
                estimate=lambda found, at: _gap(found, _lazy(found)),
            ),
            ex.Rival[Config, ex.Alone](
                "without the response $R^v$ of heads",
                estimate=lambda found, at: _gap(found, np.log(other(found, "R_v").loss)[1:]),
                when=lambda config, at: "R_v" in config.without,
            ),
        ),
        decided_by="standard",
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    told = found.once(routes)
    runs = networks(found, found.config.sizes)
    for place, step in enumerate(told.networks.steps):
        one = told.networks
        yield (
            int(step),
            float(np.exp(told.theory[place])),
            float(one.loss[place]),
            float(one.low[place]),
            float(one.high[place]),
            float(np.exp(np.log(runs[0].loss[:, place + 1]).mean())),
            float(np.exp(np.log(runs[-1].loss[:, place + 1]).mean())),
        )


LOSS = ex.Figure(
    name="loss",
    title="The loss of infinitely many heads by two routes",
    caption="Extrapolated from networks of finite heads (band of two errors), and solved in the "
    "limit (line); the smallest and the largest networks beside them.",
    columns=(
        *("updates", "theory", "extrapolated", "low", "high"),
        *("smallest networks", "largest networks"),
    ),
    rows=_rows,
    x="updates",
    layers=(
        figures.band("low", "high", label="extrapolated, two errors"),
        figures.points("extrapolated", label="extrapolated"),
        figures.line("theory", label="theory", series=None),
        figures.points("smallest networks", label="smallest networks", series=1, joined=True),
        figures.points("largest networks", label="largest networks", series=2, joined=True),
    ),
    xlabel="updates",
    ylabel="loss",
    log="y",
)

EXPERIMENT = ex.Experiment(
    name="extrapolate/dmft",
    title="The loss of infinitely many heads, extrapolated and solved",
    question="Do extrapolated networks reach the solved loss of infinitely many heads?",
    summary="Two independent routes to one number: the loss curve of infinitely many heads as "
    "networks of 8 to 64 heads tell it, extrapolated in $1/H$, and as the dynamical mean-field "
    "theory computes it.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            task="synthetic",
            inputs=2,
            tokens=2,
            dim=8,
            steps=8,
            samples=1000,
            populations=6,
            sizes=(4, 8, 16, 32),
            seeds=3000,
            without=("R_v",),
        ),
        "standard": Config(steps=7, populations=64, seeds=40_000, at_once=2000, without=("R_v",)),
        "paper": Config(
            sizes=(8, 16, 32, 64, 128),
            inputs=8,
            steps=20,
            seeds=10_000,
            at_once=1000,
            without=("R_v",),
        ),
    },
    parts=PARTS,
    claims=CLAIMS,
    figures=(LOSS,),
    finding=ex.Finding(
        "The log loss of infinitely many heads, extrapolated from finite networks, lies {0} "
        "from that of the mean-field theory",
        ("loss",),
    ),
)
