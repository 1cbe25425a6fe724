r"""When closures blow up: the map of t* over the covariances of trace one.

Softmax, multi-head and linear closures scale: (c Sigma_0)(t) = c Sigma(c t), so t* depends on the
size of the start like 1 / tr Sigma_0, and a map over shapes, ((1 + u) / 2, w / 2; w / 2,
(1 - u) / 2) with (u, w) in the unit disc, says everything in the plane. Each cell
`map/{setting}` is one program, `GaussianFlow` under `vmap` over all starts:

- `softmax-identity`: V = I and A + A^T positive definite; t* is known in closed form;
- `softmax-random`: the matrices of the setting in which the end depends on the start;
- `two-heads`: the first setting's matrices cut into two heads;
- `l2-degenerate`: L2 with keys of rank one, K = (1, 0), Q = (0, 1), V = diag(0, 1), which does not
  scale; Sigma_12' = 2 / (1 + 2 Sigma_11) Sigma_12^2 with Sigma_11 at rest, so
  t* = (1 + 2 Sigma_11) / (2 Sigma_12) where Sigma_12 > 0, and no blow-up where not.

Where there is no closed form, a few starts are integrated by SciPy in covariance form.

Reference: Castin et al., arXiv 2501.18322, and the authors' scripts; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import attention, core, figures, limits
from translimit.core import Estimate
from translimit.experiments.castin2025.plane import (
    CHECK_GROWTH,
    closure_matrices,
    covariances_of_trace_one,
    exact_blow_up_times,
    make_attention,
    scipy_blow_up_time,
)
from translimit.experiments.checked import CheckedConfig, Count, Within

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from translimit.attention import AbstractAttention
    from translimit.core import AnyArray, Number

#: Depth to which each setting is followed: beyond it there is "no blow-up before t1".
SETTINGS = {"softmax-identity": 20.0, "softmax-random": 40.0, "two-heads": 20.0}
#: Not the t* of a grid point: that would lie on neither side.
DEGENERATE, DEGENERATE_T1 = "l2-degenerate", 21.37
#: Settings whose t* has no closed form.
CHECKED = ("softmax-random", "two-heads")
#: Settings and variants of `plane`.
SOURCES = {
    "softmax-identity": ("divergence", "softmax"),
    "softmax-random": ("depends", "softmax"),
    "two-heads": ("divergence", "multi-head"),
}
#: What else might be believed of each map.
RIVALS = {
    "softmax-identity": ("A in the place of A + A^T", "lambda_max of A + A^T times tr Sigma_0"),
    DEGENERATE: ("the time of softmax", "keys counted once"),
    "softmax-random": ("queries and keys exchanged", "A in the place of A + A^T"),
    "two-heads": ("the second head left out", "queries and keys exchanged"),
}
_TITLES = {
    "softmax-identity": "softmax, $V = I$",
    "softmax-random": "softmax, random $V$",
    "two-heads": "two heads, $V = I$",
    DEGENERATE: "L2, rank-one keys",
}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the maps.

    Attributes:
        side: grid points a side of the square around the disc.
        checks: starts of each setting without a closed form that SciPy integrates too.
    """

    side: Annotated[int, Within(5)] = 61
    checks: Count = 8


@dataclass(frozen=True)
class Map(ex.Arrays):
    """The blow-up time over the disc; NaN outside, infinity where there is none before t1."""

    u: Annotated[Float[np.ndarray, " u"], "Sigma_11 - Sigma_22"]
    w: Annotated[Float[np.ndarray, " w"], "2 Sigma_12"]
    blow_up_time: Annotated[Float[np.ndarray, "u w"], "blow-up time (depth)"]
    expected: Annotated[Float[np.ndarray, "u w"], "closed form, or SciPy"]
    rivals: Annotated[Float[np.ndarray, "rival u w"], "by the same means, of wrong theories"]
    t1: float


def make_field(setting: str) -> tuple[AbstractAttention, float]:
    """The attention of a map, and the depth to which it is followed."""
    if setting == DEGENERATE:
        field = attention.L2(Q=[[0.0, 1.0]], K=[[1.0, 0.0]], V=[[0.0, 0.0], [0.0, 1.0]])
        return field, DEGENERATE_T1
    return make_attention(*SOURCES[setting]), SETTINGS[setting]


