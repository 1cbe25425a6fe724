r"""Energies along Bures geodesics: two examples, random draws, and clouds.

The ends of the examples commute, so that the curvature of OT has a closed form there. Curvatures
are measured by second differences of fourth order.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import attention, limits, observe
from translimit.experiments.checked import CheckedConfig, Count, Two

#: The ends of the geodesic of the examples; they commute.
COV0, COV1 = np.array([[1.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.9], [-0.9, 1.0]])
EXAMPLES = {"definite": np.eye(2), "indefinite": np.diag([1.0, -1.0])}
ENERGIES = ("score", "transport")
#: Step of second differences, places of the figure, and curvatures that are rounding.
STEP, PLACES, NOISE = 2e-3, 21, 1e-7


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the study.

    Attributes:
        draws: random pairs of covariances, for semidefinite and for indefinite A.
        tokens: of the clouds.
        clouds: pairs of clouds.
    """

    draws: Two = 2000
    tokens: Count = 40
    clouds: Two = 6


@dataclass(frozen=True)
class Example(ex.Arrays):
    """Energies along the geodesic, their curvature in the middle, and that of wrong theories."""

    place: Annotated[Float[np.ndarray, " place"], "place on the geodesic"]
    values: Float[np.ndarray, "energy place"]
    measured: Annotated[Float[np.ndarray, " energy"], "second difference in the middle"]
    straight: Annotated[Float[np.ndarray, " energy"], "the same along the straight line"]
    predicted: Float[np.ndarray, " energy"]
    without_second: Annotated[Float[np.ndarray, " energy"], "the closed forms' first terms"]


@dataclass(frozen=True)
class Draws(ex.Arrays):
    """Curvatures of G (second differences, closed form) and OT, relative to their sizes."""

    score: Float[np.ndarray, " draw"]
    formula: Float[np.ndarray, " draw"]
    straight: Float[np.ndarray, " draw"]
    transport: Float[np.ndarray, " draw"]


@dataclass(frozen=True)
class Clouds(ex.Arrays):
    """Second differences of OT along displacement interpolations of clouds."""

    definite: Float[np.ndarray, "cloud place"]
    indefinite: Float[np.ndarray, "cloud place"]


def _energy(name: str, A: np.ndarray, cov: np.ndarray) -> float:
    if name == "score":
        return limits.meanfield.score_energy(A, cov)
    return observe.gaussian_self_transport(A, cov)


def _curvature(energy: Callable[[float], float], t: float) -> float:
    """A second difference, of fourth order."""
    values = [energy(t + k * STEP) for k in (-2, -1, 0, 1, 2)]
    return float(np.dot([-1, 16, -30, 16, -1], values)) / (12 * STEP**2)


def _straight(t: float) -> np.ndarray:
    return (1.0 - t) * COV0 + t * COV1


def compute_example(config: Config, name: str, keys: ex.Keys) -> Example:
    """Along the geodesic of the examples."""
    A, places = EXAMPLES[name], np.linspace(0.0, 1.0, PLACES)
    paths = {
        True: lambda t: limits.meanfield.bures_geodesic(COV0, COV1, float(t)),
        False: _straight,
    }
    curved, straight = (
        [_curvature(lambda t, e=e, path=path: _energy(e, A, path(t)), 0.5) for e in ENERGIES]
        for path in paths.values()
    )
    score, transport = _score_terms(A), _transport_terms(name)
    return Example(
        place=places,
        values=np.array([[_energy(e, A, paths[True](t)) for t in places] for e in ENERGIES]),
        measured=np.array(curved),
        straight=np.array(straight),
        predicted=np.array(
            [limits.meanfield.score_energy_curvature(A, COV0, COV1, 0.5), sum(transport)]
        ),
        without_second=np.array([score, transport[0]]),
    )


def _score_terms(A: np.ndarray) -> float:
    """The first term of the closed form of G'' in the middle, where B = (I + T) / 2."""
    T = limits.meanfield.optimal_map(COV0, COV1)
    B, C = (np.eye(2) + T) / 2, T - np.eye(2)
    N = (C @ A @ B + B @ A @ C) @ COV0
    return float(np.trace(N @ N)) / 2


