r"""Vision transformers of growing N, H and L before and after training: kernels, laws, losses.

One network a seed and size, in the paper's parameterization with SGD and momentum. At
alpha_A = 1 the kernels of the pooled stream and of the gradient concentrate: their
variance over networks is of order 1 / H along H, and the logits vary over heads with
variance of order 1 / N. The demo and standard presets train on digits; the paper's trains on
CIFAR-5M from a file.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from translimit import data, train
from translimit.core import Claim, ConfigError, Estimate
from translimit.experiments.base import AbstractExperiment, Cell, Cost, FigureSpec, Results
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024 import vit_and_lm as common
from translimit.experiments.checked import CheckedConfig, Count, Exponent, Four, Momentum, Positive
from translimit.experiments.ensembles import ensemble_bytes

if TYPE_CHECKING:
    import xarray as xr

#: What the file of the paper preset holds.
KERNELS = {"stream": "stream_kernel", "gradient": "gradient_kernel"}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes and training.

    Attributes:
        sizes: base and axes.
        alpha_A: exponent of the logits.
        alpha_L: exponent of the branches.
        beta0: factor of the branches.
        gamma0: richness.
        eta0: base rate.
        momentum: of SGD.
        steps: updates.
        seeds: networks of each size, at least 4.
        batch: images of an update.
        probe: images on which kernels are recorded.
        images: `.npz` of images [examples, height, width, channels] and labels, or "digits".
        patch: height and width of a patch.
    """

    sizes: common.Sizes = field(default_factory=common.Sizes)
    alpha_A: Exponent = 1.0
    alpha_L: Exponent = 1.0
    beta0: Positive = 4.0
    gamma0: Positive = 1.0
    eta0: Positive = 0.05
    momentum: Momentum = 0.9
    steps: Count = 300
    seeds: Four = 8
    batch: Count = 32
    probe: Four = 24
    images: str = "digits"
    patch: tuple[Count, Count] = (2, 4)

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        height, width = self.patch
        if self.images == "digits" and (8 % height or 8 % width or 6 * height * width > 64):
            raise ConfigError(
                "patch", f"got {self.patch}", "pass divisors of 8 that leave at least 6 patches"
            )

    def source(self) -> Any:
        """The images.

        Raises:
            ConfigError: no file is named.
            StoreError: the file cannot be read.
        """
        return networks.images(self.images, self.patch)


