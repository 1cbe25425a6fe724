"""The sizes of a transformer by its configuration, read without anything numerical.

What the families have in common is here: how a configuration names its family, and the sizes that
it leaves out and the family fixes. `translimit.describe.families` reads the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from translimit.core import ArgumentError, ConfigError, NoSuchLimitError, config, nearest
from translimit.describe.fields import Fields

#: The tag of our own format.
KIND = "pre-norm"

#: Families that normalise after the sum.
POST_NORM = ("bert", "roberta", "distilbert", "electra", "albert", "xlm-roberta", "openai-gpt")


@dataclass(frozen=True)
class FamilyFacts:
    """What a family fixes about sizes and tensors.

    Attributes:
        class_prefix: how the names of its classes begin.
        kv_heads: key/value heads where the configuration has none; as many as heads by default.
        mlp_ratio: hidden units over the width where the configuration has none.
        tied: whether token embedding and readout are one tensor by default.
        packed_qkv: whether query, key and value are one tensor.
    """

    class_prefix: str
    kv_heads: int | None = None
    mlp_ratio: int | None = None
    tied: bool = False
    packed_qkv: bool = False


FACTS: dict[str, FamilyFacts] = {
    "gpt2": FamilyFacts("GPT2", mlp_ratio=4, tied=True, packed_qkv=True),
    "llama": FamilyFacts("Llama"),
    "mistral": FamilyFacts("Mistral", kv_heads=8),
    "qwen2": FamilyFacts("Qwen2", kv_heads=32),
    "gpt_neox": FamilyFacts("GPTNeoX", packed_qkv=True),
    "vit": FamilyFacts("ViT"),
}


@dataclass(frozen=True)
class PreNormConfig:
    """Our own format: a pre-LN stack with every size and standard deviation in one flat table.

    Attributes:
        kind: the tag of the format.
        layers: blocks.
        dim: width of the residual stream.
        heads: query heads.
        kv_heads: key/value heads; as many as query heads by default.
        head_dim: dim / heads by default.
        init_std: standard deviation of every weight that has none of its own below.
        qk_std: of W_Q and W_K.
        v_std: of W_V.
        out_std: of W_O.
        token_std: of the entries of the tokens that enter the first block.
        norm: layer norm (the mean is removed) or root mean square norm.
        norm_epsilon: of the norm.
        causal: whether attention is masked.
        mlp_dim: hidden units of the feed-forward block; without them there is none.
        mlp_in_std: of W_1 and the gate.
        mlp_out_std: of W_2.
        activation: of the hidden units.
        gated: whether a gate multiplies them.
        parallel: whether attention and feed-forward block read the same tokens.
        rotary_dims: entries of a head that rotary positions turn; none by default.
        rotary_base: of their frequencies.
        context: largest number of tokens.
    """

    kind: Literal["pre-norm"]
    layers: int
    dim: int
    heads: int
    kv_heads: int | None = None
    head_dim: int | None = None
    init_std: float = 0.02
    qk_std: float | None = None
    v_std: float | None = None
    out_std: float | None = None
    token_std: float | None = None
    norm: Literal["layer", "rms"] = "layer"
    norm_epsilon: float = 0.0
    causal: bool = True
    mlp_dim: int | None = None
    mlp_in_std: float | None = None
    mlp_out_std: float | None = None
    activation: Literal["gelu", "gelu_new", "relu", "silu"] = "gelu"
    gated: bool = False
    parallel: bool = False
    rotary_dims: int | None = None
    rotary_base: float = 10_000.0
    context: int | None = None

    @property
    def dim_of_head(self) -> int:
        """The dimension of a head, dim / heads where it is not told.

        Raises:
            ConfigError: it is not told and the heads do not divide the width.
        """
        if self.head_dim is not None:
            return self.head_dim
        if self.dim % max(self.heads, 1):
            raise ConfigError(
                "head_dim",
                f"is absent, and {self.heads} heads do not divide {self.dim}",
                "give head_dim",
            )
        return self.dim // max(self.heads, 1)


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


def load(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The content of a configuration, and how errors call it.

    Raises:
        ConfigError: a file that cannot be read, or of a `kind` that is not ours.
    """
    where = "configuration" if isinstance(source, Mapping) else str(source)
    values = dict(source) if isinstance(source, Mapping) else config.read_file(source)
    if values.get("kind", KIND) != KIND:
        raise ConfigError(where, f"unknown kind {values['kind']!r}", f"known: {KIND}")
    return values, where


def read_stack_sizes(source: str | Path | Mapping[str, Any]) -> StackSizes:
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
    family = family_of(values, where)
    facts, fields = FACTS[family], Fields(values, where)
    sizes = common_sizes(fields)
    sizes["kv_heads"] = fields.count("kv_heads", facts.kv_heads or sizes["heads"])
    ratio = facts.mlp_ratio
    return StackSizes(
        family=family,
        **sizes,
        mlp_dim=fields.count("mlp_dim", None if ratio is None else ratio * sizes["dim"]),
        vocabulary=fields.optional_count("vocab_size"),
        tied=fields.flag("tie_word_embeddings", facts.tied),
        packed_qkv=facts.packed_qkv,
    )


def common_sizes(fields: Fields) -> dict[str, int]:
    """Layers, width and heads; a head is dim / heads wide unless it is told."""
    layers, dim, heads = (fields.count(name) for name in ("layers", "dim", "heads"))
    if fields.has("head_dim"):
        head_dim = fields.count("head_dim")
    elif dim % heads:
        raise fields.refuse("heads", heads, f"write a divisor of the width {dim}, or give head_dim")
    else:
        head_dim = dim // heads
    return {"layers": layers, "dim": dim, "heads": heads, "kv_heads": heads, "head_dim": head_dim}


def family_of(values: Mapping[str, Any], where: str) -> str:
    """The family by `model_type`, else by the class name under `architectures`.

    Raises:
        ConfigError: none is named, or an unknown one.
        NoSuchLimitError: one that normalises after the sum.
    """
    named = values.get("model_type")
    if named is None:
        classes = values.get("architectures") or ()
        known = {facts.class_prefix: name for name, facts in FACTS.items()}
        for prefix, name in known.items():
            if any(isinstance(c, str) and c.startswith(prefix) for c in classes):
                return name
        named = classes[0] if classes else None
    if named is None:
        known = ", ".join(FACTS)
        raise ConfigError(
            where,
            "names no family: `model_type`, `architectures` and `kind` are absent",
            f'give model_type (known: {known}), or kind = "{KIND}" for our own format',
        )
    if not isinstance(named, str) or named not in FACTS:
        raise _refuse_family(str(named), where)
    return named


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
            f"understood: {', '.join(FACTS)}; for a chain that normalises after every layer "
            "use translimit.limits.homogenized",
        )
    return ConfigError(where, f"unknown family {name!r}", nearest(name, FACTS))
