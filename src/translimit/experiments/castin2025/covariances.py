r"""Covariances of the plane: to zero, to a line, to a plane, two lines, divergence, and both.

Each cell `{setting}/{variant}` follows the Gaussian closure from a grid of covariances of trace
one, in logarithmic time (settings and matrices: `plane`). The cell `kernel/l2` compares the L2
logits of the authors' scripts with those of exp(-c |Qx - Ky|^2) (see `script_kernel`).

Reference: Castin et al., arXiv 2501.18322, and the authors' scripts; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

import translimit.experiments as ex
from translimit import core, figures
from translimit.experiments.castin2025.plane import SETTINGS
from translimit.experiments.castin2025.plane_claims import CLAIMS
from translimit.experiments.castin2025.plane_paths import PATHS, Config, Paths
from translimit.experiments.castin2025.script_kernel import KERNEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: An eigenvalue smaller than this, relative to the largest, is rounding of the factor, squared.
ROUNDING = (2 * np.finfo(float).eps) ** 2
ENDS = ("zero", "line", "plane", "blow-up", "divergence", "undecided")


def _of_setting(setting: str) -> ex.Figure[Config]:
    """Paths of a setting in the cone and in the disc."""
    variants = SETTINGS[setting].variants

    def rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
        for variant in variants:
            paths = found(PATHS, (setting, variant))
            times = paths.blow_up_time[np.isfinite(paths.blow_up_time)]
            lines = np.unique(np.round(paths.angle[paths.end == "line"], 1))
            yield (
                variant,
                *(int((paths.end == end).sum()) for end in ENDS),
                ", ".join(f"{angle:g}" for angle in lines[:6]),
                f"{times.min():.3g} to {times.max():.3g}" if times.size else "",
            )

    def draw(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
        for index, variant in enumerate(variants):
            points = figures.cone_coordinates(found(PATHS, (setting, variant)).cov)
            cone = canvas.add_subplot(2, len(variants), index + 1, projection="3d")
            # Far up a diverging path nothing else is seen.
            shown = np.where(points[..., 2:] < 5.0, points, np.nan)
            figures.plot_cone(shown, cone, title=variant)
            disc = canvas.add_subplot(2, len(variants), len(variants) + index + 1)
            figures.plot_disc(points, disc)

    return ex.Figure(
        name=setting,
        title=f"Covariances of the plane: {setting}",
        caption="Paths of the covariance from a grid of starts (open circles) to their ends "
        "(dots). Above: in the cone, coordinates $(\\Sigma_{{11}} - \\Sigma_{{22}}, "
        "2\\Sigma_{{12}}, \\mathrm{{tr}}\\,\\Sigma)$, at most 40 paths, up to trace 5. Below: "
        "$\\Sigma / \\mathrm{{tr}}\\,\\Sigma$ of all paths in the unit disc, whose rim are the "
        "lines; the angle there is twice that of the line. Dimensionless.",
        columns=("variant", *ENDS, "angles of the lines", "blow-up times"),
        rows=rows,
        draw=draw,
        shown=lambda found, table: sum(len(found(PATHS, (setting, v)).end) for v in variants),
        size=(3.2 * max(len(variants), 2), 6.4),
    )


def _firsts(found: ex.Found[Config]) -> list[tuple[str, Paths]]:
    """The first variant of every setting."""
    return [(name, found(PATHS, (name, one.variants[0]))) for name, one in SETTINGS.items()]


def _slopes(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for setting, paths in _firsts(found):
        for index, slopes in enumerate(paths.slopes[:, -1].T):
            # Minus infinity: decayed below the rounding of the factor. NaN: ended before t1.
            mine = slopes[np.isfinite(slopes)]
            spread = (mine.min(), np.median(mine), mine.max()) if mine.size else (np.nan,) * 3
            yield (setting, index + 1, int(mine.size), *map(float, spread))


def _draw_eigenvalues(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    """A panel for each setting; what is below rounding is left out."""
    import xarray

    axes = canvas.subplots(2, -(-len(SETTINGS) // 2)).ravel()
    for index, ((setting, paths), ax) in enumerate(zip(_firsts(found), axes, strict=True)):
        values = paths.eigenvalues
        resolved = np.where(values > ROUNDING * values[..., :1], values, np.nan)
        dims = ("start", "time", "eigenvalue")
        data = xarray.DataArray(resolved, {"time": paths.time}, dims)
        figures.plot_eigenvalue_paths(data, ax, title=setting)
        if index % 3:
            ax.set_ylabel("")


EIGENVALUES = ex.Figure(
    name="eigenvalues",
    title="Eigenvalues on the way",
    caption="Both eigenvalues of the covariance against depth, from every start of the grid, "
    "softmax attention (one of two heads in plane); what is below the rounding of the factor is "
    "not drawn. The table has the logarithmic slopes $d\\log\\lambda/d\\log t$ over the last "
    "decade, of the starts that got there with an eigenvalue above rounding: above $-0.05$ it "
    "persists, below $-0.5$ it decays. Dimensionless.",
    columns=(
        *("setting", "eigenvalue", "starts"),
        *("smallest slope", "median slope", "largest slope"),
    ),
    rows=_slopes,
    draw=_draw_eigenvalues,
    shown=lambda found, table: sum(len(paths.end) for _, paths in _firsts(found)),
    size=(11.0, 6.4),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/covariances",
    title="Where covariances of the plane go",
    question="Does a covariance of the plane vanish, flatten to a line or diverge?",
    summary="The covariance of the Gaussian closure in two dimensions goes to zero, to a line, to "
    "a plane, to one of two lines, or diverges, depending on $Q$, $K$, $V$, the variant and the "
    "start; drawn in the cone of positive semi-definite matrices and in the disc.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={"demo": Config(side=5), "standard": Config(), "paper": Config(side=40)},
    parts=(PATHS, KERNEL),
    claims=CLAIMS,
    figures=(*(_of_setting(setting) for setting in SETTINGS), EIGENVALUES),
    finding=ex.Finding(
        "Of all starts in the plane a share of {0} is not seen to shrink to zero where theory "
        "says so under softmax, and blow-up times miss the closed form by {1}",
        ("zero-softmax", "blow-up-time-softmax"),
    ),
)
