r"""Softmax particles against their Gaussian closure over n, and finite depth against the flow.

Four kinds of cells:

- `clouds/n=...`: independent Gaussian clouds of n tokens flow to t1 in float32; their final moments
  are set beside the closure started from the law (population) and from each cloud's own initial
  moments (matched, which removes most of the sampling noise of the start), in float64.
- `depth`: residual networks of L layers beside the flow of the same clouds.
- `limits`: one-dimensional clouds beyond the blow-up time of the closure, where n -> infinity and
  t -> t* do not commute.
- `picture`: one cloud along depth.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import attention, core, figures, limits, observe
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
    BLOW_UP,
    CLOSED,
    COV,
    MEAN,
    REFERENCE,
    batch_size,
    canonical_attention,
    closures,
    depth_errors,
    flow_clouds,
    gaussian_clouds,
)
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Doubled,
    OneOf,
    Replicates,
    Sizes,
    Two,
    Within,
    require_one_each,
)

if TYPE_CHECKING:
    import xarray as xr

#: One-dimensional set A = V = 1; its closure blows up at t* = 1 / (2 V A Sigma_0) = 1.
SCALAR_COV = 0.5
SCALAR_BLOW_UP = 1.0
#: Final depth of the one-dimensional clouds, beyond the blow-up, and Runge-Kutta steps to it.
SCALAR_T1 = 1.5
SCALAR_STEPS = 48

#: Runge-Kutta steps of the cloud that is drawn, all of which are kept, and how many are pictured.
PICTURE_STEPS = 15
PICTURES = 4

#: One pair of tokens in one evaluation of the field, on one core.
SECONDS_PER_PAIR = 2e-9


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes of the comparison.

    Attributes:
        variant: the attention of the clouds and of the networks, one with a closure; the
            one-dimensional clouds are softmax's always.
        tokens: numbers of tokens n of the clouds.
        clouds: independent clouds at each of these n.
        t1: final depth of the clouds, well before the closure's blow-up at 3.93.
        steps: Runge-Kutta steps of the clouds to t1.
        layers: numbers of layers L of the networks, each twice the one before.
        depth_tokens: tokens of the networks' clouds, uniform on [-1, 1]^2.
        depth_clouds: how many such clouds.
        scalar_tokens: numbers of tokens of the one-dimensional clouds.
        scalar_clouds: how many of each.
        picture_tokens: tokens of the cloud that is drawn.
    """

    variant: Annotated[str, OneOf(CLOSED)] = "softmax"
    tokens: Sizes = (100, 200, 400, 800, 1600)
    clouds: Replicates = (512, 512, 256, 128, 48)
    t1: Annotated[float, Within(0, BLOW_UP, above=True, below=True)] = 0.8
    steps: Count = 8
    layers: Doubled = (8, 16, 32, 64, 128)
    depth_tokens: Count = 64
    depth_clouds: Two = 32
    scalar_tokens: Sizes = (100, 400)
    scalar_clouds: Two = 16
    picture_tokens: Count = 1000

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        require_one_each("clouds", self.clouds, "tokens", self.tokens)


