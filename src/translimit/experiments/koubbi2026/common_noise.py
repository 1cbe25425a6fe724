r"""Infinitely many tokens under common noise: propagation of chaos, and the density on the circle.

Cells:

- `circle/noise=...`: the density of tokens on the circle along depth for one sequence of heads, by
  the Fourier solver; the same heads move independent clouds of particles of two sizes.
- `chaos`: on the sphere, the first n tokens of a system of N against the system of these n alone,
  with the same heads, over several n and independent replicas.

Reference: Koubbi et al., arXiv 2604.01978; documentation, "Which limit is my network in?".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, describe, figures, limits, models
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.checked import (
    CheckedConfig,
    Entries,
    Four,
    IncreasingSizes,
    Two,
    Within,
)
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    import xarray as xr

#: Circle: inverse temperature, diffusive step, layers, Fourier modes, nodes.
BETA, STEP, LAYERS, MODES, NODES = 2.0, 0.02, 30, 240, 768
TILT = 0.6
NOISES = (0, 2)
#: Sphere: dimension, score deviation, diffusive time and step of the chaos cell.
DIM, SCORE_STD, TIME, CHAOS_STEP = 8, 1.5, 1.0, 0.05


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        particles: tokens of the clouds on the circle, two sizes.
        clouds: independent clouds of the smaller size; half as many of the larger.
        largest: N, tokens of the large system.
        sizes: n, tokens of the small ones, increasing, at most a quarter of N.
        replicas: independent sequences of heads, at least 4.
    """

    particles: Annotated[IncreasingSizes, Entries(2, 2)] = (100, 400)
    clouds: Two = 200
    largest: Annotated[int, Within(8)] = 512
    sizes: IncreasingSizes = (16, 32, 64, 128)
    replicas: Four = 12

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if max(self.sizes) > self.largest // 4:
            most = f"pass at most a quarter of largest, {self.largest // 4}"
            raise core.ConfigError("sizes", f"got {self.sizes}", most)


