"""Stacks of every placement and mixer at width 256, with the figures that they must reproduce.

Four layers of four heads, 16 tokens with repeated ids, all weights of deviation 0.05. The figures
are those of the documentation, "Signal propagation": the mean overlap of all pairs after the first
and the last layer, the mean square after the last, and of the gradient's Gram matrix B, identity at
the top, tr B_0 / n, sum B_0 / n^2 and tr B_1 / n; each with its uncertainty in the last digit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from translimit.describe import (
    Activation,
    Attention,
    Branch,
    Embedding,
    Experts,
    FeedForward,
    Frequencies,
    LatentAttention,
    Norm,
    Normalisation,
    QueryKeyNorm,
    Scores,
    Stack,
    SubBlock,
)

DIM, STD, LAYERS = 256, 0.05, 4
IDS = 10 + np.arange(16) ** 2 % 7


def attention(head_dim: int = 64, kv_heads: int = 4, **more: Any) -> Attention:
    out = more.pop("out_std", STD)
    return Attention(4, head_dim, STD, STD, STD, out, kv_heads=kv_heads, **more)


def feed_forward(
    width: int = 640, activation: Activation = Activation.SILU, *, gated: bool = True, **more: Any
) -> FeedForward:
    return FeedForward(width, activation, STD, more.pop("out_std", STD), gated=gated, **more)


def rotary(dims: int, base: float = 1e4) -> Frequencies:
    return Frequencies.geometric(dims, base)


def stack(
    mixers: Branch | list[Branch],
    others: Branch | list[Branch],
    *,
    embedding: Embedding | None = None,
    causal: bool = True,
    **placement: Any,
) -> Stack:
    mixers = mixers if isinstance(mixers, list) else [mixers] * LAYERS
    others = others if isinstance(others, list) else [others] * LAYERS
    layers = tuple(
        (SubBlock((mixer,), **placement), SubBlock((other,), **placement))
        for mixer, other in zip(mixers, others, strict=True)
    )
    return Stack(DIM, layers, embedding or Embedding(STD), causal)


def rms(eps: float) -> Normalisation:
    return Normalisation(Norm.RMS, eps)


def layer_norm(eps: float, gain: float = 1.0) -> Normalisation:
    return Normalisation(Norm.LAYER, eps, gain)


_DEEP = STD / 8**0.5
_CAPPED = [
    Scores(score_scale=0.25, softcap=2.0, window=8),
    Scores(score_scale=0.25, softcap=2.0),
] * 2
_YARN = rotary(32, 150_000.0).yarn(32, 4096, base=150_000.0, truncate=False)
_LATENT = LatentAttention(4, 32, 32, 48, 128, STD, STD, query_rank=192, rotary=rotary(32))
_SPARSE = Experts(
    8,
    2,
    feed_forward(320),
    STD,
    routing="sigmoid",
    shared=feed_forward(320),
    groups=2,
    open_groups=1,
    factor=2.5,
)

STACKS = {
    "gpt2": stack(
        attention(out_std=_DEEP),
        feed_forward(1024, Activation.GELU_TANH, gated=False, out_std=_DEEP),
        embedding=Embedding(STD, position_std=STD),
        norm_in=layer_norm(1e-5),
    ),
    "llama": stack(attention(64, 2, rotary=rotary(64)), feed_forward(), norm_in=rms(1e-6)),
    "qwen3": stack(
        attention(32, 2, rotary=rotary(32), qk_norm=QueryKeyNorm(norm_eps=1e-6)),
        feed_forward(),
        norm_in=rms(1e-6),
    ),
    "gemma2": stack(
        [attention(32, 2, rotary=rotary(32), scores=one) for one in _CAPPED],
        feed_forward(640, Activation.GELU_TANH),
        embedding=Embedding(STD, multiplier=16.0),
        norm_in=rms(1e-6),
        norm_out=rms(1e-6),
    ),
    "olmo2": stack(
        attention(64, 2, rotary=rotary(64, 5e5), qk_norm=QueryKeyNorm(norm_eps=1e-5, over="all")),
        feed_forward(),
        norm_out=rms(1e-5),
    ),
    "bert": stack(
        attention(),
        feed_forward(640, Activation.GELU, gated=False),
        embedding=Embedding(STD, position_std=STD, type_std=STD, norm=layer_norm(1e-12)),
        causal=False,
        norm_post=layer_norm(1e-12),
    ),
    "mixtral": stack(
        attention(64, 2, rotary=rotary(64, 1e6)),
        Experts(4, 2, feed_forward(), STD),
        norm_in=rms(1e-5),
    ),
    "deepseek_v3": stack(_LATENT, [feed_forward(), *[_SPARSE] * 3], norm_in=rms(1e-6)),
    "gpt_oss": stack(
        attention(32, 2, rotary=_YARN, scores=Scores(sink=True)),
        Experts(
            8,
            2,
            feed_forward(640, Activation.CLAMPED_SWISH, shift=1.0),
            STD,
            routing="softmax_top",
            bias_std=STD,
        ),
        norm_in=rms(1e-5),
    ),
    "bloom": stack(
        attention(scores=Scores(slopes=(0.25, 0.0625, 0.015625, 0.00390625))),
        feed_forward(1024, Activation.GELU_TANH, gated=False),
        embedding=Embedding(STD, norm=layer_norm(1e-5)),
        norm_in=layer_norm(1e-5),
    ),
    "nemotron": stack(
        attention(64, 2, rotary=rotary(32)),
        feed_forward(640, Activation.RELU_SQUARED, gated=False),
        norm_in=layer_norm(1e-5, 2.0),
    ),
    "granite": stack(
        attention(64, 2, rotary=rotary(64), scores=Scores(score_scale=0.25)),
        feed_forward(),
        embedding=Embedding(STD, multiplier=6.0),
        norm_in=rms(1e-6),
        branch=0.22,
    ),
}

#: Figures and their uncertainties.
FIGURES: dict[str, tuple[tuple[float, float], ...]] = {
    "gpt2": (
        *((0.5496, 4e-4), (0.6958, 3e-4), (0.4486, 1e-4)),
        *((98.3, 0.1), (19.93, 0.02), (3.471, 1e-3)),
    ),
    "llama": (
        *((0.637, 2e-3), (0.721, 1e-3), (1.880, 1e-3)),
        *((1666.0, 3.0), (358.7, 0.4), (4.807, 6e-3)),
    ),
    "qwen3": (
        *((0.508, 2e-3), (0.529, 1e-3), (1.3319, 2e-4)),
        *((2085.0, 10.0), (320.0, 1.0), (6.908, 6e-3)),
    ),
    "gemma2": (
        *((0.4580, 7e-4), (0.5545, 5e-4), (8.6399, 1e-4)),
        *((29.72, 0.04), (4.639, 7e-3), (4.259, 2e-3)),
    ),
    "olmo2": (
        *((0.561, 1e-3), (0.6353, 7e-4), (7.9796, 1e-4)),
        *((9270.0, 70.0), (1469.0, 5.0), (5.287, 6e-3)),
    ),
    "bert": (
        *((0.53232, 4e-5), (0.76292, 3e-5), (1.0, 1e-9)),
        *((0.5849, 2e-4), (0.10824, 3e-5), (0.6257, 2e-4)),
    ),
    "mixtral": (
        *((0.620, 2e-3), (0.739, 1e-3), (1.502, 1e-3)),
        *((1160.0, 2.0), (241.7, 0.5), (4.288, 6e-3)),
    ),
    "deepseek_v3": (
        *((0.634, 1e-3), (0.408, 1e-3), (1.8882, 3e-4)),
        *((2866.0, 10.0), (722.8, 0.9), (14.58, 0.01)),
    ),
    "gpt_oss": (
        *((0.399, 1e-3), (0.321, 1e-3), (1.728, 1e-3)),
        *((2830.0, 10.0), (349.0, 2.0), (7.33, 0.01)),
    ),
    "bloom": (
        *((0.3498, 1e-4), (0.4764, 1e-4), (4.366, 1e-3)),
        *((4.442, 2e-3), (0.4371, 2e-4), (2.347, 1e-3)),
    ),
    "nemotron": (
        *((0.498, 3e-3), (0.519, 2e-3), (67.34, 0.01)),
        *((1.135e5, 700.0), (8040.0, 50.0), (5.881, 6e-3)),
    ),
    "granite": (
        *((0.2867, 1e-4), (0.3479, 3e-4), (0.1728, 1e-4)),
        *((2.896, 1e-3), (0.2340, 2e-4), (2.039, 1e-3)),
    ),
}
