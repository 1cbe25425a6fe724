r"""Finite transformers approach their training dynamics in the limit of infinitely many heads.

A few digits, cut into patches, are learned by networks of H heads, seed by seed, and by the
limit, which is solved and not simulated. With E f_H = f + b / H + O(1 / H^2) and Var f_H = v / H:

- a single network's squared distance falls like 1 / H,
- the mean over seeds, extrapolated as 2 mean(2H) - mean(H), is the limit within its error,
- so is the residual kernel, and the law of attention over heads.

Distances are averaged over evaluations and inputs before errors are taken: entries of one network
are nearly one common mode. `limit-without` leaves one response out of the limit, and is far away.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from translimit import core, data, describe, figures, limits, models, scaling, train
from translimit.core import Claim, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.bordelon2024.tasks import REFERENCE, two_digits

if TYPE_CHECKING:
    import xarray as xr

#: The entry of attention whose law over heads is followed: input, query, key.
PLACE = (0, 0, 1)


@dataclass(frozen=True)
class Config:
    """Sizes of the study.

    Attributes:
        heads: heads of the networks, each twice the one before.
        seeds: networks of each.
        head_dim: N.
        layers: L.
        per_class: digits of each of the two classes.
        steps: evaluations.
        eta0: learning rate.
        beta0: branch multiplier.
        gamma0: richness.
        samples: sampled heads of a population of the limit.
        populations: populations of the limit.
    """

    heads: tuple[int, ...] = (8, 16, 32, 64)
    seeds: int = 1500
    head_dim: int = 2
    layers: int = 1
    per_class: int = 2
    steps: int = 12
    eta0: float = 0.1
    beta0: float = 1.5
    gamma0: float = 1.5
    samples: int = 4000
    populations: int = 8


class Heads(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cost(self, config: Config) -> Cost:
        """Passes of the limit, and networks."""
        history = config.steps * 8 * config.per_class
        limit = 2e-9 * config.layers * config.samples * config.head_dim * history**2
        networks = sum((H * config.head_dim) ** 2 for H in config.heads)
        finite = 4e-7 * config.layers * networks * config.seeds * config.steps / 10
        return Cost(60.0 + 2 * config.populations * limit + finite, 2e9)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The limit, the limit with a response left out, and networks of each size."""
        networks = tuple(Cell(f"networks/H={H}", {"heads": H}) for H in config.heads)
        return (Cell("limit"), Cell("limit-without", {"omit": "R_h"}), *networks)

    def claim_names(self) -> tuple[str, ...]:
        """What is checked."""
        return ("rate", "predictions", "kernel", "attention", "response")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """One limit, or all networks of one size."""
        if cell.name.startswith("limit"):
            return _limit(config, cell, core.named_key(key, "limit"))
        return _networks(config, cell.parameters["heads"], core.named_key(key, cell.name))

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Rate, extrapolated means, law of attention, and what a missing response does."""
        limit = results["limit"]
        nets = [results[f"networks/H={H}"] for H in config.heads]
        last, previous = nets[-1], nets[-2]
        errors = [_distances(net, limit) for net in nets]
        rate = core.fit_rate(config.heads, errors)
        f = _common_mode(last, previous, limit, "predictions")
        wrong = _common_mode(last, previous, results["limit-without"], "predictions")
        kernel = _common_mode(last, previous, limit, "kernel")
        H = config.heads[-1]
        return [
            Claim(
                name="rate",
                statement="The distance of one network's predictions from the limit falls like "
                "$H^{-1/2}$.",
                prediction=-0.5,
                estimate=rate.estimate(),
                tol=0.1,
                reference=REFERENCE,
            ),
            Claim(
                name="predictions",
                statement=f"Predictions, extrapolated from $H = {config.heads[-2]}$ and {H}, are "
                "those of the limit (mean over evaluations and inputs, towards the targets).",
                prediction=0.0,
                estimate=f,
                tol=0.02,
                reference=REFERENCE,
            ),
            Claim(
                name="kernel",
                statement="So is the pooled residual kernel $\\langle \\bar m \\bar m \\rangle$ "
                "(mean over evaluations and inputs, relative).",
                prediction=0.0,
                estimate=kernel,
                tol=0.02,
                reference=REFERENCE,
            ),
            Claim(
                name="attention",
                statement=f"After training, the 10-90 % spread of a logit over heads at $H = {H}$ "
                "is that of the limit (relative difference).",
                prediction=0.0,
                estimate=_spread(last, limit),
                tol=0.1,
                reference=REFERENCE,
            ),
            Claim(
                name="response",
                statement="Without the response $R^h$ of the stream the limit misses the networks "
                "by at least 0.05.",
                prediction=0.05,
                estimate=Estimate(min(0.05, abs(wrong.value)), wrong.stderr, wrong.count),
                tol=0.01,
                reference=REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Loss curves, errors against heads, and the law of attention."""
        return [
            _curves_figure(config, results),
            _errors_figure(config, results),
            _law_figure(config, results),
        ]


