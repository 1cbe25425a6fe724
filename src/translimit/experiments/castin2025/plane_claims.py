r"""What is claimed of covariances of the plane: their ends, and how they get there.

Predictions are closed forms, roots of algebraic equations, or SciPy's integration in covariance
form (see `plane`).

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
    isotropic_directions,
    matrices,
)
from translimit.experiments.castin2025.plane_paths import PATHS, SCIPY_T1, Config, Paths
from translimit.experiments.castin2025.script_kernel import KERNEL_CLAIMS

#: What is measured of a variant.
Measured = Callable[[ex.Found[Config], str], Estimate]


def _worst(setting: str, value: Callable[[Paths], np.ndarray], around: float = 0.0) -> Measured:
    """The value of the start that lies farthest from a number; nothing is random."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        values = np.ravel(value(found(PATHS, (setting, variant))))
        if values.size == 0 or not np.isfinite(values).all():
            return Estimate(float("nan"), count=values.size)
        return Estimate(float(values[np.abs(values - around).argmax()]), count=values.size)

    return measured


def _missed(setting: str, end: str) -> Measured:
    """The share of all starts that are not seen to end in one way; undecided ones among them."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        ends = found(PATHS, (setting, variant)).end
        return Estimate(float((ends != end).mean()), count=ends.size)

    return measured


def _each(
    name: str,
    said: str,
    estimate: Measured,
    tol: float,
    variants: tuple[str, ...],
    *rivals: ex.Rival[Config, str],
    prediction: float = 0.0,
    decided_by: str = "demo",
) -> ex.Claims[Config, str]:
    """One sentence of each variant."""
    return ex.Claims(
        name,
        lambda found, variant: f"{variant}: {said}.",
        estimate=estimate,
        prediction=prediction,
        tol=tol,
        over=lambda c: variants,
        rivals=rivals,
        decided_by=decided_by,
    )


def _all_end(
    name: str,
    said: str,
    setting: str,
    end: str,
    rivals: tuple[str, ...],
    *,
    variants: tuple[str, ...] = (),
    tol: float = 0.02,
    printed: str = "",
) -> ex.Claims[Config, str]:
    """All covariances of a setting end in one way, for each variant; undecided ones do not."""
    said = f"{said} (share of all starts of the grid that are not seen to)"
    return _each(
        *(name, said, _missed(setting, end), tol, variants or SETTINGS[setting].variants),
        *(
            ex.Rival(f"they end: {one}", estimate=_missed(setting, one), printed=one == printed)
            for one in rivals
        ),
    )


def _decay(factor: Callable[[str], float]) -> Measured:
    """The t tr Sigma farthest from the predicted one, over a multiple of that one."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        told = factor(variant) * decay_to_zero(variant)[0]
        products = found(PATHS, ("zero", variant)).last_trace * SETTINGS["zero"].t1 / told
        return Estimate(float(products[np.abs(products - 1.0).argmax()]), count=products.size)

    return measured


def decay_slope(variant: str) -> float:
    """The late logarithmic slope of det Sigma in the setting `zero`."""
    return decay_to_zero(variant)[1]


def _slope(told: Callable[[str], float]) -> Measured:
    """The slope of det Sigma farthest from a predicted one, over it."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        return _worst("zero", lambda p: p.slopes[:, -1].sum(axis=1) / told(variant), 1.0)(
            found, variant
        )

    return measured


def _from_lines(angles: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Angles to the nearest of some lines, in degrees."""
    distance = np.abs(angles[:, None] - lines) % 180.0
    return np.minimum(distance, 180.0 - distance).min(axis=1)


def _of_lines(lines: Callable[[], np.ndarray]) -> Callable[[Paths], np.ndarray]:
    """Angles of limits of rank one to the nearest of some lines."""
    return lambda paths: _from_lines(paths.angle[paths.end == "line"], lines())


def _one_line(paths: Paths) -> np.ndarray:
    """The same, for one of the isotropic lines alone: the better one."""
    angles = paths.angle[paths.end == "line"]
    both = [_from_lines(angles, isotropic_directions()[[k]]) for k in range(2)]
    return min(both, key=lambda one: one.max(initial=0.0))


def _axes() -> np.ndarray:
    """The angles of the axes of A + A^T."""
    (_, A), *_ = closure_matrices("two-lines", "softmax")
    axes = np.linalg.eigh(A + A.T)[1]
    return np.degrees(np.arctan2(axes[1], axes[0])) % 180.0


