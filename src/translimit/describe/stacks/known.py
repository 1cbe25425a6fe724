"""The families whose stacks are read, and how a configuration names its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from translimit.core import ConfigError, Json, JsonObject, NoSuchLimitError, config, nearest
from translimit.describe.stacks.encoders import bert, clip, modernbert, siglip, t5, vit
from translimit.describe.stacks.keys import Keys
from translimit.describe.stacks.reading import StackReading
from translimit.describe.stacks.text_families import DECODERS

Reader = Callable[[Keys, str], StackReading]

_ENCODERS: dict[str, Reader] = {
    "bert": bert("bert", 1e-12, True, 0),
    "roberta": bert("roberta", 1e-12, True, 1),
    "xlm-roberta": bert("roberta", 1e-12, True, 1),
    "camembert": bert("roberta", 1e-12, True, 1),
    "electra": bert("electra", 1e-12, True, 0),
    "distilbert": bert("distilbert", 1e-12, False, 0),
    "modernbert": modernbert,
    "t5": t5,
    "vit": vit(1e-12),
    "deit": vit(1e-12),
    "dinov2": vit(1e-6),
    "clip_vision_model": clip,
    "siglip_vision_model": siglip,
}

#: Readers by `model_type`, in the order in which messages list them.
READERS: dict[str, Reader] = {
    **{name: one.read for name, one in DECODERS.items()},
    **_ENCODERS,
}

#: Classes whose names do not begin like their `model_type`.
_CLASSES: dict[str, str] = {
    "GPT2": "gpt2",
    "GPTNeoX": "gpt_neox",
    "GPTNeo": "gpt_neo",
    "GPTJ": "gptj",
    "GptOss": "gpt_oss",
    "DeepseekV3": "deepseek_v3",
    "Qwen3Moe": "qwen3_moe",
    "ViT": "vit",
    "XLMRoberta": "xlm-roberta",
    "CLIPVision": "clip_vision_model",
    "SiglipVision": "siglip_vision_model",
    "OPT": "opt",
    "CodeGen": "codegen",
    "GPTBigCode": "gpt_bigcode",
    "QWen": "qwen",
    "ChatGLM": "chatglm",
}

#: Other names of families.
_ALIASES = {"gpt-neox": "gpt_neox", "kimi_k2": "deepseek_v3"}

#: What is known to have no limit here, with the reason.
_REFUSED: dict[str, str] = {
    "albert": "shares its weights between layers, so that they are not independent",
    "mamba": "mixes tokens by a state space",
    "mamba2": "mixes tokens by a state space",
    "rwkv": "mixes tokens by a linear recurrence",
    "jamba": "has layers that mix tokens by a state space",
    "recurrent_gemma": "has layers that mix tokens by a recurrence",
    "falcon_mamba": "mixes tokens by a state space",
    "bart": "is an encoder with a decoder that attends to it",
    "whisper": "is an encoder with a decoder that attends to it",
}


def read_stack(source: str | Path | JsonObject) -> StackReading:
    """The stack that a configuration describes.

    Args:
        source: a file, `config.json` of Hugging Face, or its content as a mapping.

    Raises:
        ConfigError: a file that cannot be read, an unknown family, a `model_type` and a class that
            contradict each other, a missing field or an unusable value.
        NoSuchLimitError: a family whose layers are known to have no such limit.

    >>> sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    >>> read_stack({"model_type": "qwen3", "intermediate_size": 96, **sizes}).stack.dim
    64
    """
    where = "configuration" if isinstance(source, Mapping) else str(source)
    values = dict(source) if isinstance(source, Mapping) else config.read_file(source)
    inner = values.get("text_config")
    if isinstance(inner, Mapping) and "model_type" in inner:
        values, where = dict(inner), f"{where}: text_config"
    name = _family(values, where)
    k = Keys(values, where)
    k.taken.update(("model_type", "architectures"))
    reading = READERS[name](k, name)
    left = [f"{key}: not known to this reader" for key in k.left()]
    return replace(
        reading,
        assumptions=tuple(dict.fromkeys(k.assumptions)),
        ignored=tuple(dict.fromkeys([*k.ignored, *left])),
    )


def _family(values: Mapping[str, Json], where: str) -> str:
    """The family by `model_type`, else by the class name, exactly."""
    named = values.get("model_type")
    told = values.get("architectures")
    classes = [one for one in (told if isinstance(told, list) else []) if isinstance(one, str)]
    by_class = next((found for one in classes if (found := _of_class(one))), None)
    if named is None:
        if by_class is None:
            known = ", ".join(READERS)
            raise ConfigError(where, "names no family that is known", f"give model_type: {known}")
        return by_class
    if named in _REFUSED:
        raise NoSuchLimitError(where, f"{named} {_REFUSED[str(named)]}", "describe a Stack by hand")
    if named == "llava" and classes[:1] == ["LlavaLlamaForCausalLM"]:
        return "llama"  # the keys of its text tower stand beside those of the vision tower
    named = _ALIASES.get(str(named), named)
    if not isinstance(named, str) or named not in READERS:
        raise ConfigError(where, f"unknown family {named!r}", nearest(str(named), READERS))
    if by_class is not None and by_class != named and not _relatives(by_class, named):
        raise ConfigError(
            where,
            f"model_type says {named!r}, architectures says {classes[0]!r}",
            "keep the one that is meant",
        )
    return named


def _relatives(one: str, other: str) -> bool:
    """Whether two names are of one family, as the text tower and the whole model are."""
    return one.split("_")[0] == other.split("_")[0]


@functools.cache
def _of_class(name: str) -> str | None:
    """The family to which a class belongs by its name."""
    plain = {key.replace("_", "").replace("-", "").lower(): key for key in READERS}
    for ending in ("ForCausalLM", "LMHeadModel", "Model", "For"):
        head = name.split(ending)[0]
        if head != name:
            return _CLASSES.get(head) or plain.get(head.lower())
    return None
