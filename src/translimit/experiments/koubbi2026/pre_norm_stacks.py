r"""Pre-LN stacks at GPT-2's sizes against the recursion of their covariance, layer by layer.

Networks with drawn weights of GPT-2's initialisation, with attention alone or with the feed-forward
block, with and without the causal mask; beside them the recursion of infinite width, the chain of
the same width, and recursions of other theories: of the other mask, without the block or with it,
with branches that add more, and with depth as a continuous time.

Reference: documentation, "What the limits say about an architecture".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float, Int

import translimit.experiments as ex
from translimit import core, describe, figures, limits, models, observe
from translimit.core import Estimate
from translimit.experiments.checked import CheckedConfig, Count, Distinct, Two
from translimit.experiments.koubbi2026 import common

if TYPE_CHECKING:
    from translimit.core import Key

ATTENTION, WHOLE = BLOCKS = ("attention", "whole block")
PLAIN, CAUSAL = MASKS = ("plain", "causal")
#: Other recursions: how much more the branches add, and parts of a layer.
MORE, HALF_MORE, FLOW = "a quarter more a branch", "half as much again a branch", "continuous depth"
OTHERS = {MORE: (1.25, 1), HALF_MORE: (1.5, 1), FLOW: (1.0, 4)}


@dataclass(frozen=True)
class Config(CheckedConfig):
    """Sizes.

    Attributes:
        sizes: width, layers and heads of every stack.
        tokens: how many enter, independent.
        networks: networks with drawn weights, at least 2.
    """

    sizes: Annotated[tuple[tuple[Count, Count, Count], ...], Distinct()] = ((256, 12, 4),)
    tokens: Count = 24
    networks: Two = 64

    def __post_init__(self) -> None:
        """Check the fields, and what holds between them."""
        super().__post_init__()
        if any(dim % heads for dim, _, heads in self.sizes):
            raise core.ConfigError(
                "sizes", f"got {self.sizes}", "pass (dim, layers, heads), heads dividing dim"
            )


@dataclass(frozen=True)
class Stack:
    """One kind of stack at one size."""

    dim: int
    layers: int
    heads: int
    block: str
    mask: str

    @property
    def kind(self) -> str:
        """Block and mask without spaces, as in names."""
        return f"{self.block} {self.mask}".replace(" ", "-")

    @property
    def size(self) -> str:
        """The size in words."""
        return f"width {self.dim}, {self.layers} layers"

    def described(self) -> describe.Stack:
        """GPT-2's initialisation at the size, with or without the feed-forward block."""
        sizes = {"n_embd": self.dim, "n_layer": self.layers, "n_head": self.heads}
        read = describe.read_stack({"model_type": "gpt2", **sizes}).stack
        kept = 2 if self.block == WHOLE else 1
        layers = tuple(layer[:kept] for layer in read.layers)
        return replace(read, causal=self.mask == CAUSAL, layers=layers)


@dataclass(frozen=True)
class Overlaps(ex.Arrays):
    """Mean overlaps along depth: of networks, of the recursion, and of the chain."""

    layer: Annotated[Int[np.ndarray, " layer"], "layer"]
    drawn: Annotated[Float[np.ndarray, "network layer"], "mean overlap of two tokens"]
    recursion: Annotated[Float[np.ndarray, "batch layer"], "mean overlap of two tokens"]
    chain: Annotated[Float[np.ndarray, "copy layer"], "mean overlap of two tokens"]
    others: Annotated[Float[np.ndarray, "other layer"], "mean overlap by other recursions"]


def compute(config: Config, stack: Stack, keys: ex.Keys) -> Overlaps:
    """Networks in single precision, the recursion and the chain in double."""
    described = stack.described()
    network = models.RandomStack(described)
    # Different tokens; the same ones in all cells of a size.
    ids = np.arange(config.tokens)
    start = keys.shared("tokens", stack.dim, stack.layers)
    tokens = network.draw_tokens(ids, replicas=config.networks, key=start)
    weights = core.named_key(keys.own, "weights")
    drawn = network.simulate(tokens, replicas=config.networks, key=weights)
    method = limits.signal.Chain(config.networks)
    others = [_other(described, ids, *one, key=keys.own) for one in OTHERS.values()]
    return Overlaps(
        layer=np.arange(stack.layers + 1),
        drawn=np.asarray(drawn.mean_overlaps, dtype=float),
        recursion=_solved(described, ids, None, core.named_key(keys.own, "recursion")),
        chain=_solved(described, ids, method, core.named_key(keys.own, "chain")),
        others=np.array(others),
    )


def _solved(
    stack: describe.Stack,
    ids: Int[np.ndarray, " token"],
    method: limits.signal.Chain | None,
    key: Key,
) -> Float[np.ndarray, "copy layer"]:
    """Mean overlaps along depth, by the recursion or another method."""
    problem = limits.signal.SignalPropagation(
        stack=stack, initial=stack.initial_cov(ids), top_gradient=None
    )
    return np.asarray(observe.mean_overlap_of(core.solve(problem, method, key=key).overlaps))


def _other(
    stack: describe.Stack, ids: Int[np.ndarray, " token"], factor: float, parts: int, key: Key
) -> Float[np.ndarray, " layer"]:
    """The recursion whose branches add `factor` times as much, in so many parts of a layer."""
    scale = (factor / parts) ** 0.5
    layers = tuple(
        tuple(replace(block, branch=scale) for block in layer)
        for layer in stack.layers
        for _ in range(parts)
    )
    return _solved(replace(stack, layers=layers), ids, None, key).mean(axis=0)[::parts]


