r"""Causal language models of growing N, H and L before and after training, at two exponents.

Byte-level networks in the paper's parameterization under Adam, at alpha_A = 1 and 1/2. The
variance of logits over heads is of order N^{1 - 2 alpha_A} at the start: it falls at alpha_A = 1
and stays at 1/2. Losses are drawn over the entropies of a byte alone and given the one before,
against steps and against training compute. The paper's preset reads tokenised text from a file.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from translimit import data, train
from translimit.core import Claim, Estimate
from translimit.experiments.base import AbstractExperiment, Cell, Cost, FigureSpec, Results
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024 import vit_and_lm as common
from translimit.experiments.checked import (
    CheckedConfig,
    Count,
    Distinct,
    Exponent,
    Four,
    Positive,
    Within,
)
from translimit.experiments.ensembles import ensemble_bytes

if TYPE_CHECKING:
    import xarray as xr

#: What the file of the paper preset holds.
#: Ids from which the floors are computed.
_SAMPLE = 10_000_000


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes and training.

    Attributes:
        sizes: base and axes, at the first exponent.
        exponents: alpha_A; the first for all axes, every one along N.
        alpha_L: exponent of the branches.
        beta0: factor of the branches.
        gamma0: richness.
        eta0: base rate of Adam.
        steps: updates.
        seeds: networks of each size, at least 4.
        batch: windows of an update.
        tokens: length of a window.
        probe: windows on which kernels are recorded.
        text: binary file of uint16 ids; or "bytes", the shipped ones.
        vocabulary: number of ids.
    """

    sizes: common.Sizes = field(default_factory=common.Sizes)
    exponents: Annotated[tuple[Exponent, ...], Distinct()] = (1.0, 0.5)
    alpha_L: Exponent = 1.0
    beta0: Positive = 4.0
    gamma0: Positive = 0.25
    eta0: Positive = 0.02
    steps: Count = 300
    seeds: Four = 8
    batch: Count = 16
    tokens: Annotated[int, Within(6)] = 16
    probe: Four = 16
    text: str = "bytes"
    vocabulary: Annotated[int, Within(2, networks.LARGEST_VOCABULARY)] = 256

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        networks.require_vocabulary(self.text, self.vocabulary)

    def source(self) -> Any:
        """The windows of text.

        Raises:
            ConfigError: no file is named.
            StoreError: the file cannot be read.
        """
        return networks.windows(self.text, self.tokens)


