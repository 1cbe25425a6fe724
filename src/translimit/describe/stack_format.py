r"""Our own format of a stack: `kind = "stack"`, as JSON or TOML, written and read.

The short form tells one layer and how often it is repeated; every standard deviation that is not
told is `init_std` (0.02):

    kind = "stack"
    dim = 768
    layers = 12
    norm = "layer"                 # or rms, none, or {kind = "layer", norm_eps = 1e-5}
    placement = "pre"              # or post, peri, reordered
    parallel = false               # both branches from the same tokens
    attention = {heads = 12}       # the fields of `Attention`, or kind = "latent_attention"
    feed_forward = {width = 3072}  # the fields of `FeedForward`, or kind = "experts"
    embedding = {std = 0.02}       # the fields of `Embedding`, or kind = "patches"

`layers` may be a list, whose entries are repeated and change what they name (`attention`,
`feed_forward`, `norm`, `placement`, `parallel`), or tell their sub-blocks in full:

    layers = [{repeat = 5, attention = {scores = {window = 512}}}, {}]
    layers = [{blocks = [{branches = [{kind = "attention", heads = 4}], norm_in = "rms"}]}]

What is written is of the last form, and reads back as an equal stack.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from translimit.core import ConfigError, Json, JsonObject, brief, config, nearest
from translimit.describe.activation import Activation
from translimit.describe.blocks import Branch, Layer, SubBlock
from translimit.describe.embedding import Embedding, PatchEmbedding
from translimit.describe.frequencies import Frequencies
from translimit.describe.mixers import Attention, Experts, FeedForward, LatentAttention
from translimit.describe.norm import Norm, Normalisation

T = TypeVar("T")

#: The tag of the format.
KIND = "stack"

#: Numbers are smaller, so that their squares and products are finite.
_LARGEST = 1e12

#: Layers in all: each is an object.
MOST_LAYERS = 100_000

_BRANCHES: dict[str, type[Branch]] = {
    "attention": Attention,
    "latent_attention": LatentAttention,
    "feed_forward": FeedForward,
    "experts": Experts,
}
_EMBEDDINGS: dict[str, type[Embedding | PatchEmbedding]] = {
    "tokens": Embedding,
    "patches": PatchEmbedding,
}
_NORMS = {"layer": Norm.LAYER, "rms": Norm.RMS}
_PLACEMENTS = {
    "pre": ("norm_in",),
    "post": ("norm_post",),
    "peri": ("norm_in", "norm_out"),
    "reordered": ("norm_out",),
}
#: Keys of files written before version 0.2, and what they are now.
_RENAMED = {"scale": "score_scale", "eps": "norm_eps"}

#: What an entry of `layers` may change, and what stands beside the layers.
_OF_A_LAYER = ("norm", "placement", "parallel", "attention", "feed_forward")
_KEYS = ("kind", "dim", "causal", "layers", "embedding", "norm_final", "init_std", *_OF_A_LAYER)


class StackFields(NamedTuple):
    """What a stack is made of; see `Stack`.

    Attributes:
        dim: D.
        layers: sub-blocks of every layer.
        embedding: of its tokens, or None.
        causal: whether a token sees only itself and the tokens before it.
        norm_final: before the readout, or None.
    """

    dim: int
    layers: tuple[Layer, ...]
    embedding: Embedding | PatchEmbedding | None
    causal: bool
    norm_final: Normalisation | None


def fields_to_json(stack: StackFields) -> dict[str, Json]:
    """A stack as plain data of our own format, in which equal layers that follow are one entry.

    Args:
        stack: what it is made of.
    """
    runs: list[tuple[Layer, int]] = []
    for layer in stack.layers:
        again = bool(runs) and runs[-1][0] == layer
        runs[-1:] = [(layer, runs[-1][1] + 1)] if again else [*runs[-1:], (layer, 1)]
    made: dict[str, Json] = {"kind": KIND, "dim": stack.dim, "causal": stack.causal}
    if stack.embedding is not None:
        made["embedding"] = _tagged(stack.embedding, _EMBEDDINGS)
    made["layers"] = [
        {"repeat": count, "blocks": [_plain(block) for block in layer]} for layer, count in runs
    ]
    if stack.norm_final is not None:
        made["norm_final"] = _plain(stack.norm_final)
    return made


def fields_from_json(values: JsonObject, where: str = "stack") -> StackFields:
    """What a stack is made of, from plain data of our own format; see the module's docstring.

    Args:
        values: the data.
        where: how errors call it.

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong type.
        ArgumentError: sizes that contradict each other.
    """
    for key in values:
        if key not in _KEYS:
            raise ConfigError(where, f"unknown key {key!r}", nearest(key, _KEYS))
    for key in ("dim", "layers"):
        if key not in values:
            raise ConfigError(where, f"missing key {key!r}", "give it a value")
    reader = _Reader(values, where)
    embedding = None
    if "embedding" in values:
        embedding = reader.tagged(values["embedding"], _EMBEDDINGS, f"{where}: embedding")
    return StackFields(
        reader.dim,
        reader.layers(values["layers"]),
        embedding,
        config.coerced(bool, values.get("causal", True), "causal"),
        reader.final_norm(),
    )


class _Reader:
    """What the keys of one description have in common: its defaults."""

    def __init__(self, values: JsonObject, where: str):
        self.values, self.where = values, where
        self.dim: int = config.coerced(int, values["dim"], "dim")
        std: float = _number(float, values.get("init_std", 0.02), f"{where}: init_std")
        weights = ("query_std", "key_std", "value_std", "out_std", "in_std", "std", "router_std")
        self.defaults: dict[str, Any] = {
            **dict.fromkeys(weights, std),
            "activation": Activation.GELU,
        }

    def layers(self, told: Json) -> tuple[Layer, ...]:
        entries = [{"repeat": told}] if isinstance(told, int) else told
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise ConfigError(self.where, f"layers is {brief(told)}", "give a number or a list")
        made: list[Layer] = []
        for number, entry in enumerate(entries):
            where = f"{self.where}: layers[{number}]"
            table = _table(entry, where)
            count: int = config.coerced(int, table.get("repeat", 1), f"{where}: repeat")
            if not 0 < count <= MOST_LAYERS - len(made):
                raise ConfigError(where, f"repeat is {count}", f"give 1 to {MOST_LAYERS} layers")
            made += [self.layer(table, where)] * count
        return tuple(made)

    def layer(self, entry: JsonObject, where: str) -> Layer:
        if "blocks" in entry:
            _require_known(entry, ("repeat", "blocks"), where)
            blocks = entry["blocks"]
            if not isinstance(blocks, Sequence) or isinstance(blocks, str):
                raise ConfigError(where, f"blocks is {brief(blocks)}", "give a list of tables")
            return tuple(self.block(_table(one, where), where) for one in blocks)
        _require_known(entry, ("repeat", *_OF_A_LAYER), where)
        told = _merged({k: v for k, v in self.values.items() if k in _OF_A_LAYER}, entry)
        for key in ("attention", "norm"):
            if key not in told:
                raise ConfigError(where, f"missing key {key!r}", "give it, or the layer's blocks")
        branches = [
            self.tagged(told[name], _BRANCHES, f"{where}: {name}", usual=name)
            for name in ("attention", "feed_forward")
            if name in told
        ]
        placement: str = config.coerced(str, told.get("placement", "pre"), "placement")
        if placement not in _PLACEMENTS:
            raise ConfigError(where, f"placement is {placement!r}", nearest(placement, _PLACEMENTS))
        norm = self.norm(told["norm"], f"{where}: norm")
        norms: Any = dict.fromkeys(_PLACEMENTS[placement], norm)
        if config.coerced(bool, told.get("parallel", False), "parallel"):
            return (SubBlock(tuple(branches), **norms),)
        return tuple(SubBlock((one,), **norms) for one in branches)

    def block(self, table: JsonObject, where: str) -> SubBlock:
        told = table.get("branches")
        if not isinstance(told, Sequence) or isinstance(told, str):
            raise ConfigError(where, f"branches is {brief(told)}", "give a list of tables")
        branches = tuple(self.tagged(one, _BRANCHES, where) for one in told)
        rest = {key: value for key, value in table.items() if key != "branches"}
        return self.made(SubBlock, rest, where, branches=branches)

    def norm(self, told: Json, where: str) -> Normalisation | None:
        if told == "none":
            return None
        table = {"kind": told} if isinstance(told, str) else _table(told, where)
        return self.made(Normalisation, table, where)

    def final_norm(self) -> Normalisation | None:
        if "norm_final" in self.values:
            return self.norm(self.values["norm_final"], f"{self.where}: norm_final")
        if "norm" in self.values and self.values.get("placement") != "post":
            return self.norm(self.values["norm"], f"{self.where}: norm")
        return None

    def tagged(
        self, told: Json, kinds: Mapping[str, type[T]], where: str, usual: str | None = None
    ) -> T:
        """A branch or an embedding, whose `kind` says which; the first kind by default."""
        table = dict(_table(told, where))
        word = table.pop("kind", usual or next(iter(kinds)))
        if not isinstance(word, str) or word not in kinds:
            raise ConfigError(where, f"kind is {brief(word)}", nearest(str(word), kinds))
        return self.made(kinds[word], table, where)

    def made(self, kind: type[T], table: JsonObject, where: str, **given: Any) -> T:
        """A dataclass from a table; what is absent is the format's default, or the class's own."""
        fields = {one.name: one for one in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
        _require_known(table, tuple(name for name in fields if name not in given), where)
        hints, values = config.types_of(kind), dict(given)
        for name, field in fields.items():
            inside = f"{where}: {name}"
            if name in table:
                values[name] = self.value(hints[name], table[name], inside)
            elif name not in values and _required(field):
                values[name] = self.default(kind, name, table, where)
        return kind(**values)

    def default(self, kind: type[Any], name: str, table: JsonObject, where: str) -> Any:
        """The format's default for what a class asks for."""
        if kind is Attention and name == "head_dim":
            heads: int = config.coerced(int, table.get("heads"), f"{where}: heads")
            if heads < 1 or self.dim % heads:
                raise ConfigError(
                    where, f"heads is {heads}", f"write a divisor of {self.dim}, or give head_dim"
                )
            return self.dim // heads
        embeds = kind in (Embedding, PatchEmbedding)
        if name not in self.defaults or (embeds and name != "std"):
            raise ConfigError(where, f"missing key {name!r}", "give it a value")
        return self.defaults[name]

    def value(self, hint: Any, told: Json, where: str) -> Any:
        """A value of an annotated type, also of our own classes."""
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            own = [one for one in typing.get_args(hint) if _ours(one)]
            if not own:
                return _number(hint, told, where)
            if told is None and type(None) in typing.get_args(hint):
                return None
            hint = own[0]
        if hint is Norm:
            return _member(told, _NORMS, where)
        if hint is Activation:
            return _member(told, {one.value: one for one in Activation}, where)
        if hint is Normalisation:
            return self.norm(told, where)
        if hint is Frequencies:
            return self.rotary(_table(told, where), where)
        if _ours(hint):
            return self.made(hint, _table(told, where), where)
        return _number(hint, told, where)

    def rotary(self, table: JsonObject, where: str) -> Frequencies:
        if "thetas" in table:
            return self.made(Frequencies, table, where)
        _require_known(table, ("dims", "base"), where)
        dims: int = config.coerced(int, table.get("dims"), f"{where}: dims")
        base: float = config.coerced(float, table.get("base", 10_000.0), f"{where}: base")
        return Frequencies.geometric(dims, base)


