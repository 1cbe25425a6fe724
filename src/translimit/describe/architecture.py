"""Pre-LN stacks of equal layers in one flat record, from what `read_stack` reads."""

from __future__ import annotations

import math
from pathlib import Path

from translimit.core import ConfigError, JsonObject
from translimit.describe.embedding import Embedding, PatchEmbedding
from translimit.describe.families import StackReading, read_stack
from translimit.describe.mixers import Attention, FeedForward
from translimit.describe.norm import Normalisation
from translimit.describe.pre_norm import FeedForwardBlock, PreNormArchitecture, Rotary


def read_architecture(source: str | Path | JsonObject) -> PreNormArchitecture:
    """The architecture that a configuration describes, where its layers are equal and pre-LN.

    Args:
        source: what `read_stack` reads.

    Raises:
        ConfigError: what `read_stack` raises, or a block that a flat record does not hold.
        NoSuchLimitError: a family whose layers are known to have no limit.
        ArgumentError: sizes that contradict each other.

    >>> sizes = {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
    >>> gpt2 = read_architecture({"model_type": "gpt2", **sizes})
    >>> round(gpt2.score_std, 3), gpt2.head_dim, gpt2.feed_forward.width
    (0.307, 64, 3072)
    """
    reading = read_stack(source)
    stack, layer = reading.stack, reading.stack.layers[0]
    branches = [one for block in layer for one in block.branches]
    norms = {block.norm_in for block in layer}
    attention, units = branches[0], branches[1] if len(branches) > 1 else None
    known = (
        all(one == layer for one in stack.layers)
        and len(norms) == 1
        and not any(block.norm_out or block.norm_post for block in layer)
        and all(block.residual == block.branch == 1 for block in layer)
    )
    norm = norms.pop()
    if (
        not known
        or not isinstance(norm, Normalisation)
        or not isinstance(attention, Attention)
        or not isinstance(units, FeedForward | None)
        or attention.qk_norm is not None
    ):
        raise ConfigError(
            "configuration", f"{reading.family} is no plain pre-LN stack", "use read_stack"
        )
    window = attention.scores.window
    contexts = [one for one in (reading.context, window) if one is not None]
    first, token_std = _tokens(reading)
    feed_forward = units and FeedForwardBlock(
        units.width, units.activation, units.in_std, units.out_std, units.gated
    )
    return PreNormArchitecture(
        family=reading.family,
        layers=len(stack.layers),
        dim=stack.dim,
        heads=attention.heads,
        kv_heads=attention.key_heads,
        head_dim=attention.head_dim,
        qk_std=math.sqrt(attention.query_std * attention.key_std),
        v_std=attention.value_std,
        out_std=attention.out_std,
        token_std=token_std,
        first_token_std=first,
        norm=norm.kind,
        norm_eps=norm.eps,
        causal=stack.causal,
        feed_forward=feed_forward,
        parallel=len(layer) == 1 and units is not None,
        rotary=_rotary(attention),
        context=min(contexts) if contexts else None,
        image_tokens=reading.image_tokens,
        assumptions=(*reading.assumptions, "all tokens differ"),
        ignored=reading.ignored,
    )


def _tokens(reading: StackReading) -> tuple[float | None, float]:
    """Standard deviations of token 0 where it is of another kind, and of the others."""
    embedding = reading.stack.embedding
    match embedding:
        case Embedding():
            stds = (embedding.multiplier * embedding.std, embedding.position_std)
            return None, math.hypot(*stds, embedding.type_std)
        case PatchEmbedding():
            patches = math.hypot(embedding.std * embedding.entries**0.5, embedding.position_std)
            first = embedding.class_stds
            return (math.hypot(first[0], embedding.position_std) if first else None), patches
        case _:
            return None, 0.02


def _rotary(attention: Attention) -> Rotary | None:
    turned = attention.rotary
    if turned is None:
        return None
    base = turned.thetas[1] ** (-turned.dims / 2) if len(turned.thetas) > 1 else 10_000.0
    return Rotary(turned.dims, round(base, 6))
