"""The families that are understood, by name."""

from __future__ import annotations

from translimit.describe.families.family import Family
from translimit.describe.families.gpt2 import GPT2
from translimit.describe.families.gpt_neox import GPT_NEOX
from translimit.describe.families.llama import LLAMA, MISTRAL, QWEN2
from translimit.describe.families.vit import VIT

#: Families by name, in the order in which messages list them.
FAMILIES: dict[str, Family] = {
    family.name: family for family in (GPT2, LLAMA, MISTRAL, QWEN2, GPT_NEOX, VIT)
}


def family_of_class(name: str) -> Family | None:
    """The family to which a class belongs by its name.

    >>> family_of_class("GPTNeoXForCausalLM").name
    'gpt_neox'
    """
    return next((one for one in FAMILIES.values() if name.startswith(one.class_prefix)), None)
