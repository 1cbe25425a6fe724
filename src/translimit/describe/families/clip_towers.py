"""The towers of CLIP and SigLIP, for text and for images, each with its own initialisation.

Reference: documentation, "Signal propagation"; the reference implementations of transformers 5.
"""

from __future__ import annotations

import math

from translimit.describe.blocks import Layer, SubBlock
from translimit.describe.embedding import Embedding
from translimit.describe.families import encoder_names as names
from translimit.describe.families.encoders import TRUNCATED_STD, sizes
from translimit.describe.families.family import Family
from translimit.describe.families.image_encoders import image_reading
from translimit.describe.families.keys import Keys
from translimit.describe.families.reading import StackReading
from translimit.describe.mixers import Attention, FeedForward
from translimit.describe.norm import Norm, Normalisation
from translimit.describe.stack import Stack


def clip_vision(k: Keys, name: str) -> StackReading:
    """The vision tower of CLIP, whose embedding is normalised.

    Args:
        k: the configuration.
        name: of the family.
    """
    layer, norm, factor = _clip_layer(k)
    std, dim = k.number("std", 0.02), k.count("dim")
    stack = Stack(dim, (layer,) * k.count("layers"), None, False, norm)
    first = (factor * dim**-0.5,)
    return image_reading(k, name, stack, factor * std, factor * std, first, norm)


def clip_text(k: Keys, name: str) -> StackReading:
    """The text tower of CLIP: causal, learned positions.

    Args:
        k: the configuration.
        name: of the family.
    """
    layer, norm, factor = _clip_layer(k)
    k.inert("std")
    std = 0.02 * factor
    layers = (layer,) * k.count("layers")
    stack = Stack(k.count("dim"), layers, Embedding(std, position_std=std), norm_final=norm)
    return _text(k, name, stack)


def _clip_layer(k: Keys) -> tuple[Layer, Normalisation, float]:
    """A layer of either tower, its norm, and the factor of all standard deviations."""
    count, dim, heads, head_dim = sizes(k)
    factor = k.number("initializer_factor", 1.0)
    deep = factor * (2 * count) ** -0.5
    reads, out = dim**-0.5 * deep, factor * dim**-0.5
    norm = Normalisation(Norm.LAYER, k.number("norm_eps", 1e-5))
    attention = Attention(heads, head_dim, reads, reads, reads, out)
    width = k.count("mlp_dim", 4 * dim)
    units = FeedForward(width, k.activation("quick_gelu"), factor * (2 * dim) ** -0.5, reads)
    k.inert("projection_dim")
    return (SubBlock((attention,), norm), SubBlock((units,), norm)), norm, factor


def siglip_vision(k: Keys, name: str) -> StackReading:
    """The vision tower of SigLIP: no class token.

    Args:
        k: the configuration.
        name: of the family.
    """
    layer, norm = _siglip_layer(k)
    k.inert("vision_use_head")
    channels, side, dim = k.count("num_channels", 3), k.count("patch_size", 16), k.count("dim")
    patches = (channels * side**2) ** -0.5 / TRUNCATED_STD
    stack = Stack(dim, (layer,) * k.count("layers"), None, False, norm)
    return image_reading(k, name, stack, patches, dim**-0.5)


def siglip_text(k: Keys, name: str) -> StackReading:
    """The text tower of SigLIP: no mask, learned positions.

    Args:
        k: the configuration.
        name: of the family.
    """
    layer, norm = _siglip_layer(k)
    dim = k.count("dim")
    embedding = Embedding(dim**-0.5, position_std=dim**-0.5)
    k.inert("projection_size")
    return _text(k, name, Stack(dim, (layer,) * k.count("layers"), embedding, False, norm))


def _siglip_layer(k: Keys) -> tuple[Layer, Normalisation]:
    """A layer of either tower, with uniform Xavier matrices, and its norm."""
    _, dim, heads, head_dim = sizes(k)
    norm = Normalisation(Norm.LAYER, k.number("norm_eps", 1e-6))
    own, width = dim**-0.5, k.count("mlp_dim", 4 * dim)
    wide = math.sqrt(2 / (dim + width))
    attention = Attention(heads, head_dim, own, own, own, own)
    units = FeedForward(width, k.activation("gelu_pytorch_tanh"), wide, wide)
    return (SubBlock((attention,), norm), SubBlock((units,), norm)), norm


def _text(k: Keys, name: str, stack: Stack) -> StackReading:
    """A tower for text has no readout over words."""
    return StackReading(
        family=name,
        stack=stack,
        vocabulary=k.count("vocabulary") if k.given("vocabulary") else None,
        context=k.count("context") if k.given("context") else None,
    )


#: Towers for text and for images, by their records.
TOWERS = (
    Family(
        name="clip_vision_model",
        reader=clip_vision,
        classes=("CLIPVision",),
        names=names.CLIP,
        diagnosed=True,
    ),
    Family(name="clip_text_model", reader=clip_text, classes=("CLIPText",), names=names.CLIP),
    Family(
        name="metaclip_2_vision_model",
        names=names.CLIP,
        reader=clip_vision,
        classes=("MetaClip2Vision",),
    ),
    Family(
        name="metaclip_2_text_model", names=names.CLIP, reader=clip_text, classes=("MetaClip2Text",)
    ),
    Family(
        name="siglip_vision_model",
        reader=siglip_vision,
        classes=("SiglipVision",),
        unnamed="its head pools tokens by attention, and no rule of such a head was derived",
    ),
    Family(
        name="siglip_text_model",
        names=names.SIGLIP_TEXT,
        reader=siglip_text,
        classes=("SiglipText",),
    ),
    Family(
        name="siglip2_text_model",
        names=names.SIGLIP_TEXT,
        reader=siglip_text,
        classes=("Siglip2Text",),
    ),
)
