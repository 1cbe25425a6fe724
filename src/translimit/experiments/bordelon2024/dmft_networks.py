r"""Finite transformers approach their training dynamics in the limit, as one of their sizes grows.

The problem (data, architecture, gradient descent) is the configuration's: `translimit dmft CONFIG`
runs this experiment. Networks are trained seed by seed, and the limit is solved, not simulated:

- `axis="heads"`: H grows, the limit has infinitely many heads;
- `axis="head_dim"`: N grows at fixed H and alpha_A = 1, the limit has infinite head dimension;
- `axis="layers"`: L grows at alpha_L = 1, and H in proportion; the limit is the depth ODE.

With E f_n = f + b / n + O(1 / n^2) and Var f_n = v / n in the size n,

- a single network's squared distance falls like 1 / n,
- the mean over seeds, extrapolated as 2 mean(2n) - mean(n), is the limit within its error,
- so is the residual kernel, and the law of attention over heads.

Distances are averaged over evaluations and inputs before errors are taken: entries of one network
are nearly one common mode. With `without` a second limit leaves one response out, and misses.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from translimit import core, figures
from translimit.core import Claim, ConfigError, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.bordelon2024.limit_and_networks import (
    Problem,
    distances,
    extrapolated_gap,
    solve_limit,
    spread_gap,
    train_networks,
)
from translimit.experiments.bordelon2024.tasks import REFERENCE
from translimit.experiments.checked import Count, Doubled, Four, Positive

if TYPE_CHECKING:
    import xarray as xr

#: By axis: its symbol in figures and cell names, and what it is called.
SYMBOLS = {"heads": "H", "head_dim": "N", "layers": "L"}
LABELS = {"heads": "heads $H$", "head_dim": "head dimension $N$", "layers": "layers $L$"}
#: By how much the limit without a response must miss the networks.
MISS = 0.05


@dataclass(frozen=True)
class Config(Problem):
    """The problem, and the networks that approach its limit.

    Attributes:
        axis: the size that grows.
        sizes: its values, each twice the one before.
        heads: H where another size grows; of the first network where layers grow.
        seeds: networks of each size.
        tol: the largest gap of predictions (absolute) and kernels (relative) that is agreement.
        without: a response ("R_v", "R_p", "R_h", "R_g") that a second limit leaves out, or "none".
    """

    axis: Literal["heads", "head_dim", "layers"] = "heads"
    sizes: Doubled = (8, 16, 32, 64)
    heads: Count = 16
    seeds: Four = 1500
    tol: Positive = 0.02
    without: Literal["none", "R_v", "R_p", "R_h", "R_g"] = "none"

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        self.require_networks()
        if self.axis != "head_dim":
            self.require_samples()
        if self.axis == "head_dim" and self.alpha_A < 1:
            raise ConfigError(
                "axis", f"head_dim has no limit at alpha_A = {self.alpha_A:g}", "pass alpha_A = 1"
            )
        if self.axis == "layers" and self.alpha_L < 1:
            raise ConfigError(
                "axis",
                f"layers has no depth ODE at alpha_L = {self.alpha_L:g}",
                "pass alpha_L = 1, or grow the heads at finite layers",
            )

    def infinite(self) -> dict[str, float]:
        """The sizes of the limit that are infinite besides the heads."""
        return {} if self.axis == "heads" else {self.axis: math.inf}

    def network(self, size: int) -> dict[str, Any]:
        """The sizes of a network."""
        if self.axis == "heads":
            return {"heads": size}
        if self.axis == "head_dim":
            return {"heads": self.heads, "head_dim": size}
        return {"heads": self.heads * size // self.sizes[0], "layers": size}

    def cell(self, size: int) -> str:
        """The name of the cell of a size."""
        return f"networks/{SYMBOLS[self.axis]}={size}"


@dataclass(frozen=True)
class NetworksAndLimit(AbstractExperiment[Config]):
    """See the module's docstring.

    Attributes:
        checked: the names of the claims of its presets.
    """

    checked: tuple[str, ...] = field(default=("rate", "predictions", "kernel", "attention"))

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Passes of the limit, or networks of one size."""
        if "size" not in cell.parameters:
            cells = 28 if config.axis == "layers" else None
            return Cost(config.limit_seconds(cells=cells), config.limit_bytes(cells=cells))
        network = config.network(cell.parameters["size"])
        return Cost(
            config.networks_seconds(seeds=config.seeds, **network),
            config.networks_bytes(seeds=config.seeds, **network),
        )

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The limit, perhaps one with a response left out, and networks of each size."""
        of_file = config.file_digest()
        data = {"data": of_file} if of_file else {}
        limits = [Cell("limit", data)]
        if config.without != "none":
            limits.append(Cell("limit-without", {**data, "omit": config.without}))
        networks = (Cell(config.cell(size), {**data, "size": size}) for size in config.sizes)
        return (*limits, *networks)

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """What is checked."""
        return self.checked

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """One limit, or all networks of one size."""
        if cell.name.startswith("limit"):
            omit = cell.parameters.get("omit")
            return solve_limit(config, cell.shared_key("limit"), omit=omit, **config.infinite())
        network = config.network(cell.parameters["size"])
        return train_networks(config, key, seeds=config.seeds, **network)

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Rate, extrapolated means, law of attention, and what a missing response does."""
        limit = results["limit"]
        nets = [results[config.cell(size)] for size in config.sizes]
        last, previous = nets[-1], nets[-2]
        errors = [distances(net, limit) for net in nets]
        if not all(np.isfinite(row).all() for row in errors):
            raise ConfigError(
                "eta0",
                "networks or the limit diverged: their predictions are not finite",
                "pass a smaller one, or smaller beta0, gamma0 or momentum",
            )
        rate = core.fit_rate(config.sizes, errors)
        symbol = SYMBOLS[config.axis]
        low, high = config.sizes[-2:]
        deep = config.axis == "layers"
        claims = [
            Claim(
                name="rate",
                statement="The distance of one network's predictions from the limit falls "
                + ("at least " if deep else "")
                + f"like ${symbol}^{{-1/2}}$.",
                prediction=-0.5,
                estimate=rate.estimate(),
                tol=0.1,
                reference=REFERENCE,
                one_sided=deep,  # the bias of order 1 / L adds to the fluctuations
            ),
            Claim(
                name="predictions",
                statement=f"Predictions, extrapolated from ${symbol} = {low}$ and {high}, are "
                "those of the limit (mean over evaluations and inputs, towards the targets).",
                prediction=0.0,
                estimate=extrapolated_gap(last, previous, limit, "predictions"),
                tol=config.tol,
                reference=REFERENCE,
            ),
        ]
        if not deep:  # kernels of the depth ODE are those of its cells, not extrapolated
            claims.append(
                Claim(
                    name="kernel",
                    statement="So is the pooled residual kernel $\\langle \\bar m \\bar m "
                    "\\rangle$ (mean over evaluations and inputs, relative).",
                    prediction=0.0,
                    estimate=extrapolated_gap(last, previous, limit, "kernel"),
                    tol=config.tol,
                    reference=REFERENCE,
                )
            )
        if config.axis == "heads":
            claims.append(
                Claim(
                    name="attention",
                    statement="After training, the 10-90 % spread of a logit over heads at "
                    f"$H = {high}$ is that of the limit (relative difference).",
                    prediction=0.0,
                    estimate=spread_gap(last, limit),
                    tol=0.1,
                    reference=REFERENCE,
                )
            )
        if config.without != "none":
            wrong = extrapolated_gap(last, previous, results["limit-without"], "predictions")
            claims.append(
                Claim(
                    name="response",
                    statement=f"Without the response {_tex(config.without)} of the stream the "
                    f"limit misses the networks by at least {MISS:g}.",
                    prediction=MISS,
                    estimate=Estimate(min(MISS, abs(wrong.value)), wrong.stderr, wrong.count),
                    tol=0.01,
                    reference=REFERENCE,
                )
            )
        return claims

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Loss curves, errors against the size, and the law of attention."""
        figures = [_curves_figure(config, results), _errors_figure(config, results)]
        if config.axis == "heads":
            figures.append(_law_figure(config, results))
        return figures


def _tex(response: str) -> str:
    return f"$R^{response[-1]}$"


def _curves_figure(config: Config, results: Results) -> FigureSpec:
    limit, symbol = results["limit"], SYMBOLS[config.axis]
    sizes = config.sizes[0], config.sizes[-1]
    nets = [results[config.cell(size)] for size in sizes]
    without = results["limit-without"]["loss"].values if config.without != "none" else None

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        steps = np.arange(config.steps)
        for i, (size, net) in enumerate(zip(sizes, nets, strict=True)):
            low, middle, high = np.quantile(net["loss"].values, (0.1, 0.5, 0.9), axis=0)
            colour = figures.COLOURS[i]
            ax.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
            label = f"networks, ${symbol} = {size}$"
            ax.plot(steps, middle, label=label, **figures.marked(i, len(steps)))
        ax.plot(steps, limit["loss"].values, color=figures.LIMIT, label="limit", linewidth=1.8)
        if without is not None:
            label = f"limit without {_tex(config.without)}"
            ax.plot(steps, without, "--", color=figures.LIMIT, label=label)
        ax.set_yscale("log")
        figures.finish(ax, xlabel="updates", ylabel="loss")

    rows = [
        (int(t), float(limit["loss"][t]), *(float(np.median(net["loss"][:, t])) for net in nets))
        for t in range(config.steps)
    ]
    dashed = "" if without is None else " and the limit without one of its responses (dashed)"
    return FigureSpec(
        name="loss",
        title="Loss of networks and of the limit",
        caption=f"Median and 10-90 % band over {config.seeds} networks of each size, the limit "
        f"(line){dashed}. Nothing is fitted.",
        draw=draw,
        table=Table(
            ("updates", "limit", *(f"median, {symbol}={size}" for size in sizes)), tuple(rows)
        ),
        shown=len(sizes),
    )


def _errors_figure(config: Config, results: Results) -> FigureSpec:
    limit = results["limit"]
    errors = [distances(results[config.cell(size)], limit) for size in config.sizes]
    rate = core.fit_rate(config.sizes, errors)
    rms = [float(np.sqrt(np.mean(row**2))) for row in errors]
    stderr = [
        float((row**2).std(ddof=1) / (2 * size * math.sqrt(row.size)))
        for row, size in zip(errors, rms, strict=True)
    ]

    def draw(figure: Any) -> None:
        import xarray as xr

        sizes = ("size", list(config.sizes), {"long_name": LABELS[config.axis]})
        error, bars = (xr.DataArray(v, dims="size", coords={"size": sizes}) for v in (rms, stderr))
        figures.plot_convergence(error, bars, figure.subplots(), fit=rate, predicted_rate=-0.5)

    rows = tuple(zip(config.sizes, rms, stderr, strict=True))
    return FigureSpec(
        name="rate",
        title="Distance of one network from the limit",
        caption="Rms distance of predictions over evaluations, inputs and "
        f"{config.seeds} networks of each size, with its standard error.",
        draw=draw,
        table=Table((config.axis, "rms distance", "standard error"), rows),
        shown=len(rms),
    )


def _law_figure(config: Config, results: Results) -> FigureSpec:
    limit = results["limit"]["score"].values
    H = config.sizes[-1]
    net = results[config.cell(H)]["score"].values
    pooled = [net[:, t].ravel() for t in (0, -1)]
    edges = np.quantile(np.abs(pooled[1]), 0.995) * np.linspace(-1, 1, 41)
    counts = [np.histogram(one, edges, density=True)[0] for one in pooled]
    density = [np.histogram(limit[t], edges, density=True)[0] for t in (0, -1)]

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        titles = "at the start", f"after {config.steps - 1} updates"
        for ax, heights, line, title in zip(axes, counts, density, titles, strict=True):
            label = f"networks, $H = {H}$"
            ax.stairs(heights, edges, fill=True, color=figures.COLOURS[0], alpha=0.4, label=label)
            ax.stairs(line, edges, color=figures.LIMIT, label="limit")
            ax.set_yscale("log")
            figures.finish(ax, xlabel="logit over heads", ylabel="density", title=title)

    centres = (edges[1:] + edges[:-1]) / 2
    rows = zip(centres, counts[0], density[0], counts[1], density[1], strict=True)
    names = ("networks, start", "limit, start", "networks, end", "limit, end")
    return FigureSpec(
        name="attention",
        title="Law of a logit over heads",
        caption="The logit of the second token on the first, first input; all heads of all "
        f"networks against {limit.shape[1]} heads of the limit. Its tails are those of a "
        "quadratic form: excess kurtosis is 6 / head dimension at the start.",
        draw=draw,
        table=Table(("score", *names), tuple(tuple(map(float, row)) for row in rows)),
        shown=2,
        size=(9.0, 4.0),
    )


#: Windows of eight bytes of English prose: does a word end here? A decoder with an MLP.
_TEXT = Config(
    task="text",
    inputs=4,
    tokens=8,
    dim=16,
    mlp="tanh",
    causal=True,
    beta0=1.0,
    gamma0=1.0,
    eta0=0.1,
    steps=10,
    samples=3000,
    neurons=6000,
    populations=6,
    sizes=(8, 16, 32),
    seeds=5000,
    tol=0.03,
)

EXPERIMENT = NetworksAndLimit(
    name="bordelon2024/dmft-networks",
    title="Networks of growing size against their training dynamics in the limit, on any data",
    summary="Any data and any architecture of the theory, given by the configuration: networks "
    "whose heads, head dimension or layers grow, and the limit, solved in one causal pass. The "
    "presets learn whether a word of English prose ends after eight bytes; translimit dmft "
    "CONFIG runs it on a file of your own.",
    citations=("bordelon2024", "jax"),
    presets={
        "demo": Config(
            task="synthetic",
            inputs=2,
            tokens=2,
            dim=8,
            steps=8,
            samples=1000,
            populations=6,
            sizes=(8, 16, 32),
            seeds=6000,
        ),
        "standard": _TEXT,
        "paper": replace(
            _TEXT,
            inputs=8,
            layers=2,
            norm="rms",
            steps=16,
            samples=4000,
            neurons=8000,
            populations=8,
            sizes=(8, 16, 32, 64, 128),
            seeds=1000,
            tol=0.02,
        ),
    },
)
