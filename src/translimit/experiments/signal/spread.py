r"""How far one network lies from the recursion: one adjoint pass against independent networks.

A network of finite width spreads around the recursion of infinite width. To first order in 1 / D
its variance is a sum of independent noises, of the tokens of a random embedding and of the weights
of every branch, each weighed by a derivative that one adjoint pass gives. Beside it networks with
all weights drawn, one deviation for every level; other theories leave a noise out.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.checked import Count, Two
from translimit.experiments.signal import stacks
from translimit.experiments.signal.stacks import At

OBSERVABLES = ("overlap", "square")
SAID = {"overlap": "mean overlap of different tokens", "square": "logarithm of the mean square"}
#: Where the noises come from.
SOURCES: tuple[str, ...] = ("tokens", "attention", "feed_forward", "experts")
CAUSAL = tuple(name for name in stacks.FAMILIES if name != "bert")
#: What other theories keep of the noises, and of whose observables they tell another spread: of the
#: mean square attention adds little of the noise, and without a mask a third of the overlap's.
OTHERS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "the tokens' noise alone": (("tokens",), stacks.FAMILIES, OBSERVABLES),
    "without the noise of attention": (("tokens", "feed_forward"), CAUSAL, ("overlap",)),
    "without the noise of hidden units": (("tokens", "attention"), stacks.FAMILIES, ("square",)),
}


@dataclass(frozen=True)
class Config(stacks.Sizes):
    """Sizes of stacks, and samples.

    Attributes:
        networks: with drawn weights and tokens, at least 2.
        pairs: antithetic pairs of heads of the adjoint pass, in the first layer.
    """

    networks: Two = 400
    pairs: Count = 32


@dataclass(frozen=True)
class Spreads(ex.Arrays):
    """Observables of networks by level, and the deviation of one by the adjoint pass."""

    drawn: Annotated[Float[np.ndarray, "network observable level"], "by networks"]
    std: Annotated[Float[np.ndarray, "observable level"], "deviation by the adjoint pass"]
    shares: Annotated[Float[np.ndarray, "observable level source"], "of its square by source"]
    level: Int[np.ndarray, " level"]


def compute(config: Config, family: str, keys: ex.Keys) -> Spreads:
    """Networks in single precision, the recursion and its derivatives in double."""
    stack = stacks.family(family, config.dim, config.layers, config.std)
    cov = stack.initial_cov(stacks.ids(config.tokens))
    # Gaussian tokens with this covariance enter networks and the adjoint pass alike.
    stack = dataclasses.replace(stack, embedding=None)
    paths = stacks.networks(stack, cov, config.networks, core.named_key(keys.own, "networks"), None)
    covs = np.asarray(paths.covs, np.float64)
    drawn = np.stack([stacks.mean_overlaps(covs), np.log(stacks.mean_diagonals(covs))], axis=1)
    problem = limits.signal.SignalPropagation(stack=stack, initial=cov, top_gradient=None)
    found = limits.signal.spread(
        problem,
        key=core.named_key(keys.own, "spread"),
        observables=("overlap", "mean_square"),
        pairs=config.pairs,
    )
    places = [found.sources.index(one) for one in SOURCES]
    method = limits.signal.Recursion(pairs=config.pairs, copies=2)
    law = core.solve(problem, method, key=core.named_key(keys.own, "recursion"))
    return Spreads(
        drawn=drawn,
        std=np.stack([found.std["overlap"], found.std["mean_square"] / law.mean_square]),
        shares=np.stack([found.shares["overlap"], found.shares["mean_square"]])[:, :, places],
        level=np.arange(config.layers + 1),
    )


FAMILY = ex.Part(
    "{family}",
    Spreads,
    compute,
    grid=lambda c: stacks.FAMILIES,
    cost=lambda c, family: ex.Cost(
        12.0 + 6e-9 * c.dim**2 * c.layers * c.networks * c.tokens + 0.1 * c.layers**2
    ),
)


def _points() -> list[At]:
    """All but the mean square of post-LN stacks, which their norms fix."""
    every = (At(*one) for one in itertools.product(stacks.FAMILIES, OBSERVABLES))
    return [at for at in every if at != At("bert", "square")]


def _gap(found: ex.Found[Config], at: At, kept: tuple[str, ...] = SOURCES) -> Estimate:
    """Log of the measured deviation over the predicted one, mean along the layers."""
    data, number = found(FAMILY, at.family), OBSERVABLES.index(at.observable)
    drawn = data.drawn[:, number, 1:]
    places = [SOURCES.index(one) for one in kept]
    share = data.shares[number, 1:][:, places].sum(axis=1)
    variance = drawn.var(axis=0, ddof=1)
    gap = 0.5 * np.log(variance / (data.std[number, 1:] ** 2 * share))
    # The error of a logarithm of a variance, from what each network adds to it.
    added = 0.5 * ((drawn - drawn.mean(axis=0)) ** 2 / variance - 1.0)
    return Estimate.from_samples((gap + added).mean(axis=1))


PREDICTED = ex.Claims(
    "{family}-{observable}",
    lambda found, at: (
        f"One adjoint pass predicts how far the {SAID[at.observable]} of one network with the "
        f"block of {at.family} spreads (width {found.config.dim}; log of the ratio of deviations, "
        "mean along the layers)."
    ),
    estimate=_gap,
    prediction=0.0,
    tol=0.15,
    over=lambda c: _points(),
    rivals=tuple(
        ex.Rival[Config, At](
            name,
            estimate=lambda found, at, kept=kept: _gap(found, at, kept),
            when=lambda c, at, families=families, seen=seen: (
                at.family in families and at.observable in seen
            ),
        )
        for name, (kept, families, seen) in OTHERS.items()
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for family, data in found.each(FAMILY):
        for number, observable in enumerate(OBSERVABLES):
            if At(family, observable) not in _points():
                continue
            measured = data.drawn[:, number].std(axis=0, ddof=1)
            error = measured / (2 * (len(data.drawn) - 1)) ** 0.5
            tokens = data.std[number] * np.sqrt(data.shares[number, :, SOURCES.index("tokens")])
            columns = measured, error, data.std[number], tokens
            yield from stacks.rows(family, SAID[observable], data.level, columns)


CURVES = ex.Figure(
    name="spreads",
    title="How far one network lies from the recursion",
    caption="Deviations over {networks} networks of width {dim} by level (points, bars of one "
    "standard error for normal samples), and of one network by the adjoint pass (lines), of the "
    "mean overlap of {tokens} tokens and of the logarithm of the mean square.",
    columns=("family", "observable", "level", "networks", "stderr", "adjoint", "tokens alone"),
    rows=_rows,
    x="level",
    by="family",
    panels="observable",
    across=2,
    layers=(
        figures.line("adjoint", label="adjoint, {}"),
        figures.points("networks", "stderr", label="networks, {}"),
    ),
    ylabel="deviation over networks",
    size=(10.0, 4.6),
)

EXPERIMENT = ex.Experiment(
    name="signal/spread",
    title="How far one network lies from the limit",
    question="How far does a single network lie from the limit?",
    summary="A network of finite width spreads around the recursion of infinite width. One adjoint "
    "pass through the recursion adds up the noises of its tokens and weights, each weighed by what "
    "it moves; the deviation over independent networks is compared with it, level by level.",
    citations=("jax",),
    reference='documentation, "Signal propagation"',
    presets={
        "demo": Config(),
        "standard": Config(dim=512, networks=600),
        "paper": Config(dim=1024, layers=12, tokens=24, networks=400),
    },
    parts=(FAMILY,),
    claims=(PREDICTED,),
    figures=(CURVES,),
    finding=ex.Finding(
        "The log of the measured over the predicted deviation of the mean overlap is {0} with the "
        "block of GPT-2, and {1} with that of Llama",
        ("gpt2-overlap", "llama-overlap"),
    ),
)