def blow_up_times(
    field: AbstractAttention, cov: Float[np.ndarray, "starts 2 2"], t1: float
) -> Float[np.ndarray, " starts"]:
    """t* of every covariance [starts], infinity where there is none before t1: one program."""
    import jax

    def one(start: AnyArray) -> Number:
        flow = limits.meanfield.GaussianFlow(
            attention=field, mean=np.zeros(field.dim), cov=start, t1=t1
        )
        return core.solve(flow, save=[t1]).blow_up_time

    with jax.enable_x64(True):
        # Adaptive steps under vmap wait for the slowest member: batches of neighbours wait less.
        batched = jax.jit(lambda every: jax.lax.map(one, every, batch_size=64))
        return np.asarray(batched(np.asarray(cov)))


def _closed(
    setting: str, cov: Float[np.ndarray, "starts 2 2"], t1: float
) -> list[Float[np.ndarray, " starts"]]:
    """The closed form of a map, and those of its rivals [starts]."""
    if setting == DEGENERATE:
        a, c = cov[:, 0, 0], cov[:, 0, 1]
        times = np.array([1.0 + 2.0 * a, np.ones_like(a), 1.0 + a]) / (
            2.0 * np.where(c > 0, c, 1.0)
        )
        return list(np.where((c > 0) & (times < t1), times, np.inf))
    exact = exact_blow_up_times(make_field(setting)[0], cov)
    (_, A), *_ = closure_matrices(*SOURCES[setting])
    # The starts have trace one.
    return [exact, 2.0 * exact, np.full_like(exact, 1.0 / np.linalg.eigvalsh(A + A.T)[-1])]


def _by_scipy(setting: str, cov: Float[np.ndarray, "2 2"], t1: float) -> list[float]:
    """SciPy's t* of a start, and those of rivals."""
    heads = closure_matrices(*SOURCES[setting])
    exchanged = [(V, A.T) for V, A in heads]
    time = scipy_blow_up_time(heads, cov, t1)
    if setting == "two-heads":
        return [time, *(scipy_blow_up_time(one, cov, t1) for one in (heads[:1], exchanged))]
    return [time, scipy_blow_up_time(exchanged, cov, t1), 2.0 * time]


def compute_map(config: Config, setting: str, keys: ex.Keys) -> Map:
    """The map of a setting, in float64; nothing is random."""
    del keys
    points = np.linspace(-1.0, 1.0, config.side)
    u, w = np.meshgrid(points, points, indexing="ij")
    inside = 1.0 - u**2 > w**2
    cov = covariances_of_trace_one(points)
    field, t1 = make_field(setting)
    found = np.full(inside.shape, np.nan)
    found[inside] = blow_up_times(field, cov, t1)
    told = np.full((3, *inside.shape), np.nan)
    if setting in CHECKED:
        some = np.argwhere(np.isfinite(found))
        for i, j in some[np.unique(np.linspace(0, len(some) - 1, config.checks).astype(int))]:
            start = np.array([[1 + u[i, j], w[i, j]], [w[i, j], 1 - u[i, j]]]) / 2
            told[:, i, j] = _by_scipy(setting, start, t1)
    else:
        told[:, inside] = _closed(setting, cov, t1)
    return Map(points, points, found, told[0], told[1:], t1)


MAP = ex.Part(
    "map/{setting}",
    Map,
    compute_map,
    grid=lambda c: (*SETTINGS, DEGENERATE),
    # Compilation, the map, and SciPy where there is no closed form.
    cost=lambda c, setting: ex.Cost(
        6.0 + 1e-3 * c.side**2 + (0.8 * c.checks if setting in CHECKED else 0.0)
    ),
)


def _largest_error(place: int | None) -> Callable[[ex.Found[Config], str], Estimate]:
    """Of the expected times, or of a rival's, over the starts that were checked: relative.

    A start at which one of two times is finite alone has the error 1. SciPy stops a little early.
    """

    def measured(found: ex.Found[Config], setting: str) -> Estimate:
        times = found(MAP, setting)
        told = times.expected if place is None else times.rivals[place]
        some = np.isfinite(times.blow_up_time) | np.isfinite(told)
        some &= ~np.isnan(told) & ~np.isnan(times.blow_up_time)
        both = np.isfinite(times.blow_up_time[some]) & np.isfinite(told[some])
        ratio = np.divide(times.blow_up_time[some], told[some], where=both, out=np.zeros(both.size))
        return Estimate(
            float(np.abs(ratio - 1.0).max(initial=0.0)) if both.size else float("nan"),
            count=both.size,
            discretisation=1.0 / CHECK_GROWTH if setting in CHECKED else 0.0,
        )

    return measured


def _wrong(belief: Callable[[Map], np.ndarray]) -> Callable[..., Estimate]:
    """The fraction of the starts of which a belief says wrongly whether they blow up."""

    def measured(found: ex.Found[Config], at: object = None) -> Estimate:
        times = found(MAP, DEGENERATE)
        inside = ~np.isnan(times.expected)
        differs = np.isfinite(times.blow_up_time) != belief(times)
        return Estimate(float(differs[inside].mean()), count=int(inside.sum()))

    return measured


