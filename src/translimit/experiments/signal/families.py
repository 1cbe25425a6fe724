r"""Blocks of five families at initialisation: networks against the recursion, both ways.

Families of every placement of norms, with and without rotary positions, norms of queries and keys,
grouped heads, gates and a causal mask. Networks with all weights drawn pass Gaussian tokens forward
and an independent gradient backward; beside them the recursion of infinite width, and the
recursions of stacks that leave a part out.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, figures, limits
from translimit.core import Estimate, standard_error
from translimit.experiments.checked import Two
from translimit.experiments.signal import stacks
from translimit.experiments.signal.stacks import At

OBSERVABLES = ("overlap", "square", "gradient")
SAID = {
    "overlap": "mean overlap of different tokens",
    "square": "logarithm of the mean square",
    "gradient": "logarithm of tr B / n",
}
TOLERANCES = {"overlap": 0.03, "square": 0.08, "gradient": 0.15}
#: What other recursions leave out, of which families, and where it shows.
OTHERS = {
    "attention": (stacks.FAMILIES, ("overlap",)),
    "feed-forward": (("gpt2", "llama", "qwen3", "gemma2"), ("square", "gradient")),
    "norms": (("gemma2", "bert"), ("square", "gradient")),
    "norms of heads": (("qwen3",), ("overlap",)),
}


@dataclass(frozen=True)
class Config(stacks.Sizes):
    """Sizes of stacks, and samples.

    Attributes:
        networks: with drawn weights, at least 2.
        copies: of the recursion, each of 32 pairs of heads.
    """

    networks: Two = 40
    copies: Two = 4


@dataclass(frozen=True)
class Curves(ex.Arrays):
    """Observables by level: of networks, of copies of the recursion, and of other recursions."""

    drawn: Annotated[Float[np.ndarray, "network observable level"], "by networks"]
    recursion: Annotated[Float[np.ndarray, "copy observable level"], "by the recursion"]
    others: Annotated[Float[np.ndarray, "other observable level"], "by other recursions"]
    level: Int[np.ndarray, " level"]


def compute(config: Config, family: str, keys: ex.Keys) -> Curves:
    """Networks in single precision, the recursion in double."""
    stack = stacks.family(family, config.dim, config.layers, config.std)
    cov = stack.initial_cov(stacks.ids(config.tokens))
    key = core.named_key(keys.own, "networks")
    paths = stacks.networks(stack, cov, config.networks, key, "identity")
    assert paths.grad_grams is not None
    method = limits.signal.Recursion(pairs=32, copies=config.copies)
    key = core.named_key(keys.own, "recursion")

    def solved(which: str | None) -> Float[np.ndarray, "copy observable level"]:
        other = stack if which is None else stacks.without(stack, which)
        problem = limits.signal.SignalPropagation(stack=other, initial=cov)
        found = core.solve(problem, method, key=key)
        return _told(found.covs, found.grad_grams)

    names = [name for name, (families, _) in OTHERS.items() if family in families]
    return Curves(
        drawn=_told(paths.covs, paths.grad_grams),
        recursion=solved(None),
        others=np.stack([solved(name).mean(axis=0) for name in names]),
        level=np.arange(config.layers + 1),
    )


def _told(
    covs: Float[np.ndarray, "copy level n n"], grams: Float[np.ndarray, "copy level n n"]
) -> Float[np.ndarray, "copy observable level"]:
    """The observables, in float64."""
    covs, grams = (np.asarray(one, np.float64) for one in (covs, grams))
    logs = np.log(stacks.mean_diagonals(covs)), np.log(stacks.mean_diagonals(grams))
    return np.stack([stacks.mean_overlaps(covs), *logs], axis=1)


FAMILY = ex.Part(
    "{family}",
    Curves,
    compute,
    grid=lambda c: stacks.FAMILIES,
    cost=lambda c, family: ex.Cost(
        10.0 + 6e-9 * c.dim**2 * c.layers * c.networks * c.tokens + 0.03 * c.layers * c.copies
    ),
)


def _gap(found: ex.Found[Config], at: At, other: str = "") -> Estimate:
    """The mean gap along the levels that layers reach, to the recursion or to another one."""
    data, number = found(FAMILY, at.family), OBSERVABLES.index(at.observable)
    levels = slice(0, -1) if at.observable == "gradient" else slice(1, None)
    drawn = data.drawn[:, number, levels].mean(axis=1)
    law = data.recursion[:, number, levels].mean(axis=1)
    sampling = float(standard_error(law))
    value = float(law.mean())
    if other:
        names = [name for name, (families, _) in OTHERS.items() if at.family in families]
        value = float(data.others[names.index(other), number, levels].mean())
    return Estimate.from_samples(drawn - value, discretisation=sampling)


PREDICTED = ex.Claims(
    "{family}-{observable}",
    lambda found, at: (
        f"The recursion predicts the {SAID[at.observable]} in networks with the block of "
        f"{at.family} (width {found.config.dim}, mean gap along the layers)."
    ),
    estimate=_gap,
    prediction=0.0,
    tol=lambda c, at: TOLERANCES[at.observable],
    over=lambda c: [At(*one) for one in itertools.product(stacks.FAMILIES, OBSERVABLES)],
    rivals=tuple(
        ex.Rival[Config, At](
            f"without {name}",
            estimate=lambda found, at, name=name: _gap(found, at, name),
            when=lambda c, at, name=name: (
                at.family in OTHERS[name][0] and at.observable in OTHERS[name][1]
            ),
        )
        for name in OTHERS
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for family, data in found.each(FAMILY):
        for number, observable in enumerate(OBSERVABLES):
            drawn = data.drawn[:, number]
            columns = drawn.mean(axis=0), standard_error(drawn), data.recursion[:, number].mean(0)
            yield from stacks.rows(family, SAID[observable], data.level, columns)


CURVES = ex.Figure(
    name="families",
    title="Five families, forward and backward",
    caption="Mean overlap of {tokens} tokens, logarithms of the mean square and of tr B / n by "
    "level in {networks} networks of width {dim} (points, bars of one standard error), and the "
    "recursion of infinite width (lines). The gradient is independent and of unit size above the "
    "last layer.",
    columns=("family", "observable", "level", "networks", "stderr", "recursion"),
    rows=_rows,
    x="level",
    by="family",
    panels="observable",
    across=3,
    layers=(
        figures.line("recursion", label="recursion, {}"),
        figures.points("networks", "stderr", label="networks, {}"),
    ),
    ylabel="observable",
    size=(13.0, 4.4),
)

EXPERIMENT = ex.Experiment(
    name="signal/families",
    title="Blocks of five families at initialisation",
    question="Does the recursion predict tokens and gradients of five families of blocks?",
    summary="Tokens align, grow and send gradients back through a random stack as its block says: "
    "norms before, after or around it, positions, norms of queries and keys, gates. A recursion of "
    "two Gram matrices predicts all of it; networks with all weights drawn are compared with it.",
    citations=("jax",),
    reference='documentation, "Signal propagation"',
    presets={
        "demo": Config(),
        "standard": Config(dim=512, tokens=16, networks=256, copies=16),
        "paper": Config(dim=1024, layers=12, tokens=32, networks=64),
    },
    parts=(FAMILY,),
    claims=(PREDICTED,),
    figures=(CURVES,),
    finding=ex.Finding(
        "The recursion misses the mean overlap of networks by {0} with the block of GPT-2, and "
        "by {1} with that of Llama",
        ("gpt2-overlap", "llama-overlap"),
    ),
)
