r"""What the infinite network learns and finite ones only approximate: digits it has not seen.

A few digits are learned, others are only looked at: inputs of weight zero in the limit. Finite
networks scatter around what the limit says of unseen digits, and pay for it with test loss; in
the mean over networks, extrapolated in 1/H, loss and features are those of the limit.

Feature learning is measured by the alignment y^T K y / (|y|^2 |K|) of the pooled residual kernel
on the unseen digits with their labels.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training dynamics".
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import core, figures, limits
from translimit.core import Claim, ConfigError, Estimate
from translimit.experiments.base import (
    AbstractExperiment,
    Cell,
    Cost,
    FigureSpec,
    Results,
    Table,
)
from translimit.experiments.bordelon2024.limit_and_networks import Problem, train_networks
from translimit.experiments.bordelon2024.tasks import DIGITS_PER_CLASS, REFERENCE, two_digits
from translimit.experiments.checked import Doubled, Four, MultipleOf, Within

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Config(Problem):
    """The problem on `inputs` digits, and what is looked at.

    Attributes:
        unseen: digits that are not trained, half of each class.
        heads: H, each twice the one before.
        seeds: networks of each.
    """

    unseen: Annotated[int, Within(2), MultipleOf(2)] = 8
    heads: Doubled = (8, 16, 32, 64)
    seeds: Four = 4000

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if self.task != "digits":
            raise ConfigError("task", f"got {self.task!r}", "leave it at digits")
        if self.inputs + self.unseen > 2 * DIGITS_PER_CLASS:
            raise ConfigError(
                "unseen",
                f"got {self.unseen} beside inputs = {self.inputs}",
                f"pass at most {2 * DIGITS_PER_CLASS} together",
            )
        self.require_networks()
        self.require_samples(unseen=self.unseen)

    def observed(self) -> Problem:
        """The problem of the limit, with the digits that are not trained."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(Problem)}
        return Problem(**{**own, "inputs": self.inputs + self.unseen})

    def shown(self) -> tuple[np.ndarray, np.ndarray]:
        """Digits that are trained, then those that are not, and their labels."""
        trained, new = self.inputs // 2, self.unseen // 2
        x, y = two_digits(trained + new)
        kinds = np.split(np.arange(len(y)), 2)
        order = np.concatenate([k[:trained] for k in kinds] + [k[trained:] for k in kinds])
        return x[order], y[order]


