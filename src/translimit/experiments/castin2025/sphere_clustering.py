r"""Tokens on the circle and the sphere: growth of modes, metastable clusters, energy.

Three kinds of cells:

- `circle/beta=...`: independent uniform tokens on the circle under SA and under USA (its time
  in units of I_0(beta), so that both linearise alike); the same starts at every beta.
- `sphere/beta=...`: the same in three dimensions, where the mean kernel is sinh(beta) / beta.
- `growth`: growth rates of small perturbations of the uniform law, measured on the flow, beside
  the Bessel formulas.

Reference: Geshkovski, Koubbi, Polyanskiy and Rigollet, arXiv 2410.06833; documentation,
"The Transformer PDE".
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, figures, limits, observe
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import CheckedConfig, Count, Distinct, Four, Positives, Within

if TYPE_CHECKING:
    import xarray as xr

REFERENCE = "Geshkovski et al., arXiv 2410.06833"
MODELS = ("SA", "USA")
KINDS = {2: "circle", 3: "sphere"}

#: Time at which clusters are counted, and how often states are kept.
COUNT_TIME = 12.0
SAVE_EVERY = 0.5
#: Relative tolerance of the clouds, and of the few that measure their step error.
RTOL, FINE_RTOL = 1e-5, 1e-8
#: Clouds that are solved twice.
CHECKED = 3

#: The growth rates: tokens of the lattice, size of the perturbation, growth exponent, steps.
LATTICE, SIZE, EXPONENT, STEPS = 256, 1e-6, 0.1, 12

#: One pair of tokens in one solve to t1 = 1, on one core.
SECONDS_PER_PAIR = 6e-8


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        betas: inverse temperatures.
        tokens: tokens of a cloud, on the circle and on the sphere.
        clouds: independent clouds for every beta, at least 4.
        t1: final depth, at least the time 12 of the count.
        dims: 2 for the circle, which the claims need, 3 for the sphere.
    """

    betas: Positives = (9.0, 25.0, 81.0)
    tokens: Count = 300
    clouds: Four = 20
    t1: Annotated[float, Within(COUNT_TIME, 1e6)] = 24.0
    dims: Annotated[tuple[int, ...], Distinct()] = (2, 3)

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if 2 not in self.dims or not set(self.dims) <= set(KINDS):
            raise core.ConfigError("dims", f"got {self.dims}", "pass 2, or 2 and 3")


