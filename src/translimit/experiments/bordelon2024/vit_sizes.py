r"""Vision transformers of growing N, H and L before and after training: kernels, laws, losses.

One network a seed and size, in the paper's parameterization with SGD and momentum. The kernels of
the pooled stream and of the gradient concentrate: their variance over networks is of order 1 / H
along H. The variance of scores over heads is of order N^(1 - 2 alpha_A) at the start. At
alpha_A = 1 it falls after training too, and the part of the change of scores that heads share
does not; at 1/2 the law over heads stays. The demo and standard presets train on digits; the
paper's trains on CIFAR-5M from a file.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, data, figures, train
from translimit.core import ConfigError, Estimate
from translimit.experiments.bordelon2024 import kernel_rates as rates
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024 import size_charts as charts
from translimit.experiments.bordelon2024 import vit_and_lm as common
from translimit.experiments.bordelon2024.vit_and_lm import At
from translimit.experiments.checked import Count, Momentum
from translimit.experiments.ensembles import ensemble_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from translimit.data import Examples


@dataclass(frozen=True)
class Config(common.Study):
    """Sizes and training.

    Attributes: those of `vit_and_lm.Study`, and
        momentum: of SGD.
        images: `.npz` of images [examples, height, width, channels] and labels, or "digits".
        patch: height and width of a patch.
    """

    momentum: Momentum = 0.9
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

    def source(self) -> Examples:
        """The images, or the errors of `networks.images`."""
        return networks.images(self.images, self.patch)

    def floor(self) -> float:
        """Cross-entropy of the linear model of all pixels, for the shipped digits."""
        if self.images != "digits":
            return float("nan")
        source = self.source()
        return data.linear_cross_entropy(*source.take(np.arange(len(source))))


@dataclass(frozen=True)
class VisionTransformers(common.Trained):
    """One size before and after training: how scores changed, and the loss of the linear model."""

    score_change_common: Float[np.ndarray, "observation seed layer"]
    score_change_head_var: Float[np.ndarray, "observation seed layer"]
    floor: float


def compute(config: Config, at: At, keys: ex.Keys) -> VisionTransformers:
    """Train all seeds of one size at one exponent."""
    source = config.source()
    inputs, labels = source.probe(config.probe)
    pixels = inputs.shape[-1]
    shape = common.bare_shape(
        at.size, tokens=inputs.shape[1], outputs=max(10, int(labels.max()) + 1), patch_dim=pixels
    )
    numbers = common.numbers(
        at.size, "momentum", at.alpha_A, config.alpha_L, config.beta0, config.gamma0, pixels
    )
    training = config.training(train.Optimizer("momentum", momentum=config.momentum))
    return VisionTransformers(
        **common.train_size(
            shape, numbers, source, training, keys.own, config.probe, train.ScoreChange()
        ),
        parameters=shape.parameter_count,
        tokens=shape.tokens * config.batch,
        floor=config.floor(),
    )


def _cost(config: Config, at: At) -> ex.Cost:
    """Compilation, and floating-point operations at 10 a nanosecond."""
    N, H, L = at.size
    patches, pixels = networks.patches(config.images)
    tokens = config.seeds * config.steps * config.batch * patches
    sizes = {"members": config.seeds, "batch": config.batch, "tokens": patches, "features": pixels}
    memory = ensemble_bytes(at.size, outputs=10, slots=1, **sizes)
    return ex.Cost(8 + 36 * L * (N * H) ** 2 * tokens / 1e10, memory)


NETWORKS = ex.Part(
    "alpha={alpha_A:g}/{size[0]}-{size[1]}-{size[2]}",
    VisionTransformers,
    compute,
    grid=lambda c: c.points(),
    cost=_cost,
)


def _along(
    found: ex.Found[Config], axis: str, alpha_A: float | None = None
) -> list[VisionTransformers]:
    """Networks of an axis, at the first exponent by default."""
    exponent = found.config.first if alpha_A is None else alpha_A
    return [found(NETWORKS, At(exponent, size)) for size in found.config.sizes.along(axis)]


def _fluctuations(found: ex.Found[Config], kind: str, word: str) -> rates.Rows:
    return rates.kernel_fluctuations(_along(found, "H"), kind, word)


def _changes(found: ex.Found[Config]) -> rates.Rows:
    """Deviations over heads of the change of scores at the first exponent."""
    return [one.score_change_head_var[1].mean(axis=-1) ** 0.5 for one in _along(found, "N")]


def _common(found: ex.Found[Config]) -> Estimate:
    """The common part of the change at the smallest N over that at the largest."""
    first, *_, last = (
        Estimate.over_seeds(one.score_change_common[1].mean(axis=-1).astype(float))
        for one in _along(found, "N")
    )
    ratio = first.value / last.value
    error = float(np.hypot(first.stderr, ratio * last.stderr)) / abs(last.value)
    return Estimate(ratio, error, first.count)


def _span(found: ex.Found[Config], at: ex.Alone) -> float:
    """The largest N over the smallest."""
    sizes = found.config.sizes.values("N")
    return sizes[-1] / sizes[0]


def _root(found: ex.Found[Config], at: ex.Alone) -> float:
    return _span(found, at) ** 0.5


def _at_one(config: Config) -> Sequence[ex.Alone]:
    """Whether the first exponent is 1 and N changes."""
    return ex.alone(config) if config.first == 1 and len(config.sizes.head_dims) > 1 else ()


CLAIMS = (
    *rates.kernels_concentrate(
        "{kind}-kernel-H-{word}",
        "{kind} kernel",
        common.KERNELS,
        lambda c: c.sizes.values("H"),
        _fluctuations,
    ),
    *rates.heads_differ(_along),
    ex.Claims(
        "change-common-N",
        lambda found, at: (
            "$\\alpha_A = 1$: the part of the change of scores that heads share does not fall with "
            "$N$ (its mean square at the smallest $N$ over that at the largest is at most 1)."
        ),
        estimate=lambda found, at: _common(found),
        prediction=1.0,
        tol=0.5,
        over=_at_one,
        rivals=(
            ex.Rival("it falls like $1/N$", _span),
            ex.Rival("it falls like $N^{-1/2}$", _root),
        ),
        one_sided=True,
        decided_by="standard",
    ),
    ex.Claims(
        "change-head-variance-N",
        lambda found, at: (
            "$\\alpha_A = 1$: what tells heads apart in the change of scores falls with $N$: the "
            "exponent of its variance is below -1/4."
        ),
        estimate=lambda found, at: rates.rate(found.config.sizes.values("N"), _changes(found)),
        prediction=-0.25,
        tol=0.0,
        over=_at_one,
        rivals=(ex.Rival("every head's change is the same over $N$", 0.0),),
        one_sided=True,
        decided_by="standard",
    ),
    rates.more_heads_lower_loss(_along),
)


def _losses(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for axis in common.AXES:
        for value, one in zip(found.config.sizes.values(axis), _along(found, axis), strict=True):
            losses = one.final_losses()
            error = float(losses.std(ddof=1) / len(losses) ** 0.5)
            yield (axis, value, float(losses.mean()), error, float(one.accuracy[-1].mean()))


def _draw_losses(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    floor = _along(found, "N")[0].floor
    floors = {"linear model": floor} if np.isfinite(floor) else {}
    made = charts.axis_charts(found.config.sizes, lambda axis: _along(found, axis), floors)
    figures.draw_charts(made, canvas)


def _kernels(found: ex.Found[Config]) -> list[charts.Kernel]:
    """Of one network with few heads and of one with many, sorted by label."""
    order = np.argsort(found.config.source().probe(found.config.probe)[1], kind="stable")
    heads, along = found.config.sizes.values("H"), _along(found, "H")
    return [
        charts.Kernel(kind, heads[end], word, along[end].kernels(kind, when)[0][order][:, order])
        for kind in common.KERNELS
        for end in (0, -1)
        for when, word in enumerate(common.WHEN)
    ]


def _rates(found: ex.Found[Config]) -> list[charts.Rates]:
    """Kernels along every axis of at least three sizes, and the variance over heads along N."""
    made = []
    for axis in common.AXES:
        sizes, along = found.config.sizes.values(axis), _along(found, axis)
        if len(sizes) < 3:
            continue
        series = {}
        for kind in common.KERNELS:
            for when, word in enumerate(common.WHEN):
                kernels = [one.kernels(kind, when) for one in along]
                series[f"{kind}, {word}"] = (
                    rates.kernel_fluctuations(along, kind, word)
                    if axis == "H"
                    else rates.distances(kernels)
                )
        if axis == "H":
            made.append(charts.Rates("kernel", axis, sizes, series, "variance over networks", -1.0))
        else:
            label = f"squared distance from {axis} = {sizes[-1]}"
            made.append(charts.Rates("kernel", axis, sizes[:-1], series, label))
    variances = charts.Rates(
        "variance over heads",
        "N",
        found.config.sizes.values("N"),
        {
            f"$\\alpha_A$ = {alpha_A:g}, {word}": rates.head_deviations(
                _along(found, "N", alpha_A), word
            )
            for alpha_A in found.config.exponents
            for word in common.WHEN
        },
        "variance of scores over heads",
        1 - 2 * found.config.first,
    )
    return [*made, variances]


FIGURES = (
    ex.Figure(
        name="losses",
        title="Losses over sizes",
        caption="Minibatch loss in nats, mean over seeds and windows of steps, while $N$, $H$ or "
        "$L$ grows from the base {sizes.base} and the rate stays. Dashed: softmax regression on "
        "all pixels of the training set, where it was fitted.",
        columns=("axis", "size", "loss on the probe", "stderr", "accuracy"),
        rows=_losses,
        draw=_draw_losses,
        shown=lambda found, table: len(table.rows),
        size=(11.0, 3.8),
    ),
    charts.kernel_figure(
        _kernels,
        title="Kernels of the pooled stream and of the gradient",
        caption="One network with few and with many heads: $\\langle h_a h_b \\rangle$ of the "
        "pooled stream after the last block, and of the derivative of output 0 by the stream "
        "before the first, over the images of the probe, sorted by label. Dimensionless; a scale "
        "for each.",
    ),
    charts.rate_figure(
        _rates,
        title="Convergence of kernels, and the variance over heads",
        caption="Along N and L the relative squared distance (Frobenius) of one network's kernel "
        "from the mean over seeds of the largest size, along H the deviation of its log in the "
        "leading modes of the mean of its size; and the variance of scores over heads. Error bars: "
        "standard errors over seeds; 95 % intervals by bootstrap over seeds. Dimensionless.",
        columns=("quantity", "axis", "size", "training", "mean square", "stderr"),
        size=lambda c: (4.2 * (1 + sum(len(c.sizes.values(a)) > 2 for a in common.AXES)), 4.2),
    ),
    charts.law_figure(_along),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/vit-sizes",
    title="Vision transformers over sizes, before and after training",
    question="How do vision transformers change with head dimension, heads and layers?",
    summary="Networks of growing $N$, $H$ and $L$ in the paper's parameterization, trained by SGD "
    "with momentum at one rate. Kernels of the stream and of the gradient concentrate like $1/H$. "
    "The variance of scores over heads goes like $N^{1 - 2\\alpha_A}$ at the start; at "
    "$\\alpha_A = 1$ it falls after training too, more slowly, and what heads learn in common does "
    "not fall.",
    citations=("bordelon2024", "digits", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            sizes=common.Sizes(head_dims=(4, 16), heads=(2, 4, 16), layers=(2,)),
            steps=60,
            seeds=24,
            probe=16,
        ),
        "standard": Config(seeds=32),
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
    parts=(NETWORKS,),
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding("Variances of stream kernels go as $H$ to {0}", ("stream-kernel-H-after",)),
)