class Learned(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """The limit with more inputs, or networks of one size."""
        if "heads" in cell.parameters:
            size = cell.parameters["heads"], config.seeds
            return Cost(config.networks_seconds(*size), config.networks_bytes(*size))
        limit = config.observed()
        return Cost(limit.limit_seconds(), limit.limit_bytes())

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """The limit, and networks of each size."""
        return (Cell("limit"), *(Cell(f"networks/H={n}", {"heads": n}) for n in config.heads))

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """What is checked."""
        return ("test-loss", "scatter", "bias", "alignment")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Predictions and kernels on all digits, trained ones first."""
        import xarray as xr

        x, y = config.shown()
        if cell.name != "limit":
            heads = cell.parameters["heads"]
            return train_networks(
                config,
                key,
                heads=heads,
                seeds=config.seeds,
                shown=(x, y),
            )
        weights = np.where(np.arange(len(y)) < config.inputs, 1 / config.inputs, 0.0)
        problem = limits.dmft.TrainingDynamics(
            architecture=config.limit().architecture,
            inputs=x,
            targets=y,
            steps=config.steps,
            eta0=config.eta0,
            weights=weights,
        )
        solution = core.solve(problem, config.method(problem), key=key)
        kernel = np.einsum("tptq->tpq", solution.kernel(solution.layers).mean(axis=(2, 5)))
        return xr.Dataset(
            {
                "predictions": (("step", "sample", "output"), solution.predictions[..., None]),
                "stderr": (("step", "sample", "output"), solution.stderr[..., None]),
                "kernel": (("step", "sample", "sample2"), kernel),
                "target": (("sample",), y),
            },
            attrs={"reference": REFERENCE},
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """Loss, scatter and alignment on unseen digits."""
        limit = results["limit"]
        nets = [results[f"networks/H={n}"] for n in config.heads]
        losses = [_test_loss(config, limit, net) for net in nets]
        own = float(_test_loss(config, limit, None)[0])
        floor = float(np.max(limit["stderr"].values[-1]))
        low, high = config.heads[-2:]
        scatter = [_scatter(config, net) for net in nets]
        aligned = [_alignment(config, limit, net) for net in nets[-2:]]
        ends = [_alignment(config, limit, None, step)[0] for step in (0, -1)]
        return [
            Claim(
                name="test-loss",
                statement="The loss on unseen digits, extrapolated over networks from "
                f"$H = {low}$ and {high}, is that of the limit.",
                prediction=0.0,
                estimate=_difference(losses[-1], losses[-2], own, floor),
                tol=0.02,
                reference=REFERENCE,
            ),
            Claim(
                name="scatter",
                statement="Predictions of unseen digits scatter over networks like $H^{-1/2}$.",
                prediction=-0.5,
                estimate=core.fit_rate(config.heads, scatter).estimate(),
                tol=0.1,
                reference=REFERENCE,
            ),
            Claim(
                name="bias",
                statement="What no ensemble averages away, the distance of the mean over networks "
                "from the limit on unseen digits, falls like $1/H$.",
                prediction=-1.0,
                estimate=_bias_exponent(config, limit, nets),
                tol=0.3,
                reference=REFERENCE,
            ),
            Claim(
                name="alignment",
                statement="The alignment of the residual kernel with the labels of unseen digits "
                f"(limit: {ends[0]:.3f} at the start, {ends[1]:.3f} at the end), extrapolated "
                "over networks, is that of the limit.",
                prediction=0.0,
                estimate=_difference(aligned[1], aligned[0], float(ends[1]), 0.0),
                tol=0.02,
                reference=REFERENCE,
            ),
        ]

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Loss and alignment on unseen digits against heads."""
        limit = results["limit"]
        nets = [results[f"networks/H={n}"] for n in config.heads]
        losses = [_test_loss(config, limit, net) for net in nets]
        own = float(_test_loss(config, limit, None)[0])
        aligned = [_alignment(config, limit, net) for net in nets]
        end = float(_alignment(config, limit, None)[0])

        def draw(figure: Any) -> None:
            axes = figure.subplots(1, 2)
            pairs = ((losses, own, "loss on unseen digits"), (aligned, end, "kernel alignment"))
            for ax, (samples, line, label) in zip(axes, pairs, strict=True):
                means = [float(np.mean(v)) for v in samples]
                bars = [2 * float(np.std(v) / len(v) ** 0.5) for v in samples]
                ax.errorbar(
                    config.heads,
                    means,
                    yerr=bars,
                    fmt="o",
                    color=figures.COLOURS[0],
                    label="networks",
                )
                ax.axhline(line, color=figures.LIMIT, label="limit")
                ax.set_xscale("log")
                ax.set_xticks(config.heads, [str(n) for n in config.heads])
                ax.minorticks_off()
                figures.finish(ax, xlabel="heads $H$", ylabel=label)

        rows = [
            (n, float(np.mean(a)), float(np.mean(b)))
            for n, a, b in zip(config.heads, losses, aligned, strict=True)
        ]
        return [
            FigureSpec(
                name="unseen",
                title="Unseen digits: finite networks and the limit",
                caption=f"Means over {config.seeds} networks of each size with two standard "
                f"errors, after {config.steps - 1} updates on {config.inputs} digits; "
                f"{config.unseen} others are looked at.",
                draw=draw,
                table=Table(("heads", "test loss", "alignment"), (*rows, ("limit", own, end))),
                shown=len(rows),
                size=(9.0, 4.0),
            )
        ]


def _test_loss(config: Config, limit: xr.Dataset, net: xr.Dataset | None) -> np.ndarray:
    """Half the mean squared error on unseen digits at the end, by network [seeds]."""
    f = (limit if net is None else net)["predictions"].values[..., -1, config.inputs :, 0]
    return np.atleast_1d(np.mean((limit["target"].values[config.inputs :] - f) ** 2, axis=-1) / 2)


def _scatter(config: Config, net: xr.Dataset) -> np.ndarray:
    f = net["predictions"].values[:, -1, config.inputs :, 0]
    return np.sqrt(np.mean((f - f.mean(axis=0)) ** 2, axis=-1))


def _bias_exponent(config: Config, limit: xr.Dataset, nets: list[xr.Dataset]) -> Estimate:
    """Exponent in H of the mean distance from the limit towards the labels of unseen digits."""
    new, y = slice(config.inputs, None), limit["target"].values[config.inputs :]
    target = limit["predictions"].values[-1, new, 0]
    samples = [np.mean((net["predictions"].values[:, -1, new, 0] - target) * y, 1) for net in nets]
    bias = [Estimate.from_samples(row) for row in samples]
    floor = float(np.mean(limit["stderr"].values[-1, new, 0]))
    x = np.log(config.heads) - np.mean(np.log(config.heads))
    weights = x / np.sum(x**2)
    sizes = np.array([abs(one.value) for one in bias])
    noise = np.array([one.stderr for one in bias]) / sizes
    common = floor * np.sum(weights / sizes)
    stderr = float(np.hypot(np.sqrt(np.sum((weights * noise) ** 2)), common))
    return Estimate(float(weights @ np.log(sizes)), stderr, bias[0].count)


def _alignment(
    config: Config, limit: xr.Dataset, net: xr.Dataset | None, step: int = -1
) -> np.ndarray:
    """Alignment of the pooled kernel with the labels on unseen digits [seeds]."""
    new = slice(config.inputs, None)
    kernel = (limit if net is None else net)["kernel"].values[..., step, new, new]
    y = limit["target"].values[new]
    norm = np.sqrt(np.sum(kernel**2, axis=(-1, -2)))
    return np.atleast_1d(np.einsum("p,...pq,q->...", y, kernel, y) / (y @ y * norm))


def _difference(fine: np.ndarray, coarse: np.ndarray, limit: float, floor: float) -> Estimate:
    """2 mean(fine) - mean(coarse) - limit."""
    a, b = Estimate.from_samples(fine), Estimate.from_samples(coarse)
    stderr = float(np.sqrt(4 * a.stderr**2 + b.stderr**2 + floor**2))
    return Estimate(2 * a.value - b.value - limit, stderr, a.count)


EXPERIMENT = Learned(
    name="bordelon2024/dmft-learned",
    title="Unseen digits: what finite networks only approximate",
    summary="The limit predicts digits it was not trained on without any scatter; finite networks "
    "scatter like $H^{-1/2}$ around it and pay with test loss. Mean loss and the alignment of "
    "features with labels, extrapolated in $1/H$, are those of the limit.",
    citations=("bordelon2024", "jax"),
    presets={
        "demo": Config(
            heads=(8, 16, 32), steps=8, samples=1500, populations=4, unseen=4, seeds=6000
        ),
        "standard": Config(samples=3000, populations=6),
        "paper": Config(heads=(8, 16, 32, 64, 128), inputs=8, unseen=16, steps=16),
    },
)
