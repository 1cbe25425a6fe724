"""Reading the architecture of a transformer: our own format, or a Hugging Face `config.json`.

Only the standard library reads. What a configuration leaves out and its family fixes (an epsilon,
an activation) is filled in and told in `assumptions`; a size that is missing is an error that
names the keys under which it may stand.
"""

from __future__ import annotations

from pathlib import Path

from translimit.core import JsonObject, config
from translimit.describe.activation import Activation
from translimit.describe.fields import Fields
from translimit.describe.pre_norm import FeedForwardBlock, Norm, PreNormArchitecture, Rotary
from translimit.describe.pre_norm_config import KIND, PreNormConfig
from translimit.describe.stack_sizes import family_of, load


def read_architecture(source: str | Path | JsonObject) -> PreNormArchitecture:
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
    values, where = load(source)
    if "kind" in values:
        return _built(config.from_json(PreNormConfig, values, where=where), family=KIND)
    family, fields = family_of(values, where), Fields(values, where)
    stack = family.read(fields)
    return _built(
        stack,
        family=family.name,
        assumptions=tuple(fields.assumptions),
        ignored=tuple(fields.ignored),
    )


def _built(
    given: PreNormConfig,
    *,
    family: str,
    assumptions: tuple[str, ...] = (),
    ignored: tuple[str, ...] = (),
) -> PreNormArchitecture:
    """The architecture of a stack in our own format."""

    def std(own: float | None) -> float:
        return given.init_std if own is None else own

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
        family=family,
        layers=given.layers,
        dim=given.dim,
        heads=given.heads,
        kv_heads=given.heads if given.kv_heads is None else given.kv_heads,
        head_dim=given.dim_of_head,
        qk_std=std(given.qk_std),
        v_std=std(given.v_std),
        out_std=std(given.out_std),
        token_std=std(given.token_std),
        first_token_std=given.first_token_std,
        norm=Norm.LAYER if given.norm == "layer" else Norm.RMS,
        norm_eps=given.norm_eps,
        causal=given.causal,
        feed_forward=feed_forward,
        parallel=given.parallel,
        rotary=rotary,
        context=given.context,
        image_tokens=given.image_tokens,
        assumptions=assumptions,
        ignored=ignored,
    )
