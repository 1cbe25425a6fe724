"""Configurations that tell one thing in two ways, or in tables of their own."""

import pytest

from translimit.core import ConfigError
from translimit.describe import Attention, read_stack

SIZES = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
ULTRABERT = {"model_type": "ultrabert", "intermediate_size": 96, **SIZES}


def test_windows_by_layer_are_those_of_kinds():
    new = read_stack(
        ULTRABERT
        | {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "sliding_window": 16,
            "rope_parameters": {
                "sliding_attention": {"rope_theta": 5e3},
                "full_attention": {"rope_theta": 7e5},
            },
        }
    )
    old = read_stack(ULTRABERT | {"attention_windows": [16, 0, 16], "rope_theta": [5e3, 7e5, 5e3]})
    assert old.stack == new.stack
    assert not old.ignored
    default = read_stack(ULTRABERT)
    windows = [
        block.branches[0].scores.window
        for block in default.stack.sub_blocks
        if isinstance(block.branches[0], Attention)
    ]
    assert windows == [129, 129, None]
    with pytest.raises(ConfigError, match="rope_theta"):
        read_stack(ULTRABERT | {"attention_windows": [16, 0, 16], "rope_theta": [5e3, 7e5]})


def test_tables_of_dbrx_are_accounted_for():
    told = {"model_type": "dbrx", "d_model": 64, "n_heads": 4, "n_layers": 2}
    units = {"moe_num_experts": 4, "moe_top_k": 2, "ffn_hidden_size": 48, "odd": 1}
    reading = read_stack(told | {"attn_config": {"kv_n_heads": 2}, "ffn_config": units})
    assert (reading.kv_heads, reading.mlp_dim) == (2, 48)
    assert reading.ignored == ("ffn_config: odd: not known to this reader",)
    norm = "moe_normalize_expert_weights"
    with pytest.raises(ConfigError, match=norm):
        read_stack(told | {"ffn_config": units | {norm: 2.0}})