class ParticlesAndClosure(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and the pairs of tokens evaluated at `SECONDS_PER_PAIR`."""
        n, count = cell.parameters.get("tokens", 0), cell.parameters.get("clouds", 0)
        pairs = 6 * config.steps * n**2 * count
        if cell.name.startswith("limits"):
            pairs = n**2 * config.scalar_clouds * 6 * SCALAR_STEPS
        if cell.name == "depth":
            pairs = config.depth_tokens**2 * config.depth_clouds * (sum(config.layers) + 500)
        return Cost(5.0 + SECONDS_PER_PAIR * pairs, 6e8 + 64.0 * n * count)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The largest clouds first, so that they do not end the run alone."""
        clouds = [
            Cell(f"clouds/n={n}", {"tokens": n, "clouds": count})
            for n, count in sorted(zip(config.tokens, config.clouds, strict=True), reverse=True)
        ]
        scalar = [Cell(f"limits/n={n}", {"tokens": n}) for n in config.scalar_tokens]
        return (*clouds, Cell("depth"), *scalar, Cell("picture"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        moments = observe.moment_names(2)
        return (
            *(f"closure-{name}" for name in moments),
            "sampling-rate",
            "matched-rate",
            "depth-rate",
            "depth-halving",
            "blow-up-time",
            "no-blow-up",
        )

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell; see the module's docstring for its kind and precision."""
        kind = cell.name.split("/")[0]
        if kind == "clouds":
            return _compute_clouds(config, key=key, **cell.parameters)
        if kind == "limits":
            return _compute_scalar(config, cell.parameters["tokens"], key)
        return _compute_depth(config, key) if kind == "depth" else _compute_picture(config, key)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Moments, rates, and what happens at the blow-up."""
        largest = max(config.tokens)
        final = results[f"clouds/n={largest}"]
        difference = final["particles"] - final["matched"]
        claims = [
            Claim(
                name=f"closure-{name}",
                statement=f"The closure predicts ${_tex(name)}$ of a Gaussian cloud at depth "
                f"{config.t1:g} (n = {largest}, matched initial moments).",
                prediction=float(final["matched"].sel(moment=name).mean()),
                estimate=Estimate(
                    float(final["particles"].sel(moment=name).mean()),
                    Estimate.from_samples(difference.sel(moment=name).values).stderr,
                    final.sizes["cloud"],
                    float(final["discretisation"]),
                ),
                tol=0.01,
                reference=REFERENCE,
            )
            for name in observe.moment_names(2)
        ]
        fits = _token_fits(config, results)
        claims += [
            Claim(
                name="sampling-rate",
                statement="The distance of a cloud's moments to the closure of its law falls like "
                "$n^{-1/2}$.",
                prediction=-0.5,
                estimate=fits["population"].estimate(),
                tol=0.1,
                reference=REFERENCE,
            ),
            Claim(
                name="matched-rate",
                statement="With matched initial moments the remaining distance falls like "
                "$n^{-1/2}$ too, with a smaller constant.",
                prediction=-0.5,
                estimate=fits["matched"].estimate(),
                tol=0.1,
                reference=REFERENCE,
            ),
        ]
        depth = results["depth"]
        errors = depth["error"].transpose("layers", "cloud")
        fit = core.fit_rate(np.asarray(depth["layers"]), errors.values, paired=True)
        last = errors.isel(layers=-1).values
        ratio = errors.isel(layers=-2).values / last
        claims += [
            Claim(
                name="depth-rate",
                statement="The distance of an L-layer network to the flow falls like $1/L$.",
                prediction=-1.0,
                estimate=fit.estimate(),
                tol=0.05,
                reference=REFERENCE,
            ),
            Claim(
                name="depth-halving",
                statement=f"Twice the layers, half the error: error({config.layers[-2]}) / "
                f"error({config.layers[-1]}) is 2.",
                prediction=2.0,
                estimate=Estimate.from_samples(ratio),
                tol=0.1,
                reference=REFERENCE,
            ),
        ]
        scalar = [results[f"limits/n={n}"] for n in config.scalar_tokens]
        claims += [
            Claim(
                name="blow-up-time",
                statement="The closure of the one-dimensional set blows up at "
                "$t^* = 1/(2 V A \\Sigma_0) = 1$.",
                prediction=SCALAR_BLOW_UP,
                estimate=Estimate(float(scalar[0]["blow_up_time"]), 0.0, 1, 1e-9),
                tol=1e-7,
                reference=REFERENCE,
            ),
            Claim(
                name="no-blow-up",
                statement="Finite clouds pass $t^*$: the largest $|x_i(t)|$ stays below "
                "$e^{\\|V\\| t} \\max |x_i(0)|$ (ratio at most 1, for all $t > 0$ kept).",
                prediction=1.0,
                estimate=Estimate(
                    max(float(data["bound_ratio"][:, 1:].max()) for data in scalar),
                    0.0,
                    config.scalar_clouds * len(scalar),
                    1e-9,
                ),
                tol=1e-6,
                one_sided=True,
                reference=REFERENCE,
            ),
        ]
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """The cloud with its ellipses, both rates, and the two limits that do not commute."""
        return [
            _figure_picture(config, results["picture"]),
            _figure_moments(config, results["picture"]),
            _figure_tokens(config, results),
            _figure_depth(config, results["depth"]),
            _figure_scalar(config, results),
        ]


def _compute_clouds(config: Config, tokens: int, clouds: int, key: Any) -> xr.Dataset:
    import jax
    import xarray as xr

    initial = gaussian_clouds(key, clouds, tokens)
    final = np.asarray(flow_clouds(config.t1, config.steps, config.variant)(initial))
    # The step error, from a few clouds at half the step.
    few = slice(0, min(4, clouds))
    fine = np.asarray(flow_clouds(config.t1, 2 * config.steps, config.variant)(initial[few]))
    particles = observe.moment_vector(*observe.moments(final))
    step_error = np.abs(observe.moment_vector(*observe.moments(fine)) - particles[few]).max()
    with jax.enable_x64(True):
        # The law itself is the last member.
        means, covs = observe.moments(initial)
        start = np.concatenate([means, MEAN[None]]), np.concatenate([covs, COV[None]])
        closed = closures(config.t1, config.variant)(*start)
        *matched, population = observe.moment_vector(*map(np.asarray, closed))
    return xr.Dataset(
        {
            "particles": (("cloud", "moment"), particles, {"long_name": "moments of the clouds"}),
            "matched": (("cloud", "moment"), matched, {"long_name": "closure, matched start"}),
            "population": ("moment", population, {"long_name": "closure of the law"}),
            "discretisation": ((), float(step_error), {"long_name": "step error of the clouds"}),
        },
        coords={"moment": list(observe.moment_names(2))},
        attrs={"tokens": tokens, "t1": config.t1, "reference": REFERENCE},
    )


def _compute_depth(config: Config, key: Any) -> xr.Dataset:
    import xarray as xr

    errors = depth_errors(
        key, config.layers, config.depth_tokens, config.depth_clouds, config.variant
    )
    return xr.Dataset(
        {"error": (("layers", "cloud"), errors, {"long_name": "rms distance to the flow"})},
        coords={"layers": ("layers", list(config.layers), {"long_name": "layers $L$"})},
        attrs={"tokens": config.depth_tokens, "reference": REFERENCE},
    )


def _compute_scalar(config: Config, tokens: int, key: Any) -> xr.Dataset:
    import jax
    import xarray as xr

    softmax = attention.Softmax(Q=[[1.0]], K=[[1.0]], V=[[1.0]])
    ts = np.linspace(0.0, SCALAR_T1, 13)
    with jax.enable_x64(True):
        shape = (config.scalar_clouds, tokens, 1)
        clouds = np.sqrt(SCALAR_COV) * jax.random.normal(key, shape, dtype=np.float64)

        def flow(cloud: Any) -> Any:
            problem = limits.meanfield.ParticleFlow(attention=softmax, initial=cloud, t1=SCALAR_T1)
            return core.solve(
                problem, limits.meanfield.FixedODE(steps=SCALAR_STEPS), save=ts
            ).tokens

        batch = batch_size(config.scalar_clouds, tokens)
        tokens_t = np.asarray(jax.jit(partial(jax.lax.map, flow, batch_size=batch))(clouds))
    closure = core.solve(
        limits.meanfield.GaussianFlow(
            attention=softmax, mean=[0.0], cov=[[SCALAR_COV]], t1=SCALAR_T1
        ),
        save=ts,
    )
    largest = np.abs(tokens_t).max(axis=(2, 3))
    return xr.Dataset(
        {
            "variance": (("cloud", "time"), tokens_t[..., 0].var(axis=-1)),
            "bound_ratio": (("cloud", "time"), largest / (largest[:, :1] * np.exp(ts))),
            "closure_variance": ("time", closure.cov[:, 0, 0]),
            "blow_up_time": ((), float(closure.blow_up_time)),
        },
        coords={"time": ("time", ts, {"long_name": "depth $t$"})},
        attrs={"tokens": tokens, "reference": REFERENCE},
    )


def _compute_picture(config: Config, key: Any) -> xr.Dataset:
    import jax

    with jax.enable_x64(True):
        noise = np.asarray(jax.random.normal(key, (config.picture_tokens, 2), dtype=np.float64))
    cloud = MEAN + noise @ np.linalg.cholesky(COV).T
    ts = np.linspace(0.0, 1.5, PICTURE_STEPS + 1)
    chosen = canonical_attention(config.variant)
    flow = limits.meanfield.ParticleFlow(attention=chosen, initial=cloud, t1=ts[-1])
    particles = core.solve(flow, limits.meanfield.FixedODE(steps=PICTURE_STEPS), save=ts)
    closure = core.solve(
        limits.meanfield.GaussianFlow(attention=chosen, mean=MEAN, cov=COV, t1=ts[-1]), save=ts
    )
    return particles.to_xarray().merge(closure.to_xarray(), combine_attrs="override")


def _rms(errors: xr.DataArray) -> tuple[float, float]:
    """Root mean square over clouds of the distance of moments, and its standard error."""
    squares = np.asarray((errors**2).sum("moment"))
    mean = Estimate.from_samples(squares)
    return float(np.sqrt(mean.value)), mean.stderr / (2.0 * float(np.sqrt(mean.value)))


def _token_fits(config: Config, results: Results) -> Mapping[str, core.RateFit]:
    """Fitted rates of both distances over n."""
    fits = {}
    for kind in ("population", "matched"):
        rows = []
        for n in config.tokens:
            data = results[f"clouds/n={n}"]
            squares = ((data["particles"] - data[kind]) ** 2).sum("moment")
            rows.append(np.sqrt(squares.values))
        fits[kind] = core.fit_rate(config.tokens, rows)
    return fits


def _figure_picture(config: Config, data: xr.Dataset) -> FigureSpec:
    data = data.isel(time=np.linspace(0, PICTURE_STEPS, PICTURES).astype(int))

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, data.sizes["time"], sharey=True)
        extent = figures.common_extent(data["tokens"])
        for index, ax in enumerate(axes):
            figures.plot_cloud(
                data["tokens"][index],
                data["mean"][index],
                data["cov"][index],
                ax,
                title=f"$t = {float(data['time'][index]):g}$",
                extent=extent,
            )
            if index:
                ax.set_ylabel("")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=3, frameon=False, markerscale=3
        )

    rows = [
        (float(t), *observe.moment_vector(m, c))
        for t, m, c in zip(
            data["time"].values, data["mean"].values, data["cov"].values, strict=True
        )
    ]
    return FigureSpec(
        name="picture",
        title="A cloud of tokens and the Gaussian that predicts it",
        caption=f"One cloud of {data.sizes['token']} tokens under {config.variant} attention "
        "(points) and the Gaussian closure started from the law they were drawn from (ellipses of "
        "one and two standard deviations), at four depths $t$. Nothing is fitted. Components are "
        "dimensionless.",
        draw=draw,
        table=Table(("t", *observe.moment_names(2)), tuple(rows)),
        shown=1,
        size=(10.0, 3.4),
    )


def _figure_moments(config: Config, data: xr.Dataset) -> FigureSpec:
    means, covs = observe.moments(data["tokens"].transpose("time", "token", "component").values)
    times = data["time"].values
    shapes = {
        "particles": observe.anisotropy(covs),
        "closure": observe.anisotropy(data["cov"].values),
    }

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for index in range(means.shape[1]):
            colour, marker = figures.COLOURS[index], figures.MARKERS[index]
            label = f"$\\alpha_{index + 1}$, particles"
            left.plot(times, means[:, index], marker, color=colour, markersize=4, label=label)
            closure = data["mean"].values[:, index]
            left.plot(times, closure, color=figures.LIMIT, label="_" if index else "closure")
        right.plot(
            times,
            shapes["particles"],
            figures.MARKERS[0],
            color=figures.COLOURS[0],
            markersize=4,
            label="particles",
        )
        right.plot(times, shapes["closure"], color=figures.LIMIT, label="closure")
        figures.finish(left, xlabel="depth $t$", ylabel="mean of the tokens")
        share = "$\\lambda_{\\max} / \\mathrm{tr}\\,\\Sigma$"
        figures.finish(right, xlabel="depth $t$", ylabel=share)

    rows = tuple(
        (
            float(t),
            *map(float, means[i]),
            *map(float, data["mean"].values[i]),
            *(float(part[i]) for part in shapes.values()),
        )
        for i, t in enumerate(times)
    )
    columns = ("alpha_1", "alpha_2", "alpha_1 (closure)", "alpha_2 (closure)")
    return FigureSpec(
        name="moments",
        title="The mean and the shape of a cloud along depth",
        caption=f"The cloud of the picture, {data.sizes['token']} tokens (markers), and the "
        "closure of the law it was drawn from (lines): the mean $\\alpha(t)$, and the share of the "
        "largest eigenvalue in the trace of the covariance, 1/2 if isotropic and 1 on a line. One "
        "cloud, without error bars. Dimensionless.",
        draw=draw,
        table=Table(("t", *columns, "anisotropy", "anisotropy (closure)"), rows),
        shown=1,
        size=(9.0, 3.8),
    )


def _figure_tokens(config: Config, results: Results) -> FigureSpec:
    import xarray as xr

    fits = _token_fits(config, results)
    labels = {"population": "closure of the law", "matched": "closure, matched initial moments"}
    points = {
        kind: [
            _rms(results[f"clouds/n={n}"]["particles"] - results[f"clouds/n={n}"][kind])
            for n in config.tokens
        ]
        for kind in labels
    }
    coords = {"tokens": ("tokens", list(config.tokens), {"long_name": "tokens $n$"})}

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for series, (kind, label) in enumerate(labels.items()):
            error, stderr = (
                xr.DataArray([p[i] for p in points[kind]], dims="tokens", coords=coords)
                for i in (0, 1)
            )
            figures.plot_convergence(
                error,
                stderr,
                ax,
                fit=fits[kind],
                predicted_rate=-0.5,
                series=series,
                label=label,
                ylabel="rms distance of the moments",
                theory_label="predicted" if series == 0 else "_predicted",
            )

    rows = [
        (n, *points["population"][i], *points["matched"][i]) for i, n in enumerate(config.tokens)
    ]
    return FigureSpec(
        name="tokens",
        title="From finite clouds to the Transformer PDE",
        caption="Root mean square over clouds of the Euclidean distance between the five moments "
        f"(mean and covariance) of a cloud at depth $t = {config.t1:g}$ and the Gaussian closure, "
        "against the number of tokens; "
        f"{', '.join(map(str, config.clouds))} independent clouds a point, bars of one standard "
        "error. Dashed: fitted power laws with 95 % bootstrap intervals; solid: the "
        "predicted rate. Moments are dimensionless.",
        draw=draw,
        table=Table(
            ("tokens", "rms to law", "stderr", "rms to matched closure", "stderr (matched)"),
            tuple(rows),
        ),
        shown=sum(config.clouds),
    )


def _figure_depth(config: Config, data: xr.Dataset) -> FigureSpec:
    errors = data["error"].transpose("layers", "cloud")
    fit = core.fit_rate(np.asarray(data["layers"]), errors.values, paired=True)
    rms = (errors**2).mean("cloud") ** 0.5
    spread = (errors**2).std("cloud", ddof=1) / np.sqrt(errors.sizes["cloud"]) / (2 * rms)

    def draw(figure: Any) -> None:
        figures.plot_convergence(
            rms,
            spread,
            figure.subplots(),
            fit=fit,
            predicted_rate=-1.0,
            label="networks of $L$ layers",
            ylabel="rms distance to the flow at $t = 1$",
        )

    rows = zip(data["layers"].values.tolist(), rms.values, spread.values, strict=True)
    return FigureSpec(
        name="depth",
        title="From finite depth to the flow",
        caption="Root mean square over tokens and clouds of the distance between the output of a "
        f"residual {config.variant} network of $L$ layers with step $1/L$ and the flow at $t = 1$, "
        "from the "
        f"same tokens; {errors.sizes['cloud']} clouds of {data.attrs['tokens']} tokens uniform on "
        "$[-1, 1]^2$, bars of one standard error over clouds. Dimensionless.",
        draw=draw,
        table=Table(("layers", "rms distance", "stderr"), tuple(rows)),
        shown=int(errors.size),
    )


def _figure_scalar(config: Config, results: Results) -> FigureSpec:
    datasets = [results[f"limits/n={n}"] for n in config.scalar_tokens]
    summary = [
        (data["variance"].mean("cloud"), data["variance"].std("cloud", ddof=1) / np.sqrt(count))
        for data in datasets
        for count in [data.sizes["cloud"]]
    ]

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        times = np.linspace(0.0, 0.985 * SCALAR_BLOW_UP, 200)
        ax.plot(
            times,
            SCALAR_COV / (1.0 - times / SCALAR_BLOW_UP),
            color=figures.LIMIT,
            label="closure, exact",
        )
        ax.axvline(SCALAR_BLOW_UP, color=figures.LIMIT, linestyle=":", label="blow-up $t^*$")
        for series, (n, (mean, stderr)) in enumerate(
            zip(config.scalar_tokens, summary, strict=True)
        ):
            ax.errorbar(
                mean["time"],
                mean,
                yerr=stderr,
                fmt=figures.MARKERS[series] + "-",
                color=figures.COLOURS[series],
                linewidth=0.8,
                capsize=2,
                markersize=5,
                label=f"particles, $n = {n}$",
            )
        ax.set_yscale("log")
        figures.finish(ax, xlabel="depth $t$", ylabel="variance of the tokens")

    times = datasets[0]["time"].values
    rows = tuple(
        (float(t), *(float(part[i]) for pair in summary for part in pair))
        for i, t in enumerate(times)
    )
    columns = [f"{what} (n={n})" for n in config.scalar_tokens for what in ("variance", "stderr")]
    return FigureSpec(
        name="limits",
        title="Two limits that do not commute",
        caption="Variance of one-dimensional softmax tokens ($A = V = 1$, $\\Sigma_0 = 1/2$). The "
        "closure blows up at $t^* = 1$; clouds of $n$ tokens never do, and leave the closure the "
        f"later the larger $n$. {config.scalar_clouds} clouds for each $n$, bars of one standard "
        "error. Dimensionless.",
        draw=draw,
        table=Table(("t", *columns), rows),
        shown=config.scalar_clouds * len(config.scalar_tokens),
    )


def _tex(name: str) -> str:
    symbol, _, indices = name.partition("_")
    return f"\\{symbol}_{{{indices}}}"


EXPERIMENT = ParticlesAndClosure(
    name="castin2025/particles-and-closure",
    title="Softmax particles, their Gaussian closure, and finite depth",
    summary="Tokens that attend to each other by softmax attention flow along a vector field made "
    "by all of them. For Gaussian tokens the limit of many tokens is a Gaussian whose mean and "
    "covariance obey a small closed system. Clouds of $n$ tokens are set beside that closure, "
    "networks of $L$ layers beside the flow, and both distances are fitted against size.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(
            tokens=(100, 200, 400, 800, 1600, 3200),
            clouds=(2048, 2048, 1024, 512, 192, 96),
            layers=(8, 16, 32, 64, 128, 256),
            depth_clouds=64,
            scalar_tokens=(100, 400, 1600),
            scalar_clouds=32,
            picture_tokens=3000,
        ),
        "paper": Config(
            tokens=(100, 200, 400, 800, 1600, 3200, 6400, 12800),
            clouds=(4096, 4096, 2048, 1024, 512, 256, 128, 64),
            layers=(8, 16, 32, 64, 128, 256, 512),
            depth_clouds=256,
            scalar_tokens=(200, 2000, 8000),
            scalar_clouds=64,
            picture_tokens=3000,
        ),
    },
)
