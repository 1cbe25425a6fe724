r"""Finite transformers approach their training dynamics in the limit, as one of their sizes grows.

`translimit dmft CONFIG` runs this experiment. What grows is the configuration's choice:

- `axis="heads"`: H grows, the limit has infinitely many heads;
- `axis="head_dim"`: N grows at fixed H and alpha_A = 1, the limit has infinite head dimension;
- `axis="layers"`: L grows at alpha_L = 1, and H in proportion; the limit is the depth ODE;
- `axis="none"`: nothing, the limit is solved alone.

With E f_n = f + b / n + c / n^2 and Var f_n = v / n in the size n,

- a single network's squared distance falls like 1 / n,
- the mean over seeds, extrapolated from three sizes, is the limit within its error,
- so is the residual kernel, and the law of attention over heads.

Distances are averaged over evaluations and inputs before errors are taken: entries of one network
are nearly one common mode. Other theories must miss the same networks: features that do not move
(the lazy limit), limits without one of the responses in `without`, another depth.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

import translimit.experiments as ex
from translimit import core
from translimit.core import Estimate
from translimit.experiments.bordelon2024.growing_networks import (
    PARTS,
    RESPONSES,
    Config,
    fitted_rate,
    limit,
    networks,
    other,
)
from translimit.experiments.bordelon2024.growing_networks_figures import FIGURES
from translimit.experiments.bordelon2024.language_figures import ACCURACY, POSITIONS
from translimit.experiments.bordelon2024.limit_and_networks import (
    Limit,
    coordinate,
    extrapolated_gap,
    spread,
    spread_gap,
)
from translimit.experiments.bordelon2024.own_problem import OwnProblem

#: The 10-90 % spread of a Gaussian over its standard deviation.
GAUSSIAN_SPREAD = 2.5631031310892007
#: A quantity that is compared.
Quantity = Literal["predictions", "kernel"]
#: Other theories by name, and what they do otherwise.
THEORIES = {
    "lazy": "features that do not move",
    **{name: f"without the response $R^{name[-1]}$" for name in RESPONSES},
    "finite-depth": "the limit as deep as the smallest network",
}


def _gap(found: ex.Found[Config], theory: Limit, name: Quantity) -> Estimate:
    return extrapolated_gap(networks(found, found.config.largest), theory, name)


def _missed(theory: str, name: Quantity) -> ex.Rival[Config, ex.Alone]:
    """Another theory, compared with the same networks."""
    return ex.Rival(
        THEORIES[theory],
        estimate=lambda found, at: _gap(found, other(found, theory), name),
        when=lambda config, at: (
            (theory == "lazy" and (name == "kernel" or config.has_lazy_limit))
            or theory in config.theories
        ),
    )


def _unmoved(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """The gap of predictions where networks keep those of the start."""
    start = limit(found)
    first = np.broadcast_to(start.predictions[:1], start.predictions.shape)
    return _gap(found, replace(start, predictions=first), "predictions")


def _spread(found: ex.Found[Config], gaussian: bool) -> float:
    """What another law of the score says, relative to the limit's 10-90 % spread at the end."""
    score = limit(found).score
    wrong = GAUSSIAN_SPREAD * score[-1].std() if gaussian else spread(score[0])
    return float(wrong) / spread(score[-1]) - 1


def _where(holds: Callable[[Config], bool]) -> Callable[[Config], Sequence[ex.Alone]]:
    """The grid of claims that only some configurations have."""
    return lambda config: ex.alone(config) if holds(config) else ()


