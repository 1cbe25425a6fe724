"""Sizes from text: an inline list, a file of sizes, or the configuration of a model."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from translimit.core import ArgumentError, ConfigError, Json, JsonObject, config, nearest
from translimit.describe import Role, Size, public_model, read_stack
from translimit.scaling.engine import Rules, rules
from translimit.scaling.errors import UnsupportedModuleError
from translimit.scaling.facts import ReadSize, absent_by_size, require_same_module, size_of

#: What stands for sizes that neither of two texts tells.
UNTOLD = {"head_dim": 64, "heads": 12}
_KEYS = (
    *("head_dim", "width", "heads", "layers", "kv_heads", "mlp_ratio", "experts"),
    *("active_experts", "kv_rank", "query_rank", "rope_dim", "value_dim"),
)
_MODEL_KEYS = ("model_type", "architectures", "kind")


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
        source: `head_dim=16,heads=4,layers=2` (or `width=64` instead of the head dimension, or
            beside it where heads together are wider or narrower than the stream; and `kv_heads`,
            `mlp_ratio`); a TOML or JSON file of the same keys; or the configuration of
            a model: Hugging Face's `config.json`, our own format with `kind = "stack"`, or the name
            of a public model.

    Raises:
        ConfigError: an unreadable file, an unknown or missing key, a value of the wrong type.
        ArgumentError: sizes that contradict each other.
        NoSuchLimitError: a model whose blocks the rules are not known for: they normalise after
            the sum, or multiply the stream.

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
    return size_of(read_stack(source), values, where)


def rules_for(
    base: Source,
    target: Source,
    *,
    tied: bool | None = None,
    allow: Collection[str] = (),
    seen: Mapping[str, bool] | None = None,
    **options: Any,
) -> Rules:
    """The rules between two models that are told by text, files or configurations.

    Style is `folded` unless the options say otherwise: the one for unmodified modules. Whether
    embeddings are tied or multiplied, query, key and value packed or normalised, branches end in a
    norm and gates sum to one is read from the configurations.

    Args:
        base: the tuned one: what `read_size` reads, a `Size`, or a configuration of Hugging Face
            (anything with `to_dict`).
        target: the one to train. Of two inline texts each takes what only the other tells, and
            what neither tells does not matter: `layers=4` and `layers=24` are enough.
        tied: whether token embedding and readout are one tensor, where nothing tells.
        allow: facts in which base and target may differ: `vocabulary` where it is padded.
        seen: the same facts as a forward pass of the target shows them,
            `adapters.placed(model, names, example).facts`; for sizes alone, they count.
        options: those of `rules`; they count before what is read or seen.

    Raises:
        ConfigError: a source that is not understood.
        UnsupportedModuleError: a configuration that says other than what was seen.
        ShapeMismatchError: a target that differs from its base in what is never scaled.

    >>> small, large = "width=64,heads=4,layers=2", "width=256,heads=8,layers=8"
    >>> rules_for(small, large, optimizer="adamw").role("query").lr
    0.25
    """
    base, target, _ = completed(base, target)
    small, large = _read(base), _read(target)
    require_same_module(small, large, allow)
    facts = ("packed_qkv", "qk_norm", "branch_gain", "scaled_embedding", "normalised_gates")
    told: dict[str, Any] = {name: getattr(large, name) for name in facts}
    told |= {"tied": large.tied}
    given = options if tied is None else {**options, "tied": tied}
    for name, value in (seen or {}).items():
        if name not in told:
            raise ArgumentError("seen", f"has the fact {name!r}", nearest(name, tuple(told)))
        if large.fixed and told[name] is not value and name not in given:
            raise UnsupportedModuleError(
                name,
                f"is {told[name]} by the configuration of the target and {value} by its forward "
                "pass",
                f"pass {name}={value} or {name}={told[name]} to say which counts",
            )
        told[name] = value
    if small.score_multiplier != 1:
        told["base_score_scale"] = small.score_multiplier * small.size.head_dim**-0.5
    told |= {"style": "folded", **given}
    return rules(small.size, large.size, **told)


def roles_without_parameters(source: Source) -> frozenset[Role]:
    """The roles of which a model is known to have no parameter.

    Args:
        source: what `rules_for` reads.
    """
    return absent_by_size(_read(source))


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
    apart = any({"head_dim", "width"} <= {*one} for one in (small, large))
    for one in (small, large):
        if apart:
            one |= {k: told[k] for k in ("head_dim", "width") if k in told and k not in one}
        elif "width" not in one and "head_dim" not in one:
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
        renamed = {"dim" if key == "width" else key: value for key, value in values.items()}
        return config.from_json(Size, renamed, where=where)
    for key in ("heads", "layers"):
        if key not in values:
            raise ConfigError(where, f"missing key {key!r}", "give it a value")
    told: dict[str, Any] = {**values}  # whose types `Size` checks
    return Size.of_width(**told)
