r"""Energies of closures along Bures geodesics: convex, concave, or neither.

Softmax with V = -A descends G = tr(A Sigma A Sigma) / 4 on centred covariances, Sinkhorn with V = A
half the entropic self-transport OT. Along the W_2 geodesic of Gaussians G is convex and OT concave
where A is semidefinite; where A is indefinite both signs occur (`limits.meanfield`, geodesics). Two
examples with their values, random draws of every sign, and OT of clouds that are not Gaussian
(`bures_parts`).

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.castin2025.bures_parts import (
    CLOUDS,
    DRAWS,
    ENERGIES,
    EXAMPLE,
    EXAMPLES,
    NOISE,
    Config,
)
from translimit.experiments.castin2025.rank_draws import share

#: Which sign a semidefinite A forbids.
FORBIDDEN = {"score": -1.0, "transport": 1.0}
WORDS = {"score": "$G$ is convex", "transport": "OT is concave"}
Point = tuple[str, str]


def _example(field: str) -> Callable[[ex.Found[Config], Point], float]:
    """A curvature of an example."""

    def told(found: ex.Found[Config], at: Point) -> float:
        return float(getattr(found(EXAMPLE, at[1]), field)[ENERGIES.index(at[0])])

    return told


def _definite_value(found: ex.Found[Config], at: Point) -> float:
    return _example("predicted")(found, (at[0], "definite"))


def _share(kind: str, sign: float) -> Callable[[ex.Found[Config], str], Estimate]:
    """The share of the draws whose curvature has a sign times the forbidden one."""

    def measured(found: ex.Found[Config], energy: str) -> Estimate:
        curvature = getattr(found(DRAWS, kind), energy)
        return share(sign * FORBIDDEN[energy] * curvature > NOISE)

    return measured


def _occurs(found: ex.Found[Config], energy: str) -> Estimate:
    both = _share("indefinite", 1.0)(found, energy)
    return Estimate(-both.value, both.stderr, both.count)


def _formula(factor: float) -> Callable[..., Estimate]:
    """The largest distance of G'' from a multiple of its closed form, over all draws."""

    def measured(found: ex.Found[Config], at: object = None) -> Estimate:
        gaps = [np.abs(one.score - factor * one.formula) for _, one in found.each(DRAWS)]
        return Estimate(float(np.max(gaps)), count=int(np.size(gaps)))

    return measured


def _line(found: ex.Found[Config], at: object) -> Estimate:
    gaps = [np.abs(one.straight - one.formula) for _, one in found.each(DRAWS)]
    return Estimate(float(np.max(gaps)), count=int(np.size(gaps)))


def _clouds(kind: str, sign: float) -> Callable[..., Estimate]:
    """The largest second difference of OT times a sign, over pairs of clouds and places."""

    def measured(found: ex.Found[Config], at: object = None) -> Estimate:
        bent = sign * getattr(found(CLOUDS), kind)
        return Estimate(float(bent.max()), count=bent.size, discretisation=1e-6)

    return measured


CLAIMS = (
    ex.Claims(
        "{energy}-{A}",
        lambda found, at: (
            f"$A = {'I' if at[1] == 'definite' else 'diag(1, -1)'}$: the second derivative of "
            f"{'$G$' if at[0] == 'score' else 'OT'} halfway along a geodesic has its closed form."
        ),
        estimate=lambda found, at: Estimate(_example("measured")(found, at), discretisation=1e-6),
        prediction=_example("predicted"),
        tol=1e-4,
        over=lambda c: [(energy, A) for energy in ENERGIES for A in EXAMPLES],
        rivals=(
            ex.Rival("along the straight line", _example("straight")),
            ex.Rival("the first term alone", _example("without_second")),
            ex.Rival("times 1.1", lambda found, at: 1.1 * _example("predicted")(found, at)),
            ex.Rival(
                "the value of A = I, whatever A",
                _definite_value,
                when=lambda config, at: at[1] == "indefinite",
            ),
        ),
    ),
    ex.claim(
        "formula",
        "$G'' = \\frac12\\mathrm{tr}(N\\Sigma_0 N\\Sigma_0) + \\mathrm{tr}(BAB\\Sigma_0 CAC"
        "\\Sigma_0)$ (largest gap over random draws, relative to the sizes of both ends).",
        _formula(1.0),
        0.0,
        1e-6,
        rivals=(
            ex.Rival("times 1.1", estimate=_formula(1.1)),
            ex.Rival("the straight line has the same", estimate=_line),
        ),
        one_sided=True,
    ),
    ex.Claims(
        "semidefinite-{energy}",
        lambda found, energy: (
            f"{WORDS[energy]} along geodesics where $A$ is semidefinite (share of the random draws "
            "with the other sign)."
        ),
        estimate=_share("definite", 1.0),
        prediction=0.0,
        tol=0.005,
        over=lambda c: ENERGIES,
        rivals=(
            ex.Rival("as often as for an indefinite A", estimate=_share("indefinite", 1.0)),
            ex.Rival("the other sign", estimate=_share("definite", -1.0)),
        ),
        one_sided=True,
    ),
    ex.Claims(
        "indefinite-{energy}",
        lambda found, energy: (
            f"Not so for an indefinite $A$: at least 1 % of the random draws have the other sign "
            f"than '{WORDS[energy]}' (minus their share)."
        ),
        estimate=_occurs,
        prediction=-0.01,
        tol=0.0,
        over=lambda c: ENERGIES,
        rivals=(ex.Rival("one sign for every A", 0.0),),
        one_sided=True,
    ),
    ex.claim(
        "clouds-concave",
        "OT of clouds that are not Gaussian is concave along displacement interpolations where "
        "$A = I$ (largest second difference over the step squared).",
        _clouds("definite", 1.0),
        0.0,
        1e-4,
        rivals=(
            ex.Rival("convex", estimate=_clouds("definite", -1.0)),
            ex.Rival("for every A: diag(1, -1)", estimate=_clouds("indefinite", 1.0)),
        ),
        one_sided=True,
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for name, one in found.each(EXAMPLE):
        for t, *values in zip(one.place.tolist(), *one.values.tolist(), strict=True):
            yield (name, t, *values)


GEODESIC = ex.Figure(
    name="geodesic",
    title="Energies along a geodesic",
    caption="The energy $G$ of softmax and the self-transport of Sinkhorn along the Bures geodesic "
    "between covariances with unit diagonals and $\\pm 0.9$ beside them: for $A = I$ (definite) "
    "$G$ is convex and OT concave, for $A = \\mathrm{{diag}}(1, -1)$ (indefinite) the other way "
    "round. Dimensionless; exact, without error bars.",
    columns=("A", "t", "G", "OT"),
    rows=_rows,
    layers=(
        figures.panel("Softmax", figures.line("G", label="{}"), ylabel="$G$"),
        figures.panel("Sinkhorn", figures.line("OT", label="{}"), ylabel="OT"),
    ),
    x="t",
    by="A",
    xlabel="place on the geodesic",
    size=(9.0, 3.6),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/bures-convexity",
    title="Energies of closures along geodesics",
    question="Are the energies of attention convex along geodesics of covariances?",
    summary="The flows of Gaussians under softmax and Sinkhorn attention descend energies on the "
    "space of covariances. Whether these are convex along its geodesics depends on the sign of "
    "$A$: one is convex, the other concave where $A$ is semidefinite, and neither has a sign "
    "otherwise.",
    citations=("castin2025", "jax"),
    reference=core.reference("castin2025"),
    presets={
        "demo": Config(),
        "standard": Config(draws=6000, clouds=24),
        "paper": Config(draws=20000),
    },
    parts=(EXAMPLE, DRAWS, CLOUDS),
    claims=CLAIMS,
    figures=(GEODESIC,),
    finding=ex.Finding(
        "Halfway along a geodesic with $A = I$ the second derivative of $G$ is {0}; with random"
        " semidefinite $A$ it is negative in a share of {1}",
        ("score-definite", "semidefinite-score"),
    ),
)
