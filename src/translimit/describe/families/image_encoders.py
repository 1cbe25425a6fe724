"""Encoders of images: pre-LN, no mask, patches that are read by a matrix.

Reference: documentation, "Signal propagation"; the reference implementations of transformers 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from translimit.describe.embedding import PatchEmbedding
from translimit.describe.families.encoders import CUT, sizes
from translimit.describe.families.keys import Keys
from translimit.describe.families.reading import StackReading
from translimit.describe.mixers import Attention, FeedForward
from translimit.describe.norm import Norm, Normalisation
from translimit.describe.stack import Stack, SubBlock


def vit(eps: float) -> Callable[[Keys, str], StackReading]:
    """Vision transformers: pre-LN, GELU, a class token, learned positions.

    Args:
        eps: of the norms where not told.
    """

    def read(k: Keys, name: str) -> StackReading:
        _, dim, heads, head_dim = sizes(k)
        std = k.number("std", 0.02)
        norm = Normalisation(Norm.LAYER, k.number("eps", eps))
        attention = Attention(heads, head_dim, std, std, std, std)
        ratio = k.number("mlp_ratio", 4.0) if name == "dinov2" else 4.0
        width = int(ratio * dim) if name == "dinov2" else k.count("mlp_dim", 4 * dim)
        k.require("use_swiglu_ffn", False)
        units = FeedForward(width, k.activation("gelu"), std, std)
        scale = k.number("layerscale_value", 1.0) if name == "dinov2" else 1.0
        layer = tuple(SubBlock((one,), norm, branch=scale) for one in (attention, units))
        stack = Stack(dim, (layer,) * k.count("layers"), None, False, norm)
        first = (0.0, 0.0) if name == "deit" else (std,)
        positions = 0.0 if name == "deit" else std
        return _image(k, name, stack, std, positions, first)

    return read


def clip(k: Keys, name: str) -> StackReading:
    """The vision tower of CLIP: quick GELU, its own initialisation.

    Args:
        k: the configuration.
        name: of the family.
    """
    count, dim, heads, head_dim = sizes(k)
    factor = k.number("initializer_factor", 1.0)
    std = k.number("std", 0.02)
    deep = factor * (2 * count) ** -0.5
    reads, out = dim**-0.5 * deep, factor * dim**-0.5
    norm = Normalisation(Norm.LAYER, k.number("eps", 1e-5))
    attention = Attention(heads, head_dim, reads, reads, reads, out)
    width = k.count("mlp_dim", 4 * dim)
    units = FeedForward(width, k.activation("quick_gelu"), factor * (2 * dim) ** -0.5, reads)
    layer = tuple(SubBlock((one,), norm) for one in (attention, units))
    k.inert("projection_dim")
    stack = Stack(dim, (layer,) * count, None, False, norm)
    return _image(k, name, stack, factor * std, factor * std, (out,), norm)


def siglip(k: Keys, name: str) -> StackReading:
    """The vision tower of SigLIP: tanh GELU, uniform Xavier matrices, no class token.

    Args:
        k: the configuration.
        name: of the family.
    """
    count, dim, heads, head_dim = sizes(k)
    norm = Normalisation(Norm.LAYER, k.number("eps", 1e-6))
    own, width = dim**-0.5, k.count("mlp_dim", 4 * dim)
    wide = math.sqrt(2 / (dim + width))
    attention = Attention(heads, head_dim, own, own, own, own)
    units = FeedForward(width, k.activation("gelu_pytorch_tanh"), wide, wide)
    layer = tuple(SubBlock((one,), norm) for one in (attention, units))
    channels, side = k.count("num_channels", 3), k.count("patch_size", 16)
    patches = (channels * side**2) ** -0.5 / CUT
    stack = Stack(dim, (layer,) * count, None, False, norm)
    return _image(k, name, stack, patches, own)


def _image(
    k: Keys,
    name: str,
    stack: Stack,
    std: float,
    position_std: float,
    class_stds: tuple[float, ...] = (),
    norm: Normalisation | None = None,
) -> StackReading:
    """With the embedding of patches, and the number of tokens that an image becomes."""
    side, patch = k.count("image_size", 224), k.count("patch_size", 16)
    if side < patch:
        raise k.refuse("patch_size", f"write at most the image's {side}")
    embedding = PatchEmbedding(
        std,
        side // patch,
        side // patch,
        patch,
        channels=k.count("num_channels", 3),
        position_std=position_std,
        class_stds=class_stds,
        norm=norm,
    )
    stack = replace(stack, embedding=embedding)
    return StackReading(
        family=name, stack=stack, context=embedding.tokens, image_tokens=embedding.tokens
    )
