"""A configuration of any family, or of our own format, as a stack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from translimit.core import JsonObject
from translimit.describe.families.keys import Keys
from translimit.describe.families.open_clip import (
    open_clip_text,
    open_clip_vision,
    timm_vit,
)
from translimit.describe.families.own import read_own
from translimit.describe.families.reading import StackReading
from translimit.describe.families.refusal import told_by
from translimit.describe.families.source import family_of, load
from translimit.describe.families.towers import Tower, choose_tower


def read_stack(source: str | Path | JsonObject, *, tower: Tower | None = None) -> StackReading:
    """The stack that a configuration describes.

    Args:
        source: a file, `config.json` of Hugging Face, open_clip or timm, or one of our own format
            (`kind = "stack"`); the folder of a checkpoint; the content of such a file as a
            mapping; or the name of a public model, of `PUBLIC_MODELS`.
        tower: which part of a model of several, like CLIP; text by default where there is one.

    Raises:
        ConfigError: a file that cannot be read, an unknown family, a `model_type` and a class that
            contradict each other, a missing field, an unusable value, or sizes that contradict
            each other.
        NoSuchLimitError: a family whose layers are known to have no such limit.
        ArgumentError: an unknown tower.

    Examples:
        >>> sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        >>> read_stack({"model_type": "qwen3", "intermediate_size": 96, **sizes}).stack.dim
        64
        >>> gpt2 = {"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 4}
        >>> stack = read_stack(gpt2).stack
        >>> stack.layers[1][0].branches[0].out_std  # 0.02 / (2 layers)^(1/2)
        0.01
        >>> stack.initial_cov([3, 5, 3]).round(6)[0]
        array([0.000788, 0.      , 0.000394])
    """
    values, where = load(source)
    if "kind" in values:
        with told_by(Keys(values, where)):
            return read_own(values, where)
    values, where, assumed = choose_tower(values, where, tower)
    k = Keys(values, where)
    k.taken.update(("model_type", "architectures"))
    if assumed is not None:
        k.assumptions.append(assumed)
    with told_by(k):
        reading, packed = _read(k, values, where)
    left = [f"{key}: not known to this reader" for key in k.left()]
    return replace(
        reading,
        packed_qkv=packed,
        assumptions=tuple(dict.fromkeys(k.assumptions)),
        ignored=tuple(dict.fromkeys([*k.ignored, *left])),
    )


def _read(k: Keys, values: JsonObject, where: str) -> tuple[StackReading, bool]:
    """The stack of another's configuration, and whether query, key and value are one tensor."""
    if where.endswith("_cfg"):
        read = open_clip_vision if where.endswith("vision_cfg") else open_clip_text
        return read(k, quick=k.flag("quick_gelu", False)), True
    if "architecture" in values and "model_type" not in values:
        return timm_vit(k), True
    family = family_of(values, where)
    return family.reader(k, family.name), family.packed_qkv
