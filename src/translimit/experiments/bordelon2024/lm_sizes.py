r"""Causal language models of growing N, H and L before and after training, at two exponents.

Byte-level networks in the paper's parameterization under Adam, at alpha_A = 1 and 1/2. The
variance of logits over heads is of order N^{1 - 2 alpha_A} at the start: it falls at alpha_A = 1
and stays at 1/2. Losses are drawn over the entropies of a byte alone and given the one before,
against steps and against training compute. The paper's preset reads tokenised text from a file.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

import translimit.experiments as ex
from translimit import core, data, figures, train
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import kernel_rates as rates
from translimit.experiments.bordelon2024 import networks
from translimit.experiments.bordelon2024 import size_charts as charts
from translimit.experiments.bordelon2024 import vit_and_lm as common
from translimit.experiments.checked import Count, Distinct, Exponent, Four, Positive, Within
from translimit.experiments.ensembles import ensemble_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from translimit.data import TokenStream

#: Ids from which the floors are computed.
_SAMPLE = 10_000_000


@dataclass(frozen=True)
class Config(common.Study):
    """Sizes and training.

    Attributes: those of `vit_and_lm.Study` (the axes at the first exponent, Adam's base rate), and
        exponents: alpha_A; the first for all axes, every one along N.
        tokens: length of a window.
        text: binary file of uint16 ids; or "bytes", the shipped ones.
        vocabulary: number of ids.
    """

    gamma0: Positive = 0.25
    eta0: Positive = 0.02
    batch: Count = 16
    probe: Four = 16
    exponents: Annotated[tuple[Exponent, ...], Distinct()] = (1.0, 0.5)
    tokens: Annotated[int, Within(6)] = 16
    text: str = "bytes"
    vocabulary: Annotated[int, Within(2, networks.LARGEST_VOCABULARY)] = 256

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        networks.require_vocabulary(self.text, self.vocabulary)

    def source(self) -> TokenStream:
        """The windows of text.

        Raises:
            ConfigError: no file is named.
            StoreError: the file cannot be read.
        """
        return networks.windows(self.text, self.tokens)

    def points(self) -> list[At]:
        """Each size at the first exponent, and along N at each other."""
        first, *others = self.exponents
        along_N = self.sizes.all(("N",))
        made = [At(first, size) for size in self.sizes.all()]
        return made + [At(alpha_A, size) for alpha_A in others for size in along_N]

    @property
    def first(self) -> float:
        """The exponent of all axes."""
        return self.exponents[0]


@dataclass(frozen=True)
class At:
    """What is trained.

    Attributes:
        alpha_A: exponent of the logits.
        size: (N, H, L).
    """

    alpha_A: float
    size: common.Size


@dataclass(frozen=True)
class LanguageModels(common.Trained):
    """One size before and after training, and entropies of the text."""

    unigram: Annotated[float, "entropy of a token alone"]
    bigram: Annotated[float, "entropy of a token given the one before"]


def compute(config: Config, at: At, keys: ex.Keys) -> LanguageModels:
    """Train all seeds of one size at one exponent."""
    source = config.source()
    shape = common.bare_shape(
        at.size,
        tokens=config.tokens,
        outputs=config.vocabulary,
        vocabulary=config.vocabulary,
        causal=True,
        pooled=False,
    )
    numbers = common.numbers(
        at.size, "adam", at.alpha_A, config.alpha_L, config.beta0, config.gamma0
    )
    training = config.training(train.Optimizer("adam", eps=1e-12))
    # One key for all exponents: the same text in the same order.
    key = keys.shared(common.label(at.size))
    ids = np.asarray(source.ids[:_SAMPLE])
    return LanguageModels(
        **common.train_size(shape, numbers, source, training, key, config.probe),
        parameters=shape.parameter_count,
        tokens=config.batch * config.tokens,
        unigram=float(data.unigram_entropy(ids)),
        bigram=float(data.bigram_entropy(ids)),
    )


def _cost(config: Config, at: At) -> ex.Cost:
    """Compilation, and floating-point operations at 10 a nanosecond."""
    N, H, L = at.size
    weights = 6 * L * (N * H) ** 2 + N * H * config.vocabulary
    tokens = config.seeds * config.steps * config.batch * config.tokens
    memory = ensemble_bytes(
        at.size,
        members=config.seeds,
        batch=config.batch,
        tokens=config.tokens,
        outputs=config.vocabulary,
        vocabulary=config.vocabulary,
    )
    return ex.Cost(8 + 6 * weights * tokens / 1e10, memory)


NETWORKS = ex.Part(
    "alpha={alpha_A:g}/{size[0]}-{size[1]}-{size[2]}",
    LanguageModels,
    compute,
    grid=lambda c: c.points(),
    cost=_cost,
)


def _along(
    found: ex.Found[Config], axis: str, alpha_A: float | None = None
) -> list[LanguageModels]:
    """Networks of an axis, at the first exponent by default."""
    exponent = found.config.first if alpha_A is None else alpha_A
    return [found(NETWORKS, At(exponent, size)) for size in found.config.sizes.along(axis)]


def _fluctuations(found: ex.Found[Config], kind: str, word: str) -> rates.Rows:
    return rates.kernel_fluctuations(_along(found, "H"), kind, word)


def _deviations(found: ex.Found[Config], alpha_A: float, word: str) -> rates.Rows:
    return rates.head_deviations(_along(found, "N", alpha_A), word)


def _variance_rate(found: ex.Found[Config], at: tuple[float, str]) -> Estimate:
    return rates.rate(found.config.sizes.values("N"), _deviations(found, *at))


def _last_losses(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    last = _along(found, "H")[-1].loss[:, -max(1, found.config.steps // 10) :]
    return Estimate.from_samples(last.mean(axis=1).astype(float))


CLAIMS = (
    rates.kernels_concentrate(
        "{kind}-kernel-H-{word}",
        "{kind} kernel",
        ("stream",),
        lambda c: c.sizes.values("H"),
        _fluctuations,
    ),
    ex.Claims(
        "head-variance-N-{alpha_A:g}-{word}",
        lambda found, at: (
            f"At $\\alpha_A = {at[0]:g}$ the variance of logits over heads goes like "
            f"$N^{{{1 - 2 * at[0]:g}}}$ {at[1]} training."
        ),
        estimate=_variance_rate,
        prediction=lambda found, at: 1 - 2 * at[0],
        tol=lambda config, at: 0.15 if at[1] == "before" else 0.3,
        over=lambda c: (
            [(alpha_A, word) for word in common.WHEN for alpha_A in c.exponents]
            if len(c.sizes.head_dims) > 1
            else []
        ),
    ),
    rates.more_heads_no_worse(_along),
    ex.Claims(
        "below-unigram",
        lambda found, at: (
            f"With {found.config.sizes.values('H')[-1]} heads the minibatch loss of the last tenth "
            "of the steps is below the entropy of a token alone."
        ),
        estimate=_last_losses,
        prediction=lambda found, at: _along(found, "H")[-1].unigram,
        tol=0.0,
        over=ex.alone,
        one_sided=True,
    ),
)


def _losses(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for at, one in found.each(NETWORKS):
        losses = one.final_losses()
        compute = 6.0 * one.parameters * one.tokens * found.config.steps
        error = float(losses.std(ddof=1) / len(losses) ** 0.5)
        yield (at.alpha_A, *at.size, one.parameters, compute, float(losses.mean()), error)


def _draw_losses(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    sizes, one = found.config.sizes, _along(found, "N")[0]
    floors = {"unigram": one.unigram, "bigram": one.bigram}
    made = charts.axis_charts(sizes, lambda axis: _along(found, axis), floors)
    every = {str(size): found(NETWORKS, At(found.config.first, size)) for size in sizes.all()}
    costs = [6.0 * one.parameters * one.tokens for one in every.values()]
    figures.draw_charts([*made, charts.loss_chart(every, floors, costs)], canvas)


def _rates(found: ex.Found[Config]) -> list[charts.Rates]:
    exponents, sizes = found.config.exponents, found.config.sizes
    kernels = {
        f"{kind}, {word}": _fluctuations(found, kind, word)
        for kind in common.KERNELS
        for word in common.WHEN
    }
    variances = {
        f"$\\alpha_A$ = {alpha_A:g}, {word}": _deviations(found, alpha_A, word)
        for alpha_A in exponents
        for word in common.WHEN
    }
    label, other = "variance of a kernel over networks", "variance of logits over heads"
    slope = 1 - 2 * found.config.first
    return [
        charts.Rates("kernel", "H", sizes.values("H"), kernels, label, -1.0),
        charts.Rates("variance over heads", "N", sizes.values("N"), variances, other, slope),
    ]


def _laws(found: ex.Found[Config]) -> list[charts.Laws]:
    made = []
    for alpha_A in found.config.exponents:
        sizes, along = found.config.sizes.values("N"), _along(found, "N", alpha_A)
        for when, word in enumerate(common.WHEN):
            samples = {n: one.score[when] for n, one in zip(sizes, along, strict=True)}
            made.append(charts.Laws(word, samples, alpha_A))
    return made


FIGURES = (
    ex.Figure(
        name="losses",
        title="Losses over sizes and against compute",
        caption="Minibatch loss in nats a token, mean over seeds and windows of steps, at "
        "$\\alpha_A$ = {first:g}, while $N$, $H$ or $L$ grows from {sizes.base} and the rate "
        "stays; right, every $(N, H, L)$ against six times parameters times tokens. Horizontal: "
        "entropy of a token alone, and given the one before.",
        columns=(
            *("alpha_A", "N", "H", "L", "parameters", "compute"),
            *("loss on the probe", "stderr"),
        ),
        rows=_losses,
        draw=_draw_losses,
        shown=lambda found, table: len(table.rows),
        size=(14.0, 4.0),
    ),
    charts.rate_figure(
        _rates,
        title="Convergence of kernels, and the variance over heads",
        caption="Relative squared distance (Frobenius) of one network's kernel from the mean over "
        "seeds of its size, and the variance of logits over heads at each exponent. Error bars: "
        "standard errors over seeds. Rates with 95 % intervals by bootstrap over seeds.",
        columns=("quantity", "axis", "size", "series", "mean square", "stderr"),
        size=(11.0, 4.4),
    ),
    charts.law_figure(
        _laws,
        caption=f"Logits of {len(common.PLACES)} fixed pairs of tokens over heads, blocks and "
        "seeds. Dimensionless; what lies outside is in the outermost bins.",
        columns=("alpha_A", "N", "training", "mean", "variance", "samples"),
        size=lambda c: (9.0, 3.4 * len(c.exponents)),
    ),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/lm-sizes",
    title="Causal language models over sizes, before and after training",
    summary="Byte-level networks of growing $N$, $H$ and $L$ in the paper's parameterization under "
    "Adam. The variance of logits over heads goes like $N^{1 - 2\\alpha_A}$, kernels concentrate "
    "like $1/H$, and losses are held against the entropies of simple models and against compute.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
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
    parts=(NETWORKS,),
    claims=CLAIMS,
    figures=FIGURES,
)
