r"""What is claimed of covariances of the plane: their ends, and how they get there.

Predictions are closed forms, roots of algebraic equations, or SciPy's integration in covariance
form (see `plane`).

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

import numpy as np

import translimit.experiments as ex
from translimit.experiments.castin2025.plane import SETTINGS, decay_to_zero, isotropic_directions
from translimit.experiments.castin2025.plane_measures import (
    Measured,
    axes,
    by_scipy,
    decay,
    decay_slope,
    differ,
    exact_line,
    exact_times,
    isotropic_times,
    limit_error,
    missed,
    of_lines,
    off_line,
    one_line,
    projected,
    rate_error,
    slope,
    time_error,
    turn,
    turned_rate,
    whole_trace,
    worst,
)
from translimit.experiments.castin2025.plane_paths import SCIPY_T1, Config
from translimit.experiments.castin2025.script_kernel import KERNEL_CLAIMS


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
        *(name, said, missed(setting, end), tol, variants or SETTINGS[setting].variants),
        *(
            ex.Rival(f"they end: {one}", estimate=missed(setting, one), printed=one == printed)
            for one in rivals
        ),
    )


CLAIMS = (
    _all_end("zero-{variant}", "every covariance goes to zero", "zero", "zero", ("line", "plane")),
    _each(
        "zero-constant-{variant}",
        "$t\\,\\mathrm{tr}\\,\\Sigma$ goes to $\\mathrm{tr}\\,S$, $S/t$ the solution of the "
        "closure for small covariances, from every start (the farthest, as a ratio)",
        decay(lambda variant: 1.0),
        1e-3,
        SETTINGS["zero"].variants,
        ex.Rival("A in the place of A + A^T", estimate=decay(lambda variant: 2.0)),
        ex.Rival("times 1.1", estimate=decay(lambda variant: 1.1)),
        ex.Rival(
            "the constant of softmax",
            estimate=decay(lambda v: decay_to_zero("softmax")[0] / decay_to_zero(v)[0]),
            when=lambda config, variant: variant != "softmax",
        ),
        prediction=1.0,
    ),
    _each(
        "zero-slope-{variant}",
        "$\\det\\Sigma$ falls like the power $2\\,\\mathrm{tr}\\,M(S)$ of $t$: both eigenvalues "
        "like $1/t$, of two heads the second faster (the logarithmic slope farthest from it, as a "
        "ratio)",
        slope(decay_slope),
        0.01,
        SETTINGS["zero"].variants,
        ex.Rival("eigenvalues like t^-1/2", estimate=slope(lambda variant: -1.0)),
        ex.Rival("times 1.1", estimate=slope(lambda variant: 1.1 * decay_slope(variant))),
        ex.Rival(
            "both like 1/t",
            estimate=slope(lambda variant: -2.0),
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
        worst("line", limit_error(exact_line)),
        1e-4,
        SETTINGS["line"].variants,
        ex.Rival("the start, projected", estimate=worst("line", limit_error(projected))),
        ex.Rival("the whole trace on the line", estimate=worst("line", limit_error(whole_trace))),
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
        worst("two-lines", of_lines(isotropic_directions)),
        0.1,
        SETTINGS["two-lines"].variants,
        ex.Rival("the axes of A + A^T", estimate=worst("two-lines", of_lines(axes))),
        ex.Rival("one line for all starts", estimate=worst("two-lines", one_line)),
    ),
    _each(
        "blow-up-time-{variant}",
        "$V = I$: $t^* = 1/\\lambda_{\\max}(\\Sigma_0^{1/2}(A + A^\\top)\\Sigma_0^{1/2})$ (largest "
        "relative error over the starts)",
        worst("divergence", time_error(exact_times)),
        1e-6,
        ("softmax",),
        ex.Rival(
            "A in the place of A + A^T",
            estimate=worst("divergence", time_error(lambda paths: 2.0 * exact_times(paths))),
        ),
        ex.Rival(
            "the size of the start alone", estimate=worst("divergence", time_error(isotropic_times))
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
        worst("divergence", rate_error(turned_rate)),
        1e-4,
        ("sinkhorn",),
        ex.Rival(
            "rate 2: tokens far out attend to those beside them, M comes to V = I",
            estimate=worst("divergence", rate_error(lambda paths: 2.0)),
        ),
        ex.Rival(
            "the angle twice",
            estimate=worst("divergence", rate_error(lambda p: 2.0 * np.cos(2.0 * turn(p)))),
        ),
        decided_by="standard",
    ),
    _each(
        "depends-blow-up-{variant}",
        f"which starts blow up before $t = {SCIPY_T1:g}$ is what SciPy says in covariance form "
        "(share of the starts that differ)",
        differ(by_scipy),
        0.01,
        ("softmax",),
        ex.Rival("none", estimate=differ(lambda paths: np.zeros(len(paths.end), bool))),
        ex.Rival("all, as for V = I", estimate=differ(lambda p: np.ones(len(p.end), bool))),
        decided_by="standard",
    ),
    _each(
        "depends-line-{variant}",
        "what does not blow up goes to an isotropic line of $A$ (share of all starts that do "
        "neither; undecided ones among them)",
        worst("depends", off_line),
        0.05,
        ("softmax",),
        ex.Rival("it stays of rank two", estimate=missed("depends", "plane")),
        ex.Rival("it goes to zero", estimate=missed("depends", "zero")),
    ),
    *KERNEL_CLAIMS,
)