class CommonNoise(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cost(self, config: Config) -> Cost:
        """Compilation, and pairs of tokens."""
        pairs = config.replicas * TIME / CHAOS_STEP * 1.4 * config.largest**2
        return Cost(seconds=30.0 + 6e-8 * pairs + 0.02 * config.clouds)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """Two noise realisations on the circle, and the chaos cell."""
        return (*(Cell(f"circle/noise={one}", {"noise": one}) for one in NOISES), Cell("chaos"))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Names in the order of `claims`."""
        return ("chaos-rate", "density-and-particles", "one-law-for-all-noise")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Compute one cell."""
        if cell.name == "chaos":
            return _compute_chaos(config, key)
        return _compute_circle(config, cell)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Rates, and that common noise stays."""
        fit = _fit(results["chaos"])
        scaled = []
        for noise in NOISES:
            data = results[f"circle/noise={noise}"]
            values = [data[f"error_{n}"].values ** 2 * n for n in config.particles]
            scaled.append([common.mean_and_stderr(one) for one in values])
        # The value depends on the heads, the ratio of the two sizes does not.
        ratios = [large[0] / small[0] for small, large in scaled]
        errors = [
            ratio * np.hypot(small[1] / small[0], large[1] / large[0])
            for ratio, (small, large) in zip(ratios, scaled, strict=True)
        ]
        moments = [results[f"circle/noise={one}"]["moment"].isel(layer=-1) for one in NOISES]
        gap = float(np.hypot(*(moments[0] - moments[1]).values))
        return [
            Claim(
                name="chaos-rate",
                statement="Mean square distance of a token in a system of $n$ to itself in a large "
                "one with the same heads falls like $n^{-1}$ (exponent).",
                prediction=-1.0,
                estimate=Estimate(2 * fit.rate, 2 * fit.stderr, config.replicas, 0.1),
                tol=0.35,
                printed="$C_T n^{-1}\\sum_i |x_i^n(0) - \\bar x_i(0)|^2$ in mean square",
                reference=common.REFERENCE,
            ),
            Claim(
                name="density-and-particles",
                statement="Independent particles approach the density: $n$ times the mean square "
                "error of $E\\,e^{i\\phi}$ does not depend on $n$ (ratio of two sizes).",
                prediction=1.0,
                estimate=Estimate(
                    float(np.mean(ratios)),
                    float(np.hypot(*errors) / 2),
                    config.clouds,
                ),
                tol=0.35,
                reference=common.REFERENCE,
            ),
            Claim(
                name="one-law-for-all-noise",
                statement="Infinitely many tokens have one law, whatever the heads (difference of "
                "$E\\,e^{i\\phi}$ between two noise realisations).",
                prediction=0.0,
                estimate=Estimate(gap, 0.0, 2, 1e-3),
                tol=0.03,
                reference=common.REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Heat maps side by side, and the rate of chaos."""
        return [_figure_density(results), _figure_chaos(config, results["chaos"])]


def _heads(stream: Any) -> tuple[np.ndarray, np.ndarray]:
    """The heads of one noise realisation on the circle [layers, 1, 2, 2], from its key."""
    import jax
    import jax.numpy as jnp

    law = describe.GaussianHeads(dim=2, beta=BETA, sigma_a=2**-0.25)
    keys = [core.named_key(stream, layer) for layer in range(LAYERS)]
    with jax.enable_x64(True):
        pairs = [law.sample(one, jnp.float64) for one in keys]
        V, A = (np.stack([np.asarray(pair[i]) for pair in pairs])[:, None] for i in (0, 1))
    return V, A


def _compute_circle(config: Config, cell: Cell) -> xr.Dataset:
    import jax
    import xarray as xr

    noise = int(cell.parameters["noise"])
    V, A = _heads(cell.shared_key("heads", noise))
    angles = 2 * np.pi * np.arange(NODES) / NODES
    flow = limits.homogenized.circle.density_flow(
        V=V, A=A, beta=BETA, step=STEP**0.5, initial=1 + TILT * np.cos(angles), modes=MODES
    )
    moment = flow.moment(1)
    uniform = cell.shared_key("particles", noise)
    grid = np.linspace(0, 2 * np.pi, 20_001)
    law = (grid + TILT * np.sin(grid)) / (2 * np.pi)
    data: dict[str, Any] = {}
    last = int(np.isfinite(np.real(moment)).sum()) - 1
    for count, clouds in zip(config.particles, (config.clouds, config.clouds // 2), strict=True):
        draws = jax.random.uniform(core.named_key(uniform, count), (clouds, count))
        start = np.interp(np.asarray(draws), law, grid)
        x = np.stack([np.cos(start), np.sin(start)], axis=-1)
        for value, score in zip(V[:last, 0], A[:last, 0], strict=True):
            x = _particle_layer(x, value, score)
        mean = np.mean(x[..., 0] + 1j * x[..., 1], axis=-1)
        data[f"error_{count}"] = (f"cloud_{count}", np.abs(mean - moment[last]))
    return xr.Dataset(
        data
        | {
            "density": (("layer", "node"), flow.density, {"long_name": "density per radian"}),
            "moment": (("part", "layer"), np.stack([np.real(moment), np.imag(moment)])),
        },
        coords={
            "layer": np.arange(LAYERS + 1),
            "time": ("layer", np.arange(LAYERS + 1) * STEP, {"long_name": common.TAU}),
            "node": ("node", angles, {"long_name": "angle $\\phi$"}),
        },
        attrs={"layers_kept": last, "reference": common.REFERENCE},
    )


def _particle_layer(x: np.ndarray, V: np.ndarray, A: np.ndarray) -> np.ndarray:
    """One layer of one head on clouds of particles [clouds, tokens, 2], written out."""
    scores = BETA * (x @ A.T) @ x.swapaxes(-1, -2)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    moved = x + STEP**0.5 * (weights / weights.sum(-1, keepdims=True)) @ x @ V.T
    return core.SPHERE.project(moved)


def _compute_chaos(config: Config, key: Any) -> xr.Dataset:
    import jax
    import xarray as xr

    law = describe.GaussianHeads.of_score_std(SCORE_STD, dim=DIM)
    layers = round(TIME / CHAOS_STEP)
    chain = models.RandomHeadChain(law=law, step=CHAOS_STEP**0.5, heads=1, layers=layers)
    errors = np.zeros((len(config.sizes), config.replicas))
    for replica in range(config.replicas):
        start = np.asarray(
            jax.random.normal(core.named_key(key, "start", replica), (config.largest, DIM))
        )
        heads = core.named_key(key, "heads", replica)
        run = {"key": heads, "normalize": True}
        large = chain.simulate(start, **run).tokens[0, -1]
        for s, size in enumerate(config.sizes):
            small = chain.simulate(start[:size], **run).tokens[0, -1]
            errors[s, replica] = np.sqrt(np.mean(np.sum((small - large[:size]) ** 2, axis=-1)))
    return xr.Dataset(
        {"error": (("size", "replica"), errors, {"long_name": "rms distance of a token"})},
        coords={"size": ("size", list(config.sizes), {"long_name": "tokens $n$"})},
        attrs={"largest": config.largest, "reference": common.REFERENCE},
    )


def _fit(chaos: xr.Dataset) -> Any:
    # A system of n shares n / N of its error with the large one; divided out.
    share = 1.0 - chaos["size"].values / chaos.attrs["largest"]
    rows = chaos["error"].transpose("size", "replica").values / np.sqrt(share)[:, None]
    return core.fit_rate(chaos["size"].values, rows, paired=True)


def _figure_density(results: Results) -> FigureSpec:
    cells = [results[f"circle/noise={one}"] for one in NOISES]
    top = max(float(np.nanmax(cell["density"].values)) for cell in cells)

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(cells), sharey=True)
        images = []
        for index, (ax, cell) in enumerate(zip(axes, cells, strict=True)):
            image = ax.pcolormesh(
                cell["time"],
                np.degrees(cell["node"]),
                cell["density"].transpose("node", "layer"),
                cmap="magma",
                vmin=0.0,
                vmax=top,
                shading="nearest",
                rasterized=True,
            )
            images.append(image)
            ax.set_title(f"noise realisation {index + 1}", fontsize="medium")
            ax.set_xlabel(common.TAU)
            ax.set_yticks([0, 90, 180, 270, 360])
        axes[0].set_ylabel("angle $\\phi$ (degrees)")
        figure.colorbar(images[0], ax=axes, label="density per radian")

    rows = tuple(
        (index + 1, float(t), float(re), float(im))
        for index, cell in enumerate(cells)
        for t, (re, im) in zip(cell["time"].values, cell["moment"].values.T, strict=True)
    )
    return FigureSpec(
        name="density",
        title="Infinitely many tokens on the circle under two noise realisations",
        caption="Density of the tokens' angle along depth from $(1 + 0.6\\cos\\phi)/2\\pi$ at "
        f"$\\beta = {BETA:g}$, one column a layer: the same equation and start, two sequences of "
        "random heads. White: the grid no longer resolves the law.",
        draw=draw,
        table=Table(("noise", "tau", "Re E e^{i phi}", "Im E e^{i phi}"), rows),
        shown=len(cells),
        size=(9.5, 3.9),
    )


def _figure_chaos(config: Config, chaos: xr.Dataset) -> FigureSpec:
    import xarray as xr

    share = np.sqrt(1.0 - chaos["size"].values / chaos.attrs["largest"])
    rows = chaos["error"].transpose("size", "replica").values / share[:, None]
    rms = np.sqrt(np.mean(rows**2, axis=1))
    stderr = np.std(rows**2, axis=1, ddof=1) / np.sqrt(rows.shape[1]) / (2 * rms)
    coords = {"size": chaos["size"]}

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        figures.plot_convergence(
            xr.DataArray(rms, dims="size", coords=coords),
            xr.DataArray(stderr, dims="size", coords=coords),
            ax,
            fit=_fit(chaos),
            predicted_rate=-0.5,
            ylabel="rms distance of a token",
        )
        ax.set_yticks(rms, [f"{value:.2g}" for value in rms])

    return FigureSpec(
        name="chaos",
        title="Tokens of small and large systems under the same heads",
        caption=f"Distance of a token in a system of $n$ to itself in one of {config.largest}, "
        f"$d = {DIM}$, score deviation {SCORE_STD:g}, diffusive time {TIME:g}; {config.replicas} "
        "sequences of heads, bars of one standard error. The share $n/N$ that both systems have in "
        "common is divided out.",
        draw=draw,
        table=Table(
            ("tokens", "rms distance", "stderr"),
            tuple(
                (int(n), float(r), float(s))
                for n, r, s in zip(chaos["size"].values, rms, stderr, strict=True)
            ),
        ),
        shown=config.replicas * len(config.sizes),
    )


EXPERIMENT = CommonNoise(
    name="koubbi2026/common-noise",
    title="Infinitely many tokens under common noise",
    summary="The heads of a layer act on all tokens at once, so their randomness does not average "
    "out over tokens: infinitely many tokens have a random law. On the circle its density is "
    "solved layer by layer for two sequences of heads and held against particles; on the sphere "
    "tokens of small systems approach those of a large one with the same heads.",
    citations=("koubbi2026", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(clouds=1000, largest=1024, sizes=(16, 32, 64, 128, 256), replicas=40),
        "paper": Config(clouds=4000, largest=2048, sizes=(16, 32, 64, 128, 256, 512), replicas=200),
    },
)
