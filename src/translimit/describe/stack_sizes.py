"""The sizes of a transformer by its configuration, read without anything numerical.

How a configuration names its family is here; what the family says is in its record,
`translimit.describe.families`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from translimit.core import (
    ArgumentError,
    ConfigError,
    Json,
    JsonObject,
    NoSuchLimitError,
    config,
    nearest,
)
from translimit.describe.families import FAMILIES, Family, family_of_class
from translimit.describe.families.family import common_sizes
from translimit.describe.fields import Fields
from translimit.describe.pre_norm_config import KIND, PreNormConfig

#: Families that normalise after the sum.
POST_NORM = ("bert", "roberta", "distilbert", "electra", "albert", "xlm-roberta", "openai-gpt")


@dataclass(frozen=True)
class StackSizes:
    """The sizes of a pre-LN stack, and which of its tensors are shared or packed.

    Attributes:
        family: what it was read as.
        layers: blocks.
        dim: width of the residual stream.
        heads: query heads.
        kv_heads: key/value heads.
        head_dim: key and value dimension of a head.
        mlp_dim: hidden units of the feed-forward block, or None without one.
        vocabulary: entries of the vocabulary, or None where it is not told.
        tied: whether token embedding and readout are one tensor.
        packed_qkv: whether query, key and value are one tensor.
    """

    family: str
    layers: int
    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_dim: int | None = None
    vocabulary: int | None = None
    tied: bool = False
    packed_qkv: bool = False


def load(source: str | Path | JsonObject) -> tuple[dict[str, Json], str]:
    """The content of a configuration, and how errors call it.

    Raises:
        ConfigError: a file that cannot be read, or of a `kind` that is not ours.
    """
    where = "configuration" if isinstance(source, Mapping) else str(source)
    values = dict(source) if isinstance(source, Mapping) else config.read_file(source)
    if values.get("kind", KIND) != KIND:
        raise ConfigError(where, f"unknown kind {values['kind']!r}", f"known: {KIND}")
    return values, where


def read_stack_sizes(source: str | Path | JsonObject) -> StackSizes:
    """The sizes that a configuration describes; see `read_architecture` for what it may be.

    Raises:
        ConfigError: a file that cannot be read, a malformed one, an unknown family, a missing
            field, or an unusable value.
        NoSuchLimitError: a family that normalises after the sum (post-LN), like BERT.

    >>> gpt2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12}
    >>> read_stack_sizes(gpt2).mlp_dim
    3072
    """
    values, where = load(source)
    if "kind" in values:
        own = config.from_json(PreNormConfig, values, where=where)
        return StackSizes(
            family=KIND,
            layers=own.layers,
            dim=own.dim,
            heads=own.heads,
            kv_heads=own.heads if own.kv_heads is None else own.kv_heads,
            head_dim=own.dim_of_head,
            mlp_dim=own.mlp_dim,
        )
    family, fields = family_of(values, where), Fields(values, where)
    stack, ratio = common_sizes(fields), family.mlp_ratio
    return StackSizes(
        family=family.name,
        layers=stack.layers,
        dim=stack.dim,
        heads=stack.heads,
        kv_heads=family.count_kv_heads(fields, stack.heads),
        head_dim=stack.dim_of_head,
        mlp_dim=fields.count("mlp_dim", None if ratio is None else ratio * stack.dim),
        vocabulary=fields.optional_count("vocab_size"),
        tied=fields.flag("tie_word_embeddings", family.tied),
        packed_qkv=family.packed_qkv,
    )


def family_of(values: JsonObject, where: str) -> Family:
    """The family by `model_type`, else by the class name under `architectures`.

    Raises:
        ConfigError: none is named, or an unknown one.
        NoSuchLimitError: one that normalises after the sum.
    """
    named = values.get("model_type")
    if named is None:
        told = values.get("architectures")
        classes = told if isinstance(told, list | tuple) else [told]
        names = [one for one in classes if isinstance(one, str)]
        for one in names:
            if (found := family_of_class(one)) is not None:
                return found
        named = names[0] if names else None
    if named is None:
        known = ", ".join(FAMILIES)
        raise ConfigError(
            where,
            "names no family: `model_type`, `architectures` and `kind` are absent",
            f'give model_type (known: {known}), or kind = "{KIND}" for our own format',
        )
    if not isinstance(named, str) or named not in FAMILIES:
        raise _refuse_family(str(named), where)
    return FAMILIES[named]


def _refuse_family(name: str, where: str) -> ArgumentError:
    """The error for a family that is not understood: post-LN, or unknown."""
    lowered = name.lower()
    plain = {one.replace("-", "") for one in POST_NORM}
    prefixes = tuple(sorted(plain, key=len, reverse=True))
    if lowered in POST_NORM or (name != lowered and lowered.startswith(prefixes)):
        return NoSuchLimitError(
            where,
            f"{name!r} normalises after the residual sum (post-LN), and what is known here is "
            "about pre-LN stacks",
            f"understood: {', '.join(FAMILIES)}; for a chain that normalises after every layer "
            "use translimit.limits.homogenized",
        )
    return ConfigError(where, f"unknown family {name!r}", nearest(name, FAMILIES))