def _times(statement: str, tol: float, *settings: str) -> ex.Claims[Config, str]:
    """The times of settings are the expected ones."""
    return ex.Claims(
        "{setting}",
        lambda found, setting: (
            f"{statement.replace('{}', _TITLES[setting])} (largest relative error over the starts)."
        ),
        estimate=_largest_error(None),
        prediction=0.0,
        tol=tol,
        over=lambda c: settings,
        rivals=tuple(
            ex.Rival(
                name,
                estimate=_largest_error(place),
                when=lambda config, at, setting=setting: at == setting,
            )
            for setting in settings
            for place, name in enumerate(RIVALS[setting])
        ),
        one_sided=True,
    )


CLAIMS = (
    _times(
        "Softmax, $V = I$: $t^* = 1/\\lambda_{\\max}(\\Sigma_0^{1/2}(A + A^\\top)\\Sigma_0^{1/2})$",
        1e-6,
        "softmax-identity",
    ),
    _times(
        "L2 with rank-one keys blows up at $t^* = (1 + 2\\Sigma_{11}) / (2\\Sigma_{12})$",
        1e-5,
        DEGENERATE,
    ),
    ex.claim(
        f"{DEGENERATE}-set",
        "L2 with rank-one keys blows up if and only if $\\Sigma_{12} > 0$ (fraction of the starts "
        f"that do otherwise before $t = {DEGENERATE_T1:g}$).",
        _wrong(lambda times: np.isfinite(times.expected)),
        0.0,
        0.0,
        rivals=(
            ex.Rival("every start", estimate=_wrong(lambda times: np.isfinite(times.u[:, None]))),
            ex.Rival("never", estimate=_wrong(lambda times: np.zeros_like(times.expected, bool))),
            ex.Rival(
                "where the second variance is the larger",
                estimate=_wrong(lambda times: times.u[:, None] < 0.0 * times.w),
            ),
        ),
    ),
    _times("{}: the blow-up time is that of SciPy's DOP853 in covariance form", 1e-6, *CHECKED),
)


def _summaries(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for setting, one in found.each(MAP):
        starts = one.blow_up_time[~np.isnan(one.blow_up_time)]
        times = starts[np.isfinite(starts)]
        spread = (times.min(), np.median(times), times.max()) if times.size else (np.inf,) * 3
        yield (setting, float(one.t1), starts.size, times.size, *map(float, spread))


def _draw_maps(canvas: Canvas, table: figures.Table, found: ex.Found[Config]) -> None:
    """The maps side by side."""
    import xarray

    maps = found.each(MAP)
    axes = canvas.subplots(1, len(maps))
    for index, ((setting, one), ax) in enumerate(zip(maps, axes, strict=True)):
        times = xarray.DataArray(one.blow_up_time, {"u": one.u, "w": one.w}, ("u", "w"))
        figures.plot_disc_map(times, ax, label="$t^*$", title=_TITLES[setting])
        if index:
            ax.set_ylabel("")


MAPS = ex.Figure(
    name="map",
    title="When closures blow up",
    caption="Blow-up time $t^*$ of the Gaussian closure over the initial covariances of trace "
    "one, in the coordinates of the disc (its rim are the lines); logarithmic colours, grey where "
    "there is no blow-up before the depth $t_1$ of the table. Softmax with one or two heads: $t^*$ "
    "of $c\\,\\Sigma_0$ is $t^*/c$. Dimensionless; deterministic, without error bars.",
    columns=("setting", "t1", "starts", "blow up", "smallest t*", "median t*", "largest t*"),
    rows=_summaries,
    draw=_draw_maps,
    shown=lambda found, table: sum(table.column("starts")),
    size=(14.0, 3.0),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/blow-up-times",
    title="The blow-up time over initial covariances",
    question="From which initial covariances does attention blow up, and when?",
    summary="The covariance of a Gaussian closure may cease to exist at a finite depth $t^*$. The "
    "map of $t^*$ over the initial covariances of the plane, for softmax with one and two heads "
    "and for L2 with rank-deficient keys, beside closed forms where there are any and beside "
    "another solver where not.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={"demo": Config(side=21, checks=3), "standard": Config(), "paper": Config(side=151)},
    parts=(MAP,),
    claims=CLAIMS,
    figures=(MAPS,),
    finding=ex.Finding(
        "With $V = I$ softmax closures blow up at the time of the closed form, up to a relative"
        " error of {0}; of the L2 starts a share of {1} does other than the formula says",
        ("softmax-identity", "l2-degenerate-set"),
    ),
)