def _ours(hint: Any) -> bool:
    return isinstance(hint, type) and (
        dataclasses.is_dataclass(hint) or issubclass(hint, enum.Enum)
    )


def _required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _number(hint: Any, told: Json, where: str) -> Any:
    """Plain data of an annotated type; numbers are small enough that their squares are finite."""
    value = config.coerced(hint, told, where)
    if isinstance(value, float) and not abs(value) < _LARGEST:
        raise ConfigError(where, f"is {brief(told)}", f"write a number below {_LARGEST:g}")
    return value


def _table(told: Json, where: str) -> JsonObject:
    if not isinstance(told, Mapping):
        raise ConfigError(where, f"is {brief(told)}", "give a table of keys and values")
    return told


def _require_known(table: JsonObject, known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            new = _RENAMED.get(key)
            remedy = f"it is {new!r} now" if new in known else nearest(key, known)
            raise ConfigError(where, f"unknown key {key!r}", remedy)


def _member(told: Json, known: Mapping[str, T], where: str) -> T:
    if not isinstance(told, str) or told not in known:
        raise ConfigError(where, f"is {brief(told)}", nearest(str(told), known))
    return known[told]


def _merged(one: JsonObject, other: JsonObject) -> dict[str, Json]:
    """The keys of both; of tables under one key again those of both, the other's first."""
    made = dict(one)
    for key, value in other.items():
        old = made.get(key)
        tables = isinstance(old, Mapping) and isinstance(value, Mapping)
        made[key] = _merged(old, value) if tables else value  # pyright: ignore[reportArgumentType]
    return made


def _tagged(value: Branch | Embedding | PatchEmbedding, kinds: Mapping[str, type[Any]]) -> Json:
    word = next(name for name, kind in kinds.items() if type(value) is kind)
    return {"kind": word, **_fields(value)}


def _fields(value: Any) -> dict[str, Json]:
    """The fields that differ from their defaults."""
    made: dict[str, Json] = {}
    for field in dataclasses.fields(value):
        own = getattr(value, field.name)
        usual = (
            field.default_factory()
            if field.default_factory is not dataclasses.MISSING
            else field.default
        )
        if _required(field) or own != usual:
            made[field.name] = _plain(own)
    return made


def _plain(value: Any) -> Json:
    if isinstance(value, Norm):
        return next(word for word, norm in _NORMS.items() if norm is value)
    if isinstance(value, Activation):
        return value.value
    if isinstance(value, Frequencies):
        return _turning(value)
    if isinstance(value, SubBlock):
        branches = [_tagged(one, _BRANCHES) for one in value.branches]
        return {**_fields(value), "branches": branches}
    if dataclasses.is_dataclass(value):
        return _fields(value)
    return list(value) if isinstance(value, tuple) else value


def _turning(value: Frequencies) -> Json:
    """A geometric series by its base, where that gives the same numbers; else one by one."""
    if len(value.thetas) > 1 and 0 < value.thetas[1] < 1:
        base = round(value.thetas[1] ** (-value.dims / 2), 6)
        if base >= 1 and value == Frequencies.geometric(value.dims, base):
            return {"dims": value.dims, "base": base}
    return _fields(value)
