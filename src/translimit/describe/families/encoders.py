"""What encoders of text and of images have in common: equal layers without a mask."""

from __future__ import annotations

from translimit.describe.blocks import SubBlock
from translimit.describe.families.keys import Keys
from translimit.describe.families.reading import StackReading
from translimit.describe.mixers import Attention, FeedForward
from translimit.describe.norm import Normalisation
from translimit.describe.stack import Stack

#: The deviation of a standard normal that is cut at two deviations.
TRUNCATED_STD = 0.8796256610


def sizes(k: Keys) -> tuple[int, int, int, int]:
    """Layers, width, heads and the entries of a head.

    Args:
        k: the configuration.

    Raises:
        ConfigError: one is missing, or the heads do not divide the width.
    """
    layers, dim, heads = (k.count(name) for name in ("layers", "dim", "heads"))
    if dim % heads:
        raise k.refuse("heads", f"write a divisor of the width {dim}")
    return layers, dim, heads, dim // heads


def equal_layers(
    k: Keys, attention: Attention, units: FeedForward, norm: Normalisation, *, post: bool
) -> tuple[tuple[SubBlock, ...], ...]:
    """Layers of attention and a feed-forward block, pre-LN or post-LN.

    Args:
        k: the configuration.
        attention: of every layer.
        units: the feed-forward block of every layer.
        norm: before every branch, or after every sum.
        post: whether it comes after the sum.
    """
    before, after = (None, norm) if post else (norm, None)
    layer = tuple(SubBlock((one,), before, None, after) for one in (attention, units))
    return (layer,) * k.count("layers")


def told_beside(
    k: Keys, name: str, stack: Stack, *, tied: bool, readout_std: float
) -> StackReading:
    """A reading with what stands beside the stack; heads of encoders begin with a dense layer.

    Args:
        k: the configuration.
        name: of the family.
        stack: what was read.
        tied: whether embedding and readout are one tensor by default.
        readout_std: of the entries of the matrix that makes logits.
    """
    return StackReading(
        family=name,
        stack=stack,
        vocabulary=k.count("vocabulary") if k.given("vocabulary") else None,
        tied=k.flag("tie_word_embeddings", tied),
        readout_std=readout_std,
        context=k.count("context") if k.given("context") else None,
    )