def _limit(config: Config, cell: Cell, key: Any) -> xr.Dataset:
    import xarray as xr

    inputs, targets = two_digits(config.per_class)
    architecture = limits.dmft.Architecture(
        head_dim=config.head_dim, layers=config.layers, beta0=config.beta0, gamma0=config.gamma0
    )
    problem = limits.dmft.Training(
        architecture=architecture,
        inputs=inputs,
        targets=targets,
        steps=config.steps,
        eta0=config.eta0,
    )
    omit = cell.parameters.get("omit")
    method = limits.dmft.CausalSampling(
        heads=config.samples, populations=config.populations, omit=(omit,) if omit else ()
    )
    solution = core.solve(problem, method, key=key)
    end = solution.layers
    # Entries of the kernel move together at worst: their mean error bounds that of the mean.
    kernel, kernel_stderr = (
        np.einsum("tptq->tpq", x.mean(axis=(2, 5)))
        for x in (solution.kernel(end), solution.kernel_stderr(end))
    )
    law = solution.attention(0).logits[:, :, *PLACE]
    return xr.Dataset(
        {
            "predictions": (("step", "sample"), solution.predictions),
            "predictions_stderr": (("step", "sample"), solution.stderr),
            "kernel": (("step", "sample", "sample2"), kernel),
            "kernel_stderr": (("step", "sample", "sample2"), kernel_stderr),
            "loss": (("step",), solution.loss),
            "logit": (("step", "head"), law),
        },
        attrs={"reference": REFERENCE, "sharpness": float(np.max(solution.sharpness))},
    )


def _networks(config: Config, heads: int, key: Any) -> xr.Dataset:
    import xarray as xr

    inputs, targets = two_digits(config.per_class)
    P, S, D = inputs.shape
    shape = describe.TransformerShape(
        head_dim=config.head_dim,
        heads=heads,
        layers=config.layers,
        tokens=S,
        outputs=1,
        patch_dim=D,
        mlp_ratio=0.0,
        norm=None,
        gains=False,
        biases=False,
        positions=None,
    )
    numbers = scaling.paper_parameterization(
        shape.size,
        beta0=config.beta0,
        gamma0=config.gamma0,
        eta0=config.eta0,
        pixels=D,
    )
    training = train.Training(
        steps=config.steps - 1,
        rates=(1.0,),
        seeds=config.seeds,
        batch=P,
        optimizer=train.Optimizer(name="sgd"),
        loss="mse",
    )
    history = train.train(
        shape,
        numbers,
        data.Examples(inputs, targets[:, None]),
        training,
        key=key,
        observe=(
            train.Predictions(),
            train.StreamKernel(),
            train.AttentionLaw(places=(PLACE,)),
        ),
        observe_at=tuple(range(config.steps)),
        probe=P,
    )
    f = np.moveaxis(history["predictions"][:, :, 0, :, 0], 0, 1)
    kernel = np.moveaxis(history["stream_kernel"][:, :, 0, -1], 0, 1)
    logit = np.moveaxis(history["logit"][:, :, 0, 0, :, 0], 0, 1)
    loss = np.mean((targets - f) ** 2, axis=-1) / 2
    return xr.Dataset(
        {
            "predictions": (("seed", "step", "sample"), f),
            "kernel": (("seed", "step", "sample", "sample2"), kernel),
            "loss": (("seed", "step"), loss),
            "logit": (("seed", "step", "head"), logit),
        },
        attrs={"reference": REFERENCE, "heads": heads, "model": models.Transformer.__name__},
    )


def _distances(net: xr.Dataset, limit: xr.Dataset) -> np.ndarray:
    """Rms distance of each network's predictions from the limit."""
    gap = net["predictions"].values - limit["predictions"].values
    return np.sqrt(np.mean(gap**2, axis=(1, 2)))


def _weights(limit: xr.Dataset, name: str) -> np.ndarray:
    """What an average over evaluations and inputs weighs each entry with."""
    value = limit[name].values
    if name == "predictions":
        return np.sign(value[-1]) * np.ones_like(value) / value.size
    return np.sign(value) / np.sum(np.abs(value))


def _common_mode(last: xr.Dataset, previous: xr.Dataset, limit: xr.Dataset, name: str) -> Estimate:
    """2 mean(2H) - mean(H) minus the limit, averaged before its error is taken."""
    weights = _weights(limit, name)
    axes = tuple(range(1, weights.ndim + 1))
    fine, coarse = (np.sum(net[name].values * weights, axis=axes) for net in (last, previous))
    value = 2 * fine.mean() - coarse.mean() - np.sum(limit[name].values * weights)
    variance = 4 * fine.var(ddof=1) / fine.size + coarse.var(ddof=1) / coarse.size
    floor = float(np.sum(limit[f"{name}_stderr"].values * np.abs(weights)))
    return Estimate(float(value), float(np.hypot(np.sqrt(variance), floor)), fine.size)