RATE = ex.Claims(
    "rate",
    lambda found, at: (
        "The distance of one network's predictions from the limit falls like "
        f"${found.config.symbol}^{{-1/2}}$."
    ),
    estimate=lambda found, at: found.once(fitted_rate).estimate(),
    prediction=-0.5,
    tol=0.1,
    over=_where(lambda c: c.axis in ("heads", "head_dim")),
    rivals=(
        ex.Rival("as the bias alone, exponent -1", -1.0),
        ex.Rival("exponent -3/4", -0.75),
        ex.Rival("exponent -1/4", -0.25),
    ),
)
#: The bias of order 1 / L adds to the fluctuations.
RATE_IN_LAYERS = replace(
    RATE,
    statement="The distance of one network's predictions from the limit falls at least like "
    "$L^{-1/2}$.",
    one_sided=True,
    over=_where(lambda c: c.axis == "layers"),
    rivals=(ex.Rival("another limit", 0.0), ex.Rival("exponent -1/4", -0.25)),
)
PREDICTIONS = ex.Claims(
    "predictions",
    lambda found, at: (
        f"Predictions, extrapolated from ${found.config.symbol}$ in {found.config.largest}, are "
        "those of the limit (mean over evaluations and inputs, towards the targets)."
    ),
    estimate=lambda found, at: _gap(found, limit(found), "predictions"),
    prediction=0.0,
    tol=lambda config, at: config.tol,
    over=_where(lambda c: c.axis != "none"),
    rivals=(
        *(_missed(theory, "predictions") for theory in ("lazy", "R_v", "finite-depth")),
        ex.Rival(
            "networks that do not learn",
            estimate=_unmoved,
            when=lambda config, at: not config.has_lazy_limit,
        ),
    ),
)
AWAY = ex.Claims(
    "away-{theory}",
    lambda found, theory: (
        "The course of training of networks, extrapolated alike, lies on the limit (0), not on "
        f"another theory (1), {THEORIES[theory]}: coordinate along their difference, weighted by "
        "the scatter of networks."
    ),
    estimate=lambda found, theory: coordinate(
        networks(found, found.config.largest), limit(found), other(found, theory)
    ),
    prediction=0.0,
    tol=0.3,
    over=lambda c: c.theories if c.axis != "none" else (),
    rivals=(ex.Rival("the other theory", 1.0), ex.Rival("its opposite", -1.0)),
)
#: Kernels of the depth ODE are those of its cells, not extrapolated.
KERNEL = ex.Claims(
    "kernel",
    "So is the pooled residual kernel $\\langle \\bar m \\bar m \\rangle$ (mean over evaluations "
    "and inputs, relative).",
    estimate=lambda found, at: _gap(found, limit(found), "kernel"),
    prediction=0.0,
    tol=lambda config, at: config.tol,
    over=_where(lambda c: c.axis in ("heads", "head_dim")),
    rivals=tuple(_missed(theory, "kernel") for theory in ("lazy", "R_v", "R_h")),
    decided_by="standard",
)
ATTENTION = ex.Claims(
    "attention",
    lambda found, at: (
        "After training, the 10-90 % spread of a score over heads at "
        f"$H = {found.config.sizes[-1]}$ is that of the limit (relative difference)."
    ),
    estimate=lambda found, at: spread_gap(
        networks(found, found.config.sizes[-1:])[0], limit(found)
    ),
    prediction=0.0,
    tol=0.05,
    over=_where(lambda c: c.axis == "heads"),
    rivals=(
        ex.Rival[Config, ex.Alone](
            "a Gaussian of the same variance", lambda found, at: _spread(found, True)
        ),
        ex.Rival[Config, ex.Alone]("the law of the start", lambda found, at: _spread(found, False)),
    ),
    decided_by="standard",
)


#: Windows of eight bytes of English prose: does a word end here? A decoder with an MLP.
_TEXT = OwnProblem(
    task="text",
    inputs=4,
    tokens=8,
    dim=16,
    mlp="tanh",
    causal=True,
    beta0=1.0,
    # Rich, so that the law of scores moves: at 1 its spread differs from that of the start by 2 %.
    gamma0=3.0,
    eta0=0.1,
    steps=10,
    samples=3000,
    neurons=6000,
    populations=6,
    sizes=(8, 16, 32),
    # As in `dmft-heads`, to 0.0065 of the kernel.
    seeds=16_000,
    at_once=4000,
    tol=0.03,
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/dmft-networks",
    title="Networks of growing size against their training dynamics in the limit, on any data",
    question="Does the limit hold on data of your own?",
    summary="Any data and any architecture of the theory, given by the configuration: networks "
    "whose heads, head dimension or layers grow, and the limit, solved in one causal pass. The "
    "presets learn whether a word of English prose ends after eight bytes; translimit dmft "
    "CONFIG runs it on a file of your own, language models among them.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": OwnProblem(
            task="synthetic",
            inputs=2,
            tokens=2,
            dim=8,
            steps=8,
            samples=1000,
            populations=6,
            sizes=(8, 16, 32),
            seeds=6000,
            without=("R_v",),
        ),
        "standard": _TEXT,
        "paper": replace(
            _TEXT,
            inputs=8,
            layers=2,
            norm="rms",
            gamma0=1.0,
            steps=16,
            samples=4000,
            neurons=8000,
            populations=8,
            sizes=(8, 16, 32, 64, 128),
            seeds=10_000,
            at_once=1000,
            tol=0.02,
        ),
    },
    parts=PARTS,
    claims=(RATE, RATE_IN_LAYERS, PREDICTIONS, AWAY, KERNEL, ATTENTION),
    figures=(*FIGURES, POSITIONS, ACCURACY),
    finding=ex.Finding(
        "One network's predictions approach the limit with the exponent {0}, and those "
        "extrapolated in the size lie {1} from it",
        ("rate", "predictions"),
    ),
)
