"""Latents of attention in sizes, rules and modules; the rows themselves are in `test_low_rank`."""

import math
from dataclasses import replace

import pytest
from tests.describe.small_classes import small_config

from translimit.core import ArgumentError, NoSuchLimitError
from translimit.describe import Role, read_stack
from translimit.scaling import (
    Rules,
    ShapeMismatchError,
    Size,
    UnsupportedModuleError,
    adapters,
    latent_rules,
    read_size,
    roles_without_parameters,
    rules,
    rules_for,
)
from translimit.scaling.adapters import torch as adapter

BASE = Size(
    head_dim=12, heads=4, layers=2, dim=32, kv_rank=8, query_rank=6, rope_dim=4, value_dim=8
)
#: Twice as wide, with twice the heads, ranks 16 and 24, four times as deep.
TARGET = replace(BASE, heads=8, kv_heads=None, layers=8, dim=64, kv_rank=16, query_rank=24)
#: Families with latents whose parameters have names.
NAMED = ("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu")
LATENT = ("down", "latent_gain", "up")
MODEL = {
    "model_type": "deepseek_v3",
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_shared_experts": 1,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 8,
    "q_lora_rank": 12,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "max_position_embeddings": 64,
}
WIDER = MODEL | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "moe_intermediate_size": 32,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}


def test_the_rows_by_hand() -> None:
    """m_d = 2, m_L = 4, m_H = 2; the latent of queries grows 4 times, that of keys twice."""
    made = rules(BASE, TARGET, optimizer="adam", alpha_L=0.5)
    m_L = 4**-0.5
    wanted = {  # init, rate, epsilon
        "query_down": (2**-0.5, m_L / 2, m_L / 4),
        "query_latent_gain": (1, m_L, m_L / 4),
        "query_up": (4**-0.5, m_L / 4, m_L / 2),
        "key_value_down": (2**-0.5, m_L / 2, m_L / 2),
        "key_value_latent_gain": (1, m_L, m_L / 2),
        "key_value_up": (2**-0.5, m_L / 2, m_L / 2),
        "attention_out": (2**-0.5, m_L / 2, m_L / 2),
    }
    for role, numbers in wanted.items():
        one = made.role(role)
        assert (one.init, one.lr, one.eps) == pytest.approx(numbers, rel=1e-12), role
        assert one.wd is None
    assert any("skip the norm" in one for one in made.warnings)


@pytest.mark.parametrize("optimizer", ["adamw", "sign", "sgd", "muon"])
@pytest.mark.parametrize(("part", "name"), [("query", "query"), ("key_value", "key_value")])
def test_the_rows_are_those_of_a_latent_by_itself(optimizer, part, name) -> None:
    """`latent_rules` is told the rank; here it is a size. SGD has no keys that turn beside."""
    base, target = (replace(one, rope_dim=None) for one in (BASE, TARGET))
    made = rules(base, target, optimizer=optimizer, alpha_L=0.6)
    rank = "query_rank" if part == "query" else "kv_rank"
    told = latent_rules(made, (getattr(base, rank), getattr(target, rank)), part)
    for own, other in zip(LATENT, (told.down, told.gain, told.up), strict=True):
        found = made.role(f"{name}_{own}")
        assert (found.init, found.lr) == pytest.approx((other.init, other.lr), rel=1e-12), own
        if other.eps is not None:
            assert found.eps == pytest.approx(other.eps, rel=1e-12), own