class LmSizes(AbstractExperiment[Config]):
    """See the module's docstring."""

    def cell_cost(self, config: Config, cell: Cell) -> Cost:
        """Compilation, and floating-point operations at 10 a nanosecond."""
        N, H, L = cell.parameters["size"]
        weights = 6 * L * (N * H) ** 2 + N * H * config.vocabulary
        tokens = config.seeds * config.steps * config.batch * config.tokens
        memory = ensemble_bytes(
            (N, H, L),
            members=config.seeds,
            batch=config.batch,
            tokens=config.tokens,
            outputs=config.vocabulary,
            vocabulary=config.vocabulary,
        )
        return Cost(8 + 6 * weights * tokens / 1e10, memory)

    def cells(self, config: Config) -> tuple[Cell, ...]:
        """One for each size at the first exponent, and along N for each other."""
        pairs = [(config.exponents[0], size) for size in config.sizes.all()]
        pairs += [(a, size) for a in config.exponents[1:] for size in config.sizes.all(("N",))]
        return tuple(
            Cell(_name(alpha_A, size), {"alpha_A": alpha_A, "size": list(size)})
            for alpha_A, size in pairs
        )

    def claim_names(self, config: Any = None) -> tuple[str, ...]:
        """Kernels along H, variances along N at each exponent, and the loss."""
        kernels = (f"stream-kernel-H-{w}" for w in common.WHEN)
        variances = (
            f"head-variance-N-{a:g}-{w}"
            for a in self.presets["paper"].exponents
            for w in common.WHEN
        )
        return (*kernels, *variances, "more-heads-no-worse", "below-unigram")

    def compute(self, config: Config, cell: Cell, key: Any) -> xr.Dataset:
        """Train all seeds of one size at one exponent."""
        source, size = config.source(), cell.parameters["size"]
        shape = common.bare_shape(
            size,
            tokens=config.tokens,
            outputs=config.vocabulary,
            vocabulary=config.vocabulary,
            causal=True,
            pooled=False,
        )
        numbers = common.numbers(
            size,
            "adam",
            cell.parameters["alpha_A"],
            config.alpha_L,
            config.beta0,
            config.gamma0,
        )
        training = train.Training(
            steps=config.steps,
            rates=(config.eta0,),
            seeds=config.seeds,
            batch=config.batch,
            optimizer=train.Optimizer("adam", eps=1e-12),
        )
        # One key for all exponents: the same text in the same order.
        found = common.train_size(
            shape, numbers, source, training, cell.shared_key(common.label(size)), config.probe
        )
        ids = np.asarray(source.ids[:_SAMPLE])
        return found.assign_attrs(
            unigram=data.unigram_entropy(ids),
            bigram=data.bigram_entropy(ids),
            tokens=config.batch * config.tokens,
        )

    def claims(self, config: Config, results: Results) -> list[Claim]:
        """The fitted rates and the losses."""
        heads, along_heads = _along(config, results, "H")
        found: list[Claim] = []
        for when, word in enumerate(common.WHEN):
            found += common.rate_claim(
                f"stream-kernel-H-{word}",
                "The variance over networks of the stream kernel falls like $1/H$ "
                f"{word} training.",
                common.squared_rate(
                    heads, common.kernel_fluctuations(along_heads, "stream_kernel", when)
                ),
                -1.0,
                0.4 if when == 0 else 0.5,
            )
            for alpha_A in config.exponents:
                head_dims, along_N = _along(config, results, "N", alpha_A)
                found += common.rate_claim(
                    f"head-variance-N-{alpha_A:g}-{word}",
                    f"At $\\alpha_A = {alpha_A:g}$ the variance of logits over heads goes like "
                    f"$N^{{{1 - 2 * alpha_A:g}}}$ {word} training.",
                    common.squared_rate(head_dims, common.head_deviations(along_N, when)),
                    1 - 2 * alpha_A,
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
        last = along_heads[-1]["loss"].values[:, -max(1, config.steps // 10) :].mean(axis=1)
        found.append(
            Claim(
                name="below-unigram",
                statement=f"With {heads[-1]} heads the minibatch loss of the last tenth of the "
                "steps is below the entropy of a token alone.",
                prediction=float(along_heads[-1].attrs["unigram"]),
                estimate=Estimate.from_samples(last.astype(float)),
                tol=0.0,
                reference=common.REFERENCE,
                one_sided=True,
            )
        )
        return found

    def figures(self, config: Config, results: Results) -> list[FigureSpec]:
        """Losses, rates and laws."""
        return [_losses(config, results), _rates(config, results), _laws(config, results)]


def _name(alpha_A: float, size: Any) -> str:
    return f"alpha={alpha_A:g}/{common.label(size)}"


def _along(
    config: Config, results: Results, axis: str, alpha_A: float | None = None
) -> tuple[list[int], list[xr.Dataset]]:
    alpha_A = config.exponents[0] if alpha_A is None else alpha_A
    values = list(config.sizes.values(axis))
    return values, [results[_name(alpha_A, config.sizes.at(axis, value))] for value in values]


def _losses(config: Config, results: Results) -> FigureSpec:
    rows: list[tuple] = [
        ("alpha_A", "N", "H", "L", "parameters", "compute", "loss on the probe", "stderr")
    ]
    for name, dataset in results.items():
        alpha_A, size = name.removeprefix("alpha=").split("/")
        losses = common.final_losses(dataset)
        parameters = int(dataset.attrs["parameters"])
        compute = 6.0 * parameters * dataset.attrs["tokens"] * config.steps
        error = float(losses.std(ddof=1) / len(losses) ** 0.5)
        N, H, L = (int(part) for part in size.split("-"))
        rows.append((float(alpha_A), N, H, L, parameters, compute, float(losses.mean()), error))
    panels = []
    for axis in common.AXES:
        values, along = _along(config, results, axis)
        panels.append({f"${axis}$ = {v}": d for v, d in zip(values, along, strict=True)})
    alpha_A = config.exponents[0]
    every = {str(size): results[_name(alpha_A, size)] for size in config.sizes.all()}
    about = next(iter(results.values())).attrs
    floors = {name: float(about[name]) for name in ("unigram", "bigram")}

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, 4, sharey=True)
        for ax, panel in zip(axes, panels, strict=False):
            common.draw_losses(ax, panel, floors, compute=False)
        common.draw_losses(axes[3], every, floors, compute=True)

    return common.spec(
        "losses",
        "Losses over sizes and against compute",
        "Minibatch loss in nats a token, mean over seeds and windows of steps, at $\\alpha_A$ = "
        f"{config.exponents[0]:g}, while $N$, $H$ or $L$ grows from {tuple(config.sizes.base)} and "
        "the rate stays; right, every $(N, H, L)$ against six times parameters times tokens. "
        "Horizontal: entropy of a token alone, and given the one before.",
        draw,
        rows,
        size=(14.0, 4.0),
    )


def _rates(config: Config, results: Results) -> FigureSpec:
    rows: list[tuple] = [("quantity", "axis", "size", "series", "mean square", "stderr")]

    def note(kind: str, axis: str, sizes: list[int], series: dict) -> None:
        for name, deviations in series.items():
            for size, row in zip(sizes, deviations, strict=True):
                error = float((row**2).std(ddof=1) / len(row) ** 0.5)
                rows.append((kind, axis, size, name, float(np.mean(row**2)), error))

    heads, along = _along(config, results, "H")
    kernels = {
        f"{kind}, {word}": common.kernel_fluctuations(along, f"{kind}_kernel", when)
        for kind in ("stream", "gradient")
        for when, word in enumerate(common.WHEN)
    }
    note("kernel", "H", heads, kernels)
    head_dims, variances = list(config.sizes.values("N")), {}
    for alpha_A in config.exponents:
        series = _along(config, results, "N", alpha_A)[1]
        for when, word in enumerate(common.WHEN):
            name = f"$\\alpha_A$ = {alpha_A:g}, {word}"
            variances[name] = common.head_deviations(series, when)
    note("variance over heads", "N", head_dims, variances)

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        label = "variance of a kernel over networks"
        common.draw_rates(left, heads, kernels, -1.0, xlabel=common.LONG["H"], ylabel=label)
        common.draw_rates(
            right,
            head_dims,
            variances,
            1 - 2 * config.exponents[0],
            xlabel=common.LONG["N"],
            ylabel="variance of logits over heads",
        )

    return common.spec(
        "rates",
        "Convergence of kernels, and the variance over heads",
        "Relative squared distance (Frobenius) of one network's kernel from the mean over seeds "
        "of its size, and the variance of logits over heads at each exponent. Error bars: "
        "standard errors over seeds. Rates with 95 % intervals by bootstrap over seeds.",
        draw,
        rows,
        size=(11.0, 4.4),
    )


def _laws(config: Config, results: Results) -> FigureSpec:
    rows: list[tuple] = [("alpha_A", "N", "training", "mean", "variance", "samples")]
    panels: list[tuple[str, dict[str, np.ndarray]]] = []
    for alpha_A in config.exponents:
        values, along = _along(config, results, "N", alpha_A)
        for when, word in enumerate(common.WHEN):
            law = {}
            for value, dataset in zip(values, along, strict=True):
                entries = dataset["score"].isel(observation=when).values.ravel().astype(float)
                law[f"$N$ = {value}"] = entries
                about = (float(entries.mean()), float(entries.var()), entries.size)
                rows.append((alpha_A, value, word, *about))
            panels.append((f"$\\alpha_A$ = {alpha_A:g}, {word} training", law))

    def draw(figure: Any) -> None:
        axes = figure.subplots(len(config.exponents), 2, squeeze=False)
        for ax, (title, law) in zip(axes.flat, panels, strict=True):
            common.draw_laws(ax, law, title)

    return common.spec(
        "laws",
        "The law of logits over heads",
        f"Logits of {len(common.PLACES)} fixed pairs of tokens over heads, blocks and seeds. "
        "Dimensionless; what lies outside is in the outermost bins.",
        draw,
        rows,
        size=(9.0, 3.4 * len(config.exponents)),
    )


EXPERIMENT = LmSizes(
    name="bordelon2024/lm-sizes",
    title="Causal language models over sizes, before and after training",
    summary="Byte-level networks of growing $N$, $H$ and $L$ in the paper's parameterization under "
    "Adam. The variance of logits over heads goes like $N^{1 - 2\\alpha_A}$, kernels concentrate "
    "like $1/H$, and losses are held against the entropies of simple models and against compute.",
    citations=("bordelon2024", "jax"),
    presets={
        "demo": Config(
            sizes=common.Sizes(head_dims=(4, 16), heads=(2, 4, 16), layers=(2,)),
            steps=60,
            seeds=16,
            probe=12,
            tokens=8,
        ),
        "standard": Config(
            sizes=common.Sizes(head_dims=(4, 8, 16, 32), heads=(2, 4, 8, 16), layers=(1, 2, 4, 8)),
            steps=400,
            seeds=16,
        ),
        "paper": Config(
            sizes=common.Sizes(
                base=(8, 8, 4),
                head_dims=(8, 16, 32, 64),
                heads=(8, 16, 32, 64),
                layers=(4, 8, 16),
            ),
            steps=10_000,
            seeds=4,
            batch=64,
            tokens=128,
            probe=32,
            text="",
            vocabulary=50_257,
        ),
    },
)
