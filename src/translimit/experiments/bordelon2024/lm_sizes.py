r"""Causal language models of growing N, H and L before and after training, at two exponents.

Byte-level networks in the paper's parameterization under Adam, at alpha_A = 1 and 1/2. The
variance of scores over heads is of order N^{1 - 2 alpha_A} at the start: it falls at alpha_A = 1
and stays at 1/2. Losses are drawn over the entropies of a byte alone and given the one before,
against steps and against training compute. The paper's preset reads tokenised text from a file.

Reference: Bordelon, Chaudhry and Pehlevan, arXiv 2405.15712; documentation, "Training
transformers".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.bordelon2024 import kernel_rates as rates
from translimit.experiments.bordelon2024 import size_charts as charts
from translimit.experiments.bordelon2024 import vit_and_lm as common
from translimit.experiments.bordelon2024.lm_networks import NETWORKS, Config, along
from translimit.experiments.bordelon2024.lm_pairs import PAIRED
from translimit.experiments.bordelon2024.power_laws import NO_EFFECT
from translimit.experiments.bordelon2024.vit_and_lm import At

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _along_heads(found: ex.Found[Config], kind: str, word: str) -> rates.Rows:
    return rates.kernel_fluctuations(along(found, "H"), kind, word)


def _along_head_dims(found: ex.Found[Config], kind: str, word: str) -> rates.Rows:
    return rates.kernel_fluctuations(along(found, "N"), kind, word)


def _last_losses(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    last = along(found, "H")[-1].loss[:, -max(1, found.config.steps // 10) :]
    return Estimate.from_samples(last.mean(axis=1).astype(float))


def _heads_or_layers(found: ex.Found[Config], at: ex.Alone) -> Estimate:
    """Loss with the most heads less that with the most layers."""
    heads, layers = (
        Estimate.over_seeds(along(found, axis)[-1].final_losses()) for axis in ("H", "L")
    )
    error = float(np.hypot(heads.stderr, layers.stderr))
    return Estimate(heads.value - layers.value, error, heads.count)


CLAIMS = (
    *rates.kernels_concentrate(
        "{kind}-kernel-H-{word}",
        "{kind} kernel",
        ("stream",),
        lambda c: c.sizes.values("H"),
        _along_heads,
    ),
    *rates.kernels_concentrate(
        "{kind}-kernel-N-{word}",
        "{kind} kernel",
        ("stream",),
        lambda c: c.sizes.values("N"),
        _along_head_dims,
        along="N",
    ),
    *rates.heads_differ(along),
    rates.more_heads_lower_loss(along),
    ex.Claims(
        "heads-gain-more-than-layers",
        lambda found, at: (
            "Heads gain more than layers: the loss with the most heads is below that with the most "
            "layers (the difference is below 0)."
        ),
        estimate=_heads_or_layers,
        prediction=0.0,
        tol=0.0,
        over=lambda c: ex.alone(c) if len(c.sizes.layers) > 1 and len(c.sizes.heads) > 1 else (),
        rivals=(ex.Rival(NO_EFFECT, 0.0),),
        one_sided=True,
    ),
    ex.Claims(
        "below-unigram",
        lambda found, at: (
            f"With {found.config.sizes.values('H')[-1]} heads the minibatch loss of the last tenth "
            "of the steps is below the entropy of a token alone."
        ),
        estimate=_last_losses,
        prediction=lambda found, at: along(found, "H")[-1].unigram,
        tol=0.0,
        over=ex.alone,
        rivals=(
            ex.Rival(
                "it learns how frequent tokens are, and no more",
                lambda found, at: along(found, "H")[-1].unigram,
            ),
        ),
        one_sided=True,
    ),
    *PAIRED,
)


def _losses(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for at, one in found.each(NETWORKS):
        losses = one.final_losses()
        compute = 6.0 * one.parameters * one.tokens * found.config.steps
        error = float(losses.std(ddof=1) / len(losses) ** 0.5)
        yield (at.alpha_A, *at.size, one.parameters, compute, float(losses.mean()), error)


def _draw_losses(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    sizes, one = found.config.sizes, along(found, "N")[0]
    floors = {"unigram": one.unigram, "bigram": one.bigram}
    made = charts.axis_charts(sizes, lambda axis: along(found, axis), floors)
    every = {str(size): found(NETWORKS, At(found.config.first, size)) for size in sizes.all()}
    costs = [6.0 * one.parameters * one.tokens for one in every.values()]
    figures.draw_charts([*made, charts.loss_chart(every, floors, costs)], canvas)


def _rates(found: ex.Found[Config]) -> list[charts.Rates]:
    exponents, sizes = found.config.exponents, found.config.sizes
    kernels = {
        f"{kind}, {word}": _along_heads(found, kind, word)
        for kind in common.KERNELS
        for word in common.WHEN
    }
    variances = {
        f"$\\alpha_A$ = {alpha_A:g}, {word}": rates.head_deviations(
            along(found, "N", alpha_A), word
        )
        for alpha_A in exponents
        for word in common.WHEN
    }
    label, other = "variance of a kernel over networks", "variance of scores over heads"
    slope = 1 - 2 * found.config.first
    return [
        charts.Rates("kernel", "H", sizes.values("H"), kernels, label, -1.0),
        charts.Rates("variance over heads", "N", sizes.values("N"), variances, other, slope),
    ]


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
        caption="Mean square of the deviation of the log of a kernel from its mean over seeds, in "
        "the leading modes of the mean kernel of its size, and the variance of scores over heads "
        "at each exponent. Error bars: standard errors over seeds. Rates with 95 % intervals by "
        "bootstrap over seeds.",
        columns=("quantity", "axis", "size", "series", "mean square", "stderr"),
        size=(11.0, 4.4),
    ),
    charts.law_figure(along),
)

EXPERIMENT = ex.Experiment(
    name="bordelon2024/lm-sizes",
    title="Causal language models over sizes, before and after training",
    question="How do language models change with head dimension, heads and layers?",
    summary="Byte-level networks of growing $N$, $H$ and $L$ in the paper's parameterization under "
    "Adam. The variance of scores over heads goes like $N^{1 - 2\\alpha_A}$ at the start and "
    "kernels concentrate. In pairs of one seed $\\alpha_A = 1/2$ gains on 1 as $N$ grows, not by "
    "the width alone. Losses are compared with the entropies of simple models and against compute.",
    citations=("bordelon2024", "jax"),
    reference=core.reference("bordelon2024"),
    presets={
        "demo": Config(
            sizes=common.Sizes(head_dims=(4, 32), heads=(4, 16), layers=(2,)), steps=400, seeds=8
        ),
        "standard": Config(
            sizes=common.Sizes(head_dims=(4, 8, 16, 32), heads=(4, 8, 16, 32), layers=(2, 4, 8)),
            steps=400,
            seeds=24,
        ),
        "paper": Config(
            sizes=common.Sizes(
                base=(8, 8, 4), head_dims=(8, 16, 32, 64), heads=(8, 16, 32, 64), layers=(4, 8, 16)
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
    finding=ex.Finding(
        "In causal language models the variance of the stream's kernel over networks goes with "
        "the exponent {0} in $H$ before training and {1} after",
        ("stream-kernel-H-before", "stream-kernel-H-after"),
    ),
)
