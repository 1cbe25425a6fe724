"""Our own formats: `kind = "stack"`, and the flat `kind = "pre-norm"` of the first edition."""

from __future__ import annotations

from dataclasses import replace

from translimit.core import ConfigError, Json, JsonObject, config, nearest
from translimit.describe.embedding import PatchEmbedding
from translimit.describe.families.reading import StackReading
from translimit.describe.stack import Stack
from translimit.describe.stack_format import KIND, fields_from_json

#: The tag of the flat format.
PRE_NORM = "pre-norm"

#: What a description may tell beside its stack, and of which type.
_BESIDE = {
    "vocabulary": int | None,
    "tied": bool,
    "readout_std": float | None,
    "own_token": bool,
    "logit_scale": float,
    "logit_softcap": float | None,
    "context": int | None,
}

#: Keys of the flat format, by the table of ours to which they belong, and what they are there.
_ATTENTION = {
    "heads": ("heads",),
    "kv_heads": ("kv_heads",),
    "head_dim": ("head_dim",),
    "qk_std": ("query_std", "key_std"),
    "v_std": ("value_std",),
    "out_std": ("out_std",),
}
_FEED_FORWARD = {
    "mlp_dim": ("width",),
    "mlp_in_std": ("in_std",),
    "mlp_out_std": ("out_std",),
    "activation": ("activation",),
    "gated": ("gated",),
}
_SAME = ("dim", "layers", "causal", "init_std", "parallel", "context")
_ELSE = (
    *("kind", "norm", "norm_eps", "rotary_dims", "rotary_base", "token_std", "first_token_std"),
    "image_tokens",
)


def read_own(values: JsonObject, where: str) -> StackReading:
    """A description in one of our own formats.

    Args:
        values: its content.
        where: how errors call it.

    Raises:
        ConfigError: another kind, an unknown or missing key, a value of the wrong type.
        ArgumentError: sizes that contradict each other.
    """
    kind = values["kind"]
    if kind == PRE_NORM:
        values = _from_flat(values, where)
    elif kind != KIND:
        raise ConfigError(where, f"unknown kind {kind!r}", f"known: {KIND}, {PRE_NORM}")
    told = {key: value for key, value in values.items() if key not in _BESIDE}
    given = [key for key in values if key in _BESIDE]
    beside = {key: config.coerced(_BESIDE[key], values[key], key) for key in given}
    stack = Stack(*fields_from_json(told, where))
    reading = StackReading(family=str(kind), stack=stack, **beside)
    if isinstance(stack.embedding, PatchEmbedding):
        tokens = stack.embedding.tokens
        return replace(reading, image_tokens=tokens, context=tokens)
    return reading


def _from_flat(values: JsonObject, where: str) -> dict[str, Json]:
    """The flat format in terms of ours."""
    known = (*_SAME, *_ATTENTION, *_FEED_FORWARD, *_ELSE)
    for key in values:
        if key not in known:
            raise ConfigError(where, f"unknown key {key!r}", nearest(key, known))
    for key in ("layers", "dim", "heads"):
        if key not in values:
            raise ConfigError(where, f"missing key {key!r}", "give it a value")
    told = {key: value for key, value in values.items() if value is not None}
    made: dict[str, Json] = {key: told[key] for key in _SAME if key in told}
    made["norm"] = {"kind": told.get("norm", "layer"), "norm_eps": told.get("norm_eps", 0.0)}
    attention: dict[str, Json] = {
        name: told[key] for key, names in _ATTENTION.items() if key in told for name in names
    }
    if "rotary_dims" in told:
        turned = {"dims": told["rotary_dims"], "base": told.get("rotary_base", 10_000.0)}
        attention["rotary"] = turned
    made["attention"] = attention
    if "mlp_dim" in told:
        made["feed_forward"] = {
            name: told[key] for key, names in _FEED_FORWARD.items() if key in told for name in names
        }
    elif told.get("parallel"):
        raise ConfigError(where, "parallel is given without mlp_dim", "give one, or leave it out")
    made["embedding"] = _tokens(told, where)
    return made


def _tokens(told: JsonObject, where: str) -> Json:
    """Tokens, or patches of one pixel beside a class token of another standard deviation."""
    std = told.get("token_std", told.get("init_std", 0.02))
    first = told.get("first_token_std")
    if "image_tokens" not in told:
        if first is not None:
            raise ConfigError(where, "first_token_std is given alone", "give image_tokens too")
        return {"std": std}
    tokens: int = config.coerced(int, told["image_tokens"], "image_tokens")
    return {
        "kind": "patches",
        "std": std,
        "rows": 1,
        "columns": tokens - (first is not None),
        "patch": 1,
        "channels": 1,
        "class_stds": [] if first is None else [first],
    }
