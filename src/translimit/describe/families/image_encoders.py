"""Encoders of images: pre-LN, no mask, patches that are read by a matrix.

Reference: documentation, "Signal propagation"; the reference implementations of transformers 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from translimit.describe.activation import Activation
from translimit.describe.blocks import SubBlock
from translimit.describe.embedding import PatchEmbedding
from translimit.describe.families import encoder_names as names
from translimit.describe.families.encoders import sizes
from translimit.describe.families.family import Family
from translimit.describe.families.keys import Keys
from translimit.describe.families.reading import StackReading
from translimit.describe.mixers import Attention, FeedForward
from translimit.describe.norm import Norm, Normalisation
from translimit.describe.sinusoids import Sinusoids
from translimit.describe.stack import Stack


def vit(
    norm_eps: float, *, classes: int = 1, drawn: bool = True
) -> Callable[[Keys, str], StackReading]:
    """Vision transformers: pre-LN, GELU, a class token, learned positions.

    Args:
        norm_eps: of the norms where not told.
        classes: tokens in front of the patches.
        drawn: whether these and the positions are drawn; they start at zero otherwise.
    """

    def read(k: Keys, name: str) -> StackReading:
        _, dim, heads, head_dim = sizes(k)
        std = k.number("std", 0.02)
        norm = Normalisation(Norm.LAYER, k.number("norm_eps", norm_eps))
        attention = Attention(heads, head_dim, std, std, std, std)
        units = FeedForward(k.count("mlp_dim", 4 * dim), k.activation("gelu"), std, std)
        layer = tuple(SubBlock((one,), norm) for one in (attention, units))
        stack = Stack(dim, (layer,) * k.count("layers"), None, False, norm)
        return image_reading(k, name, stack, std, std if drawn else 0.0, (std * drawn,) * classes)

    return read


def vit_mae(k: Keys, name: str) -> StackReading:
    """The encoder of the masked autoencoder: fixed positions in the plane, all patches.

    Args:
        k: the configuration.
        name: of the family.
    """
    reading = vit(1e-12)(k, name)
    of, dim = reading.stack.embedding, reading.dim
    assert isinstance(of, PatchEmbedding)
    if dim % 4:
        raise k.refuse("dim", "write a multiple of 4")
    k.inert("decoder_num_attention_heads", "decoder_hidden_size", "decoder_num_hidden_layers")
    k.inert("decoder_intermediate_size", "norm_pix_loss")
    if k.number("mask_ratio", 0.75) > 0:
        k.ignored.append("mask_ratio: all patches enter, none is hidden")
    k.assumptions.append(
        "positions are the fixed sinusoids; transformers 5.24 leaves them, and the class token, at "
        "zero in a model that is built from its configuration, and draws the map of patches by "
        "initializer_range, not by Xavier's rule"
    )
    fixed = Sinusoids.geometric(dim, plane=True)
    embedding = replace(of, position_std=0.0, sinusoids=fixed)
    return replace(reading, stack=replace(reading.stack, embedding=embedding))


def dinov2(k: Keys, name: str) -> StackReading:
    """DINOv2: branches with a scale, plain or gated units, and register tokens where there are any.

    Args:
        k: the configuration.
        name: of the family.
    """
    _, dim, heads, head_dim = sizes(k)
    std = k.number("std", 0.02)
    norm = Normalisation(Norm.LAYER, k.number("norm_eps", 1e-6))
    attention = Attention(heads, head_dim, std, std, std, std)
    width, gated = int(k.number("mlp_ratio", 4.0) * dim), k.flag("use_swiglu_ffn", False)
    kind = k.activation("gelu")
    if gated:  # two thirds of the hidden units, a multiple of eight
        width, kind = (int(width * 2 / 3) + 7) // 8 * 8, Activation.SILU
    if width < 1:
        raise k.refuse("mlp_ratio", "write a larger number")
    units = FeedForward(width, kind, std, std, gated=gated)
    scale = k.number("layerscale_value", 1.0)
    layer = tuple(SubBlock((one,), norm, branch=scale) for one in (attention, units))
    stack = Stack(dim, (layer,) * k.count("layers"), None, False, norm)
    registers = int(k.number("num_register_tokens", 4)) if name.endswith("registers") else 0
    made = image_reading(k, name, stack, std, std, (std,), registers=registers)
    return replace(made, branch_gain=True)


def beit(k: Keys, name: str) -> StackReading:
    """BEiT: branches with a scale; class token, positions and biases of attention start at zero.

    Args:
        k: the configuration.
        name: of the family.
    """
    _, dim, heads, head_dim = sizes(k)
    std = k.number("std", 0.02)
    norm = Normalisation(Norm.LAYER, k.number("norm_eps", 1e-12))
    attention = Attention(heads, head_dim, std, std, std, std)
    units = FeedForward(k.count("mlp_dim", 4 * dim), k.activation("gelu"), std, std)
    scale = k.number("layer_scale_init_value", 0.1)
    scaled, scale = scale > 0, scale if scale > 0 else 1.0  # zero means none
    layer = tuple(SubBlock((one,), norm, branch=scale) for one in (attention, units))
    k.inert("use_absolute_position_embeddings", "use_relative_position_bias", "pool_scales")
    k.inert("use_shared_relative_position_bias", "vocabulary", "use_auxiliary_head", "add_fpn")
    k.inert("auxiliary_loss_weight", "auxiliary_channels", "auxiliary_num_convs")
    k.inert("auxiliary_concat_input", "semantic_loss_ignore_index")
    final = None if k.flag("use_mean_pooling", True) else norm
    stack = Stack(dim, (layer,) * k.count("layers"), None, False, final)
    return replace(image_reading(k, name, stack, std, 0.0, (0.0,)), branch_gain=scaled)


def image_reading(
    k: Keys,
    name: str,
    stack: Stack,
    std: float,
    position_std: float,
    class_stds: tuple[float, ...] = (),
    norm: Normalisation | None = None,
    *,
    registers: int = 0,
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
        registers: tokens that start at zero, after the class tokens.

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
        registers=registers,
        norm=norm,
    )
    stack = replace(stack, embedding=embedding)
    return StackReading(
        family=name, stack=stack, context=embedding.tokens, image_tokens=embedding.tokens
    )


#: Families of encoders of images, by their records.
IMAGE_ENCODERS = (
    Family(name="vit", reader=vit(1e-12), names=names.VIT, diagnosed=True),
    Family(name="deit", reader=vit(1e-12, classes=2, drawn=False), names=names.VIT, diagnosed=True),
    Family(name="vit_msn", reader=vit(1e-6, drawn=False), names=names.VIT),
    Family(name="ijepa", reader=vit(1e-6, classes=0), names=names.VIT),
    Family(name="vit_mae", reader=vit_mae, names=names.VIT),
    Family(name="dinov2", reader=dinov2, names=names.VIT, diagnosed=True, float64=True),
    Family(name="dinov2_with_registers", reader=dinov2, names=names.VIT),
    Family(name="beit", reader=beit, names=names.VIT),
    Family(name="data2vec-vision", reader=beit, names=names.DATA2VEC_VISION),
)