def _transport_terms(name: str) -> tuple[float, float]:
    r"""Both terms of OT'' in the middle, -d'(b) b'^2 and -d(b) b'' summed over the strengths b.

    The covariances commute: with the deviations s_1, s_2 linear in t, b is s_1^2, s_2^2 for A = I
    and s_1 s_2, twice, for diag(1, -1), which exchanges the axes. dOT/db = -d(b).
    """
    ends = np.sqrt([1.9, 0.1])
    middle, slope = np.full(2, ends.mean()), np.array([ends[1] - ends[0], ends[0] - ends[1]])
    if name == "definite":
        b, first, second = middle**2, 2 * middle * slope, 2 * slope**2
    else:
        b, first = np.full(2, middle.prod()), np.full(2, middle @ slope[::-1])
        second = np.full(2, 2 * slope.prod())
    root = np.sqrt(1 + 4 * b**2)
    d, bent = 2 * b / (1 + root), 2 / (root * (1 + root))
    return float(-(bent * first**2).sum()), float(-(d * second).sum())


def compute_draws(config: Config, kind: str, keys: ex.Keys) -> Draws:
    """Random pairs in two and three dimensions."""
    import jax

    with jax.enable_x64(True):
        shape = (config.draws, 3, 3, 3)
        normal = np.asarray(jax.random.normal(keys.own, shape, dtype=np.float64))
    return Draws(*np.array([_one(kind, one, 2 + i % 2) for i, one in enumerate(normal)]).T)


def _one(kind: str, normal: np.ndarray, dim: int) -> list[float]:
    """Curvatures of one draw at a third of its geodesic, relative to the energies' changes."""
    first, second, third = normal[:, :dim, :dim]
    # Not too near to singular, where second differences lose their digits.
    cov0, cov1 = (one @ one.T + 0.1 * np.eye(dim) for one in (first, second))
    A = third @ third.T if kind == "definite" else (third + third.T) / 2
    A = A / np.linalg.norm(A)
    size = np.trace(cov0) * np.trace(cov1)

    def along(name: str, path: Callable[[float], np.ndarray]) -> float:
        return _curvature(lambda t: _energy(name, A, path(t)), 1 / 3)

    def geodesic(t: float) -> np.ndarray:
        return limits.meanfield.bures_geodesic(cov0, cov1, t)

    return [
        along("score", geodesic) / size,
        limits.meanfield.score_energy_curvature(A, cov0, cov1, 1 / 3) / size,
        along("score", lambda t: (1 - t) * cov0 + t * cov1) / size,
        along("transport", geodesic) / np.sqrt(size),
    ]


def compute_clouds(config: Config, at: ex.Alone, keys: ex.Keys) -> Clouds:
    """Uniform ellipses of the examples' ends, matched, and OT of what lies between."""
    import jax
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    shape, places = (config.clouds, 2, config.tokens, 2), np.linspace(0.0, 1.0, 9)
    with jax.enable_x64(True):
        unit = np.asarray(jax.random.uniform(keys.own, shape, np.float64, minval=-1.0))
    found: dict[str, list[np.ndarray]] = {name: [] for name in EXAMPLES}
    for start, end in np.sqrt(3.0) * unit:
        x, y = start @ np.linalg.cholesky(COV0).T, end @ np.linalg.cholesky(COV1).T
        y = y[linear_sum_assignment(cdist(x, y, "sqeuclidean"))[1]]
        for name, A in EXAMPLES.items():
            layer = attention.Sinkhorn(Q=A, K=np.eye(2), V=A, score_scale=1.0, tol=1e-11)
            values = []
            for t in places:
                potentials = layer.potentials((1 - t) * x + t * y)
                values.append(observe.self_transport(potentials.f, potentials.g))
            found[name].append(np.diff(values, 2) / (places[1] - places[0]) ** 2)
    return Clouds(**{name: np.array(rows) for name, rows in found.items()})


EXAMPLE = ex.Part(
    "example/{A}",
    Example,
    compute_example,
    grid=lambda c: tuple(EXAMPLES),
    cost=lambda c, at: ex.Cost(1.0),
)
DRAWS = ex.Part(
    "draws/{A}",
    Draws,
    compute_draws,
    grid=lambda c: tuple(EXAMPLES),
    cost=lambda c, at: ex.Cost(1.0 + 0.006 * c.draws),
)
CLOUDS = ex.Part(
    "clouds",
    Clouds,
    compute_clouds,
    grid=ex.alone,
    cost=lambda c, at: ex.Cost(6.0 + 2e-5 * c.clouds * c.tokens**2),
)
