"""Names of parameters of decoders with attention of latents, as in transformers 5.

Two things are in these modules that no family with a table of its own has: the maps of the latents,
and dense layers before those with experts.
"""

from __future__ import annotations

from dataclasses import replace

from translimit.describe import FAMILIES, NameTable, Role


def _with_latents() -> NameTable:
    base = FAMILIES["mixtral"].names
    assert base is not None
    return replace(
        base,
        roles={
            **base.roles,
            "layers.*.self_attn.q_a_proj.weight": Role.QUERY_DOWN,
            "layers.*.self_attn.q_a_layernorm.weight": Role.QUERY_LATENT_GAIN,
            "layers.*.self_attn.q_b_proj.weight": Role.QUERY_UP,
            "layers.*.self_attn.kv_a_proj_with_mqa.weight": Role.KEY_VALUE_DOWN,
            "layers.*.self_attn.kv_a_layernorm.weight": Role.KEY_VALUE_LATENT_GAIN,
            "layers.*.self_attn.kv_b_proj.weight": Role.KEY_VALUE_UP,
        },
    )


#: Tables by family.
LATENT_NAMES: dict[str, NameTable] = {
    name: replace(_with_latents(), family=name)
    for name in ("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu")
}
