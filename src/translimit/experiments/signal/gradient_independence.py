r"""Where the gradient is independent of the weights below it, and where it is not.

The recursion takes the gradient that arrives independent of the weights of the branch that it
passes. A Gaussian gradient above the last layer is; that of half the sum of squares of the last
tokens is the tokens themselves, which contain what those very weights made. In a pre-LN stack it
then exceeds the recursion from layer to layer; below the norms of a post-LN stack it vanishes,
because no norm lets through what lies along the token.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate
from translimit.experiments.checked import Two
from translimit.experiments.signal import stacks

CASES: tuple[str, ...] = ("independent", "squares-pre-LN", "squares-post-LN")
FRESH, OWN, POST = CASES
SAID = {
    FRESH: "an independent gradient, pre-LN",
    OWN: "the gradient of the tokens' squares, pre-LN",
    POST: "the gradient of the tokens' squares, post-LN",
}


@dataclass(frozen=True)
class Config(stacks.Sizes):
    """Sizes of stacks, and samples.

    Attributes:
        networks: with drawn weights, at least 2.
    """

    networks: Two = 96


@dataclass(frozen=True)
class Gradients(ex.Arrays):
    """tr B by level in networks, over that of the recursion, both 1 at the top."""

    ratio: Annotated[Float[np.ndarray, "network level"], "tr B by networks over the recursion"]
    recursion: Annotated[Float[np.ndarray, " level"], "tr B by the recursion, 1 at the top"]
    level: Int[np.ndarray, " level"]


def compute(config: Config, case: str, keys: ex.Keys) -> Gradients:
    """Networks in single precision, the recursion in double from the gradient that arrives."""
    name = "bert" if case == POST else "llama"
    stack = stacks.family(name, config.dim, config.layers, config.std)
    cov = stack.initial_cov(stacks.ids(config.tokens))
    paths = stacks.networks(
        stack,
        cov,
        config.networks,
        core.named_key(keys.own, "networks"),
        "identity" if case == FRESH else "squares",
    )
    assert paths.grad_grams is not None
    drawn = stacks.mean_diagonals(np.asarray(paths.grad_grams, np.float64))
    method = limits.signal.Recursion(pairs=32, copies=4)
    key = core.named_key(keys.own, "recursion")
    above: np.ndarray | Literal["identity"] = "identity"
    if case != FRESH:
        forward = limits.signal.SignalPropagation(stack=stack, initial=cov)
        above = config.dim * core.solve(forward, method, key=key).cov[-1]
    problem = limits.signal.SignalPropagation(stack=stack, initial=cov, top_gradient=above)
    law = core.solve(problem, method, key=key).grad_square
    ratio = drawn / law
    return Gradients(ratio / ratio[:, -1:], law / law[-1], np.arange(config.layers + 1))


CASE = ex.Part(
    "{case}",
    Gradients,
    compute,
    grid=lambda c: CASES,
    cost=lambda c, case: ex.Cost(18.0 + 6e-9 * c.dim**2 * c.layers * c.networks * c.tokens),
)


def _at(found: ex.Found[Config], case: str, level: int) -> Estimate:
    """The mean ratio at a level."""
    return Estimate.from_samples(found(CASE, case).ratio[:, level])


def _shortfall(found: ex.Found[Config]) -> Estimate:
    """Minus the logarithm of the ratio a layer, for a bound from above."""
    ratio = found(CASE, OWN).ratio
    mean, layers = ratio[:, 0].mean(), ratio.shape[1] - 1
    return Estimate.from_samples(-(np.log(mean) + ratio[:, 0] / mean - 1.0) / layers)


CLAIMS = (
    ex.claim(
        "independent",
        "An independent gradient has the size of the recursion at the lowest level.",
        lambda found: _at(found, FRESH, 0),
        1.0,
        tol=0.15,
        rivals=(
            ex.Rival(
                "no gradient through the branches",
                prediction=lambda found, _: 1.0 / float(found(CASE, FRESH).recursion[0]),
            ),
            ex.Rival[Config, ex.Alone](
                "the gradient of the tokens' squares",
                prediction=lambda found, _: _at(found, OWN, 0),
            ),
        ),
    ),
    ex.claim(
        "squares-pre-LN",
        "The gradient of the tokens' squares exceeds the recursion by a twentieth a layer or more: "
        "it holds what the weights that it passes made (minus the log of the ratio a layer).",
        _shortfall,
        -0.05,
        tol=0.01,
        one_sided=True,
        rivals=(ex.Rival("independent of the weights", 0.0),),
    ),
    ex.claim(
        "squares-post-LN",
        "Below the norms of a post-LN stack the gradient of the tokens' squares vanishes.",
        lambda found: _at(found, POST, 0),
        0.0,
        tol=1e-3,
        rivals=(ex.Rival("independent of the weights", 1.0),),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for case, data in found.each(CASE):
        mean, error = data.ratio.mean(axis=0), core.standard_error(data.ratio)
        for row in zip(data.level.tolist(), mean.tolist(), error.tolist(), strict=True):
            yield (SAID[case], *row, 1.0)


RATIOS = ex.Figure(
    name="ratios",
    title="Gradients over those of the recursion",
    caption="Mean over {networks} networks of width {dim} of tr B over that of the recursion, both "
    "1 above the last layer (bars of one standard error); the line is 1.",
    columns=("gradient", "level", "ratio", "stderr", "independent"),
    rows=_rows,
    x="level",
    by="gradient",
    layers=(
        figures.line("independent", label="the recursion", series=None),
        figures.points("ratio", "stderr", label="{}"),
    ),
    ylabel="tr B, networks over recursion",
)

EXPERIMENT = ex.Experiment(
    name="signal/gradient-independence",
    title="Where gradients are independent of the weights that they pass",
    question="For which losses does the recursion of gradients hold?",
    summary="Gradients pass a random stack by a recursion as long as they are independent of the "
    "weights below. Losses read through fresh weights give such gradients; a loss of the norms of "
    "the last tokens does not, and fails upwards in pre-LN and downwards in post-LN stacks.",
    citations=("jax",),
    reference='documentation, "Signal propagation"',
    presets={
        "demo": Config(),
        "standard": Config(dim=512, networks=96),
        "paper": Config(dim=1024, layers=8, tokens=24, networks=96),
    },
    parts=(CASE,),
    claims=CLAIMS,
    figures=(RATIOS,),
    finding=ex.Finding(
        "At the lowest level an independent gradient has {0} of the size that the recursion says",
        ("independent",),
    ),
)
