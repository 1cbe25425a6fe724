"""Stacks of known placements at small sizes, which the experiments of this folder share.

Reference: documentation, "Signal propagation".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from translimit import core, describe, models, observe
from translimit.experiments.checked import CheckedConfig, Count, MultipleOf, Positive, Two

if TYPE_CHECKING:
    from translimit.core import Key
    from translimit.describe import Stack
    from translimit.figures import Row
    from translimit.models import StackPaths

#: What placements, norms of queries and keys, and blocks a family of this name has.
FAMILIES: tuple[str, ...] = ("gpt2", "llama", "qwen3", "gemma2", "bert")
#: Heads of 32 entries; hidden units of a feed-forward block a unit of width.
HEAD, HIDDEN = 32, 2.5


@dataclass(frozen=True)
class Sizes(CheckedConfig):
    """Sizes of small stacks.

    Attributes:
        dim: width of all stacks.
        layers: how many.
        tokens: how many enter, with repeated ids.
        std: of all weights.
    """

    dim: Annotated[int, MultipleOf(64)] = 256
    layers: Count = 4
    tokens: Two = 12
    std: Positive = 0.05


@dataclass(frozen=True)
class At:
    """One observable of one family."""

    family: str
    observable: str


def rows(
    family: str,
    said: str,
    levels: Int[np.ndarray, " level"],
    columns: Sequence[Float[np.ndarray, " level"]],
) -> Iterator[Row]:
    """The rows of a figure: family, observable, level and what is told of it.

    Args:
        family: of the curve.
        said: the observable in words.
        levels: along the depth.
        columns: numbers by level.
    """
    for level, *row in zip(levels.tolist(), *(c.tolist() for c in columns), strict=True):
        yield (family, said, level, *row)


def ids(tokens: int) -> Int[np.ndarray, " n"]:
    """Ids of the tokens, with repeats: 10 + (i^2 mod 7)."""
    return 10 + np.arange(tokens) ** 2 % 7


def family(name: str, dim: int, layers: int, std: float) -> Stack:
    """A family's block at a width, all weights of one deviation.

    Args:
        name: one of `FAMILIES`.
        dim: width, a multiple of 64.
        layers: how many.
        std: of the weights' entries.
    """
    rms = describe.Normalisation(describe.Norm.RMS, 1e-6)
    layer_norm = describe.Normalisation(describe.Norm.LAYER, 1e-5)
    placement: dict[str, Any] = {"norm_in": rms}
    embedding = describe.Embedding(std)
    heads = dim // HEAD
    more: dict[str, Any] = {}
    turned = describe.Frequencies.geometric(HEAD)
    activation, gated = describe.Activation.SILU, True
    if name == "gpt2":
        placement, activation, gated = {"norm_in": layer_norm}, describe.Activation.GELU_TANH, False
        embedding = describe.Embedding(std, position_std=std)
    elif name == "bert":
        placement, activation, gated = {"norm_post": layer_norm}, describe.Activation.GELU, False
        embedding = describe.Embedding(std, position_std=std, type_std=std, norm=layer_norm)
    elif name == "gemma2":
        placement, activation = {"norm_in": rms, "norm_out": rms}, describe.Activation.GELU_TANH
        embedding = describe.Embedding(std, multiplier=dim**0.5)
        more = {"rotary": turned, "scores": describe.Scores(softcap=2.0)}
    else:
        more = {"rotary": turned}
    if name == "qwen3":
        more["qk_norm"] = describe.QueryKeyNorm(norm_eps=1e-6)
    groups = heads if name in ("gpt2", "bert") else heads // 2
    attention = describe.Attention(heads, HEAD, std, std, std, std, kv_heads=groups, **more)
    units = describe.FeedForward(round(HIDDEN * dim), activation, std, std, gated=gated)
    layer = tuple(describe.SubBlock((one,), **placement) for one in (attention, units))
    return describe.Stack(dim, (layer,) * layers, embedding, causal=name != "bert")


def without(stack: Stack, what: str) -> Stack:
    """The stack with a part left out: "attention", "feed-forward", "norms" or "norms of heads"."""
    blocks = stack.layers[0]
    if what == "attention":
        blocks = blocks[1:]
    elif what == "feed-forward":
        blocks = blocks[:1]
    elif what == "norms":
        bare = {"norm_out": None, "norm_post": None}
        blocks = tuple(dataclasses.replace(one, **bare) for one in blocks)
    else:
        first = blocks[0].branches[0]
        assert isinstance(first, describe.Attention)
        plain = dataclasses.replace(first, qk_norm=None)
        blocks = (dataclasses.replace(blocks[0], branches=(plain,)), *blocks[1:])
    return dataclasses.replace(stack, layers=(blocks,) * len(stack.layers))


def networks(
    stack: Stack,
    cov: Float[np.ndarray, "n n"],
    count: int,
    key: Key,
    top_gradient: Literal["identity", "squares"] | None,
) -> StackPaths:
    """Networks with all weights drawn, which Gaussian tokens and a gradient pass.

    Args:
        stack: of every network.
        cov: C of the tokens that enter, each network's own.
        count: networks.
        key: of tokens and weights.
        top_gradient: the gradient at the top, see `models.RandomStack`; None for none.
    """
    model = models.RandomStack(stack)
    tokens = model.draw_tokens(cov, replicas=count, key=core.named_key(key, "tokens"))
    return model.simulate(tokens, replicas=count, key=key, top_gradient=top_gradient)


def mean_overlaps(covs: Float[np.ndarray, "*any n n"]) -> Float[np.ndarray, "*any"]:
    """The mean overlap of two different tokens."""
    return np.asarray(observe.mean_overlap_of(observe.overlaps_of(covs)))


def mean_diagonals(grams: Float[np.ndarray, "*any n n"]) -> Float[np.ndarray, "*any"]:
    """The mean of the diagonal."""
    return np.diagonal(grams, axis1=-2, axis2=-1).mean(axis=-1)