def _limit(rule: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Paths], np.ndarray]:
    """Distances of the ends of `line` from what a rule makes of the unit query and the starts."""

    def distances(paths: Paths) -> np.ndarray:
        query = matrices("line")[0][0]
        told = np.array([rule(query, start) for start in paths.cov[:, 0]])
        return np.linalg.norm(paths.cov[:, -1] - told, axis=(1, 2))

    return distances


def _exact_line(query: np.ndarray, cov: np.ndarray) -> np.ndarray:
    return limits.meanfield.identity_limit(query[None], cov)


def _projected(query: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """The start, projected on the line."""
    keep = np.eye(2) - np.outer(query, query)
    return keep @ cov @ keep


def _whole(query: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """All of the trace on the line."""
    return np.trace(cov) * (np.eye(2) - np.outer(query, query))


def _time_error(told: Callable[[Paths], np.ndarray]) -> Callable[[Paths], np.ndarray]:
    return lambda paths: np.abs(paths.blow_up_time / told(paths) - 1.0)


def _exact(paths: Paths) -> np.ndarray:
    assert paths.exact_time is not None
    return paths.exact_time


def _isotropic(paths: Paths) -> np.ndarray:
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


def _angle(paths: Paths) -> np.ndarray:
    r"""By how much far-out tokens are turned, in the plane whose covariance is the identity.

    Transport of N(0, Sigma) onto itself that is best for x^T A y is y = A^{-1} S x, S symmetric and
    positive. In the coordinates Sigma^{-1/2} x it is the orthogonal polar factor of B = Sigma^{1/2}
    A Sigma^{1/2}, in the plane a rotation: M Sigma + Sigma M^T = 2 cos(theta) Sigma. The
    antisymmetric part of B is that of A times sqrt(det Sigma).
    """
    Q, K, _ = matrices("divergence")
    A = K.T @ Q
    cov = paths.cov[np.arange(len(paths.cov)), _last(paths)]
    antisymmetric = (A[1, 0] - A[0, 1]) * np.sqrt(np.linalg.det(cov))
    return np.arctan2(antisymmetric, np.trace(A @ cov, axis1=-2, axis2=-1))


def _rate_error(told: Callable[[Paths], np.ndarray | float]) -> Callable[[Paths], np.ndarray]:
    return lambda paths: np.abs(_late_rate(paths) - told(paths))


def _turned(paths: Paths) -> np.ndarray:
    return 2.0 * np.cos(_angle(paths))


def _differ(belief: Callable[[Paths], np.ndarray]) -> Measured:
    """The share of the starts of `depends` of which a belief says wrongly whether they blow up."""

    def measured(found: ex.Found[Config], variant: str) -> Estimate:
        paths = found(PATHS, ("depends", variant))
        differ = (paths.blow_up_time < SCIPY_T1) != belief(paths)
        return Estimate(float(differ.mean()), count=differ.size)

    return measured


def _by_scipy(paths: Paths) -> np.ndarray:
    assert paths.scipy_time is not None
    return np.isfinite(paths.scipy_time)


def _off_line(paths: Paths) -> np.ndarray:
    """Whether a start neither blows up nor ends on an isotropic line."""
    on = (paths.end == "line") & (_from_lines(paths.angle, isotropic_directions()) < 0.1)
    return np.array([(~on & (paths.end != "blow-up")).mean()])


CLAIMS = (
    _all_end("zero-{variant}", "every covariance goes to zero", "zero", "zero", ("line", "plane")),
    _each(
        "zero-constant-{variant}",
        "$t\\,\\mathrm{tr}\\,\\Sigma$ goes to $\\mathrm{tr}\\,S$, $S/t$ the solution of the "
        "closure for small covariances, from every start (the farthest, as a ratio)",
        _decay(lambda variant: 1.0),
        1e-3,
        SETTINGS["zero"].variants,
        ex.Rival("A in the place of A + A^T", estimate=_decay(lambda variant: 2.0)),
        ex.Rival("times 1.1", estimate=_decay(lambda variant: 1.1)),
        ex.Rival(
            "the constant of softmax",
            estimate=_decay(lambda v: decay_to_zero("softmax")[0] / decay_to_zero(v)[0]),
            when=lambda config, variant: variant != "softmax",
        ),
        prediction=1.0,
    ),
    _each(
        "zero-slope-{variant}",
        "$\\det\\Sigma$ falls like the power $2\\,\\mathrm{tr}\\,M(S)$ of $t$: both eigenvalues "
        "like $1/t$, of two heads the second faster (the logarithmic slope farthest from it, as a "
        "ratio)",
        _slope(decay_slope),
        0.01,
        SETTINGS["zero"].variants,
        ex.Rival("eigenvalues like t^-1/2", estimate=_slope(lambda variant: -1.0)),
        ex.Rival("times 1.1", estimate=_slope(lambda variant: 1.1 * decay_slope(variant))),
        ex.Rival(
            "both like 1/t",
            estimate=_slope(lambda variant: -2.0),
            when=lambda config, variant: variant == "multi-head",
        ),
        prediction=1.0,
    ),
    _all_end(
        "line-{variant}", "every covariance goes to a line", "line", "line", ("zero", "plane")
    ),
    _each(
        "line-limit-{variant}",
        "the limit is $F(I - P)F$, $F = \\Sigma_0^{1/2}$ (largest distance)",
        _worst("line", _limit(_exact_line)),
        1e-4,
        SETTINGS["line"].variants,
        ex.Rival("the start, projected", estimate=_worst("line", _limit(_projected))),
        ex.Rival("the whole trace on the line", estimate=_worst("line", _limit(_whole))),
    ),
    _all_end(
        "plane-{variant}",
        "in the published multi-head run the second head is empty; the first alone keeps rank two",
        "plane",
        "plane",
        ("line", "zero"),
        printed="line",
    ),
    _all_end(
        "two-lines-end-{variant}",
        "every covariance goes to a line",
        "two-lines",
        "line",
        ("zero", "plane"),
        tol=0.05,
    ),
    _each(
        "two-lines-{variant}",
        "limits of rank one lie along the isotropic directions of $A$ (largest angle in degrees)",
        _worst("two-lines", _of_lines(isotropic_directions)),
        0.1,
        SETTINGS["two-lines"].variants,
        ex.Rival("the axes of A + A^T", estimate=_worst("two-lines", _of_lines(_axes))),
        ex.Rival("one line for all starts", estimate=_worst("two-lines", _one_line)),
    ),
    _each(
        "blow-up-time-{variant}",
        "$V = I$: $t^* = 1/\\lambda_{\\max}(\\Sigma_0^{1/2}(A + A^\\top)\\Sigma_0^{1/2})$ (largest "
        "relative error over the starts)",
        _worst("divergence", _time_error(_exact)),
        1e-6,
        ("softmax",),
        ex.Rival(
            "A in the place of A + A^T",
            estimate=_worst("divergence", _time_error(lambda paths: 2.0 * _exact(paths))),
        ),
        ex.Rival(
            "the size of the start alone", estimate=_worst("divergence", _time_error(_isotropic))
        ),
    ),
    _all_end(
        "no-blow-up-{variant}",
        "covariances diverge without a finite-time blow-up",
        "divergence",
        "divergence",
        ("blow-up", "plane"),
        variants=("l2", "sinkhorn"),
    ),
    _each(
        "growth-{variant}",
        "diverging covariances keep their shape and grow at the rate $2 \\cos \\theta$, $\\theta$ "
        "the angle of the polar factor of $\\Sigma^{1/2} A \\Sigma^{1/2}$ (largest distance of the "
        "late rate from it)",
        _worst("divergence", _rate_error(_turned)),
        1e-4,
        ("sinkhorn",),
        ex.Rival(
            "rate 2: tokens far out attend to those beside them, M comes to V = I",
            estimate=_worst("divergence", _rate_error(lambda paths: 2.0)),
        ),
        ex.Rival(
            "the angle twice",
            estimate=_worst("divergence", _rate_error(lambda p: 2.0 * np.cos(2.0 * _angle(p)))),
        ),
        decided_by="standard",
    ),
    _each(
        "depends-blow-up-{variant}",
        f"which starts blow up before $t = {SCIPY_T1:g}$ is what SciPy says in covariance form "
        "(share of the starts that differ)",
        _differ(_by_scipy),
        0.01,
        ("softmax",),
        ex.Rival("none", estimate=_differ(lambda paths: np.zeros(len(paths.end), bool))),
        ex.Rival("all, as for V = I", estimate=_differ(lambda p: np.ones(len(p.end), bool))),
        decided_by="standard",
    ),
    _each(
        "depends-line-{variant}",
        "what does not blow up goes to an isotropic line of $A$ (share of all starts that do "
        "neither; undecided ones among them)",
        _worst("depends", _off_line),
        0.05,
        ("softmax",),
        ex.Rival("it stays of rank two", estimate=_missed("depends", "plane")),
        ex.Rival("it goes to zero", estimate=_missed("depends", "zero")),
    ),
    *KERNEL_CLAIMS,
)
