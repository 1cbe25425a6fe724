"""DBRX: a decoder with experts, whose configuration has a table of its own for each sub-block.

Reference: documentation, "Signal propagation"; the reference implementations of transformers 5.
"""

from __future__ import annotations

from translimit.describe.families.decoder_changes import clipped, units_of
from translimit.describe.families.decoders import Decoder, Parts, experts
from translimit.describe.families.family import Family
from translimit.describe.families.keys import Keys
from translimit.describe.families.reading import StackReading
from translimit.describe.norm import Norm

#: Keys of the inner tables that other families have outside, by their names there.
_ATTENTION = {
    "kv_n_heads": "num_key_value_heads",
    "clip_qkv": "clip_qkv",
    "rope_theta": "rope_theta",
}
_UNITS = {
    "ffn_hidden_size": "ffn_hidden_size",
    "moe_num_experts": "moe_num_experts",
    "moe_top_k": "num_experts_per_tok",
    "moe_normalize_expert_weights": "moe_normalize_expert_weights",
}
_DEFAULTS = {
    "num_key_value_heads": 1,
    "ffn_hidden_size": 3584,
    "moe_num_experts": 4,
    "num_experts_per_tok": 1,
    "moe_normalize_expert_weights": 1.0,
}
_DBRX = Decoder(
    norm=Norm.LAYER, norm_eps=1e-5, padded=False, adjust=lambda k, parts: _mix(k, parts)
)


def dbrx(k: Keys, name: str) -> StackReading:
    """DBRX, whose nested keys are taken as those of other families.

    Args:
        k: the configuration.
        name: of the family.
    """
    told = dict(_DEFAULTS) | dict(k.values)
    for key, names in (("attn_config", _ATTENTION), ("ffn_config", _UNITS)):
        inner = k.table(key)
        if inner is None:
            continue
        told |= {outer: inner.values[own] for own, outer in names.items() if own in inner.values}
        inner.taken.update(names)
        inner.inert("attn_pdrop", "moe_jitter_eps", "moe_loss_weight", "hidden_size")
        if (units := inner.table("ffn_act_fn")) is not None:
            told["hidden_act"] = units.word("name", "silu")
        k.ignored += [f"{key}: {one}: not known to this reader" for one in inner.left()]
    k.values = told
    return _DBRX.read(k, name)


def _mix(k: Keys, parts: Parts) -> Parts:
    """Experts in every layer; their weights have the sum one, or are those of the softmax."""
    k.require("moe_normalize_expert_weights", 1.0, 1)
    routing = "softmax"
    if k.values.get("moe_normalize_expert_weights") is not None:
        routing = "softmax_renormalised"
    mixed = experts(k, parts.std, units_of(parts)[0], routing=routing)
    parts.units = [mixed for _ in range(parts.layers)]
    return clipped(k, parts)


#: The family, by its record.
DBRX = Family(
    name="dbrx",
    unnamed="has one matrix for the units of all experts, whose count its shape does not tell",
    reader=dbrx,
    packed=True,
)
