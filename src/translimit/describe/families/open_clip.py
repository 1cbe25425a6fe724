"""Configurations of open_clip and timm, where their towers consist of known blocks.

Both libraries draw what they do not initialise themselves as torch does: uniform, of standard
deviation (3 fan-in)^(-1/2), biases too. Such biases add 1 / fan-in of what their matrices add and
are taken as zero.

Reference: documentation, "Signal propagation"; open_clip, `transformer.py`; timm,
`vision_transformer.py`.
"""

from __future__ import annotations

import re

from translimit.core import ConfigError
from translimit.describe.activation import Activation
from translimit.describe.blocks import SubBlock
from translimit.describe.embedding import Embedding
from translimit.describe.families.image_encoders import image_reading
from translimit.describe.families.keys import Keys
from translimit.describe.families.reading import StackReading
from translimit.describe.mixers import Attention, FeedForward
from translimit.describe.norm import Norm, Normalisation
from translimit.describe.stack import Stack

_BIASES = "biases that torch draws at random are taken as zero: they add 1 / fan-in of the rest"

#: Switches of open_clip's towers that change a block, with the value that is understood.
_PLAIN = {
    "no_ln_pre": False,
    "input_patchnorm": False,
    "pos_embed_type": "learnable",
    "block_type": None,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
    "norm_kwargs": None,
    "act_kwargs": None,
}
_INERT = (
    *("patch_dropout", "attentional_pool", "attn_pooler_queries", "attn_pooler_heads", "pool_type"),
    *("output_tokens", "final_ln_after_pool", "proj_bias", "proj_type", "pad_id", "eos_id"),
    *("tokenizer_kwargs", "hf_tokenizer_name", "correct_cls_mask", "proj"),
)


def open_clip_vision(k: Keys, *, quick: bool) -> StackReading:
    """A vision transformer of open_clip.

    Args:
        k: its `vision_cfg`.
        quick: whether hidden units are quick GELU.

    Raises:
        ConfigError: a tower of another kind, or an unusable value.
    """
    if k.given("timm_model_name"):
        raise k.refuse("timm_model_name", "give the config.json of that model")
    dim, count = k.count("width", 768), k.count("layers", 12)
    head_dim = k.count("head_width", 64)
    if dim % head_dim:
        raise k.refuse("head_width", f"write a divisor of the width {dim}")
    own = (3 * dim) ** -0.5
    reads = (2 * dim) ** -0.5  # uniform Xavier of queries, keys and values in one matrix
    attention = Attention(dim // head_dim, head_dim, reads, reads, reads, own)
    stack = _stack(k, attention, count, own, None, quick=quick)
    patch = k.count("patch_size", 16)
    k.assumptions.append(_BIASES)
    positions = dim**-0.5
    pixels = (9 * patch**2) ** -0.5
    norm = Normalisation(Norm.LAYER, 1e-5)
    return image_reading(k, "open_clip", stack, pixels, positions, (positions,), norm)


def open_clip_text(k: Keys, *, quick: bool) -> StackReading:
    """A text transformer of open_clip.

    Args:
        k: its `text_cfg`.
        quick: whether hidden units are quick GELU.

    Raises:
        ConfigError: a tower of another kind, or an unusable value.
    """
    if k.given("hf_model_name"):
        raise k.refuse("hf_model_name", "give the config.json of that model")
    k.require("embed_cls", False)
    dim, count, heads = k.count("width", 512), k.count("layers", 12), k.count("heads", 8)
    if dim % heads:
        raise k.refuse("heads", f"write a divisor of the width {dim}")
    reads, out = dim**-0.5, dim**-0.5 * (2 * count) ** -0.5
    attention = Attention(heads, dim // heads, reads, reads, reads, out)
    causal = not k.flag("no_causal_mask", False)
    stack = _stack(k, attention, count, (2 * dim) ** -0.5, out, quick=quick, causal=causal)
    return StackReading(
        family="open_clip",
        stack=stack,
        vocabulary=k.count("vocabulary", 49408),
        context=k.count("context_length", 77),
    )


def _stack(
    k: Keys,
    attention: Attention,
    count: int,
    in_std: float,
    out_std: float | None,
    *,
    quick: bool,
    causal: bool | None = None,
) -> Stack:
    """Equal layers; the width of hidden units is told as a ratio. Text has an embedding."""
    dim = k.count("width", attention.heads * attention.head_dim)
    width = int(dim * k.number("mlp_ratio", 4.0))
    if width < 1:
        raise k.refuse("mlp_ratio", "write a larger number")
    for name, understood in _PLAIN.items():
        k.require(name, understood)
    k.inert(*_INERT)
    scale = k.number("ls_init_value") if k.given("ls_init_value") else 1.0
    kind = Activation.QUICK_GELU if quick else Activation.GELU
    last = (3 * width) ** -0.5 if out_std is None else out_std
    units = FeedForward(width, kind, in_std, last)
    norm = Normalisation(Norm.LAYER, 1e-5)
    layer = tuple(SubBlock((one,), norm, branch=scale) for one in (attention, units))
    embedding = None if causal is None else Embedding(0.02, position_std=0.01)
    return Stack(dim, (layer,) * count, embedding, bool(causal), norm)


#: Width, layers, heads and ratio of hidden units of timm's vision transformers.
_TIMM = {
    "tiny": (192, 12, 3, 4.0),
    "small": (384, 12, 6, 4.0),
    "base": (768, 12, 12, 4.0),
    "large": (1024, 24, 16, 4.0),
    "huge": (1280, 32, 16, 4.0),
    "giant": (1408, 40, 16, 48 / 11),
    "gigantic": (1664, 48, 16, 64 / 13),
}
_NAME = re.compile(r"(?:vit|deit)_([a-z]+?)(_distilled)?_patch(\d+)_(\d+)(?:\.[\w.]+)?")


def timm_vit(k: Keys) -> StackReading:
    """A vision transformer of timm, by the name of its architecture.

    Args:
        k: timm's `config.json`.

    Raises:
        ConfigError: another architecture, or arguments that change it.
    """
    name = k.word("architecture", "")
    found = _NAME.fullmatch(name)
    if found is None or found[1] not in _TIMM:
        known = ", ".join(f"vit_{size}_patch16_224" for size in _TIMM)
        raise ConfigError(k.where, f"architecture is {name!r}", f"understood: {known} and the like")
    dim, count, heads, ratio = _TIMM[found[1]]
    args = k.table("model_args")
    if args is not None:
        args.inert("num_classes", "global_pool", "img_size", "drop_rate", "drop_path_rate")
        if args.left():
            raise args.refuse(args.left()[0], "leave it out: what it changes is not known")
    k.inert("num_features", "num_classes", "global_pool", "pretrained_cfg", "label_names")
    k.inert("label_descriptions")
    norm = Normalisation(Norm.LAYER, 1e-6)
    attention = Attention(heads, dim // heads, 0.02, 0.02, 0.02, 0.02)
    units = FeedForward(int(ratio * dim), Activation.GELU, 0.02, 0.02)
    layer = (SubBlock((attention,), norm), SubBlock((units,), norm))
    stack = Stack(dim, (layer,) * count, None, False, norm)
    patch, side = int(found[3]), int(found[4])
    sizes = Keys({"image_size": side, "patch_size": patch, "num_channels": 3}, k.where)
    k.assumptions.append(_BIASES)
    first = (1e-6, 0.02) if found[2] else (1e-6,)
    return image_reading(sizes, "timm", stack, (9 * patch**2) ** -0.5, 0.02, first)