class SphereClustering(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and the pairs of tokens."""
        seconds = 30.0 / len(self.cells(config))
        if cell.name != "growth":
            pairs = config.tokens**2 * config.clouds * config.t1
            seconds += 2.6 * (cell.parameters["dim"] - 1) * SECONDS_PER_PAIR * pairs
        return Cost(seconds, 6e8 + 64.0 * config.tokens**2)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for every beta on the circle and on the sphere, and the growth rates."""
        clouds = [
            Cell(f"{KINDS[dim]}/beta={beta:g}", {"beta": beta, "dim": dim})
            for dim in config.dims
            for beta in config.betas
        ]
        return (*clouds, Cell("growth"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`, at the presets."""
        return (
            "growth-sa",
            "growth-usa",
            *(f"clusters-beta={beta:g}" for beta in Config().betas),
            "clusters-exponent",
            "energy-increases",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell, in float64."""
        if cell.name == "growth":
            return _compute_growth(config)
        beta, dim = cell.parameters["beta"], cell.parameters["dim"]
        # The starts depend on the dimension alone: the same for every beta.
        return _compute_clouds(config, beta, dim, cell.shared_key("starts", dim))

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Growth rates, the number of clusters, and the energy."""
        growth = results["growth"]
        claims = [
            Claim(
                name=f"growth-{model.lower()}",
                statement=f"{model}: small perturbations of the uniform law on the circle grow at "
                "the rates of the Bessel formulas (largest relative error over all modes).",
                prediction=0.0,
                estimate=Estimate(
                    float(_relative_error(growth.sel(model=model)).max()),
                    0.0,
                    1,
                    float(growth["discretisation"].sel(model=model).max()),
                ),
                tol=1e-6,
                reference=REFERENCE,
            )
            for model in MODELS
        ]
        counts = []
        for beta in config.betas:
            data = results[f"circle/beta={beta:g}"]
            counts.append(_counts_at(data, "SA").astype(float))
            predicted = limits.meanfield.metastable_clusters(float(beta))
            claims.append(
                Claim(
                    name=f"clusters-beta={beta:g}",
                    statement=f"Uniform tokens on the circle under SA at beta = {beta:g} form "
                    "$k^* = \\operatorname{argmax}_k k^2 I_k(\\beta)$ clusters (within a fifth, "
                    "counted at "
                    "t = 12).",
                    prediction=float(predicted),
                    estimate=Estimate.from_samples(
                        counts[-1], discretisation=float(data["count_change"])
                    ),
                    tol=0.2 * predicted,
                    reference=REFERENCE,
                )
            )
        if len(config.betas) > 1:
            fit = core.fit_rate(config.betas, counts, paired=True)
            claims.append(
                Claim(
                    name="clusters-exponent",
                    statement="The number of clusters grows like $\\beta^{1/2}$.",
                    prediction=0.5,
                    estimate=fit.estimate(),
                    tol=0.1,
                    reference=REFERENCE,
                )
            )
        clouds = [data for name, data in results.items() if name != "growth"]
        fall = max(float(-data["energy"].diff("time").min()) for data in clouds)
        claims.append(
            Claim(
                name="energy-increases",
                statement="The interaction energy never falls, under SA and USA, on the circle and "
                "on the sphere (largest fall between two saved times).",
                prediction=0.0,
                estimate=Estimate(fall, 0.0, sum(data.sizes["cloud"] for data in clouds)),
                tol=1e-7,
                reference=REFERENCE,
                one_sided=True,
            )
        )
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Angles, counts, energies, the sphere, growth rates."""
        circles = {beta: results[f"circle/beta={beta:g}"] for beta in config.betas}
        specs = [
            _figure_angles(circles),
            _figure_counts(circles, "circle"),
            _figure_energy(circles),
            _figure_growth(results["growth"]),
        ]
        if 3 in config.dims:
            spheres = {beta: results[f"sphere/beta={beta:g}"] for beta in config.betas}
            specs += [_figure_sphere(spheres), _figure_counts(spheres, "sphere")]
        return specs


def _log_mean_kernel(beta: float, dim: int) -> float:
    """Logarithm of the mean of e^{beta cos(angle)}: I_0(beta), or sinh(beta) / beta if dim = 3."""
    from scipy.special import ive

    if dim == 2:
        return float(np.log(ive(0, beta)) + beta)
    return float(beta + np.log(-np.expm1(-2.0 * beta) / (2.0 * beta)))


@functools.cache
def _solver(dim: int, tokens: int, t1: float, model: str) -> Any:
    """Compiled: (keys, rtols, beta, shift) to tokens [clouds, times, tokens, dim] and drifts."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    ts = _times(t1)

    def flow(key: Any, rtol: Any, beta: Any, shift: Any) -> Any:
        start = jax.random.normal(key, (tokens, dim), dtype=jnp.float64)  # uniform direction
        options = {} if model == "SA" else {"normalised": False, "shift": shift}
        problem = limits.meanfield.SphereFlow(initial=start, t1=t1, beta=beta, **options)
        # The tolerance is data of the compiled solve, so that a finer one costs no compilation.
        method = eqx.tree_at(
            lambda m: (m.rtol, m.atol), problem.default_method(), (rtol, rtol / 100)
        )
        solution = core.solve(problem, method, save=ts)
        return solution.tokens, solution.norm_drift[-1]

    def batched(keys: Any, rtols: Any, beta: Any, shift: Any) -> Any:
        return jax.lax.map(lambda one: flow(one[0], one[1], beta, shift), (keys, rtols))

    return jax.jit(batched)


def _times(t1: float) -> np.ndarray:
    return np.arange(0.0, t1 + SAVE_EVERY / 2, SAVE_EVERY)


def _compute_clouds(config: Config, beta: float, dim: int, key: Any) -> xr.Dataset:
    import jax
    import jax.numpy as jnp
    import xarray as xr

    count = config.clouds  # some run twice
    indices = [*range(count), *range(CHECKED)]
    keys = jnp.stack([core.named_key(key, i) for i in indices])
    rtols = np.array([RTOL] * count + [FINE_RTOL] * CHECKED)
    delta = observe.cluster_angle(beta)
    counts, energies, pictures, drifts = [], [], [], []
    with jax.enable_x64(True):
        for model in MODELS:
            run = _solver(dim, config.tokens, config.t1, model)
            tokens, drift = map(np.asarray, run(keys, rtols, beta, _log_mean_kernel(beta, dim)))
            counts.append(observe.cluster_counts(tokens, delta))
            # Cloud by cloud: all kernels at once would need gigabytes.
            energies.append(
                [observe.interaction_energy(one, beta, rescaled=True) for one in tokens[:count]]
            )
            pictures.append(tokens[0])
            drifts.append(drift[:count])
    at = int(np.argmin(np.abs(_times(config.t1) - COUNT_TIME)))
    change = abs(float(np.mean(counts[0][:CHECKED, at] - counts[0][count:, at])))
    counts = [values[:count] for values in counts]
    axes = ("model", "cloud", "time")
    return xr.Dataset(
        {
            "count": (axes, np.array(counts), {"long_name": "clusters"}),
            "energy": (axes, np.array(energies), {"long_name": "energy times e^-beta"}),
            "tokens": (("model", "time", "token", "component"), np.array(pictures)),
            "drift": (("model", "cloud"), np.array(drifts), {"long_name": "drift of the norm"}),
            "count_change": ((), change, {"long_name": "count, at a finer step"}),
        },
        coords={
            "model": list(MODELS),
            "time": ("time", _times(config.t1), {"long_name": "depth $t$"}),
        },
        attrs={"beta": beta, "delta": delta, "tokens": config.tokens, "reference": REFERENCE},
    )


@functools.cache
def _perturbed(model: str) -> Any:
    """Compiled: (mode, size, beta, shift, t1) to the size of the mode at t1."""
    import diffrax
    import jax
    import jax.numpy as jnp

    def final(mode: Any, size: Any, beta: Any, shift: Any, t1: Any) -> Any:
        uniform = 2.0 * jnp.pi * jnp.arange(LATTICE) / LATTICE
        angles = uniform + size * jnp.cos(mode * uniform)
        points = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        options = {} if model == "SA" else {"normalised": False, "shift": shift}
        problem = limits.meanfield.SphereFlow(initial=points, t1=t1, beta=beta, **options)
        method = limits.meanfield.FixedODE(steps=STEPS, solver=diffrax.Tsit5())
        x, y = core.solve(problem, method, save=t1[None]).tokens[-1].T
        # The angle from the lattice point, which is exact for small displacements.
        moved = jnp.arctan2(
            y * jnp.cos(uniform) - x * jnp.sin(uniform), x * jnp.cos(uniform) + y * jnp.sin(uniform)
        )
        return 2.0 * jnp.mean(moved * jnp.cos(mode * uniform))

    return jax.jit(final)


def _compute_growth(config: Config) -> xr.Dataset:
    import jax
    import jax.numpy as jnp
    import xarray as xr

    modes = 2 * max(limits.meanfield.metastable_clusters(float(b)) for b in config.betas)
    shape = (len(MODELS), len(config.betas), modes)
    predicted, measured, change = (np.full(shape, np.nan) for _ in range(3))
    for m, model in enumerate(MODELS):
        for b, beta in enumerate(map(float, config.betas)):
            kind = {"normalised": True} if model == "SA" else {"normalised": False, "shift": beta}
            few = 2 * limits.meanfield.metastable_clusters(beta)
            rates = limits.meanfield.growth_rates(beta, few, **kind)
            for k, rate in enumerate(rates, start=1):
                t1 = EXPONENT / rate
                with jax.enable_x64(True):
                    slopes = [
                        float(
                            jnp.log(_perturbed(model)(k, size, beta, beta, jnp.asarray(t1)) / size)
                        )
                        / t1
                        for size in (SIZE, 4.0 * SIZE)
                    ]
                predicted[m, b, k - 1], measured[m, b, k - 1] = rate, slopes[0]
                change[m, b, k - 1] = abs(slopes[1] / slopes[0] - 1.0)
    axes = ("model", "beta", "mode")
    return xr.Dataset(
        {
            "predicted": (axes, predicted, {"long_name": "growth rate, Bessel formula"}),
            "measured": (axes, measured, {"long_name": "growth rate of the flow"}),
            "discretisation": (axes, change, {"long_name": "relative change at size times 4"}),
        },
        coords={"model": list(MODELS), "beta": list(config.betas), "mode": np.arange(1, modes + 1)},
        attrs={"reference": REFERENCE},
    )


def _relative_error(growth: xr.Dataset) -> xr.DataArray:
    return abs(growth["measured"] / growth["predicted"] - 1.0)


def _counts_at(data: xr.Dataset, model: str) -> np.ndarray:
    """Clusters at the counting time [cloud]."""
    return data["count"].sel(model=model).sel(time=COUNT_TIME, method="nearest").values


def _figure_angles(circles: dict[float, xr.Dataset]) -> FigureSpec:
    def draw(figure: Any) -> None:
        axes = np.atleast_2d(figure.subplots(2, len(circles), sharex=True, sharey=True))
        axes = axes.reshape(2, len(circles))
        for column, (beta, data) in enumerate(circles.items()):
            for row, model in enumerate(MODELS):
                ax = axes[row, column]
                figures.plot_angles(data.sel(model=model)[["tokens"]], ax)
                ax.set_title(f"{model}, $\\beta = {beta:g}$", fontsize="medium")

    rows = tuple(
        (float(beta), model, int(data["count"].sel(model=model)[0, -1]))
        for beta, data in circles.items()
        for model in MODELS
    )
    return FigureSpec(
        name="angles",
        title="Tokens on the circle draw together",
        caption="Angles of the tokens of one cloud against depth $t$, from the same uniform start, "
        "under SA and under USA with its time in units of $I_0(\\beta)$.",
        draw=draw,
        table=Table(("beta", "model", "clusters at the end"), rows),
        shown=1,
        size=(9.0, 5.2),
    )


def _figure_counts(clouds: dict[float, xr.Dataset], kind: str) -> FigureSpec:
    summary = {
        (beta, model): (
            data["count"].sel(model=model).mean("cloud"),
            data["count"].sel(model=model).std("cloud", ddof=1) / math.sqrt(data.sizes["cloud"]),
        )
        for beta, data in clouds.items()
        for model in MODELS
    }

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for (beta, model), (mean, stderr) in summary.items():
            series = list(clouds).index(beta)
            ax.errorbar(
                mean["time"],
                mean,
                yerr=stderr,
                fmt=figures.MARKERS[series] + ("-" if model == "SA" else "--"),
                color=figures.COLOURS[series],
                markersize=3,
                linewidth=0.9,
                fillstyle="full" if model == "SA" else "none",
                label=f"{model}, $\\beta = {beta:g}$",
            )
            if kind == "circle" and model == "SA":
                predicted = limits.meanfield.metastable_clusters(float(beta))
                ax.axhline(predicted, color=figures.COLOURS[series], linestyle=":", linewidth=1.2)
        ax.set_yscale("log")
        figures.finish(ax, xlabel="depth $t$", ylabel="clusters")

    deltas = ", ".join(f"{data.attrs['delta']:.3g}" for data in clouds.values())
    rows = tuple(
        (beta, model, float(t), float(mean.sel(time=t)), float(stderr.sel(time=t)))
        for (beta, model), (mean, stderr) in summary.items()
        for t in mean["time"].values
    )
    some = next(iter(clouds.values()))
    unit = "$I_0(\\beta)$" if kind == "circle" else "$\\sinh(\\beta) / \\beta$"
    dotted = " Dotted: the predicted $k^*$." if kind == "circle" else ""
    return FigureSpec(
        name=f"counts-{kind}",
        title=f"Clusters on the {kind}",
        caption=f"Mean number of clusters of {some.attrs['tokens']} tokens on the {kind}, "
        f"connected components of the graph angle $< \\delta = 1/(2\\sqrt\\beta)$ ({deltas}), over "
        f"{some.sizes['cloud']} clouds, bars of one standard error. Full: SA; dashed: USA, its "
        f"time in units of {unit}.{dotted}",
        draw=draw,
        table=Table(("beta", "model", "t", "clusters", "stderr"), rows),
        shown=len(clouds) * len(MODELS) * some.sizes["cloud"],
    )


def _figure_energy(circles: dict[float, xr.Dataset]) -> FigureSpec:
    def draw(figure: Any) -> None:
        axes = np.atleast_1d(figure.subplots(1, len(circles)))
        for series, (ax, (beta, data)) in enumerate(zip(axes, circles.items(), strict=True)):
            one = data.sel(model="SA").isel(cloud=0)
            scaled = 2.0 * beta * one["energy"]
            ax.plot(data["time"], scaled, color=figures.COLOURS[series], label="$2\\beta E$")
            for time in observe.merger_times(one["time"].values, one["count"].values):
                ax.axvline(time, color="0.7", linewidth=0.8, zorder=0)
            figures.finish(
                ax,
                xlabel="depth $t$",
                ylabel="$2 \\beta e^{-\\beta} E_\\beta$",
                title=f"$\\beta = {beta:g}$",
                legend=False,
            )

    rows = tuple(
        (float(beta), float(t), float(data["energy"].sel(model="SA", time=t)[0]))
        for beta, data in circles.items()
        for t in data["time"].values
    )
    return FigureSpec(
        name="energy",
        title="The staircase of the energy",
        caption="Interaction energy of one cloud on the circle under SA, scaled so that a single "
        "cluster has 1; grey: depths at which two clusters merged.",
        draw=draw,
        table=Table(("beta", "t", "energy times e^-beta"), rows),
        shown=len(circles),
        size=(9.0, 3.2),
    )


def _figure_sphere(spheres: dict[float, xr.Dataset]) -> FigureSpec:
    last = float(next(iter(spheres.values()))["time"][-1])
    depths = [0.0, 2.0, 6.0, last]

    def draw(figure: Any) -> None:
        axes = np.atleast_2d(figure.subplots(len(spheres), len(depths), sharex=True, sharey=True))
        for row, (beta, data) in zip(axes, spheres.items(), strict=True):
            for ax, t in zip(row, depths, strict=True):
                tokens = data["tokens"].sel(model="SA").sel(time=t, method="nearest")
                title = f"$\\beta = {beta:g}$, $t = {t:g}$"
                figures.plot_hemispheres(tokens, ax, title=title)

    rows = tuple(
        (
            float(beta),
            t,
            int(data["count"].sel(model="SA").sel(time=t, method="nearest")[0]),
            float(observe.effective_rank(data["tokens"].sel(model="SA", time=t).values)),
        )
        for beta, data in spheres.items()
        for t in depths
    )
    return FigureSpec(
        name="sphere",
        title="Tokens on the sphere draw together",
        caption="One cloud under SA, seen along the third axis: dots lie on the near side, rings "
        "on the far side. The effective rank in the table is that of the Gram matrix.",
        draw=draw,
        table=Table(("beta", "t", "clusters", "effective rank"), rows),
        shown=len(spheres),
        size=(8.0, 2.1 * len(spheres) + 0.4),
    )


def _figure_growth(growth: xr.Dataset) -> FigureSpec:
    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, beta in enumerate(growth["beta"].values):
            exact = growth.sel(model="SA", beta=beta)
            ax.plot(exact["mode"], exact["predicted"], color=figures.LIMIT, linewidth=0.9)
            ax.plot(
                exact["mode"],
                exact["measured"],
                figures.MARKERS[series],
                color=figures.COLOURS[series],
                label=f"SA, $\\beta = {beta:g}$",
            )
        figures.finish(ax, xlabel="mode $k$", ylabel="growth rate")

    rows = tuple(
        (model, float(beta), int(k), float(one["predicted"]), float(one["measured"]))
        for model in MODELS
        for beta in growth["beta"].values
        for k in growth["mode"].values
        for one in [growth.sel(model=model, beta=beta, mode=k)]
        if np.isfinite(float(one["predicted"]))
    )
    return FigureSpec(
        name="growth",
        title="Growth of small perturbations of the uniform law",
        caption=f"Growth rates of the modes of a perturbation of {LATTICE} equally spaced tokens "
        "on the circle: measured on the SA flow (points), and $k^2 I_k(\\beta) / (\\beta "
        "I_0(\\beta))$ (lines). The table holds USA too, in time units of $e^\\beta$.",
        draw=draw,
        table=Table(("model", "beta", "mode", "predicted", "measured"), rows),
        shown=len(rows),
    )


EXPERIMENT = SphereClustering(
    name="castin2025/sphere-clustering",
    title="Clusters and metastability of tokens on the sphere",
    summary="With a normalised residual stream tokens live on a sphere and draw together. Small "
    "perturbations of the uniform law on the circle grow at rates given by Bessel functions; the "
    "fastest mode predicts how many clusters form. They then persist for long and merge one by "
    "one, at jumps of an energy that never falls.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(clouds=64, t1=60.0),
        "paper": Config(clouds=256, t1=200.0),
    },
)
