r"""Covariances of the plane: to zero, to a line, to a plane, two lines, divergence, and both.

Each cell `{setting}/{variant}` follows the Gaussian closure from a grid of covariances of trace
one, in logarithmic time (settings and matrices: `plane`). The cell `kernel/l2` compares the L2
logits of the authors' scripts with those of exp(-c |Qx - Ky|^2) (see `script_kernel`).

Reference: Castin et al., arXiv 2501.18322, and the authors' scripts; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int, Shaped

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.castin2025.plane import SETTINGS, exact_blow_up_times, make_attention
from translimit.experiments.castin2025.script_kernel import KERNEL, KERNEL_CLAIMS
from translimit.experiments.checked import CheckedConfig, Count, Within

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: The isotropic directions of A in `two-lines`, in degrees.
ISOTROPIC = (121.86, 172.40)
#: t tr Sigma of `zero` with softmax, at late t.
DECAY_CONSTANT = 29.446
#: Fractions of the ends of `depends` with softmax.
FRACTIONS = {"line": 74 / 81, "blow-up": 5 / 81}
#: An eigenvalue smaller than this, relative to the largest, is rounding of the factor, squared.
ROUNDING = (2 * np.finfo(float).eps) ** 2
ENDS = ("zero", "line", "plane", "blow-up", "divergence", "undecided")


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the grids.

    Attributes:
        side: largest number of grid points a side (the published grids have 10 to 40).
        max_steps: attempted steps of one trajectory; one that needs more is undecided. Explicit
            steps to a line of large trace are many: 90,000 were seen.
    """

    side: Annotated[int, Within(2)] = 20
    max_steps: Count = 200_000


@dataclass(frozen=True)
class Paths(ex.Arrays):
    """Covariances on the way from every start, and where they end."""

    time: Float[np.ndarray, " time"]
    cov: Float[np.ndarray, "start time component component2"]
    end: Shaped[np.ndarray, " start"]
    angle: Annotated[Float[np.ndarray, " start"], "of the last first axis, in degrees"]
    last_trace: Float[np.ndarray, " start"]
    blow_up_time: Float[np.ndarray, " start"]
    eigenvalues: Float[np.ndarray, "start time eigenvalue"]
    slopes: Annotated[Float[np.ndarray, "start decade eigenvalue"], "d log lambda / d log t"]
    steps: Int[np.ndarray, " start"]
    t1: float
    exact_time: Annotated[Float[np.ndarray, " start"] | None, "blow-up time in closed form"] = None


def compute_paths(config: Config, at: tuple[str, str], keys: ex.Keys) -> Paths:
    """Every start of the grid; nothing is random."""
    del keys
    setting = SETTINGS[at[0]]
    field, cov, t1 = make_attention(*at), setting.starts(config.side), setting.t1
    save = np.concatenate([[0.0], np.geomspace(1e-3 / t1, 1.0, 46) * t1])
    solution = limits.meanfield.solve_limits(
        [limits.meanfield.GaussianLimit(attention=field, cov=c, t1=t1) for c in cov],
        limits.meanfield.LogTimeODE(max_steps=config.max_steps, growth_limit=1e8),
        save=save,
    )
    outcome = solution.outcome
    end = np.array(["zero", "line", "plane", "undecided"])[solution.rank]
    end = np.where(np.asarray(outcome == core.Outcome.blow_up), "blow-up", end)
    end = np.where(np.asarray(outcome == core.Outcome.divergence), "divergence", end)
    last = np.asarray(solution.last_cov)
    axes = np.linalg.eigh(last)[1][:, :, -1]
    closed = at == ("divergence", "softmax")
    return Paths(
        time=save,
        cov=np.asarray(solution.cov),
        end=end.astype("U16"),
        angle=np.degrees(np.arctan2(axes[:, 1], axes[:, 0])) % 180.0,
        last_trace=np.trace(last, axis1=1, axis2=2),
        blow_up_time=np.asarray(solution.blow_up_time),
        eigenvalues=np.asarray(solution.eigenvalue_paths),
        slopes=np.asarray(solution.slopes),
        steps=np.asarray(solution.steps_taken),
        t1=t1,
        exact_time=exact_blow_up_times(field, cov) if closed else None,
    )


def _cost(config: Config, at: tuple[str, str]) -> ex.Cost:
    """Compilation, and the trajectories, longest where covariances diverge."""
    starts = min(config.side, SETTINGS[at[0]].side) ** 2
    return ex.Cost((7.0 if at[0] == "divergence" else 1.5) + 0.02 * starts)


PATHS = ex.Part(
    "{setting}/{variant}",
    Paths,
    compute_paths,
    grid=lambda c: [(name, v) for name, setting in SETTINGS.items() for v in setting.variants],
    cost=_cost,
)