class VitSizes(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and floating-point operations at 10 a nanosecond."""
        N, H, L = cell.parameters["size"]
        patches = 8 if config.images == "digits" else 64
        tokens = config.seeds * config.steps * config.batch * patches
        memory = ensemble_bytes(
            (N, H, L),
            members=config.seeds,
            batch=config.batch,
            tokens=patches,
            outputs=10,
            slots=1,
        )
        return Cost(8 + 36 * L * (N * H) ** 2 * tokens / 1e10, memory)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for each size."""
        return tuple(Cell(common.label(s), {"size": list(s)}) for s in config.sizes.all())

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Kernels along H, variances along N, and the loss."""
        kernels = (f"{k}-kernel-H-{w}" for k in KERNELS for w in common.WHEN)
        variances = (f"head-variance-N-{w}" for w in common.WHEN)
        return (*kernels, *variances, "more-heads-no-worse")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Train all seeds of one size."""
        source = config.source()
        inputs, labels = source.probe(config.probe)
        pixels = inputs.shape[-1]
        size = cell.parameters["size"]
        shape = common.bare_shape(
            size, tokens=inputs.shape[1], outputs=max(10, int(labels.max()) + 1), patch_dim=pixels
        )
        numbers = common.numbers(
            size,
            "momentum",
            config.alpha_A,
            config.alpha_L,
            config.beta0,
            config.gamma0,
            pixels,
        )
        training = train.Training(
            steps=config.steps,
            rates=(config.eta0,),
            seeds=config.seeds,
            batch=config.batch,
            optimizer=train.Optimizer("momentum", momentum=config.momentum),
        )
        found = common.train_size(shape, numbers, source, training, key, config.probe)
        return found.assign_attrs(floor=_floor(config))

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The fitted rates and the losses."""
        heads, along_heads = _along(config, results, "H")
        head_dims, along_N = _along(config, results, "N")
        found: list[Claim] = []
        for when, word in enumerate(common.WHEN):
            for kind, name in KERNELS.items():
                found += common.rate_claim(
                    f"{kind}-kernel-H-{word}",
                    f"The variance over networks of the {kind} kernel falls like $1/H$ {word} "
                    "training.",
                    common.squared_rate(heads, common.kernel_fluctuations(along_heads, name, when)),
                    -1.0,
                    0.4 if when == 0 else 0.5,
                )
            found += common.rate_claim(
                f"head-variance-N-{word}",
                "The variance of logits over heads goes like $N^{1 - 2\\alpha_A}$ "
                f"{word} training.",
                common.squared_rate(head_dims, common.head_deviations(along_N, when)),
                1 - 2 * config.alpha_A,
                0.15 if when == 0 else 0.3,
            )
        few, many = common.final_losses(along_heads[0]), common.final_losses(along_heads[-1])
        error = np.hypot(few.std(ddof=1), many.std(ddof=1)) / len(few) ** 0.5
        found.append(
            Claim(
                name="more-heads-no-worse",
                statement=f"With {heads[-1]} heads the loss on the probe at the end is not above "
                f"that with {heads[0]}.",
                prediction=0.0,
                estimate=Estimate(float(many.mean() - few.mean()), float(error), len(few)),
                tol=0.02,
                reference=common.REFERENCE,
                one_sided=True,
            )
        )
        return found

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Losses, kernels, rates and laws."""
        return [
            _losses(config, results),
            _kernels(config, results),
            _rates(config, results),
            _laws(config, results),
        ]


def _floor(config: Config) -> float:
    """Cross-entropy of the linear model of all pixels, for the shipped digits."""
    if config.images != "digits":
        return float("nan")
    source = config.source()
    return data.linear_cross_entropy(*source.take(np.arange(len(source))))


def _along(config: Config, results: Results, axis: str) -> tuple[list[int], list[xr.Dataset]]:
    values = list(config.sizes.values(axis))
    return values, [results[common.label(config.sizes.at(axis, value))] for value in values]


def _losses(config: Config, results: Results) -> FigureSpec:
    rows: list[tuple] = [("axis", "size", "loss on the probe", "stderr", "accuracy")]
    panels = []
    for axis in common.AXES:
        values, along = _along(config, results, axis)
        panels.append({f"${axis}$ = {v}": d for v, d in zip(values, along, strict=True)})
        for value, dataset in zip(values, along, strict=True):
            losses = common.final_losses(dataset)
            accuracy = float(dataset["accuracy"].isel(observation=-1).mean())
            error = losses.std(ddof=1) / len(losses) ** 0.5
            rows.append((axis, value, float(losses.mean()), float(error), accuracy))
    floor = float(next(iter(results.values())).attrs["floor"])
    floors = {"linear model": floor} if np.isfinite(floor) else {}

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 3, sharey=True)
        for ax, panel in zip(axes, panels, strict=True):
            common.draw_losses(ax, panel, floors, compute=False)

    return common.spec(
        "losses",
        "Losses over sizes",
        "Minibatch loss in nats, mean over seeds and windows of steps, while $N$, $H$ or $L$ "
        f"grows from the base {tuple(config.sizes.base)} and the rate stays. Dashed: softmax "
        "regression on all pixels of the training set, where it was fitted.",
        draw,
        rows,
        size=(11.0, 3.8),
    )


def _kernels(config: Config, results: Results) -> FigureSpec:
    values, along = _along(config, results, "H")
    picked = ((values[0], along[0]), (values[-1], along[-1]))
    panels: list[tuple[str, np.ndarray]] = []
    rows: list[tuple] = [("kernel", "H", "training", "mean diagonal", "mean off the diagonal")]
    order = np.argsort(config.source().probe(config.probe)[1], kind="stable")
    for name, title, level in (("stream_kernel", "stream", -1), ("gradient_kernel", "gradient", 0)):
        for value, dataset in picked:
            for when, word in enumerate(common.WHEN):
                kernel = dataset[name].isel(observation=when, level=level, seed=0).values
                kernel = kernel[np.ix_(order, order)]
                panels.append((f"{title}, $H$ = {value}, {word}", kernel))
                diagonal = float(np.diagonal(kernel).mean())
                off = float(kernel[~np.eye(len(kernel), dtype=bool)].mean())
                rows.append((title, value, word, diagonal, off))

    def draw(figure: Any) -> None:
        common.draw_heat_maps(figure, panels, 4)

    return common.spec(
        "kernels",
        "Kernels of the pooled stream and of the gradient",
        "One network with few and with many heads: $\\langle h_a h_b \\rangle$ of the pooled "
        "stream after the last block, and of the derivative of output 0 by the stream before the "
        "first, over the images of the probe, sorted by label. Dimensionless; a scale for each.",
        draw,
        rows,
        size=(11.0, 5.2),
    )