def _stacks(config: Config) -> tuple[Stack, ...]:
    """Both blocks and both masks of every size."""
    points = itertools.product(config.sizes, BLOCKS, MASKS)
    return tuple(Stack(*size, block, mask) for size, block, mask in points)


def _cost(config: Config, stack: Stack) -> ex.Cost:
    """Compilation, and the weights that are drawn."""
    kinds = len(BLOCKS) * len(MASKS)
    return ex.Cost((60.0 + 9e-7 * stack.dim**2 * stack.layers * config.networks) / kinds)


STACK = ex.Part("D={dim},L={layers}-{kind}", Overlaps, compute, grid=_stacks, cost=_cost)


def _gap(found: ex.Found[Config], stack: Stack, by: Stack | str) -> Estimate:
    """Mean gap along depth to a recursion: of a stack, with its sampling error, or another one."""
    drawn = found(STACK, stack)
    if isinstance(by, str):
        return common.estimate((drawn.drawn - drawn.others[list(OTHERS).index(by)]).mean(axis=1))
    recursion = found(STACK, by).recursion
    sampling = common.estimate(recursion.mean(axis=1)).stderr
    gaps = (drawn.drawn - recursion.mean(axis=0)).mean(axis=1)
    return common.estimate(gaps, discretisation=sampling)


def _changed(stack: Stack, **to: tuple[str, str]) -> Stack:
    """The stack with the other one of two blocks or masks."""
    values = {name: both[1 - both.index(getattr(stack, name))] for name, both in to.items()}
    return replace(stack, **values)


PREDICTED = ex.Claims(
    "D={dim},L={layers}-{kind}",
    lambda found, stack: (
        f"The recursion predicts the mean overlap of networks ({stack.size}, {stack.block}, "
        f"{stack.mask}; mean gap along depth)."
    ),
    estimate=lambda found, stack: _gap(found, stack, stack),
    prediction=0.0,
    tol=lambda c, stack: 0.006 if stack.block == "attention" else 0.012,
    over=_stacks,
    rivals=(
        ex.Rival(
            "the other block: attention alone, or with the feed-forward block",
            estimate=lambda found, stack: _gap(found, stack, _changed(stack, block=BLOCKS)),
        ),
        ex.Rival(
            "the other mask",
            estimate=lambda found, stack: _gap(found, stack, _changed(stack, mask=MASKS)),
        ),
        *(
            ex.Rival[Config, Stack](
                other,
                estimate=lambda found, stack, other=other: _gap(found, stack, other),
                # A whole block takes more of it: the course of the feed-forward block is steady.
                when=lambda c, stack, other=other: (other == HALF_MORE) == (stack.block == WHOLE),
            )
            for other in OTHERS
        ),
    ),
)


def _rows(found: ex.Found[Config]) -> Iterator[figures.Row]:
    for stack, data in found.each(STACK):
        limit, spread = data.recursion.mean(axis=0), data.chain.std(axis=0, ddof=1)
        mean, stderr = common.mean_and_stderr(data.drawn)
        columns = (data.layer, mean, stderr, limit, spread, limit - spread, limit + spread)
        for row in zip(*(one.tolist() for one in columns), strict=True):
            yield (stack.block, stack.mask, *row, f"{stack.size}: {stack.block}")


def _caption(found: ex.Found[Config]) -> str:
    sizes = "; ".join(
        f"width {dim}, {layers} layers, {heads} heads" for dim, layers, heads in found.config.sizes
    )
    return (
        f"Mean overlap of {found.config.tokens} independent tokens in {found.config.networks} "
        f"networks ({sizes}) with GPT-2's initialisation (points, bars of one standard error), and "
        "the recursion of infinite width (lines); the band is one standard deviation of a single "
        "network, from the chain. Left: attention alone; right: with the feed-forward block."
    )


OVERLAPS = ex.Figure(
    name="overlaps",
    title="Pre-LN stacks along their layers",
    caption=_caption,
    columns=(
        *("block", "mask", "layer", "networks", "stderr", "recursion", "spread of one network"),
        *("less spread", "with spread", "stack"),
    ),
    rows=_rows,
    x="layer",
    by="mask",
    panels="stack",
    across=len(BLOCKS),
    layers=(
        figures.band("less spread", "with spread", label="", opacity=0.15),
        figures.line("recursion", label="recursion, {}"),
        figures.points("networks", "stderr", label="networks, {}"),
    ),
    ylabel="mean overlap of the tokens",
    ylim=(-0.02, 1.02),
    size=lambda c: (9.0, 3.8 * len(c.sizes)),
)

EXPERIMENT = ex.Experiment(
    name="koubbi2026/pre-norm-stacks",
    title="Pre-LN stacks at GPT-2's sizes",
    question="How fast do tokens of a pre-LN stack of GPT-2's sizes align?",
    summary="The tokens of a random pre-LN stack align from layer to layer. A deterministic "
    "recursion of their covariance predicts how fast, with and without a causal mask, for "
    "attention alone and with the feed-forward block; networks with all weights drawn are compared "
    "with it.",
    citations=("koubbi2026", "jax"),
    reference=core.reference("koubbi2026"),
    presets={
        "demo": Config(),
        "standard": Config(sizes=((768, 12, 12),), tokens=48, networks=24),
        "paper": Config(sizes=((768, 12, 12), (1600, 48, 25)), tokens=128, networks=32),
    },
    parts=(STACK,),
    claims=(PREDICTED,),
    figures=(OVERLAPS,),
    finding=ex.Finding(
        "Along depth the recursion misses the mean overlap of networks of whole blocks by {0}, "
        "by {1} under a causal mask",
        ("*-whole-block-plain", "*-whole-block-causal"),
    ),
)
