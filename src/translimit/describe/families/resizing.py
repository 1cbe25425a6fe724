"""The configuration of a family at other sizes: what a class draws may depend on them.

Everything that no size tells stays: kinds, norms, scales, vocabulary. Lists with an entry for every
layer repeat or end early.
"""

from __future__ import annotations

from translimit.core import Json, JsonObject
from translimit.describe.families.keys import ALIASES
from translimit.describe.size import Size

#: Keys of hidden units, which keep their ratio to the width.
_UNITS = (*ALIASES["mlp_dim"], "moe_intermediate_size", "shared_expert_intermediate_size")


def resized_config(values: JsonObject, now: Size, size: Size) -> dict[str, Json]:
    """A configuration of Hugging Face at another size.

    Args:
        values: the configuration.
        now: the sizes that it has.
        size: those that are wanted.

    Returns:
        A new mapping; whether its family reads it is for `read_stack` to say.

    >>> small, large = Size(head_dim=8, heads=2, layers=2), Size(head_dim=8, heads=4, layers=3)
    >>> resized_config({"hidden_size": 16, "num_hidden_layers": 2, "act": "gelu"}, small, large)
    {'hidden_size': 32, 'num_hidden_layers': 3, 'act': 'gelu'}
    """
    units = size.width * size.mlp_ratio / (now.width * now.mlp_ratio)
    made: dict[str, Json] = {}
    for key, value in values.items():
        if isinstance(value, list) and len(value) == now.layers:
            made[key] = [value[i % len(value)] for i in range(size.layers)]
        elif key in _UNITS and isinstance(value, int):
            made[key] = max(1, round(value * units))
        else:
            made[key] = value
    sizes = {
        "layers": size.layers,
        "dim": size.width,
        "heads": size.heads,
        "kv_heads": size.kv_heads,
    }
    for name, wanted in sizes.items():
        for key in ALIASES[name]:
            if isinstance(made.get(key), int):
                made[key] = wanted
    plain = {
        "head_dim": size.head_dim,
        "q_lora_rank": size.query_rank,
        "kv_lora_rank": size.kv_rank,
        "qk_rope_head_dim": size.rope_dim,
        "v_head_dim": size.value_dim,
    }
    made |= {k: one for k, one in plain.items() if isinstance(made.get(k), int) and one}
    if size.kv_rank is not None and isinstance(made.get("qk_nope_head_dim"), int):
        made["qk_nope_head_dim"] = size.head_dim - (size.rope_dim or 0)
    return made
