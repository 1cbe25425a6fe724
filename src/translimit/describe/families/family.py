"""What a family of transformers is: one record, from which every reader takes what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from translimit.core import nearest
from translimit.describe.fields import Fields
from translimit.describe.parameter_names import NameTable
from translimit.describe.pre_norm_config import KIND, ActivationName, PreNormConfig

#: The standard deviation of weights where a configuration tells none.
INIT_STD = 0.02

_ACTIVATIONS: dict[str, ActivationName] = {
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_fast": "gelu_new",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of pre-LN transformers.

    Attributes:
        names: the names of its parameters; its `family` is the name of the family, the
            `model_type` of a configuration.
        class_prefix: how the names of its classes begin.
        block: what the fields of a configuration say about the block and the tokens, as changes
            of a stack that has its sizes and `init_std` already. What it assumes and what it
            leaves out it tells in `fields.assumptions` and `fields.ignored`.
        grouped: whether a configuration may have fewer key/value heads than heads.
        kv_heads: key/value heads where the configuration has none; as many as heads by default.
        mlp_ratio: hidden units over the width where the configuration has none.
        tied: whether token embedding and readout are one tensor by default.
        interleaved: whether a packed tensor of query, key and value goes head by head,
            [heads, (query, key, value), head_dim], instead of part by part.
        requires: switches of a configuration, each with the one value that is understood.
    """

    names: NameTable
    class_prefix: str
    block: Callable[[Fields, PreNormConfig], PreNormConfig]
    grouped: bool = False
    kv_heads: int | None = None
    mlp_ratio: int | None = None
    tied: bool = False
    interleaved: bool = False
    requires: Mapping[str, bool | int | float | str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the family."""
        return self.names.family

    @property
    def packed_qkv(self) -> bool:
        """Whether query, key and value are one tensor."""
        return any(isinstance(role, tuple) for role in self.names.roles.values())

    def read(self, fields: Fields) -> PreNormConfig:
        """The stack that a configuration of this family describes, in our own format.

        Raises:
            ConfigError: a missing field, an unusable value, or a switch that is not understood.
        """
        stack = common_sizes(fields)
        stack = replace(stack, init_std=fields.number("init_std", INIT_STD))
        for key, value in self.requires.items():
            fields.require(key, value)
        if self.grouped:
            stack = replace(stack, kv_heads=self.count_kv_heads(fields, stack.heads))
        return self.block(fields, stack)

    def count_kv_heads(self, fields: Fields, heads: int) -> int:
        """Key/value heads of a configuration, or the family's default."""
        return fields.count("kv_heads", self.kv_heads or heads)


def common_sizes(fields: Fields) -> PreNormConfig:
    """A stack of the layers, width and heads told; a head is dim / heads wide unless it is told.

    Raises:
        ConfigError: one is missing, or the heads do not divide the width.
    """
    layers, dim, heads = (fields.count(name) for name in ("layers", "dim", "heads"))
    if fields.has("head_dim"):
        head_dim = fields.count("head_dim")
    elif dim % heads:
        raise fields.refuse("heads", heads, f"write a divisor of the width {dim}, or give head_dim")
    else:
        head_dim = dim // heads
    return PreNormConfig(kind=KIND, layers=layers, dim=dim, heads=heads, head_dim=head_dim)


def activation(fields: Fields, default: str) -> ActivationName:
    """The activation of hidden units, or the family's default.

    Raises:
        ConfigError: it is not known.
    """
    _, word = fields.word("activation", default)
    if word not in _ACTIVATIONS:
        raise fields.refuse("activation", word, nearest(word, _ACTIVATIONS))
    return _ACTIVATIONS[word]


def rotary_base(fields: Fields) -> float:
    """The base of the frequencies of rotary positions; a scaling of them is told and left out."""
    for key in ("rope_scaling", "rope_parameters"):
        table = fields.table(key)
        kind = table.get("rope_type", table.get("type", "default"))
        if kind != "default":
            fields.ignored.append(f"{key} of type {kind!r}: frequencies are taken unscaled")
    inner = fields.nested("rope_parameters")
    return (
        inner.number("rotary_base")
        if inner.has("rotary_base")
        else fields.number("rotary_base", 10_000.0)
    )


def assume_distinct_tokens(fields: Fields) -> None:
    """Say that tokens are independent embeddings of standard deviation `initializer_range`."""
    fields.assumptions.append(
        "all tokens differ: their embeddings are independent, of standard deviation "
        "initializer_range"
    )
