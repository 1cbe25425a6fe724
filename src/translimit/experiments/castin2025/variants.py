r"""Every variant of attention: its closure, its finite depth, its stability, its mean-field limit.

Gaussian clouds have the moments of their closure; networks of L layers are first order in 1/L;
pairs of clouds part by the factor of the tangent flow; n tokens of a law on a square move like the
same tokens among many, but for noise of order n^(-1/2) (see `variant_parts`).

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.castin2025.canonical import symbol
from translimit.experiments.castin2025.tangents import EPSILONS, growth_claims
from translimit.experiments.castin2025.variant_parts import (
    CLOSURE,
    COMPACT,
    DEPTH,
    GROWTH,
    MOMENTS,
    T1,
    Config,
)
from translimit.experiments.castin2025.wrong_closures import DROPPED, LAWS

#: Which moments have no error at all, cloud by cloud, and those of a scheme's steps.
EXACT = {"linear": slice(0, 5), "sinkhorn": slice(0, 2)}


def _distance(found: ex.Found[Config], variant: str, law: int = 0) -> Estimate:
    """Of the clouds' mean moments to those of a law, without the bias of their noise."""
    closure = found(CLOSURE, variant)
    difference = closure.difference[law]

    def norm(kept: np.ndarray) -> float:
        return float(np.linalg.norm(difference[kept].mean(axis=0)))

    found_ = core.jackknife(norm, len(difference))
    return Estimate(found_.value, found_.stderr, found_.count, closure.discretisation)


def _largest(found: ex.Found[Config], variant: str, law: int = 0) -> Estimate:
    """Over clouds, of the moments that are exact."""
    difference = found(CLOSURE, variant).difference[law][:, EXACT[variant]]
    return Estimate(float(np.abs(difference).max()), count=len(difference))


def _law_rival(law: int, variant: str = "") -> ex.Rival[Config, str]:
    """A wrong closure in the place of the right one, for all variants or one."""
    return ex.Rival(
        DROPPED[variant] if variant else LAWS[law],
        estimate=lambda found, at: (
            _largest(found, at, law) if variant in EXACT else _distance(found, at, law)
        ),
        when=lambda c, at: at == variant if variant else True,
    )


def _rate(found: ex.Found[Config], variant: str) -> Estimate:
    compact = found(COMPACT, variant)
    fit = core.fit_rate(compact.tokens, np.sqrt(compact.square), paired=True)
    return fit.estimate()


def _depth_fit(found: ex.Found[Config], variant: str) -> core.RateFit:
    return core.fit_rate(found.config.layers, found(DEPTH, variant).error, paired=True)


CLAIMS = (
    ex.Claims(
        "{variant}-closure",
        lambda found, variant: (
            f"{variant}: the closure has the moments of Gaussian clouds at $t = {T1:g}$ (Euclidean "
            "distance of the five mean moments, matched initial moments)."
        ),
        estimate=_distance,
        prediction=0.0,
        tol=0.006,
        over=lambda c: c.closed,
        rivals=(
            _law_rival(1),
            _law_rival(2),
            *(
                ex.Rival(
                    name,
                    estimate=lambda found, at: _distance(found, at, 3),
                    when=lambda c, at, variant=variant: at == variant,
                )
                for variant, name in DROPPED.items()
            ),
        ),
    ),
    ex.Claims(
        "{variant}-exact",
        lambda found, variant: (
            f"{variant}: the {'moments' if variant == 'linear' else 'mean'} of every cloud are "
            "those of the closure, whatever their law (largest difference)."
        ),
        estimate=_largest,
        prediction=0.0,
        tol=1e-4,
        over=lambda c: [one for one in c.closed if one in EXACT],
        rivals=tuple(_law_rival(3, variant) for variant in EXACT),
    ),
    ex.Claims(
        "{variant}-depth-rate",
        lambda found, variant: (
            f"{variant}: the distance of an $L$-layer network to the flow falls like $1/L$."
        ),
        estimate=lambda found, variant: _depth_fit(found, variant).estimate(),
        prediction=-1.0,
        tol=0.05,
        over=lambda c: c.variants,
        rivals=(
            ex.Rival("$L^{-1/2}$, of noise in the layers", -0.5),
            ex.Rival("$L^{-2}$, of a symmetric scheme", -2.0),
            ex.Rival("$L^{-9/10}$", -0.9),
        ),
    ),
    *growth_claims(
        "{variant}-growth",
        "$W_2$",
        GROWTH,
        lambda found, variant: found(GROWTH, _other(found.config, variant)),
        "the growth of another variant",
        decided_by="standard",
    ),
    ex.Claims(
        "{variant}-mean-field",
        lambda found, variant: (
            f"{variant}, tokens uniform on a square: the rms distance of $n$ tokens alone to the "
            "same among many falls like $n^{-1/2}$."
        ),
        estimate=_rate,
        prediction=-0.5,
        tol=0.08,
        over=lambda c: c.variants,
        rivals=(
            ex.Rival("no dependence on $n$", 0.0),
            ex.Rival("$n^{-1/4}$", -0.25),
            ex.Rival("$n^{-1}$", -1.0),
        ),
        decided_by="standard",
    ),
)


def _other(config: Config, variant: str) -> str:
    """A variant whose growth is a rival: softmax for all others."""
    others = [one for one in config.variants if one != variant]
    return "softmax" if "softmax" in others else (others or [variant])[0]