def _rates(config: Config, results: Results) -> FigureSpec:
    rows: list[tuple] = [("quantity", "axis", "size", "training", "mean square", "stderr")]
    panels: list[tuple[str, list[int], dict, float | None, str]] = []

    def add(kind: str, axis: str, sizes: list[int], series: dict, rate: float | None, y: str):
        panels.append((axis, sizes, series, rate, y))
        for word, deviations in series.items():
            for size, row in zip(sizes, deviations, strict=True):
                squares = row**2
                error = float(squares.std(ddof=1) / len(row) ** 0.5)
                rows.append((kind, axis, size, word, float(squares.mean()), error))

    for axis in common.AXES:
        values, along = _along(config, results, axis)
        if len(values) < 3:
            continue
        spread = axis == "H"
        measure = common.kernel_fluctuations if spread else common.kernel_distances
        series = {
            f"{kind}, {word}": measure(along, name, when)
            for kind, name in KERNELS.items()
            for when, word in enumerate(common.WHEN)
        }
        if spread:
            add("kernel", axis, values, series, -1.0, "variance over networks")
        else:
            label = f"squared distance from {axis} = {values[-1]}"
            add("kernel", axis, values[:-1], series, None, label)
    values, along = _along(config, results, "N")
    series = {w: common.head_deviations(along, i) for i, w in enumerate(common.WHEN)}
    rate = 1 - 2 * config.alpha_A
    add("variance over heads", "N", values, series, rate, "variance of logits over heads")

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (axis, sizes, series, rate, ylabel) in zip(axes, panels, strict=True):
            common.draw_rates(ax, sizes, series, rate, xlabel=common.LONG[axis], ylabel=ylabel)

    return common.spec(
        "rates",
        "Convergence of kernels, and the variance over heads",
        "Along N and L the relative squared distance (Frobenius) of one network's kernel from the "
        "mean over seeds of the largest size, along H from the mean of its own size; and the "
        "variance of logits over heads. Error bars: standard errors over seeds. Rates with their "
        "95 % intervals by bootstrap over seeds. Dimensionless.",
        draw,
        rows,
        size=(4.2 * len(panels), 4.2),
    )


def _laws(config: Config, results: Results) -> FigureSpec:
    values, along = _along(config, results, "N")
    rows: list[tuple] = [("N", "training", "mean", "variance", "samples")]
    laws: list[dict[str, np.ndarray]] = []
    for when, word in enumerate(common.WHEN):
        law = {}
        for value, dataset in zip(values, along, strict=True):
            entries = dataset["score"].isel(observation=when).values.ravel().astype(float)
            law[f"$N$ = {value}"] = entries
            rows.append((value, word, float(entries.mean()), float(entries.var()), entries.size))
        laws.append(law)

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 2)
        for ax, law, word in zip(axes, laws, common.WHEN, strict=True):
            common.draw_laws(ax, law, f"{word} training")

    return common.spec(
        "laws",
        "The law of logits over heads",
        f"Logits of {len(common.PLACES)} fixed pairs of tokens over heads, blocks and seeds, "
        "before and after training. Dimensionless; what lies outside is in the outermost bins.",
        draw,
        rows,
        size=(9.0, 3.8),
    )


EXPERIMENT = VitSizes(
    name="bordelon2024/vit-sizes",
    title="Vision transformers over sizes, before and after training",
    summary="Networks of growing $N$, $H$ and $L$ in the paper's parameterization, trained by SGD "
    "with momentum at one rate. Kernels of the stream and of the gradient concentrate like $1/H$, "
    "the variance of logits over heads falls like $N^{1 - 2\\alpha_A}$, both before and after "
    "training, and losses follow one curve as sizes grow.",
    citations=("bordelon2024", "digits", "jax"),
    presets={
        "demo": Config(
            sizes=common.Sizes(head_dims=(4, 16), heads=(2, 4, 16), layers=(2, 4)),
            steps=60,
            seeds=24,
            probe=16,
        ),
        "standard": Config(seeds=24),
        "paper": Config(
            sizes=common.Sizes(
                base=(16, 16, 4),
                head_dims=(4, 8, 16, 32, 64),
                heads=(4, 8, 16, 32, 64),
                layers=(2, 4, 8, 16),
            ),
            gamma0=0.1,
            steps=10_000,
            seeds=4,
            batch=128,
            probe=64,
            images="",
            patch=(4, 4),
        ),
    },
)
