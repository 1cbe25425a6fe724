"""Encoders of text and of images, layer by layer without a mask."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from translimit.describe.activation import Activation
from translimit.describe.mixers import Attention, FeedForward, Scores
from translimit.describe.pre_norm import Norm
from translimit.describe.stack import (
    Embedding,
    Normalisation,
    PatchEmbedding,
    Stack,
    SubBlock,
)
from translimit.describe.stacks.keys import Keys
from translimit.describe.stacks.positions import FULL, SLIDING, frequencies
from translimit.describe.stacks.reading import StackReading

#: A normal cut at two deviations, with the deviation that is left.
CUT = 0.8796256610


def _sizes(k: Keys) -> tuple[int, int, int, int]:
    layers, dim, heads = (k.count(name) for name in ("layers", "dim", "heads"))
    if dim % heads:
        raise k.refuse("heads", f"write a divisor of the width {dim}")
    return layers, dim, heads, dim // heads


def _plain(
    k: Keys, attention: Attention, units: FeedForward, norm: Normalisation, *, post: bool
) -> tuple[tuple[SubBlock, ...], ...]:
    """Equal layers, pre-LN or post-LN."""
    before, after = (None, norm) if post else (norm, None)
    layer = tuple(SubBlock((one,), before, None, after) for one in (attention, units))
    return (layer,) * k.count("layers")


def bert(
    family: str, eps: float, types: bool, pad: int | None
) -> Callable[[Keys, str], StackReading]:
    """BERT and those who share its block: post-LN, learned positions, an embedding norm.

    Args:
        family: whose defaults they are.
        eps: of the norms.
        types: whether all tokens share a row of token types.
        pad: the padding id where not told.
    """
    del family

    def read(k: Keys, name: str) -> StackReading:
        _, dim, heads, head_dim = _sizes(k)
        std = k.number("std", 0.02)
        k.require("position_embedding_type", "absolute")
        k.require("is_decoder", False)
        norm = Normalisation(Norm.LAYER, k.number("eps", eps) if types else eps)
        attention = Attention(heads, head_dim, std, std, std, std)
        width = k.count("mlp_dim", 4 * dim)
        units = FeedForward(width, k.activation("gelu"), std, std)
        inner = k.count("embedding_size", dim) if k.given("embedding_size") else dim
        if inner != dim:
            raise k.refuse("embedding_size", f"write {dim}: a projection is not known here")
        row = k.values.get("pad_token_id", pad)
        k.inert("pad", "sinusoidal_pos_embds")
        embedding = Embedding(
            std,
            position_std=std,
            type_std=std if types else 0.0,
            padding=row if isinstance(row, int) and row >= 0 else None,
            norm=norm,
        )
        k.inert("type_vocab_size")
        layers = _plain(k, attention, units, norm, post=True)
        stack = Stack(dim, layers, embedding, causal=False)
        return _told(k, name, stack, tied=True, readout_std=std)

    return read


def modernbert(k: Keys, name: str) -> StackReading:
    """ModernBERT: pre-LN without a norm before the first attention, windows, gated units.

    Args:
        k: the configuration.
        name: of the family.
    """
    count, dim, heads, head_dim = _sizes(k)
    std = k.number("std", 0.02)
    inner, outer = CUT * std, CUT * std / math.sqrt(2 * count)
    k.inert("initializer_cutoff_factor")
    norm = Normalisation(Norm.LAYER, k.number("eps", 1e-5))
    window = k.count("local_attention", 128)
    every = k.count("global_attn_every_n_layers", 3)
    kinds = k.words("layer_types") or [
        FULL if index % every == 0 else SLIDING for index in range(count)
    ]
    bases = {
        FULL: k.number("global_rope_theta", 160_000.0),
        SLIDING: k.number("local_rope_theta", 10_000.0),
    }
    units = FeedForward(k.count("mlp_dim", 1152), k.activation("gelu"), inner, outer, gated=True)
    layers = []
    for index, kind in enumerate(kinds[:count]):
        turned = frequencies(k, head_dim, theta=bases[kind], kind=kind)
        scores = Scores(window=window // 2 + 1 if kind == SLIDING else None)
        attention = Attention(
            heads, head_dim, inner, inner, inner, outer, rotary=turned, scores=scores
        )
        first = SubBlock((attention,), None if index == 0 else norm)
        layers.append((first, SubBlock((units,), norm)))
    row = k.values.get("pad_token_id", 50283)
    k.inert("pad")
    padding = row if isinstance(row, int) else None
    embedding = Embedding(inner, padding=padding, norm=norm)
    stack = Stack(dim, tuple(layers), embedding, causal=False)
    return _told(k, name, stack, tied=True, readout_std=inner)


def t5(k: Keys, name: str) -> StackReading:
    """The encoder of T5: no scale of scores, a drawn table of relative positions.

    Args:
        k: the configuration.
        name: of the family.
    """
    layers, dim, heads = (k.count(one) for one in ("layers", "dim", "heads"))
    head_dim = k.count("d_kv", 64)
    factor = k.number("initializer_factor", 1.0)
    k.inert("num_decoder_layers", "scale_decoder_outputs", "output_past", "n_positions")
    read = factor * dim**-0.5
    scores = Scores(
        scale=1.0,
        bias_std=read,
        bias_buckets=k.count("relative_attention_num_buckets", 32),
        bias_reach=k.count("relative_attention_max_distance", 128),
    )
    attention = Attention(
        heads,
        head_dim,
        factor * (dim * head_dim) ** -0.5,
        read,
        read,
        factor * (heads * head_dim) ** -0.5,
        scores=scores,
    )
    told = k.word("feed_forward_proj", "relu")
    gated = told.startswith("gated-")
    word = {"gated-gelu": "gelu_new", "relu": "relu", "gated-silu": "silu"}.get(told)
    if word is None:
        raise k.refuse("feed_forward_proj", "write relu, gated-gelu or gated-silu")
    k.inert("is_gated_act", "activation")
    width = k.count("mlp_dim", 2048)
    units = FeedForward(
        width,
        {"relu": Activation.RELU, "gelu_new": Activation.GELU_TANH, "silu": Activation.SILU}[word],
        read,
        factor * width**-0.5,
        gated=gated,
    )
    if factor == 0:
        raise k.refuse("initializer_factor", "write a positive number")
    norm = Normalisation(Norm.RMS, k.number("eps", 1e-6), factor)
    layer = tuple(SubBlock((one,), norm) for one in (attention, units))
    stack = Stack(dim, (layer,) * layers, Embedding(factor), causal=False, norm_final=norm)
    scaled = k.flag("tie_word_embeddings", True)
    reading = _told(k, name, stack, tied=True, readout_std=factor)
    return replace(reading, tied=True, logit_scale=dim**-0.5 if scaled else 1.0)


def _told(k: Keys, name: str, stack: Stack, *, tied: bool, readout_std: float) -> StackReading:
    """With what stands beside the stack; the heads of encoders begin with a dense layer."""
    return StackReading(
        family=name,
        stack=stack,
        vocabulary=k.count("vocabulary") if k.given("vocabulary") else None,
        tied=k.flag("tie_word_embeddings", tied),
        readout_std=readout_std,
        context=k.count("context") if k.given("context") else None,
    )


def vit(eps: float) -> Callable[[Keys, str], StackReading]:
    """Vision transformers: pre-LN, GELU, a class token, learned positions.

    Args:
        eps: of the norms where not told.
    """

    def read(k: Keys, name: str) -> StackReading:
        _, dim, heads, head_dim = _sizes(k)
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
    count, dim, heads, head_dim = _sizes(k)
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
    count, dim, heads, head_dim = _sizes(k)
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
