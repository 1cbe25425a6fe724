"""Reading the architecture of a transformer: our own format, or a Hugging Face `config.json`.

Only the standard library reads. What a configuration leaves out and its family fixes (an epsilon,
an activation) is filled in and told in `assumptions`; a size that is missing is an error that
names the keys under which it may stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from translimit.core import ConfigError, config
from translimit.describe.activation import Activation
from translimit.describe.families import FAMILIES, refuse_family
from translimit.describe.fields import Fields
from translimit.describe.pre_norm import FeedForwardBlock, Norm, PreNormArchitecture, Rotary

#: The tag of our own format.
KIND = "pre-norm"


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


def read_architecture(source: str | Path | Mapping[str, Any]) -> PreNormArchitecture:
    """The architecture that a configuration describes.

    Args:
        source: a `.toml` or `.json` file, or its content as a mapping; with `kind = "pre-norm"`
            in our own format, else as Hugging Face's `config.json`.

    Raises:
        ConfigError: a file that cannot be read, a malformed one, an unknown family (the message
            lists the known ones), a missing field (the message names it), or an unusable value.
        NoSuchLimitError: a family that normalises after the sum (post-LN), like BERT.
        ArgumentError: sizes that contradict each other.

    >>> sizes = {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
    >>> gpt2 = read_architecture({"model_type": "gpt2", **sizes})
    >>> round(gpt2.score_std, 3), gpt2.head_dim, gpt2.feed_forward.width
    (0.307, 64, 3072)
    """
    where = "configuration" if isinstance(source, Mapping) else str(source)
    values = dict(source) if isinstance(source, Mapping) else config.read_file(source)
    if "kind" in values:
        if values["kind"] != KIND:
            raise ConfigError(where, f"unknown kind {values['kind']!r}", f"known: {KIND}")
        return _own(config.from_json(PreNormConfig, values, where=where))
    family = _family_of(values, where)
    fields = Fields(values, where)
    return FAMILIES[family].read(fields)


def _family_of(values: Mapping[str, Any], where: str) -> str:
    """The family by `model_type`, else by the class name under `architectures`."""
    named = values.get("model_type")
    if named is None:
        classes = values.get("architectures") or ()
        known = {one.class_prefix: name for name, one in FAMILIES.items()}
        for prefix, name in known.items():
            if any(isinstance(c, str) and c.startswith(prefix) for c in classes):
                return name
        named = classes[0] if classes else None
    if named is None:
        known = ", ".join(FAMILIES)
        raise ConfigError(
            where,
            "names no family: `model_type`, `architectures` and `kind` are absent",
            f'give model_type (known: {known}), or kind = "{KIND}" for our own format',
        )
    if not isinstance(named, str) or named not in FAMILIES:
        raise refuse_family(str(named), where)
    return named


def _own(given: PreNormConfig) -> PreNormArchitecture:
    def std(own: float | None) -> float:
        return given.init_std if own is None else own

    if given.head_dim is None and given.dim % max(given.heads, 1):
        raise ConfigError(
            "head_dim", f"is absent and {given.heads} heads do not divide {given.dim}", "give it"
        )
    feed_forward = None
    if given.mlp_dim is not None:
        feed_forward = FeedForwardBlock(
            width=given.mlp_dim,
            activation=Activation(given.activation),
            in_std=std(given.mlp_in_std),
            out_std=std(given.mlp_out_std),
            gated=given.gated,
        )
    rotary = None if given.rotary_dims is None else Rotary(given.rotary_dims, given.rotary_base)
    return PreNormArchitecture(
        family=KIND,
        layers=given.layers,
        dim=given.dim,
        heads=given.heads,
        kv_heads=given.heads if given.kv_heads is None else given.kv_heads,
        head_dim=given.dim // max(given.heads, 1) if given.head_dim is None else given.head_dim,
        qk_std=std(given.qk_std),
        v_std=std(given.v_std),
        out_std=std(given.out_std),
        token_std=std(given.token_std),
        norm=Norm.LAYER if given.norm == "layer" else Norm.RMS,
        norm_epsilon=given.norm_epsilon,
        causal=given.causal,
        feed_forward=feed_forward,
        parallel=given.parallel,
        rotary=rotary,
        context=given.context,
    )
