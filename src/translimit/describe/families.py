"""The families of transformers that are understood, as one table: name to reader.

| family | block | initialisation (the reference implementation's, before training) |
|---|---|---|
| gpt2 | layer norm, tanh GELU, learned positions | N(0, s^2); W_O and W_2 divided by (2 L)^{1/2} |
| llama, mistral, qwen2 | RMS norm, gated SiLU, rotary, grouped queries | N(0, s^2) throughout |
| gpt_neox | layer norm, GELU, partial rotary, parallel blocks | N(0, s^2) throughout |
| vit | layer norm, GELU, class token, learned positions, no mask | N(0, s^2) throughout |

s is `initializer_range`. Biases start at zero and gains of norms at one; no dropout acts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from translimit.core import nearest
from translimit.describe.activation import Activation
from translimit.describe.fields import Fields
from translimit.describe.pre_norm import FeedForwardBlock, Norm, PreNormArchitecture, Rotary
from translimit.describe.stack_sizes import FACTS, common_sizes

_ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "relu": Activation.RELU,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
}


def _gpt2(fields: Fields) -> PreNormArchitecture:
    sizes = common_sizes(fields)
    std = fields.number("init_std", 0.02)
    fields.require("scale_attn_weights", True)
    fields.require("add_cross_attention", False)
    if fields.flag("scale_attn_by_inverse_layer_idx", False):
        fields.ignored.append("scale_attn_by_inverse_layer_idx: scores divided by the layer")
    last = std / math.sqrt(2 * sizes["layers"])
    width = 4 * sizes["dim"] if not fields.has("mlp_dim") else fields.count("mlp_dim")
    fields.assumptions.append(
        "W_O and W_2 are drawn with initializer_range / (2 layers)^{1/2}, as GPT-2's reference "
        "implementation draws them"
    )
    fields.assumptions.append(
        "all tokens differ and stand at different positions: embeddings and positions are "
        "independent, of standard deviation initializer_range each"
    )
    return _finish(
        fields,
        family="gpt2",
        **sizes,
        qk_std=std,
        v_std=std,
        out_std=last,
        token_std=std * math.sqrt(2.0),
        norm=Norm.LAYER,
        norm_epsilon=fields.number("norm_epsilon", 1e-5),
        causal=True,
        feed_forward=FeedForwardBlock(width, _activation(fields, "gelu_new"), std, last),
        context=fields.optional_count("context"),
    )


def _gated(family: str, epsilon: float) -> Callable[..., Any]:
    """The reader of Llama and of those who share its block."""

    def read(fields: Fields) -> PreNormArchitecture:
        sizes = common_sizes(fields)
        std = fields.number("init_std", 0.02)
        pairs = fields.count("kv_heads", FACTS[family].kv_heads or sizes["heads"])
        sizes["kv_heads"] = pairs
        context = fields.optional_count("context")
        if fields.has("window") and fields.flag("use_sliding_window", family == "mistral"):
            window = fields.count("window")
            context = window if context is None else min(context, window)
            fields.assumptions.append(
                f"no more tokens than the sliding window of {window}, which then masks nothing"
            )
        _one_token_kind(fields)
        return _finish(
            fields,
            family=family,
            **sizes,
            qk_std=std,
            v_std=std,
            out_std=std,
            token_std=std,
            norm=Norm.RMS,
            norm_epsilon=fields.number("norm_epsilon", epsilon),
            causal=True,
            feed_forward=FeedForwardBlock(
                fields.count("mlp_dim"), _activation(fields, "silu"), std, std, gated=True
            ),
            rotary=Rotary(sizes["head_dim"], _rotary_base(fields)),
            context=context,
        )

    return read


def _gpt_neox(fields: Fields) -> PreNormArchitecture:
    sizes = common_sizes(fields)
    std = fields.number("init_std", 0.02)
    inner = fields.nested("rope_parameters")
    newer = inner.has("partial_rotary_factor")
    share = inner.number("partial_rotary_factor") if newer else fields.number("rotary_pct", 0.25)
    turning = int(sizes["head_dim"] * share)
    _one_token_kind(fields)
    return _finish(
        fields,
        family="gpt_neox",
        **sizes,
        qk_std=std,
        v_std=std,
        out_std=std,
        token_std=std,
        norm=Norm.LAYER,
        norm_epsilon=fields.number("norm_epsilon", 1e-5),
        causal=True,
        feed_forward=FeedForwardBlock(
            fields.count("mlp_dim"), _activation(fields, "gelu"), std, std
        ),
        parallel=fields.flag("use_parallel_residual", True),
        rotary=Rotary(turning - turning % 2, _rotary_base(fields)) if turning > 1 else None,
        context=fields.optional_count("context"),
    )


def _vit(fields: Fields) -> PreNormArchitecture:
    sizes = common_sizes(fields)
    std = fields.number("init_std", 0.02)
    image, patch = fields.count("image_size", 224), fields.count("patch_size", 16)
    if image % patch:
        raise fields.refuse("patch_size", patch, f"write a divisor of image_size, {image}")
    pixels = fields.count("num_channels", 3) * patch**2
    fields.assumptions.append(
        "patches of an image are independent, with pixels of mean zero and variance one (natural "
        "images are smoother: their patches overlap before the first block)"
    )
    return _finish(
        fields,
        family="vit",
        **sizes,
        qk_std=std,
        v_std=std,
        out_std=std,
        token_std=std * math.sqrt(pixels + 1.0),
        first_token_std=std * math.sqrt(2.0),
        norm=Norm.LAYER,
        norm_epsilon=fields.number("norm_epsilon", 1e-12),
        causal=False,
        feed_forward=FeedForwardBlock(
            fields.count("mlp_dim"), _activation(fields, "gelu"), std, std
        ),
        context=(image // patch) ** 2 + 1,
        image_tokens=(image // patch) ** 2 + 1,
    )


READERS: dict[str, Callable[[Fields], PreNormArchitecture]] = {
    "gpt2": _gpt2,
    "llama": _gated("llama", 1e-6),
    "mistral": _gated("mistral", 1e-6),
    "qwen2": _gated("qwen2", 1e-6),
    "gpt_neox": _gpt_neox,
    "vit": _vit,
}


def _activation(fields: Fields, default: str) -> Activation:
    _, word = fields.word("activation", default)
    if word not in _ACTIVATIONS:
        raise fields.refuse("activation", word, nearest(word, _ACTIVATIONS))
    return _ACTIVATIONS[word]


def _rotary_base(fields: Fields) -> float:
    """The base of the frequencies; a scaling of them is told and left out."""
    for key in ("rope_scaling", "rope_parameters"):
        table = fields.table(key)
        kind = table.get("rope_type", table.get("type", "default"))
        if kind != "default":
            fields.ignored.append(f"{key} of type {kind!r}: frequencies are taken unscaled")
    inner = fields.nested("rope_parameters")
    return (
        inner.number("rotary_base")
        if inner.has("rotary_base")
        else fields.number("rotary_base", 10_000.0)
    )


def _one_token_kind(fields: Fields) -> None:
    fields.assumptions.append(
        "all tokens differ: their embeddings are independent, of standard deviation "
        "initializer_range"
    )


def _finish(fields: Fields, **values: Any) -> PreNormArchitecture:
    return PreNormArchitecture(
        **values, assumptions=tuple(fields.assumptions), ignored=tuple(fields.ignored)
    )
