"""The families that are read, one record each, and those that are known to have no limit here."""

from __future__ import annotations

from translimit.describe.families.clip_towers import (
    clip_text,
    clip_vision,
    siglip_text,
    siglip_vision,
)
from translimit.describe.families.dbrx import dbrx
from translimit.describe.families.decoder_families import DECODERS
from translimit.describe.families.decoder_names import DECODER_NAMES
from translimit.describe.families.encoder_names import ENCODER_NAMES
from translimit.describe.families.family import Family, Reader
from translimit.describe.families.image_encoders import beit, dinov2, vit, vit_mae
from translimit.describe.families.text_encoders import (
    bert,
    modernbert,
    modernbert_decoder,
    t5,
    whisper,
    xlm,
)

_READERS: dict[str, Reader] = {
    **{name: one.read for name, one in DECODERS.items()},
    "dbrx": dbrx,
    "bert": bert(1e-12, pad=0),
    "roberta": bert(1e-12, pad=1),
    "electra": bert(1e-12, pad=0),
    "ernie": bert(1e-12, pad=0),
    "roberta-prelayernorm": bert(1e-12, pad=1, post=False),
    "megatron-bert": bert(1e-12, pad=0, post=False, normalised=False),
    "xlm-roberta-xl": bert(1e-5, pad=1, post=False, normalised=False),
    "distilbert": bert(1e-12, types=False, pad=0, eps_fixed=True),
    "bert-generation": bert(1e-12, types=False, pad=0),
    "rembert": bert(1e-12, pad=0, inner_key="input_embedding_size", inner_size=256),
    "roformer": bert(1e-12, pad=0, turned=True),
    "mpnet": bert(1e-12, types=False, pad=1, biased=True),
    "xlm": xlm,
    "flaubert": xlm,
    "modernbert": modernbert,
    "modernbert-decoder": modernbert_decoder,
    "t5": t5,
    "vit": vit(1e-12),
    "deit": vit(1e-12, classes=2, drawn=False),
    "vit_msn": vit(1e-6, drawn=False),
    "ijepa": vit(1e-6, classes=0),
    "vit_mae": vit_mae,
    "dinov2": dinov2,
    "dinov2_with_registers": dinov2,
    "beit": beit,
    "data2vec-vision": beit,
    "whisper": whisper,
    "clip_vision_model": clip_vision,
    "clip_text_model": clip_text,
    "metaclip_2_vision_model": clip_vision,
    "metaclip_2_text_model": clip_text,
    "siglip_vision_model": siglip_vision,
    "siglip_text_model": siglip_text,
    "siglip2_text_model": siglip_text,
}

#: Classes that are not called like their `model_type`.
_CLASSES: dict[str, tuple[str, ...]] = {
    "gemma3_text": ("Gemma3",),
    "clip_vision_model": ("CLIPVision",),
    "clip_text_model": ("CLIPText",),
    "metaclip_2_vision_model": ("MetaClip2Vision",),
    "metaclip_2_text_model": ("MetaClip2Text",),
    "siglip_vision_model": ("SiglipVision",),
    "siglip_text_model": ("SiglipText",),
    "siglip2_text_model": ("Siglip2Text",),
    "emu3_text_model": ("Emu3Text",),
    "cohere_compass_text": ("CohereCompassText",),
    "roberta": ("XLMRoberta", "Camembert", "Data2VecText"),
    "t5": ("T5Encoder",),
}

#: Other `model_type`s of the same block and defaults.
_ALIASES: dict[str, tuple[str, ...]] = {
    "gpt_neox": ("gpt-neox",),
    "deepseek_v3": ("kimi_k2",),
    "apertus": ("apertus1p5_text",),
    "roberta": ("xlm-roberta", "camembert", "data2vec-text"),
}

#: Families that pack query, key and value, and whose tensors are laid out otherwise than `Places`
#: can tell, or whose classes are not in the library transformers.
_PACKED = (
    "persimmon",
    "gpt_neox_japanese",
    "openai-gpt",
    "falcon",
    "codegen",
    "gpt_bigcode",
    "modernbert",
    "modernbert-decoder",
    "dbrx",
    "baichuan",
    "chatglm",
    "qwen",
)

#: Families by name, in the order in which messages list them.
FAMILIES: dict[str, Family] = {
    name: Family(
        name=name,
        reader=reader,
        classes=_CLASSES.get(name, ()),
        aliases=_ALIASES.get(name, ()),
        names={**DECODER_NAMES, **ENCODER_NAMES}.get(name),
        packed=name in _PACKED,
    )
    for name, reader in _READERS.items()
}


def family_called(name: str) -> Family | None:
    """The family of a `model_type`, or None.

    Args:
        name: the family's own, or one of its aliases.
    """
    found = FAMILIES.get(name)
    if found is not None:
        return found
    return next((one for one in FAMILIES.values() if name in one.aliases), None)


def family_of_class(name: str) -> Family | None:
    """The family to which a class belongs by its name, or None.

    Args:
        name: of the class.

    >>> family_of_class("GPTNeoXForCausalLM").name
    'gpt_neox'
    """
    return next((one for one in FAMILIES.values() if one.has_class(name)), None)
