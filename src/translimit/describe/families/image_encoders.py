"""Encoders of images: pre-LN, no mask, patches that are read by a matrix.

Reference: documentation, "Signal propagation"; the reference implementations of transformers 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from translimit.describe.embedding import PatchEmbedding
from translimit.describe.families.encoders import sizes
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
        return image_reading(k, name, stack, std, positions, first)

    return read


def image_reading(
    k: Keys,
    name: str,
    stack: Stack,
    std: float,
    position_std: float,
    class_stds: tuple[float, ...] = (),
    norm: Normalisation | None = None,
) -> StackReading:
    """A reading of a stack with its embedding of patches, and the number of tokens of an image.

    Args:
        k: the configuration.
        name: of the family.
        stack: without an embedding.
        std: of the entries of the matrix that reads pixels.
        position_std: of learned positions.
        class_stds: of class tokens.
        norm: of the embedding, or None.

    Raises:
        ConfigError: patches larger than the image.
    """
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
