r"""Entropy and effective sample size of attention weights, in clouds and in their closure.

Along depth both are averaged over the tokens of a cloud, and set beside the average of the
Gaussian tilt of its closure. For single queries x in clouds at rest the effective sample size
follows n e^{-|Sigma^(1/2) A x|^2} while that is many tokens, and leaves it where the exponent
reaches log n: what the closure averages over is then in no cloud of n tokens.

Reference: Castin et al., arXiv 2501.18322; documentation, "The Transformer PDE".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float

import translimit.experiments as ex
from translimit import core, figures
from translimit.core import Estimate
from translimit.experiments.castin2025 import wrong_closures
from translimit.experiments.castin2025.canonical import paired
from translimit.experiments.castin2025.weights_of_clouds import DEPTH, LAWS, SHARP, Config

#: The exponent of the claim: there the error of a ratio of sums is still small, e^{2} / n relative.
EXPONENT = 0.5
#: The claims about a variant: the array, and what they say of it.
QUANTITIES = {
    "entropy": ("deficit", "The entropy of the weights lies below $\\log n$ by"),
    "sample-size": ("fraction", "The effective sample size is the fraction of $n$ of"),
}


def _last(
    found: ex.Found[Config], at: tuple[str, str], law: str = LAWS[0]
) -> tuple[Float[np.ndarray, " cloud"], Float[np.ndarray, " cloud"]]:
    """A quantity of the largest clouds, and of their closures, at the last depth."""
    variant, quantity = at
    depth = found(DEPTH, (variant, max(found.config.tokens)))
    clouds, closure = depth.both(QUANTITIES[quantity][0], law)
    return clouds[:, -1], closure[:, -1]


def _sharp(array: str) -> Callable[[ex.Found[Config]], Estimate]:
    def estimate(found: ex.Found[Config]) -> Estimate:
        sharp = found(SHARP, max(found.config.sharp_tokens))
        return Estimate.from_samples(getattr(sharp, array)[:, sharp.exponent == EXPONENT][:, 0])

    return estimate


CLAIMS = (
    ex.Claims(
        "{variant}-{quantity}",
        lambda found, at: (
            f"{at[0]}: {QUANTITIES[at[1]][1]} the closure's Gaussian tilt (mean over the tokens, "
            f"depth {found.config.t1:g}, n = {max(found.config.tokens)}, matched initial moments)."
        ),
        estimate=lambda found, at: paired(*_last(found, at)),
        prediction=lambda found, at: float(_last(found, at)[1].mean()),
        tol=lambda c, at: 0.0015 if at[0] == "l2" else 0.004,
        over=lambda c: [(variant, quantity) for variant in c.variants for quantity in QUANTITIES],
        rivals=tuple(
            wrong_closures.rival(
                law, _last, lambda c, at, law=law: at[0] == "l2" or law != LAWS[-1]
            )
            for law in LAWS[1:]
        ),
        decided_by="standard",
    ),
    ex.claim(
        "sample-size-law",
        "The effective sample size of a query is $n e^{-|\\Sigma^{1/2} A x|^2}$ (fraction of $n$ "
        f"at the exponent {EXPONENT:g}, in the largest clouds).",
        _sharp("fraction"),
        float(np.exp(-EXPONENT)),
        0.01,
        rivals=(
            ex.Rival("half the exponent", float(np.exp(-EXPONENT / 2))),
            ex.Rival("the exponent times 1.1", float(np.exp(-1.1 * EXPONENT))),
            ex.Rival("algebraic, $1 / (1 + x)$", 1 / (1 + EXPONENT)),
        ),
    ),
    ex.claim(
        "entropy-law",
        "The entropy of a query's weights lies $|\\Sigma^{1/2} A x|^2 / 2$ below $\\log n$ (at the "
        f"exponent {EXPONENT:g}, in the largest clouds).",
        _sharp("deficit"),
        EXPONENT / 2,
        0.01,
        rivals=(
            ex.Rival("twice that, as for the sample size", EXPONENT),
            ex.Rival("times 1.1", 1.1 * EXPONENT / 2),
        ),
    ),
)


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over clouds, and its standard error."""
    return values.mean(axis=0), core.standard_error(values)


