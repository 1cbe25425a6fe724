r"""Every variant of attention against its closure and against finite depth.

- `bias/<variant>/n=...`: thousands of small clouds. The difference between a cloud's final moments
  and the closure started from its own initial moments has a mean of order 1/n, too small to be
  seen on large clouds: n times it is a number that must not depend on n. The mean of the tokens
  has no such bias, and linear attention has none at all: its moments are closed for any law.
- `depth/<variant>`: networks of L layers against the flow, which is first order for all.
- `growth/<variant>`: W_2 between a cloud and the same cloud with noise, along depth; the ratio to
  that at the start stays bounded as the noise goes to zero.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
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
from translimit.experiments.castin2025.canonical import (
    CLOSED,
    REFERENCE,
    canonical_attention,
    closures,
    depth_errors,
    flow_clouds,
    gaussian_clouds,
)
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Distinct,
    Doubled,
    OneOf,
    Two,
    Within,
)

if TYPE_CHECKING:
    import xarray as xr

#: Largest n-fold bias of a mean that counts as none, and largest difference of the n-fold biases
#: of a variance at two numbers of tokens.
MEAN_TOLERANCE = 0.15
BIAS_TOLERANCE = 0.3
T1 = 0.8
STEPS = 8

#: Sizes of the noise, depths that are kept, and Runge-Kutta steps to the last, of the pairs.
EPSILONS = (0.1, 0.05, 0.025, 0.0125)
GROWTH_TS = np.linspace(0.0, 2.0, 6)
GROWTH_STEPS = 20


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        variants: which variants, each with an exact closure.
        tokens: two numbers of tokens n of the small clouds.
        clouds: how many clouds at the first of them; the second has half as many.
        sinkhorn_share: Sinkhorn iterates, and gets this share of the clouds.
        layers: numbers of layers, each twice the one before.
        depth_tokens: tokens of the networks' clouds.
        depth_clouds: how many such clouds.
        growth_tokens: tokens of the pairs of clouds, uniform on [-1, 1]^2.
        growth_clouds: how many pairs at each size of the noise.
    """

    variants: Annotated[tuple[str, ...], OneOf(CLOSED), Distinct()] = CLOSED
    tokens: Annotated[tuple[Count, Count], Distinct()] = (25, 50)
    clouds: Count = 3000
    sinkhorn_share: Annotated[float, Within(0, 1, above=True)] = 0.2
    layers: Doubled = (8, 16, 32, 64)
    depth_tokens: Count = 48
    depth_clouds: Two = 6
    growth_tokens: Count = 100
    growth_clouds: Two = 8

    def clouds_of(self, variant: str, index: int) -> int:
        """Clouds of a variant at the number of tokens with this index."""
        share = self.sinkhorn_share if variant == "sinkhorn" else 1.0
        return max(32, int(share * self.clouds / (index + 1)))


