"""What is read off covariances of the plane on their way: ends, limits, times and late rates.

Each measure is a function of `Paths`, one value a start, or the value of the start that lies
farthest from what is predicted. Wrong theories are read off the same paths.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import translimit.experiments as ex
from translimit import limits
from translimit.core import Estimate
from translimit.experiments.castin2025.plane import (
    SETTINGS,
    closure_matrices,
    decay_to_zero,
    far_out_turn,
    isotropic_directions,
    matrices,
)
from translimit.experiments.castin2025.plane_paths import PATHS, SCIPY_T1, Config, Paths

#: What is measured of a variant.
Measured = Callable[[ex.Found[Config], str], Estimate]


def worst(setting: str, value: Callable[[Paths], np.ndarray], around: float = 0.0) -> Measured:
    """The value of the start that lies farthest from a number; nothing is random."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        values = np.ravel(value(found(PATHS, (setting, variant))))
        if values.size == 0 or not np.isfinite(values).all():
            return Estimate(float("nan"), count=values.size)
        return Estimate(float(values[np.abs(values - around).argmax()]), count=values.size)

    return measured


def missed(setting: str, end: str) -> Measured:
    """The share of all starts that are not seen to end in one way; undecided ones among them."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        ends = found(PATHS, (setting, variant)).end
        return Estimate(float((ends != end).mean()), count=ends.size)

    return measured


def decay(factor: Callable[[str], float]) -> Measured:
    """The t tr Sigma farthest from the predicted one, over a multiple of that one."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        told = factor(variant) * decay_to_zero(variant)[0]
        products = found(PATHS, ("zero", variant)).last_trace * SETTINGS["zero"].t1 / told
        return Estimate(float(products[np.abs(products - 1.0).argmax()]), count=products.size)

    return measured


def decay_slope(variant: str) -> float:
    """The late logarithmic slope of det Sigma in the setting `zero`."""
    return decay_to_zero(variant)[1]


def slope(told: Callable[[str], float]) -> Measured:
    """The slope of det Sigma farthest from a predicted one, over it."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        return worst("zero", lambda p: p.slopes[:, -1].sum(axis=1) / told(variant), 1.0)(
            found, variant
        )

    return measured


def _from_lines(angles: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Angles to the nearest of some lines, in degrees."""
    distance = np.abs(angles[:, None] - lines) % 180.0
    return np.minimum(distance, 180.0 - distance).min(axis=1)


def of_lines(lines: Callable[[], np.ndarray]) -> Callable[[Paths], np.ndarray]:
    """Angles of limits of rank one to the nearest of some lines."""
    return lambda paths: _from_lines(paths.angle[paths.end == "line"], lines())


def one_line(paths: Paths) -> np.ndarray:
    """The same, for one of the isotropic lines alone: the better one."""
    angles = paths.angle[paths.end == "line"]
    both = [_from_lines(angles, isotropic_directions()[[k]]) for k in range(2)]
    return min(both, key=lambda one: one.max(initial=0.0))


def axes() -> np.ndarray:
    """The angles of the axes of A + A^T."""
    (_, A), *_ = closure_matrices("two-lines", "softmax")
    axes = np.linalg.eigh(A + A.T)[1]
    return np.degrees(np.arctan2(axes[1], axes[0])) % 180.0


def limit_error(
    rule: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[Paths], np.ndarray]:
    """Distances of the ends of `line` from what a rule makes of the unit query and the starts."""

    def distances(paths: Paths) -> np.ndarray:
        query = matrices("line")[0][0]
        told = np.array([rule(query, start) for start in paths.cov[:, 0]])
        return np.linalg.norm(paths.cov[:, -1] - told, axis=(1, 2))

    return distances


def exact_line(query: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """The limit F (I - P) F of a start F^2."""
    return limits.meanfield.identity_limit(query[None], cov)


def projected(query: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """The start, projected on the line."""
    keep = np.eye(2) - np.outer(query, query)
    return keep @ cov @ keep


def whole_trace(query: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """All of the trace on the line."""
    return np.trace(cov) * (np.eye(2) - np.outer(query, query))


def time_error(told: Callable[[Paths], np.ndarray]) -> Callable[[Paths], np.ndarray]:
    """Relative errors of predicted blow-up times."""
    return lambda paths: np.abs(paths.blow_up_time / told(paths) - 1.0)


def exact_times(paths: Paths) -> np.ndarray:
    """Blow-up times in closed form."""
    assert paths.exact_time is not None
    return paths.exact_time


def isotropic_times(paths: Paths) -> np.ndarray:
    """One over lambda_max(A + A^T) tr Sigma_0, whose starts have trace one."""
    (_, A), *_ = closure_matrices("divergence", "softmax")
    return np.full(len(paths.end), 1.0 / np.linalg.eigvalsh(A + A.T)[-1])


def _late_rate(paths: Paths) -> np.ndarray:
    """Logarithmic growth of the trace between the last two times kept."""
    logs = np.log(np.trace(paths.cov, axis1=-2, axis2=-1))
    last = _last(paths)
    rows = np.arange(len(logs))
    return (logs[rows, last] - logs[rows, last - 1]) / (paths.time[last] - paths.time[last - 1])


def _last(paths: Paths) -> np.ndarray:
    """The last time kept before a path ends."""
    return np.isfinite(paths.cov).all(axis=(-1, -2)).sum(axis=1) - 1


def turn(paths: Paths) -> np.ndarray:
    """The angle by which tokens are turned at the last time kept, by the law far out."""
    Q, K, _ = matrices("divergence")
    return far_out_turn(K.T @ Q, paths.cov[np.arange(len(paths.cov)), _last(paths)])


def rate_error(told: Callable[[Paths], np.ndarray | float]) -> Callable[[Paths], np.ndarray]:
    """Distances of late growth rates from predicted ones."""
    return lambda paths: np.abs(_late_rate(paths) - told(paths))


def turned_rate(paths: Paths) -> np.ndarray:
    """The growth rate of covariances whose tokens are turned: M Sigma + Sigma M^T, over Sigma."""
    return 2.0 * np.cos(turn(paths))


def differ(belief: Callable[[Paths], np.ndarray]) -> Measured:
    """The share of the starts of `depends` of which a belief says wrongly whether they blow up."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        paths = found(PATHS, ("depends", variant))
        differ = (paths.blow_up_time < SCIPY_T1) != belief(paths)
        return Estimate(float(differ.mean()), count=differ.size)

    return measured


def by_scipy(paths: Paths) -> np.ndarray:
    """Whether a start blows up, by SciPy."""
    assert paths.scipy_time is not None
    return np.isfinite(paths.scipy_time)


def off_line(paths: Paths) -> np.ndarray:
    """Whether a start neither blows up nor ends on an isotropic line."""
    on = (paths.end == "line") & (_from_lines(paths.angle, isotropic_directions()) < 0.1)
    return np.array([(~on & (paths.end != "blow-up")).mean()])