def _all_end(
    name: str, text: str, setting: str, end: str, variants: tuple[str, ...] = ()
) -> ex.Claims[Config, str]:
    """All covariances of a setting end in one way, for each variant.

    The grid is fixed, so there is no sampling error; the undecided fraction is the uncertainty.
    """

    def elsewhere(found: ex.Found[Config], variant: str) -> Estimate:
        ends = found(PATHS, (setting, variant)).end
        undecided = ends == "undecided"
        fraction = float((~undecided & (ends != end)).mean())
        return Estimate(fraction, count=ends.size, discretisation=float(undecided.mean()))

    return ex.Claims(
        name,
        lambda found, variant: (
            f"{text.replace('{}', variant)} (fraction of the starts that end elsewhere; the "
            "undecided fraction is its error)."
        ),
        estimate=elsewhere,
        prediction=0.0,
        tol=0.0,
        over=lambda c: variants or SETTINGS[setting].variants,
    )


def _decay(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    products = found(PATHS, ("zero", "softmax")).last_trace * SETTINGS["zero"].t1
    return Estimate(float(np.abs(products - DECAY_CONSTANT).max()), count=products.size)


def _off_the_lines(found: ex.Found[Config], variant: str) -> Estimate:
    """The largest angle to the nearest isotropic direction, of the limits of rank one."""
    paths = found(PATHS, ("two-lines", variant))
    lines = paths.angle[paths.end == "line"]
    distance = np.abs(lines[:, None] - np.array(ISOTROPIC))
    nearest = np.minimum(distance, 180 - distance).min(axis=1)
    return Estimate(float(nearest.max()) if lines.size else float("nan"), count=lines.size)


def _time_error(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    paths = found(PATHS, ("divergence", "softmax"))
    assert paths.exact_time is not None
    error = np.abs(paths.blow_up_time / paths.exact_time - 1.0)
    return Estimate(float(error.max()), count=error.size)


CLAIMS = (
    _all_end("zero-{variant}", "{}: every covariance goes to zero", "zero", "zero"),
    ex.Claims(
        "zero-constant",
        "Softmax goes to zero like $1/t$: $t\\,\\mathrm{tr}\\,\\Sigma$ is the same for all starts "
        "(largest distance from 29.446).",
        estimate=_decay,
        prediction=0.0,
        tol=0.01,
        over=ex.alone,
        one_sided=True,
    ),
    _all_end("line-{variant}", "{}: every covariance goes to a line", "line", "line"),
    _all_end(
        "plane",
        "Erratum: in the published multi-head run the second head is empty; the first alone keeps "
        "rank two",
        "plane",
        "plane",
    ),
    ex.Claims(
        "two-lines-{variant}",
        lambda found, variant: (
            f"{variant}: limits of rank one lie along the isotropic directions of $A$, 121.86° and "
            "172.40° (largest distance in degrees)."
        ),
        estimate=_off_the_lines,
        prediction=0.0,
        tol=0.1,
        over=lambda c: SETTINGS["two-lines"].variants,
        one_sided=True,
    ),
    ex.Claims(
        "blow-up-time",
        "Softmax, $V = I$: $t^* = 1/\\lambda_{\\max}(\\Sigma_0^{1/2}(A + A^\\top)\\Sigma_0^{1/2})$ "
        "(largest relative error over the starts).",
        estimate=_time_error,
        prediction=0.0,
        tol=1e-6,
        over=ex.alone,
        one_sided=True,
    ),
    _all_end(
        "no-blow-up-{variant}",
        "{}: covariances diverge without a finite-time blow-up",
        "divergence",
        "divergence",
        ("l2", "sinkhorn"),
    ),
    ex.Claims(
        "both-{end}",
        lambda found, end: f"Softmax: the end depends on the start (fraction of {end}s).",
        estimate=lambda found, end: Estimate.from_samples(
            (found(PATHS, ("depends", "softmax")).end == end).astype(float)
        ),
        prediction=lambda found, end: FRACTIONS[end],
        tol=0.1,
        over=lambda c: tuple(FRACTIONS),
    ),
    *KERNEL_CLAIMS,
)


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
    summary="The covariance of the Gaussian closure in two dimensions goes to zero, to a line, to "
    "a plane, to one of two lines, or diverges, depending on $Q$, $K$, $V$, the variant and the "
    "start; drawn in the cone of positive semi-definite matrices and in the disc.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={"demo": Config(side=5), "standard": Config(), "paper": Config(side=40)},
    parts=(PATHS, KERNEL),
    claims=CLAIMS,
    figures=(*(_of_setting(setting) for setting in SETTINGS), EIGENVALUES),
)
