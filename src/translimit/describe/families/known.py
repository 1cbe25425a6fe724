"""The families that are read, one record each, and those that are known to have no limit here."""

from __future__ import annotations

from translimit.describe.families.bidirectional_families import BIDIRECTIONAL_FAMILIES
from translimit.describe.families.clip_towers import TOWERS
from translimit.describe.families.dbrx import DBRX
from translimit.describe.families.family import Family
from translimit.describe.families.gpt_families import GPT_FAMILIES
from translimit.describe.families.image_encoders import IMAGE_ENCODERS
from translimit.describe.families.latent_families import LATENT_FAMILIES
from translimit.describe.families.llama_families import LLAMA_FAMILIES
from translimit.describe.families.mixture_families import MIXTURE_FAMILIES
from translimit.describe.families.text_encoders import TEXT_ENCODERS

_RECORDS: tuple[Family, ...] = (
    *(*GPT_FAMILIES, *LLAMA_FAMILIES, *MIXTURE_FAMILIES, *LATENT_FAMILIES, DBRX),
    *(*BIDIRECTIONAL_FAMILIES, *TEXT_ENCODERS, *IMAGE_ENCODERS, *TOWERS),
)

#: Families by name, in the order in which messages list them.
FAMILIES: dict[str, Family] = {one.name: one for one in _RECORDS}


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
