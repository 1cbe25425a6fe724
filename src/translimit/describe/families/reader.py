"""A configuration of any family, or of our own format, as a stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from translimit.core import JsonObject
from translimit.describe.families.keys import Keys
from translimit.describe.families.own import read_own
from translimit.describe.families.reading import StackReading
from translimit.describe.families.source import family_of, load


def read_stack(source: str | Path | JsonObject) -> StackReading:
    """The stack that a configuration describes.

    Args:
        source: a file, `config.json` of Hugging Face or one of our own format (`kind = "stack"`);
            the folder of a checkpoint; or the content of such a file as a mapping.

    Raises:
        ConfigError: a file that cannot be read, an unknown family, a `model_type` and a class that
            contradict each other, a missing field or an unusable value.
        NoSuchLimitError: a family whose layers are known to have no such limit.
        ArgumentError: sizes that contradict each other.

    >>> sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    >>> read_stack({"model_type": "qwen3", "intermediate_size": 96, **sizes}).stack.dim
    64
    """
    values, where = load(source)
    if "kind" in values:
        return read_own(values, where)
    inner = values.get("text_config")
    if isinstance(inner, Mapping) and "model_type" in inner:
        values, where = dict(inner), f"{where}: text_config"
    family = family_of(values, where)
    k = Keys(values, where)
    k.taken.update(("model_type", "architectures"))
    reading = family.reader(k, family.name)
    left = [f"{key}: not known to this reader" for key in k.left()]
    return replace(
        reading,
        packed_qkv=family.packed_qkv,
        assumptions=tuple(dict.fromkeys(k.assumptions)),
        ignored=tuple(dict.fromkeys([*k.ignored, *left])),
    )
