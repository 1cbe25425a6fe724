"""The table for Megatron-LM where attention has latents."""

from dataclasses import replace

import pytest

from translimit.scaling import Size, UnmatchedParameterError, UnsupportedModuleError, rules
from translimit.scaling.adapters import overrides

BASE = Size(
    head_dim=12, heads=4, layers=2, dim=32, kv_rank=8, query_rank=6, rope_dim=4, value_dim=8
)
TARGET = replace(BASE, heads=8, kv_heads=None, dim=64, query_rank=24)
#: Of one layer, as Megatron core has them with Transformer Engine and without.
FUSED = (
    "linear_q_down_proj.weight",
    "linear_q_up_proj.layer_norm_weight",
    "linear_q_up_proj.weight",
    "linear_kv_down_proj.weight",
    "linear_kv_up_proj.layer_norm_weight",
    "linear_kv_up_proj.weight",
    "linear_proj.weight",
)
LOCAL = (*(n for n in FUSED if "layer_norm" not in n), "q_layernorm.weight", "kv_layernorm.weight")


@pytest.mark.parametrize("names", [FUSED, LOCAL])
def test_every_map_of_a_latent_has_a_row_with_its_rate(names) -> None:
    made = rules(BASE, TARGET, optimizer="adamw", style="folded")
    listed = [f"decoder.layers.0.self_attention.{name}" for name in names]
    table = overrides(made, "megatron", lr=0.1, parameters=listed)
    rates = {row["pattern"].rpartition("self_attention.")[2]: row for row in table["overrides"]}
    assert len(rates) == len(names)
    starts = table["model"]["init_ratios"]
    assert starts["hidden_matrices"] == pytest.approx(2**-0.5)
    assert (starts["query_up"], starts["key_value_up"]) == pytest.approx((1 / 2, 1))
    assert rates["linear_q_up_proj.weight"]["take"]["max_lr"] == pytest.approx(0.1 / 4)
    assert rates["linear_q_down_proj.weight"]["take"]["max_lr"] == pytest.approx(0.1 / 2)
    assert rates["linear_kv_up_proj.weight"]["take"]["max_lr"] == pytest.approx(0.1)
    assert rates["linear_kv_down_proj.weight"]["take"]["max_lr"] == pytest.approx(0.1 / 2)


def test_queries_of_the_stream_have_a_row_and_packed_ones_none() -> None:
    plain = [replace(one, query_rank=None) for one in (BASE, TARGET)]
    made = rules(*plain, optimizer="adamw", style="folded")
    names = ["decoder.layers.1.self_attention.linear_q_proj.weight"]
    (row,) = overrides(made, "megatron", lr=0.1, parameters=names)["overrides"]
    assert row["take"]["max_lr"] == pytest.approx(0.1 / 2)
    packed = ["decoder.layers.1.self_attention.linear_qkv.weight"]
    with pytest.raises(UnmatchedParameterError, match="linear_qkv"):
        overrides(made, "megatron", lr=0.1, parameters=packed)


@pytest.mark.parametrize("framework", ["torchtitan", "pytorch"])
def test_models_without_latents_are_refused(framework) -> None:
    made = rules(BASE, TARGET, optimizer="adamw", style="folded")
    with pytest.raises(UnsupportedModuleError, match="no attention of latents"):
        overrides(made, framework, lr=0.1)
    own = overrides(made, framework, lr=0.1, names={"up$": "query_up"})
    assert own["overrides"][0]["take"]["lr"] == pytest.approx(0.1 / 4)