def _gaps(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for variant, closure in found.each(CLOSURE):
        gaps = closure.difference[0]
        columns = (gaps.mean(axis=0), core.standard_error(gaps))
        for place, row in enumerate(zip(MOMENTS, *columns, strict=True)):
            yield (variant, f"${symbol(row[0])}$", place, float(row[1]), float(row[2]))


def _rates(found: ex.Found[Config]) -> Iterator[figures.Row]:
    """Distances over layers and over tokens."""
    for variant in found.config.variants:
        depth, compact = found(DEPTH, variant), found(COMPACT, variant)
        for kind, sizes, squares in (
            ("layers", depth.layers, depth.error**2),
            ("tokens", compact.tokens, compact.square),
        ):
            rms = np.sqrt(squares.mean(axis=1))
            stderr = core.standard_error(squares, axis=1) / (2 * rms)
            for row in zip(sizes, rms, stderr, strict=True):
                yield (variant, kind, *map(float, row))


def _growths(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for variant, growth in found.each(GROWTH):
        for epsilon, ratio in zip(EPSILONS, growth.ratio, strict=True):
            columns = (growth.time, ratio.mean(axis=0), core.standard_error(ratio))
            for row in zip(*columns, strict=True):
                yield (variant, epsilon, *map(float, row))


FIGURES = (
    ex.Figure(
        name="closure",
        title="Gaussian clouds and their closures, variant by variant",
        caption="Mean difference between the moments at $t = 0.8$ of {clouds} clouds of {tokens} "
        "Gaussian tokens (fewer for Sinkhorn) and those of the closure started from their own "
        "initial moments, canonical parameters, bars of one standard error. What is "
        "left is of order $1/n$.",
        columns=("variant", "moment", "place", "difference", "stderr"),
        rows=_gaps,
        x="place",
        by="variant",
        layers=(figures.points("difference", "stderr"), figures.level(0.0, label="closure")),
        xlabel="moment",
        ylabel="clouds less closure",
        ticks="moment",
        when=lambda c: bool(c.closed),
    ),
    ex.Figure(
        name="rates",
        title="From finite depth to the flow, and from few tokens to many",
        caption="Left: root mean square over tokens and clouds of the distance between networks of "
        "$L$ layers and the flow from the same tokens ({depth_clouds} clouds of {depth_tokens} "
        "tokens). Right: the same between $n$ tokens alone and the same $n$ among {compact_all}, "
        "over the root of $1 - n/N$ ({compact_clouds} clouds, fewer for Sinkhorn). Tokens are "
        "uniform on $[-1, 1]^2$, bars of one standard error, $t = 1$.",
        columns=("variant", "kind", "size", "rms distance", "stderr"),
        rows=_rates,
        x="size",
        by="variant",
        panels="kind",
        titles={"layers": "layers $L$", "tokens": "tokens $n$"},
        layers=(figures.points("rms distance", "stderr", joined=True),),
        xlabel="size",
        ylabel="rms distance to the flow",
        log="xy",
        size=(9.5, 4.4),
    ),
    ex.Figure(
        name="growth",
        title="How far nearby clouds drift apart, variant by variant",
        caption="$W_2$ between a cloud and the same cloud with Gaussian noise of size "
        "$\\varepsilon$ (mean of both signs), relative to its value at the start; {growth_clouds} "
        "clouds of {growth_tokens} tokens uniform on $[-1, 1]^2$, canonical parameters, exact "
        "assignment, bars of one standard error. A factor that does not depend on $\\varepsilon$ "
        "is a Lipschitz estimate. Dimensionless.",
        columns=("variant", "epsilon", "t", "ratio", "stderr"),
        rows=_growths,
        x="t",
        by="variant",
        panels="epsilon",
        titles={epsilon: f"$\\varepsilon = {epsilon:g}$" for epsilon in EPSILONS},
        layers=(figures.points("ratio", "stderr", joined=True),),
        xlabel="depth $t$",
        ylabel="$W_2(t) / W_2(0)$",
        size=(11.0, 3.6),
    ),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/variants",
    title="Every variant of attention against its limits",
    question="Do all variants of attention converge to their limits, and how fast?",
    summary="Softmax, multi-head, L2, Sinkhorn and linear attention send Gaussians to Gaussians: "
    "clouds have the moments of the closure, up to $O(1/n)$, and wrong closures are told apart. "
    "With sigmoid attention beside them, networks of $L$ layers converge to each flow like $1/L$, "
    "nearby clouds part by the factor of the tangent flow, and $n$ tokens of a law on a square "
    "move as among many, up to $O(n^{-1/2})$.",
    citations=("castin2025", "diffrax", "jax"),
    presets={
        "demo": Config(),
        "standard": Config(
            clouds=384,
            depth_tokens=64,
            depth_clouds=12,
            growth_tokens=100,
            growth_clouds=500,
            compact_tokens=(16, 32, 64, 128),
            compact_all=512,
            compact_clouds=256,
        ),
        "paper": Config(
            tokens=800,
            clouds=1024,
            layers=(16, 32, 64, 128, 256),
            depth_tokens=64,
            depth_clouds=64,
            growth_tokens=400,
            growth_clouds=32,
            compact_tokens=(8, 16, 32, 64, 128),
            compact_all=2048,
            compact_clouds=256,
        ),
    },
    reference=core.reference("castin2025"),
    parts=(CLOSURE, DEPTH, GROWTH, COMPACT),
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding(
        "The closures miss the moments of Gaussian clouds by {0} under softmax and by {1} under"
        " L2 attention",
        ("softmax-closure", "l2-closure"),
    ),
)