def test_sizes_without_latents_have_no_such_role() -> None:
    plain = Size(head_dim=8, heads=4, layers=2)
    made = rules(plain, plain, optimizer="adam")
    assert not any(Role(role).is_of_latent for role in made.table())
    with pytest.raises(NoSuchLimitError, match="the sizes have no query down"):
        made.role("query_down")
    unshared = replace(BASE, query_rank=None)
    assert "query_down" not in rules(unshared, unshared, optimizer="adam").table()
    assert "key_value_down" in rules(unshared, unshared, optimizer="adam").table()
    again = rules(BASE, TARGET, optimizer="adam")
    assert Rules.from_json(again.to_json()) == again
    assert set(made.to_json()["question"]["base"]) == {
        *("head_dim", "heads", "layers", "kv_heads", "mlp_ratio", "experts", "active_experts")
    }


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"kv_rank": None}, "query_rank: got 6 without latents"),
        ({"kv_rank": 0}, "kv_rank: got 0"),
        ({"rope_dim": 12}, "rope_dim: got 12"),
        ({"kv_heads": 2}, "kv_heads: got 2 with latents"),
    ],
)
def test_sizes_that_contradict_each_other(sizes, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        replace(BASE, **sizes)


@pytest.mark.parametrize(
    ("base", "target", "options", "error", "message"),
    [
        (BASE, replace(TARGET, query_rank=None), {}, ShapeMismatchError, "query_rank: is 6"),
        (BASE, replace(TARGET, rope_dim=2), {}, ShapeMismatchError, "rope_dim: is 4"),
        (BASE, TARGET, {"optimizer": "sgd"}, UnsupportedModuleError, "in one tensor"),
        (BASE, TARGET, {"style": "single_lr"}, UnsupportedModuleError, "multiplier of its own"),
        (
            BASE,
            TARGET,
            {"style": "folded", "fold_scores": True},
            UnsupportedModuleError,
            "no matrix of their own",
        ),
        (
            BASE,
            replace(TARGET, head_dim=24),
            {"alpha_A": 0.5},
            UnsupportedModuleError,
            "keys and values, whose rates differ",
        ),
    ],
)
def test_what_has_no_one_rule_is_refused(base, target, options, error, message) -> None:
    with pytest.raises(error, match=message):
        rules(base, target, **{"optimizer": "adamw", **options})


def test_a_configuration_tells_ranks_and_which_roles_there_are() -> None:
    read = read_size(MODEL)
    assert read.size == Size(
        head_dim=12,
        heads=4,
        layers=3,
        dim=32,
        mlp_ratio=0.5,
        experts=4,
        active_experts=2,
        kv_rank=8,
        query_rank=12,
        rope_dim=4,
        value_dim=8,
    )
    absent = roles_without_parameters(MODEL)
    assert {Role.QUERY, Role.KEY, Role.VALUE} <= absent
    assert not any(role.is_of_latent for role in absent)
    assert {role for role in Role if role.is_of_latent} <= roles_without_parameters("gpt2")
    with pytest.raises(ShapeMismatchError, match="dense_over_expert: is 4"):
        rules_for(MODEL, WIDER | {"intermediate_size": 64}, optimizer="adamw")


def test_scores_of_stretched_positions_keep_their_factor() -> None:
    """The published DeepSeek-V3: yarn by 40 multiplies scores by (1 + 0.1 log 40)^2."""
    yarn = {"type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0}
    yarn |= {"original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1}
    base, wider = ({**one, "rope_scaling": yarn} for one in (MODEL, WIDER))
    factor = (1 + 0.1 * math.log(40)) ** 2
    assert read_size(base).score_multiplier == pytest.approx(factor)
    made = rules_for(base, wider, optimizer="adamw")
    assert made.score_scale == pytest.approx(factor * 12**-0.5)
    with pytest.raises(ShapeMismatchError, match="score_multiplier"):
        rules_for(base, WIDER, optimizer="adamw")
    transformers = pytest.importorskip("transformers")
    values = {key: value for key, value in wider.items() if key != "model_type"}
    model = transformers.DeepseekV3ForCausalLM(transformers.DeepseekV3Config(**values))
    adapter.apply(model, made, lr=0.01)
    assert model.model.layers[0].self_attn.scaling == pytest.approx(made.score_scale)


@pytest.mark.parametrize("name", NAMED)
def test_every_parameter_of_the_classes_has_a_role(name) -> None:
    transformers = pytest.importorskip("transformers")
    config = small_config(name)
    model = transformers.AutoModelForCausalLM.from_config(config)
    found = adapters.roles(model, names=name)
    assert set(found) == {one for one, _ in model.named_parameters(remove_duplicate=False)}
    latent = read_stack(config.to_dict()).stack.sub_blocks[0].branches[0]
    shapes = {found[one]: tuple(p.shape) for one, p in model.named_parameters()}
    assert shapes[Role.KEY_VALUE_LATENT_GAIN] == (latent.kv_rank,)
    assert shapes[Role.KEY_VALUE_DOWN][0] == latent.kv_rank + latent.rope_dim


def test_a_module_of_latents_and_experts_takes_the_rules() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    values = {key: value for key, value in WIDER.items() if key != "model_type"}
    model = transformers.DeepseekV3ForCausalLM(transformers.DeepseekV3Config(**values))
    attention = model.model.layers[0].self_attn
    before = attention.kv_b_proj.weight.detach().clone()
    down = attention.kv_a_proj_with_mqa.weight.detach().clone()
    made = rules_for(MODEL, WIDER, optimizer="adamw")
    rows = {row["name"]: row for row in adapter.preview(model, made)}
    assert rows["model.layers.0.self_attn.kv_b_proj.weight"]["role"] == "key_value_up"
    assert rows["model.layers.0.mlp.up_proj.weight"]["role"] == "mlp_in"
    assert rows["model.layers.1.mlp.experts.down_proj"]["role"] == "expert_out"
    groups = adapter.apply(model, made, lr=0.01)
    torch.testing.assert_close(attention.kv_b_proj.weight.detach(), before)  # rank is kept
    torch.testing.assert_close(attention.kv_a_proj_with_mqa.weight.detach(), down * 2**-0.5)
    torch.optim.AdamW(groups)
    other = transformers.DeepseekV3ForCausalLM(transformers.DeepseekV3Config(**values))
    with pytest.raises(ShapeMismatchError, match="kv_a"):
        adapter.apply(other, rules_for(MODEL, WIDER | {"kv_lora_rank": 16}, optimizer="adamw"),
                      lr=0.01)  # fmt: skip