def _along_depth(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for variant, n in found.config.shown:
        depth = found(DEPTH, (variant, n))
        columns = [
            column
            for array, _ in QUANTITIES.values()
            for clouds, closure in [depth.both(array)]
            for column in (*_mean(clouds), closure.mean(axis=0))
        ]
        for row in zip(depth.time, *columns, strict=True):
            yield (variant, n, *map(float, row))


def _by_exponent(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for n, sharp in found.each(SHARP):
        columns = (
            *_mean(n * sharp.fraction),
            n * sharp.limit_fraction,
            *_mean(sharp.deficit),
            sharp.limit_deficit,
        )
        for row in zip(sharp.exponent, *columns, strict=True):
            if row[0] % 2 == 0:
                yield (n, *map(float, row))


def _depth_panel(config: Config, label: str, *columns: str) -> figures.Panel:
    """A quantity of the clouds, and the closures of the largest."""
    layers = []
    for series, (variant, n) in enumerate(config.shown):
        where = {"variant": variant, "n": n}
        text = f"{variant}, $n = {n}$"
        layers.append(figures.points(*columns[:2], label=text, where=where, series=series))
        if n == max(config.tokens):
            dash, text = "" if variant == config.variants[0] else "6 3", f"closure, {variant}"
            layers.append(figures.line(columns[2], label=text, where=where, series=None, dash=dash))
    return figures.panel("", *layers, ylabel=label)


def _sharp_panels(config: Config) -> tuple[figures.Panel, ...]:
    """Sample sizes and entropies against the exponent, both with their limits."""
    sizes, text = config.sharp_tokens, "$n = {}$"
    ends = [
        figures.level(float(np.log(n)), vertical=True, series=series, dash="1.5 2", label="")
        for series, n in enumerate(sizes)
    ]
    return (
        figures.panel(
            "effective sample size",
            figures.points("sample size", "stderr", label=text),
            figures.line("n e^-exponent", label="limit, " + text),
            *ends,
            ylabel="effective sample size",
            log="y",
            ylim=(0.7, 1.5 * max(sizes)),
        ),
        figures.panel(
            "entropy",
            figures.points("deficit", "stderr (nat)", label=text),
            figures.line("exponent / 2", by="", label="limit", series=None),
            *ends,
            ylabel="$\\log n$ minus entropy (nats)",
            ylim=(0.0, 1.1 * float(np.log(max(sizes)))),
        ),
    )


FIGURES = (
    ex.Figure(
        name="depth",
        title="How many tokens a token attends to",
        caption="Left: entropy of the attention weights below that of equal weights, right: "
        "effective sample size as a fraction of $n$; both averaged over the tokens, along depth, "
        "for Gaussian clouds (markers; bars of one standard error over clouds) and for the "
        "closure started from the clouds' moments (lines, $n\\to\\infty$). Nothing is fitted.",
        columns=(
            *("variant", "n", "t", "deficit", "stderr", "closure"),
            *("fraction", "stderr (fraction)", "closure (fraction)"),
        ),
        rows=_along_depth,
        x="t",
        layers=lambda c: (
            _depth_panel(c, "$\\log n$ minus entropy (nats)", "deficit", "stderr", "closure"),
            _depth_panel(
                c,
                "effective sample size $/\\,n$",
                *("fraction", "stderr (fraction)", "closure (fraction)"),
            ),
        ),
        xlabel="depth $t$",
        shown=lambda found, table: sum(
            len(found(DEPTH, point).deficit) for point in found.config.shown
        ),
        size=(10.0, 4.2),
    ),
    ex.Figure(
        name="sample-size",
        title="Where a finite cloud stops sampling its limit",
        caption="Effective sample size (left) and entropy below $\\log n$ (right) of the softmax "
        "weights of single queries; {sharp_clouds} Gaussian clouds for each $n$, bars of one "
        "standard error. Lines: $n e^{{-|\\Sigma^{{1/2}}Ax|^2}}$ and $|\\Sigma^{{1/2}}Ax|^2/2$, "
        "the limits $n\\to\\infty$. Dotted: the exponent $\\log n$, beyond which the first is "
        "below one token.",
        columns=(
            *("n", "exponent", "sample size", "stderr", "n e^-exponent"),
            *("deficit", "stderr (nat)", "exponent / 2"),
        ),
        rows=_by_exponent,
        x="exponent",
        by="n",
        layers=_sharp_panels,
        xlabel="$|\\Sigma^{1/2} A x|^2$",
        shown=lambda found, table: found.config.sharp_clouds * len(found.config.sharp_tokens),
        size=(10.0, 4.2),
    ),
)

EXPERIMENT = ex.Experiment(
    name="castin2025/attention-weights",
    title="Entropy and effective sample size of attention weights",
    question="How many keys does a query attend to, and when does a finite cloud stop showing it?",
    summary="How many keys a query attends to, in finite clouds and in the Gaussian closure, along "
    "depth; and how far a cloud of $n$ tokens can stand for its limit: the effective sample size "
    "of a query is $n e^{-|\\Sigma^{1/2} A x|^2}$ until that is a handful of tokens.",
    citations=("castin2025", "diffrax", "jax"),
    reference=core.reference("castin2025"),
    presets={
        "demo": Config(tokens=(100, 400), clouds=(64, 128)),
        "standard": Config(clouds=(256, 128, 64)),
        "paper": Config(
            tokens=(100, 400, 1600, 6400),
            clouds=(1024, 512, 256, 64),
            sharp_tokens=(100, 1000, 10_000, 100_000),
            sharp_clouds=128,
        ),
    },
    parts=(DEPTH, SHARP),
    claims=CLAIMS,
    figures=FIGURES,
    finding=ex.Finding(
        "At the exponent 1/2 the effective sample size of a query is {0} of the tokens, and the"
        " entropy of its weights lies {1} below $\\log n$",
        ("sample-size-law", "entropy-law"),
    ),
)