class Variants(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and pairs of tokens; an iteration of Sinkhorn is two."""
        seconds, variant = 30.0 / (len(config.tokens) + 2), cell.parameters["variant"]
        if cell.name.startswith("bias"):
            pairs = cell.parameters["clouds"] * cell.parameters["tokens"] ** 2 * 6 * STEPS
            seconds += 8e-9 * pairs * (60 if variant == "sinkhorn" else 1)
        elif cell.name.startswith("growth"):
            distances = len(EPSILONS) * len(GROWTH_TS) * config.growth_clouds
            seconds += 3e-9 * distances * config.growth_tokens**3
        return Cost(seconds)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """For each variant its small clouds, its depths and its pairs."""
        cells = []
        for variant in config.variants:
            cells += [
                Cell(
                    f"bias/{variant}/n={n}",
                    {"variant": variant, "tokens": n, "clouds": config.clouds_of(variant, index)},
                )
                for index, n in enumerate(config.tokens)
            ]
            cells.append(Cell(f"depth/{variant}", {"variant": variant}))
            cells.append(Cell(f"growth/{variant}", {"variant": variant}))
        return tuple(cells)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names for all variants."""
        return tuple(
            f"{variant}-{name}"
            for variant in CLOSED
            for name in ("mean-unbiased", "bias-order", "depth-rate", "stability")
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell in float64."""
        import xarray as xr

        if cell.name.startswith("bias"):
            return _compute_bias(key, **cell.parameters)
        if cell.name.startswith("growth"):
            return _compute_growth(config, key, **cell.parameters)
        errors = depth_errors(
            key, config.layers, config.depth_tokens, config.depth_clouds, **cell.parameters
        )
        return xr.Dataset(
            {"error": (("layers", "cloud"), errors, {"long_name": "rms distance to the flow"})},
            coords={"layers": ("layers", list(config.layers), {"long_name": "layers $L$"})},
            attrs={"reference": REFERENCE, **cell.parameters},
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """No bias of the mean, 1/n in the covariance, first order in depth, and stability."""
        claims = []
        for variant in config.variants:
            biases = _biases(config, results, variant)
            mean = max(biases[0][:2], key=lambda estimate: abs(estimate.value))
            first, second = biases[0][2], biases[1][2]
            fit = _depth_fit(results[f"depth/{variant}"])
            claims += [
                Claim(
                    name=f"{variant}-mean-unbiased",
                    statement=f"{variant}: particles and closure have the same mean, without an "
                    f"$O(1/n)$ bias ($n$ times the larger of two, $n = {config.tokens[0]}$).",
                    prediction=0.0,
                    estimate=mean,
                    tol=MEAN_TOLERANCE,
                    reference=REFERENCE,
                ),
                Claim(
                    name=f"{variant}-bias-order",
                    statement=f"{variant}: the bias of $\\Sigma_{{11}}$ is of order $1/n$: $n$ "
                    f"times it is the same at $n = {config.tokens[0]}$ and {config.tokens[1]}.",
                    prediction=second.value,
                    estimate=Estimate(
                        first.value,
                        float(np.hypot(first.stderr, second.stderr)),
                        first.count,
                        first.discretisation,
                    ),
                    tol=BIAS_TOLERANCE,
                    reference=REFERENCE,
                ),
                Claim(
                    name=f"{variant}-depth-rate",
                    statement=f"{variant}: the distance of an $L$-layer network to the flow falls "
                    "like $1/L$.",
                    prediction=-1.0,
                    estimate=fit.estimate(),
                    tol=0.06,
                    reference=REFERENCE,
                ),
                Claim(
                    name=f"{variant}-stability",
                    statement=f"{variant}: $W_2$ between two clouds grows by a factor that stays "
                    "bounded as they approach each other: it goes with the power 0 of their "
                    "distance.",
                    prediction=0.0,
                    estimate=_growth_fit(results[f"growth/{variant}"]).estimate(),
                    tol=0.05,
                    reference=REFERENCE,
                ),
            ]
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """The n-fold biases of all variants, their depths, and the growth of distances."""
        return [
            _figure_bias(config, results),
            _figure_depth(config, results),
            _figure_growth(config, results),
        ]


def _compute_bias(key: Any, variant: str, tokens: int, clouds: int) -> xr.Dataset:
    import jax
    import xarray as xr

    initial = gaussian_clouds(key, clouds, tokens, np.float64)
    with jax.enable_x64(True):
        final = np.asarray(flow_clouds(T1, STEPS, variant)(initial))
        few = slice(0, min(32, clouds))
        fine = np.asarray(flow_clouds(T1, 2 * STEPS, variant)(initial[few]))
        start = observe.moments(initial)
        matched = observe.moment_vector(*map(np.asarray, closures(T1, variant)(*start)))
    particles = observe.moment_vector(*observe.moments(final))
    step_error = np.abs(observe.moment_vector(*observe.moments(fine)) - particles[few]).max()
    return xr.Dataset(
        {
            "difference": (("cloud", "moment"), particles - matched),
            "discretisation": ((), float(step_error)),
        },
        coords={"moment": list(observe.moment_names(2))},
        attrs={"variant": variant, "tokens": tokens, "reference": REFERENCE},
    )


@functools.cache
def _paths(variant: str) -> Any:
    """Compiled: clouds [clouds, n, 2] to their paths [clouds, times, n, 2]."""
    import jax

    def flow(cloud: Any) -> Any:
        problem = limits.meanfield.ParticleFlow(
            attention=canonical_attention(variant), initial=cloud, t1=GROWTH_TS[-1]
        )
        method = limits.meanfield.FixedODE(steps=GROWTH_STEPS)
        return core.solve(problem, method, save=GROWTH_TS).tokens

    return jax.jit(lambda clouds: jax.lax.map(flow, clouds))


def _compute_growth(config: Config, key: Any, variant: str) -> xr.Dataset:
    import jax
    import xarray as xr

    with jax.enable_x64(True):
        shape = (config.growth_clouds, config.growth_tokens, 2)
        keys = core.named_key(key, "cloud"), core.named_key(key, "noise")
        start = np.asarray(jax.random.uniform(keys[0], shape, minval=-1.0, dtype=np.float64))
        noise = np.asarray(jax.random.normal(keys[1], shape, dtype=np.float64))
        flow = _paths(variant)
        base, *others = (np.asarray(flow(start + e * noise)) for e in (0.0, *EPSILONS))
    ratio = [
        [observe.stability_ratio(one, two) for one, two in zip(base, other, strict=True)]
        for other in others
    ]
    return xr.Dataset(
        {"ratio": (("epsilon", "cloud", "time"), np.array(ratio), {"long_name": "W2(t) / W2(0)"})},
        coords={
            "epsilon": ("epsilon", list(EPSILONS), {"long_name": "size of the noise"}),
            "time": ("time", GROWTH_TS, {"long_name": "depth $t$"}),
        },
        attrs={"variant": variant, "tokens": config.growth_tokens, "reference": REFERENCE},
    )


def _growth_fit(data: xr.Dataset) -> core.RateFit:
    ratio = data["ratio"].isel(time=-1).transpose("epsilon", "cloud").values
    return core.fit_rate(np.asarray(data["epsilon"]), ratio, paired=True)


def _biases(config: Config, results: Results, variant: str) -> list[list[Estimate]]:
    """The n-fold bias of each moment, for both numbers of tokens."""
    rows = []
    for n in config.tokens:
        data = results[f"bias/{variant}/n={n}"]
        step_error = n * float(data["discretisation"])
        rows.append(
            [
                Estimate.from_samples(n * data["difference"].sel(moment=name).values)
                for name in observe.moment_names(2)
            ]
        )
        rows[-1] = [Estimate(e.value, e.stderr, e.count, step_error) for e in rows[-1]]
    return rows


def _depth_fit(data: xr.Dataset) -> core.RateFit:
    errors = data["error"].transpose("layers", "cloud").values
    return core.fit_rate(np.asarray(data["layers"]), errors, paired=True)


def _figure_bias(config: Config, results: Results) -> FigureSpec:
    biases: Mapping[str, list[list[Estimate]]] = {
        variant: _biases(config, results, variant) for variant in config.variants
    }
    names = observe.moment_names(2)

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        width = 0.8 / len(config.variants)
        for series, (variant, rows) in enumerate(biases.items()):
            for index, row in enumerate(rows):
                offset = (series - (len(config.variants) - 1) / 2) * width + 0.04 * (index - 0.5)
                ax.errorbar(
                    np.arange(len(names)) + offset,
                    [e.value for e in row],
                    yerr=[e.stderr for e in row],
                    fmt=figures.MARKERS[series],
                    color=figures.COLOURS[series],
                    fillstyle="full" if index else "none",
                    capsize=2,
                    markersize=5,
                    label=f"{variant}, $n = {config.tokens[index]}$",
                )
        ax.axhline(0.0, color=figures.LIMIT, linewidth=1.2, label="closure")
        ax.set_xticks(range(len(names)), [_tex(name) for name in names])
        figures.finish(ax, xlabel="moment at $t = 0.8$", ylabel="$n$ times the bias", legend=False)
        figure.legend(loc="outside right center", frameon=False, fontsize="small")

    rows = tuple(
        (variant, n, name, estimate.value, estimate.stderr)
        for variant, pair in biases.items()
        for n, row in zip(config.tokens, pair, strict=True)
        for name, estimate in zip(names, row, strict=True)
    )
    return FigureSpec(
        name="bias",
        title="The bias of a finite cloud, variant by variant",
        caption="$n$ times the mean difference between the final moments of clouds of $n$ Gaussian "
        "tokens and the closure started from their own initial moments, canonical parameters; "
        f"{config.clouds} clouds (fewer at the larger $n$ and for Sinkhorn), bars of one standard "
        "error. Equal heights at both $n$ mean a bias of order $1/n$; the line is the closure. "
        "Dimensionless.",
        draw=draw,
        table=Table(("variant", "tokens", "moment", "n x bias", "stderr"), rows),
        shown=len(config.variants) * len(config.tokens),
        size=(9.0, 4.4),
    )


def _figure_depth(config: Config, results: Results) -> FigureSpec:
    datasets = {variant: results[f"depth/{variant}"] for variant in config.variants}
    fits = {variant: _depth_fit(data) for variant, data in datasets.items()}
    summary = {}
    for variant, data in datasets.items():
        squares = data["error"].transpose("layers", "cloud") ** 2
        rms = squares.mean("cloud") ** 0.5
        summary[variant] = (
            rms,
            squares.std("cloud", ddof=1) / squares.sizes["cloud"] ** 0.5 / (2 * rms),
        )

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (variant, (rms, stderr)) in enumerate(summary.items()):
            figures.plot_convergence(
                rms,
                stderr,
                ax,
                fit=fits[variant],
                predicted_rate=-1.0 if series == 0 else None,
                series=series,
                label=variant,
                ylabel="rms distance to the flow at $t = 1$",
            )

    rows = tuple(
        (variant, int(count), float(rms[i]), float(stderr[i]))
        for variant, (rms, stderr) in summary.items()
        for i, count in enumerate(config.layers)
    )
    return FigureSpec(
        name="depth",
        title="From finite depth to the flow, variant by variant",
        caption="Root mean square over tokens and clouds of the distance between networks of $L$ "
        f"layers and the flow from the same tokens; {config.depth_clouds} clouds of "
        f"{config.depth_tokens} tokens uniform on $[-1, 1]^2$, bars of one standard error over "
        "clouds, dashed fits with 95 % bootstrap intervals, solid: the predicted rate. "
        "Dimensionless.",
        draw=draw,
        table=Table(("variant", "layers", "rms distance", "stderr"), rows),
        shown=len(config.variants) * len(config.layers) * config.depth_clouds,
        size=(8.0, 5.0),
    )


def _figure_growth(config: Config, results: Results) -> FigureSpec:
    ratios = {variant: results[f"growth/{variant}"]["ratio"] for variant in config.variants}
    count = config.growth_clouds
    summary = {
        variant: (ratio.mean("cloud"), ratio.std("cloud", ddof=1) / np.sqrt(count))
        for variant, ratio in ratios.items()
    }

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(EPSILONS), sharey=True)
        for index, (epsilon, ax) in enumerate(zip(EPSILONS, axes, strict=True)):
            for series, (variant, (mean, stderr)) in enumerate(summary.items()):
                ax.errorbar(
                    mean["time"],
                    mean.sel(epsilon=epsilon),
                    yerr=stderr.sel(epsilon=epsilon),
                    fmt=figures.MARKERS[series] + "-",
                    color=figures.COLOURS[series],
                    capsize=2,
                    markersize=4,
                    linewidth=0.8,
                    label=variant,
                )
            title = f"$\\varepsilon = {epsilon:g}$"
            ylabel = "" if index else "$W_2(t) / W_2(0)$"
            figures.finish(ax, xlabel="depth $t$", ylabel=ylabel, title=title, legend=not index)

    rows = tuple(
        (variant, epsilon, float(t), *(float(p.sel(epsilon=epsilon, time=t)) for p in pair))
        for variant, pair in summary.items()
        for epsilon in EPSILONS
        for t in pair[0]["time"].values
    )
    return FigureSpec(
        name="growth",
        title="How far nearby clouds drift apart, variant by variant",
        caption="$W_2$ between a cloud and the same cloud with Gaussian noise of size "
        f"$\\varepsilon$, relative to its value at the start; {count} clouds of "
        f"{config.growth_tokens} tokens uniform on $[-1, 1]^2$, canonical parameters, exact "
        "assignment, bars of one standard error. A factor that does not depend on $\\varepsilon$ "
        "is a Lipschitz estimate. Dimensionless.",
        draw=draw,
        table=Table(("variant", "epsilon", "t", "ratio", "stderr"), rows),
        shown=len(config.variants) * len(EPSILONS) * count,
        size=(11.0, 3.6),
    )


def _tex(name: str) -> str:
    symbol, _, indices = name.partition("_")
    return f"$\\{symbol}_{{{indices}}}$"


EXPERIMENT = Variants(
    name="castin2025/variants",
    title="Every variant of attention against its closure",
    summary="Softmax, multi-head, L2, Sinkhorn and linear attention send Gaussians to Gaussians. "
    "Thousands of small clouds show how a finite number of tokens departs from that closure: a "
    "bias of order $1/n$ in the covariance and none in the mean, none at all for linear "
    "attention. Networks of $L$ layers converge to each flow like $1/L$, and nearby clouds stay "
    "nearby.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(
            tokens=(50, 100), clouds=8000, depth_tokens=64, depth_clouds=16, growth_clouds=16
        ),
        "paper": Config(
            tokens=(50, 100),
            clouds=40000,
            layers=(8, 16, 32, 64, 128),
            depth_tokens=64,
            depth_clouds=64,
            growth_tokens=400,
            growth_clouds=32,
        ),
    },
)
