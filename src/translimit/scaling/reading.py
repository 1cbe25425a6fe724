"""Sizes from text: an inline list, a file of sizes, or the configuration of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from translimit.core import ConfigError, Json, JsonObject, NoSuchLimitError, config, nearest
from translimit.describe import (
    Attention,
    Embedding,
    FeedForward,
    Size,
    Stack,
    StackReading,
    public_model,
    read_stack,
)
from translimit.scaling.engine import Rules, rules
from translimit.scaling.errors import ShapeMismatchError

#: What stands for sizes that neither of two texts tells.
UNTOLD = {"head_dim": 64, "heads": 12}
_KEYS = (
    *("head_dim", "width", "heads", "layers", "kv_heads", "mlp_ratio", "experts"),
    "active_experts",
)
_MODEL_KEYS = ("model_type", "architectures", "kind")


@dataclass(frozen=True)
class ReadSize:
    """Sizes with what their source says about the module.

    Attributes:
        size: the sizes.
        vocabulary: entries of the vocabulary, or None where it is not told.
        tied: whether token embedding and readout are one tensor.
        packed_qkv: whether query, key and value are one tensor.
        qk_norm: whether queries and keys are normalised.
    """

    size: Size
    vocabulary: int | None = None
    tied: bool = False
    packed_qkv: bool = False
    qk_norm: bool = False


@runtime_checkable
class Configuration(Protocol):
    """What Hugging Face calls a configuration."""

    def to_dict(self) -> JsonObject:
        """Its content as plain data."""
        ...


#: What tells the sizes of a model.
Source: TypeAlias = str | Path | JsonObject | Size | ReadSize | Configuration


def read_size(source: str | Path | JsonObject) -> ReadSize:
    """The sizes that a text, a file or a mapping tells.

    Args:
        source: `head_dim=16,heads=4,layers=2` (or `width=64` instead of the head dimension, and
            `kv_heads`, `mlp_ratio`); a TOML or JSON file of the same keys; or the configuration of
            a model: Hugging Face's `config.json`, our own format with `kind = "stack"`, or the name
            of a public model.

    Raises:
        ConfigError: an unreadable file, an unknown or missing key, a value of the wrong type.
        ArgumentError: sizes that contradict each other.
        ShapeMismatchError: heads that together are wider or narrower than the stream.
        NoSuchLimitError: a model whose blocks the rules are not known for: they normalise after
            the sum or after a branch, mix experts or latents, or multiply what they add.

    >>> read_size("head_dim=16,heads=4,layers=2").size.width
    64
    """
    if isinstance(source, str) and "=" in source:
        return ReadSize(_size(_inline(source), source))
    values = source if isinstance(source, Mapping) else public_model(source)
    values = config.read_file(str(source)) if values is None else values
    where = "sizes" if isinstance(source, Mapping) else str(source)
    if not any(key in values for key in _MODEL_KEYS):
        return ReadSize(_size(values, where))
    stack = read_stack(source)
    require_known_block(stack, where)
    if stack.head_dim * stack.heads != stack.dim:
        raise ShapeMismatchError(
            where,
            f"has {stack.heads} heads of {stack.head_dim} in a stream of {stack.dim}",
            "give a stream of width head_dim x heads, as the rules need",
        )
    ratio = {} if stack.mlp_dim is None else {"mlp_ratio": stack.mlp_dim / stack.dim}
    size = Size(
        head_dim=stack.head_dim,
        heads=stack.heads,
        layers=stack.layers,
        kv_heads=stack.kv_heads,
        **ratio,
    )
    return ReadSize(size, stack.vocabulary, stack.tied, stack.packed_qkv, stack.qk_norm)


def rules_for(base: Source, target: Source, *, tied: bool | None = None, **options: Any) -> Rules:
    """The rules between two models that are told by text, files or configurations.

    Style is `folded` unless the options say otherwise: the one for unmodified modules. Whether
    embeddings are tied and query, key and value are packed is read from the configurations.

    Args:
        base: the tuned one: what `read_size` reads, a `Size`, or a configuration of Hugging Face
            (anything with `to_dict`).
        target: the one to train. Of two inline texts each takes what only the other tells, and
            what neither tells does not matter: `layers=4` and `layers=24` are enough.
        tied: whether token embedding and readout are one tensor, where nothing tells.
        options: those of `rules`.

    Raises:
        ConfigError: a source that is not understood.
        ShapeMismatchError: a target that differs from its base in what is never scaled.

    >>> small, large = "width=64,heads=4,layers=2", "width=256,heads=8,layers=8"
    >>> rules_for(small, large, optimizer="adamw").role("query").lr
    0.25
    """
    base, target, _ = completed(base, target)
    small, large = _read(base), _read(target)
    require_same_module(small, large)
    told: dict[str, Any] = {"style": "folded", "packed_qkv": large.packed_qkv}
    told |= {"qk_norm": large.qk_norm, **options}
    return rules(small.size, large.size, tied=large.tied if tied is None else tied, **told)


def completed(base: Source, target: Source) -> tuple[Source, Source, dict[str, Json]]:
    """Two inline texts with the same keys for heads, width and depth; all else as it is.

    Args:
        base: the tuned one.
        target: the one to train.

    Returns:
        Both, and what stands for sizes that neither tells: ratios do not depend on them.
    """
    if not (isinstance(base, str) and "=" in base and isinstance(target, str) and "=" in target):
        return base, target, {}
    small, large = _inline(base), _inline(target)
    told = {**small, **large}
    free: dict[str, Json] = {} if {"head_dim", "width"} & {*told} else dict(UNTOLD)
    free = {key: value for key, value in free.items() if key not in told}
    for one in (small, large):
        if "width" not in one and "head_dim" not in one:
            one |= {key: told[key] for key in ("head_dim", "width") if key in told}
        one |= {key: told[key] for key in ("heads", "layers") if key in told and key not in one}
        one |= free
    return _text(small), _text(large), free


def _text(values: JsonObject) -> str:
    return ",".join(f"{key}={json.dumps(value)}" for key, value in values.items())


def _read(source: Source) -> ReadSize:
    if isinstance(source, ReadSize):
        return source
    if isinstance(source, Size):
        return ReadSize(source)
    if isinstance(source, Configuration):
        return read_size(source.to_dict())
    return read_size(source)


def require_same_module(base: ReadSize, target: ReadSize) -> None:
    """Refuse a target that differs from its base in what is never scaled.

    Raises:
        ShapeMismatchError: another vocabulary; tied embeddings, a packed projection or normalised
            queries in one.
    """
    for name in ("vocabulary", "tied", "packed_qkv", "qk_norm"):
        one, other = getattr(base, name), getattr(target, name)
        if one != other and None not in (one, other):
            raise ShapeMismatchError(
                name,
                f"is {one} in the base and {other} in the target",
                "keep it as it is in the base",
            )


def require_known_block(reading: StackReading, where: str) -> None:
    """Refuse a stack whose blocks the rules are not known for.

    Args:
        reading: the stack and what it was read as.
        where: how errors call it.

    Raises:
        NoSuchLimitError: a norm after the sum or after a branch, a branch that reads the stream
            without one, experts or latents, multipliers, or scores of another scale than
            head_dim^(-1/2).
    """
    if (problem := unknown_block(reading.stack)) is not None:
        raise NoSuchLimitError(
            where,
            f"{reading.family!r} {problem}",
            "the rules are for pre-LN stacks of attention and feed-forward blocks, like GPT-2, "
            "Llama or ViT; for other blocks tell the sizes alone, and make a coordinate check",
        )


def unknown_block(stack: Stack, *, any_scale: bool = False) -> str | None:
    """What the rules do not know of in a stack, in words; None where they know all.

    Args:
        stack: the stack.
        any_scale: whether scores may have another scale than head_dim^(-1/2).
    """
    blocks = stack.sub_blocks
    branches = [branch for block in blocks for branch in block.branches]
    attention = [one for one in branches if isinstance(one, Attention)]
    embedding = stack.embedding
    if any(block.norm_post for block in blocks):
        return "normalises after the residual sum (post-LN)"
    if any(block.norm_out for block in blocks):
        return "normalises what its branches return"
    if not all(block.norm_in for block in blocks):
        return "has a branch that reads the stream without a norm"
    if not all(isinstance(one, Attention | FeedForward) for one in branches):
        return "has experts or attention of latents"
    if any(block.residual != 1 or block.branch != 1 for block in blocks):
        return "multiplies the stream or what its branches add"
    if isinstance(embedding, Embedding) and embedding.multiplier != 1:
        return "multiplies its embedding"
    if not any_scale and any(
        abs(one.score_scale * one.head_dim**0.5 - 1) > 1e-6 for one in attention
    ):
        return "does not divide its scores by head_dim^(1/2)"
    return None


def _inline(text: str) -> dict[str, Json]:
    values: dict[str, Json] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise ConfigError(text, f"has the part {part!r}", "write key=value,key=value")
        if key in values:
            raise ConfigError(text, f"{key} is told twice", "tell it once")
        values[key] = config.parse_value(value)
    return values


def _size(values: JsonObject, where: str) -> Size:
    for key in values:
        if key not in _KEYS:
            raise ConfigError(where, f"unknown key {key!r}", nearest(key, _KEYS))
    if "width" not in values:
        return config.from_json(Size, values, where=where)
    if "head_dim" in values:
        raise ConfigError(where, "tells width and head_dim", "tell one of them")
    for key in ("heads", "layers"):
        if key not in values:
            raise ConfigError(where, f"missing key {key!r}", "give it a value")
    told: dict[str, Any] = {**values}  # whose types `Size` checks
    return Size.of_width(**told)
