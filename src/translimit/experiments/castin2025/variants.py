r"""Every variant of attention against its closure and against finite depth.

The n-fold bias of small clouds must not depend on n; networks of L layers are first order in 1/L;
pairs of clouds drift apart by a factor that stays bounded (see `variant_parts`).

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import curves, symbol
from translimit.experiments.castin2025.variant_parts import (
    BIAS,
    DEPTH,
    EPSILONS,
    GROWTH,
    MOMENTS,
    T1,
    Config,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Largest n-fold bias of a mean that counts as none, and largest difference of the n-fold biases
#: of a variance at two numbers of tokens.
MEAN_TOLERANCE = 0.15
BIAS_TOLERANCE = 0.3


def _biases(found: ex.Found[Config], at: tuple[str, int]) -> list[Estimate]:
    """The n-fold bias of each moment."""
    tokens, bias = at[1], found(BIAS, at)
    return [
        Estimate.from_samples(tokens * row, discretisation=tokens * bias.discretisation)
        for row in bias.difference.T
    ]


def _bias_of_mean(found: ex.Found[Config], variant: str) -> Estimate:
    """The larger of the two components, at the first number of tokens."""
    both = _biases(found, (variant, found.config.tokens[0]))[:2]
    return max(both, key=lambda estimate: abs(estimate.value))


def _biases_of_variance(found: ex.Found[Config], variant: str) -> list[Estimate]:
    """That of Sigma_11 at both numbers of tokens."""
    place = MOMENTS.index("Sigma_11")
    return [_biases(found, (variant, n))[place] for n in found.config.tokens]


def _first_bias(found: ex.Found[Config], variant: str) -> Estimate:
    first, second = _biases_of_variance(found, variant)
    error = float(np.hypot(first.stderr, second.stderr))
    return Estimate(first.value, error, first.count, first.discretisation)


def _depth_fit(found: ex.Found[Config], variant: str) -> core.RateFit:
    return core.fit_rate(found.config.layers, found(DEPTH, variant).error, paired=True)


def _depth_rate(found: ex.Found[Config], variant: str) -> Estimate:
    return _depth_fit(found, variant).estimate()


def _growth_rate(found: ex.Found[Config], variant: str) -> Estimate:
    """Exponent of the last ratio over the size of the noise."""
    growth = found(GROWTH, variant)
    return core.fit_rate(growth.epsilon, growth.ratio[..., -1], paired=True).estimate()


CLAIMS = (
    ex.Claims(
        "{variant}-mean-unbiased",
        lambda found, variant: (
            f"{variant}: particles and closure have the same mean, without an $O(1/n)$ bias ($n$ "
            f"times the larger of two, $n = {found.config.tokens[0]}$)."
        ),
        estimate=_bias_of_mean,
        prediction=0.0,
        tol=MEAN_TOLERANCE,
        over=lambda c: c.variants,
    ),
    ex.Claims(
        "{variant}-bias-order",
        lambda found, variant: (
            f"{variant}: the bias of $\\Sigma_{{11}}$ is of order $1/n$: $n$ times it is the same "
            f"at $n = {found.config.tokens[0]}$ and {found.config.tokens[1]}."
        ),
        estimate=_first_bias,
        prediction=lambda found, variant: _biases_of_variance(found, variant)[1].value,
        tol=BIAS_TOLERANCE,
        over=lambda c: c.variants,
    ),
    ex.Claims(
        "{variant}-depth-rate",
        lambda found, variant: (
            f"{variant}: the distance of an $L$-layer network to the flow falls like $1/L$."
        ),
        estimate=_depth_rate,
        prediction=-1.0,
        tol=0.06,
        over=lambda c: c.variants,
    ),
    ex.Claims(
        "{variant}-stability",
        lambda found, variant: (
            f"{variant}: $W_2$ between two clouds grows by a factor that stays bounded as they "
            "approach each other: it goes with the power 0 of their distance."
        ),
        estimate=_growth_rate,
        prediction=0.0,
        tol=0.05,
        over=lambda c: c.variants,
    ),
)


def _bias_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for at in BIAS.points(found.config):
        for name, bias in zip(MOMENTS, _biases(found, at), strict=True):
            yield (*at, name, bias.value, bias.stderr)


def _draw_bias(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    """Moment by moment: a colour and a marker a variant, hollow at the first number of tokens."""
    ax, (variants, tokens) = canvas.subplots(), (found.config.variants, found.config.tokens)
    for series, variant in enumerate(variants):
        middle = 0.8 * ((series + 0.5) / len(variants) - 0.5)
        for index, n in enumerate(tokens):
            rows = table.where({"variant": variant, "tokens": n})
            ax.errorbar(
                np.arange(len(MOMENTS)) + middle + 0.04 * (index - 0.5),
                rows.numbers("n x bias"),
                yerr=rows.numbers("stderr"),
                fmt=figures.MARKERS[series],
                color=figures.COLOURS[series],
                fillstyle="full" if index else "none",
                capsize=2,
                markersize=5,
                label=f"{variant}, $n = {n}$",
            )
    ax.axhline(0.0, color=figures.LIMIT, linewidth=1.2, label="closure")
    ax.set_xticks(range(len(MOMENTS)), [f"${symbol(name)}$" for name in MOMENTS])
    figures.finish(ax, xlabel=f"moment at $t = {T1:g}$", ylabel="$n$ times the bias", legend=False)
    canvas.legend(loc="outside right center", frameon=False, fontsize="small")


def _depth_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for variant, depth in found.each(DEPTH):
        squares = depth.error**2
        rms = squares.mean(axis=1) ** 0.5
        stderr = squares.std(axis=1, ddof=1) / squares.shape[1] ** 0.5 / (2 * rms)
        for row in zip(depth.layers.tolist(), rms.tolist(), stderr.tolist(), strict=True):
            yield (variant, *row)


def _draw_depth(canvas: Figure, table: figures.Table, found: ex.Found[Config]) -> None:
    ax = canvas.subplots()
    for series, variant in enumerate(found.config.variants):
        rows = table.where({"variant": variant})
        figures.plot_convergence(
            *curves(rows, "layers", "rms distance", "stderr", xlabel="layers $L$"),
            ax,
            fit=_depth_fit(found, variant),
            predicted_rate=None if series else -1.0,
            series=series,
            label=variant,
            ylabel="rms distance to the flow at $t = 1$",
        )


def _growth_rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for variant, growth in found.each(GROWTH):
        mean = growth.ratio.mean(axis=1)
        stderr = growth.ratio.std(axis=1, ddof=1) / np.sqrt(growth.ratio.shape[1])
        for i, epsilon in enumerate(EPSILONS):
            for j, t in enumerate(growth.time.tolist()):
                yield (variant, epsilon, t, float(mean[i, j]), float(stderr[i, j]))


FIGURES = (
    ex.Figure(
        name="bias",
        title="The bias of a finite cloud, variant by variant",
        caption="$n$ times the mean difference between the final moments of clouds of $n$ Gaussian "
        "tokens and the closure started from their own initial moments, canonical parameters; "
        "{clouds} clouds (fewer at the larger $n$ and for Sinkhorn), bars of one standard error. "
        "Equal heights at both $n$ mean a bias of order $1/n$; the line is the closure. "
        "Dimensionless.",
        columns=("variant", "tokens", "moment", "n x bias", "stderr"),
        rows=_bias_rows,
        draw=_draw_bias,
        shown=lambda found, table: len(BIAS.points(found.config)),
        size=(9.0, 4.4),
    ),
    ex.Figure(
        name="depth",
        title="From finite depth to the flow, variant by variant",
        caption="Root mean square over tokens and clouds of the distance between networks of $L$ "
        "layers and the flow from the same tokens; {depth_clouds} clouds of {depth_tokens} tokens "
        "uniform on $[-1, 1]^2$, bars of one standard error over clouds, dashed fits with 95 % "
        "bootstrap intervals, solid: the predicted rate. Dimensionless.",
        columns=("variant", "layers", "rms distance", "stderr"),
        rows=_depth_rows,
        draw=_draw_depth,
        shown=lambda found, table: len(table.rows) * found.config.depth_clouds,
        size=(8.0, 5.0),
    ),
    ex.Figure(
        name="growth",
        title="How far nearby clouds drift apart, variant by variant",
        caption="$W_2$ between a cloud and the same cloud with Gaussian noise of size "
        "$\\varepsilon$, relative to its value at the start; {growth_clouds} clouds of "
        "{growth_tokens} tokens uniform on $[-1, 1]^2$, canonical parameters, exact assignment, "
        "bars of one standard error. A factor that does not depend on $\\varepsilon$ is a "
        "Lipschitz estimate. Dimensionless.",
        columns=("variant", "epsilon", "t", "ratio", "stderr"),
        rows=_growth_rows,
        x="t",
        by="variant",
        panels="epsilon",
        titles={epsilon: f"$\\varepsilon = {epsilon:g}$" for epsilon in EPSILONS},
        layers=(figures.points("ratio", "stderr", joined=True),),
        xlabel="depth $t$",
        ylabel="$W_2(t) / W_2(0)$",
        shown=lambda found, table: (
            len(found.config.variants) * len(EPSILONS) * found.config.growth_clouds
        ),
        size=(11.0, 3.6),
    ),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/variants",
    title="Every variant of attention against its closure",
    summary="Softmax, multi-head, L2, Sinkhorn and linear attention send Gaussians to Gaussians. "
    "Thousands of small clouds show how a finite number of tokens departs from that closure: a "
    "bias of order $1/n$ in the covariance and none in the mean, none at all for linear "
    "attention. Networks of $L$ layers converge to each flow like $1/L$, and nearby clouds stay "
    "nearby.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(
            tokens=(50, 100), clouds=8000, depth_tokens=64, depth_clouds=16, growth_clouds=16
        ),
        "paper": Config(
            tokens=(50, 100),
            clouds=40000,
            layers=(8, 16, 32, 64, 128),
            depth_tokens=64,
            depth_clouds=64,
            growth_tokens=400,
            growth_clouds=32,
        ),
    },
    reference=core.reference("castin2025"),
    parts=(BIAS, DEPTH, GROWTH),
    claims=CLAIMS,
    figures=FIGURES,
)
