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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import attention, core, figures, limits
from translimit.core import Estimate
from translimit.experiments.castin2025.plane import (
    covariances_of_trace_one,
    exact_blow_up_times,
    make_attention,
    matrices,
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
#: Growth of the trace at which SciPy stops, and t is taken for t*: 1e-10 early, relative to t*.
CHECK_GROWTH = 1e10
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
    t1: float


def make_field(setting: str) -> tuple[AbstractAttention, float]:
    """The attention of a map, and the depth to which it is followed."""
    if setting == DEGENERATE:
        field = attention.L2(Q=[[0.0, 1.0]], K=[[1.0, 0.0]], V=[[0.0, 0.0], [0.0, 1.0]])
        return field, DEGENERATE_T1
    source, variant = {
        "softmax-identity": ("divergence", "softmax"),
        "softmax-random": ("depends", "softmax"),
        "two-heads": ("divergence", "multi-head"),
    }[setting]
    return make_attention(source, variant), SETTINGS[setting]


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


def scipy_blow_up_time(setting: str, cov: Float[np.ndarray, "2 2"], t1: float) -> float:
    """t* by SciPy, from Sigma' = M Sigma + Sigma M^T in the time (1 + |M|) dt; plain NumPy."""
    from scipy.integrate import solve_ivp

    if setting == "two-heads":
        Q, K, V = matrices("divergence")
        heads = [(np.outer(np.eye(2)[h], V[h]), np.outer(K[h], Q[h])) for h in range(2)]
    else:
        Q, K, V = matrices("depends")
        heads = [(V, K.T @ Q / np.sqrt(2.0))]

    def rate(_: float, state: np.ndarray) -> np.ndarray:
        Sigma = state[1:].reshape(2, 2)
        M = sum((value @ Sigma @ A for value, A in heads), np.zeros((2, 2)))
        slow = 1.0 / (1.0 + np.linalg.norm(M))
        return np.concatenate([[slow], slow * (M @ Sigma + Sigma @ M.T).ravel()])

    def grown(_: float, state: np.ndarray) -> float:
        return (state[1] + state[4]) - CHECK_GROWTH * np.trace(cov)

    def late(_: float, state: np.ndarray) -> float:
        return state[0] - t1

    grown.terminal = late.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
    found = solve_ivp(
        rate,
        (0.0, 1e4),
        np.concatenate([[0.0], cov.ravel()]),
        "DOP853",
        events=(grown, late),
        rtol=1e-11,
        atol=1e-13,
    )
    return float(found.y[0, -1]) if found.t_events[0].size else float("inf")


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
    expected = np.full(inside.shape, np.nan)
    if setting == "softmax-identity":
        expected[inside] = exact_blow_up_times(field, cov)
    elif setting == DEGENERATE:
        a, c = cov[:, 0, 0], cov[:, 0, 1]
        times = (1.0 + 2.0 * a) / (2.0 * np.where(c > 0, c, 1.0))
        expected[inside] = np.where((c > 0) & (times < t1), times, np.inf)
    else:
        some = np.argwhere(np.isfinite(found))
        for i, j in some[np.unique(np.linspace(0, len(some) - 1, config.checks).astype(int))]:
            start = np.array([[1 + u[i, j], w[i, j]], [w[i, j], 1 - u[i, j]]]) / 2
            expected[i, j] = scipy_blow_up_time(setting, start, t1)
    return Map(points, points, found, expected, t1)


MAP = ex.Part(
    "map/{setting}",
    Map,
    compute_map,
    grid=lambda c: (*SETTINGS, DEGENERATE),
    # Compilation, the map, and SciPy where there is no closed form.
    cost=lambda c, setting: ex.Cost(
        6.0 + 1e-3 * c.side**2 + (0.25 * c.checks if setting in CHECKED else 0.0)
    ),
)


def _largest_error(found: ex.Found[Config], setting: str) -> Estimate:
    """Over the starts with a blow-up, relative; SciPy stops a little early."""
    times = found(MAP, setting)
    both = np.isfinite(times.blow_up_time) & np.isfinite(times.expected)
    error = np.abs(times.blow_up_time[both] / times.expected[both] - 1.0)
    return Estimate(
        float(error.max()) if error.size else float("nan"),
        count=error.size,
        discretisation=1.0 / CHECK_GROWTH if setting in CHECKED else 0.0,
    )


def _wrong_ends(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """The fraction of the starts that blow up and should not, or the other way round."""
    times = found(MAP, DEGENERATE)
    inside = ~np.isnan(times.expected)
    differs = np.isfinite(times.blow_up_time) != np.isfinite(times.expected)
    return Estimate(float(differs[inside].mean()), count=int(inside.sum()))


def _times(statement: str, tol: float, *settings: str) -> ex.Claims[Config, str]:
    """The times of settings are the expected ones."""
    return ex.Claims(
        "{setting}",
        lambda found, setting: (
            f"{statement.replace('{}', _TITLES[setting])} (largest relative error over the starts)."
        ),
        estimate=_largest_error,
        prediction=0.0,
        tol=tol,
        over=lambda c: settings,
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
    ex.Claims(
        f"{DEGENERATE}-set",
        "L2 with rank-one keys blows up if and only if $\\Sigma_{12} > 0$ (fraction of the starts "
        f"that do otherwise before $t = {DEGENERATE_T1:g}$).",
        estimate=_wrong_ends,
        prediction=0.0,
        tol=0.0,
        over=ex.alone,
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
)