def _spread(net: xr.Dataset, limit: xr.Dataset) -> Estimate:
    """Relative difference of the 10-90 % spreads at the end, with a bootstrap over seeds."""

    def spread(logits: np.ndarray) -> float:
        low, high = np.quantile(logits, (0.1, 0.9))
        return float(high - low)

    ends = net["logit"].values[:, -1]
    target = spread(limit["logit"].values[-1])
    draws = np.random.default_rng(0).integers(len(ends), size=(200, len(ends)))
    spreads = np.array([spread(ends[draw]) for draw in draws])
    heads = limit["logit"].shape[1]
    # A quantile spread of n heads has a relative error of about 1.2 / sqrt(n).
    stderr = np.hypot(spreads.std(ddof=1) / target, 1.2 / heads**0.5)
    return Estimate(spread(ends) / target - 1, float(stderr), len(ends))


def _curves_figure(config: Config, results: Results) -> FigureSpec:
    limit = results["limit"]
    H = config.heads[0], config.heads[-1]
    nets = [results[f"networks/H={h}"] for h in H]

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        steps = np.arange(config.steps)
        for i, (h, net) in enumerate(zip(H, nets, strict=True)):
            low, middle, high = np.quantile(net["loss"].values, (0.1, 0.5, 0.9), axis=0)
            colour = figures.COLOURS[i]
            ax.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
            ax.plot(steps, middle, color=colour, label=f"networks, $H = {h}$")
        ax.plot(steps, limit["loss"].values, color=figures.LIMIT, label="limit", linewidth=1.8)
        wrong = results["limit-without"]["loss"].values
        ax.plot(steps, wrong, "--", color=figures.LIMIT, label="limit without $R^h$")
        ax.set_yscale("log")
        figures.finish(ax, xlabel="updates", ylabel="loss")

    rows = [
        (int(t), float(limit["loss"][t]), *(float(np.median(net["loss"][:, t])) for net in nets))
        for t in range(config.steps)
    ]
    return FigureSpec(
        name="loss",
        title="Loss of networks and of the limit",
        caption=f"Median and 10-90 % band over {config.seeds} networks of each size, the limit "
        "(line) and the limit without one of its responses (dashed). Nothing is fitted.",
        draw=draw,
        table=Table(("updates", "limit", *(f"median, H={h}" for h in H)), tuple(rows)),
        shown=len(H),
    )


def _errors_figure(config: Config, results: Results) -> FigureSpec:
    limit = results["limit"]
    nets = [results[f"networks/H={H}"] for H in config.heads]
    errors = [_distances(net, limit) for net in nets]
    rate = core.fit_rate(config.heads, errors)

    rms = [float(np.sqrt(np.mean(row**2))) for row in errors]
    stderr = [r.std(ddof=1) / 2 / np.sqrt(np.mean(r**2) * r.size) for r in errors]

    def draw(figure: Any) -> None:
        import xarray as xr

        heads = ("heads", list(config.heads), {"long_name": "heads $H$"})
        error, bars = (
            xr.DataArray(v, dims="heads", coords={"heads": heads}) for v in (rms, stderr)
        )
        figures.plot_convergence(error, bars, figure.subplots(), fit=rate, predicted_rate=-0.5)

    return FigureSpec(
        name="rate",
        title="Distance of one network from the limit",
        caption="Rms distance of predictions over evaluations, inputs and "
        f"{config.seeds} networks of each size.",
        draw=draw,
        table=Table(("heads", "rms distance"), tuple(zip(config.heads, rms, strict=True))),
        shown=len(rms),
    )


def _law_figure(config: Config, results: Results) -> FigureSpec:
    limit = results["limit"]["logit"].values
    net = results[f"networks/H={config.heads[-1]}"]["logit"].values
    pooled = [net[:, t].ravel() for t in (0, -1)]
    edges = np.quantile(np.abs(pooled[1]), 0.995) * np.linspace(-1, 1, 41)
    counts = [np.histogram(one, edges, density=True)[0] for one in pooled]
    density = [np.histogram(limit[t], edges, density=True)[0] for t in (0, -1)]

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        titles = "at the start", f"after {config.steps - 1} updates"
        for ax, heights, line, title in zip(axes, counts, density, titles, strict=True):
            label = f"networks, $H = {config.heads[-1]}$"
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
        caption="The logit of the first token on the second, first input; all heads of all "
        f"networks against {limit.shape[1]} heads of the limit. Its tails are those of a "
        "quadratic form: excess kurtosis is 6 / head dimension at the start.",
        draw=draw,
        table=Table(("logit", *names), tuple(tuple(map(float, row)) for row in rows)),
        shown=2,
        size=(9.0, 4.0),
    )


EXPERIMENT = Heads(
    name="bordelon2024/dmft-heads",
    title="Networks in the number of heads against their training dynamics in the limit",
    summary="A few digits are learned by transformers of $H$ heads and by the limit "
    "$H \\to \\infty$, solved in one causal pass. Distances fall like $H^{-1/2}$, and means over "
    "seeds, extrapolated in $1/H$, are the limit within their errors.",
    citations=("bordelon2024", "jax"),
    presets={
        "demo": Config(heads=(8, 16, 32), steps=10, samples=2000, populations=6),
        "standard": Config(),
        "paper": Config(heads=(8, 16, 32, 64, 128), per_class=4, steps=20, layers=2),
    },
)
