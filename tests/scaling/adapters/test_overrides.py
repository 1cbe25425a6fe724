"""Tables for Megatron-LM and torchtitan: matched as those frameworks match, and read back."""

import fnmatch
import json
import re

import pytest

from translimit.cli import main
from translimit.core import ArgumentError, ArgumentTypeError
from translimit.scaling import Size, UnmatchedParameterError, UnsupportedModuleError, rules
from translimit.scaling.adapters import overrides, to_yaml

pytestmark = pytest.mark.usefixtures("as_user")

BASE = Size(head_dim=16, heads=4, layers=2)
TARGET = Size(head_dim=32, heads=8, layers=8)
M_D, M_L = 4, 4

OUTER = ["embedding.word_embeddings", "decoder.final_layernorm", "output_layer"]
#: Modules of a layer of Megatron core, without and with Transformer Engine.
LOCAL = {
    "input_layernorm": ("weight", "bias"),
    "self_attention.linear_qkv": ("weight", "bias"),
    "self_attention.linear_proj": ("weight", "bias"),
    "pre_mlp_layernorm": ("weight", "bias"),
    "mlp.linear_fc1": ("weight", "bias"),
    "mlp.linear_fc2": ("weight", "bias"),
}
FUSED = {
    "self_attention.linear_qkv": ("weight", "bias", "layer_norm_weight", "layer_norm_bias"),
    "self_attention.linear_proj": ("weight", "bias"),
    "mlp.linear_fc1": ("weight", "bias", "layer_norm_weight", "layer_norm_bias"),
    "mlp.linear_fc2": ("weight", "bias"),
}
TITAN = {
    "attention.wq", "attention.wk", "attention.wv", "attention.wo", "feed_forward.w1",
    "feed_forward.w2", "feed_forward.w3", "attention_norm", "ffn_norm",
}  # fmt: skip


def asked(**options):
    return rules(BASE, TARGET, **{"optimizer": "adamw", "style": "folded", **options})


def megatron_names(layer):
    names = ["module.embedding.word_embeddings.weight", "module.output_layer.weight"]
    names += ["module.embedding.position_embeddings.weight"]
    names += [f"module.decoder.final_layernorm.{kind}" for kind in ("weight", "bias")]
    for index in (0, 11):
        for module, kinds in layer.items():
            names += [f"module.decoder.layers.{index}.{module}.{kind}" for kind in kinds]
    return names


@pytest.mark.parametrize("layer", [LOCAL, FUSED])
def test_megatron_matches_every_parameter_once(layer):
    table = overrides(asked(), "megatron", lr=1e-3, min_lr=1e-4, eps=1e-6, weight_decay=0.1)
    taken = {}
    for name in megatron_names(layer):
        hits = [row for row in table["overrides"] if fnmatch.fnmatch(name, row["pattern"])]
        assert len(hits) == 1, (name, hits)
        taken[name.split(".")[-2] + "." + name.split(".")[-1]] = hits[0]["take"]
    # By the printed table, folded: rate, epsilon, decay of hidden matrices, ends, readout.
    wanted = {
        "linear_qkv.weight": (1 / M_D, 1 / (M_D * M_L), M_D),
        "linear_fc1.weight": (1 / M_D, 1 / (M_D * M_L), M_D),
        "linear_proj.weight": (1 / (M_D * M_L), 1 / M_D, M_D * M_L),
        "linear_fc2.bias": (1 / M_L, 1 / M_D, 0),
        "word_embeddings.weight": (1, 1 / M_D, 1),
        "output_layer.weight": (1 / M_D, 1, M_D),
        "final_layernorm.weight": (1, 1 / M_D, 0),
    }
    for name, (lr, eps, decay) in wanted.items():
        assert taken[name] == pytest.approx(
            {"max_lr": 1e-3 * lr, "min_lr": 1e-4 * lr, "eps": 1e-6 * eps, "wd_mult": decay}
        )
    assert table["model"]["score_scale"] == pytest.approx(0.25 / 2)
    ratios = table["model"]["init_ratios"]
    assert (ratios["hidden_matrices"], ratios["ends_of_branches"]) == (0.5, 0.5 / M_L)
    assert (ratios["readout"], ratios["embeddings"]) == (1 / M_D, 1)


def test_torchtitan_matches_every_parameter_and_wastes_no_pattern():
    table = overrides(asked(), "torchtitan", lr=1e-3, weight_decay=0.1)
    names = ["tok_embeddings.weight", "norm.weight", "output.weight"]
    names += [f"layers.{index}.{module}.weight" for index in (0, 9) for module in sorted(TITAN)]
    first = {}
    for name in names:
        first[name] = next(
            row for row in table["overrides"] if re.compile(row["pattern"]).search(name)
        )
        hits = [row for row in table["overrides"] if re.search(row["pattern"], name)]
        assert len(hits) == 1, name
    assert {row["pattern"] for row in first.values()} == {r["pattern"] for r in table["overrides"]}
    take = first["layers.0.attention.wo.weight"]["take"]
    assert take.pop("betas") == [0.9, 0.95]
    wanted = {"lr": 1e-3 / (M_D * M_L), "eps": 1e-8 / M_D, "weight_decay": 0.1 * M_D * M_L}
    assert take == pytest.approx(wanted)
    assert first["norm.weight"]["roles"] == ["final_norm_gain"]
    assert first["layers.9.ffn_norm.weight"]["take"]["weight_decay"] == 0
    assert table["optimizer"] == "AdamW"


def test_torchtitan_fused_and_in_stages():
    """Queries, keys and values in one tensor, and a stage without embedding or head."""
    stage = [f"layers.4.{one}.weight" for one in sorted(TITAN - {"attention.wq", "attention.wk"})]
    stage = [one.replace("attention.wv", "attention.qkv_linear.wqkv") for one in stage]
    table = overrides(asked(), "torchtitan", lr=1e-3, parameters=stage)
    for name in stage:
        assert len([r for r in table["overrides"] if re.search(r["pattern"], name)]) == 1
    assert all(any(re.search(row["pattern"], name) for name in stage) for row in table["overrides"])
    apart = overrides(asked(alpha_A=0.5), "torchtitan", lr=1e-3)
    assert not any("qkv" in row["pattern"] for row in apart["overrides"])


def test_megatron_has_a_row_for_experts_routers_and_heads_for_several_tokens():
    sizes = [
        Size(head_dim=n, heads=h, layers=c, experts=8, active_experts=2)
        for n, h, c in ((16, 4, 2), (32, 8, 8))
    ]
    layer = [
        "input_layernorm.weight",
        "self_attention.linear_qkv.weight",
        "self_attention.q_layernorm.weight",
        "self_attention.linear_proj.weight",
        "pre_mlp_layernorm.weight",
        "mlp.router.weight",
        "mlp.experts.linear_fc1.weight0",
        "mlp.experts.linear_fc2.weight13",
        "mlp.experts.local_experts.3.linear_fc1.weight",
        "mlp.experts.local_experts.3.linear_fc2.weight",
        "mlp.shared_experts.linear_fc1.weight",
        "mlp.shared_experts.linear_fc2.weight",
    ]
    names = [f"module.decoder.layers.{index}.{one}" for index in (0, 11) for one in layer]
    names += [f"module.mtp.layers.0.transformer_layer.{one}" for one in layer]
    table = overrides(
        rules(*sizes, optimizer="adamw", style="folded"), "megatron", lr=1e-3, parameters=names
    )
    for name in names:
        hits = [row for row in table["overrides"] if fnmatch.fnmatchcase(name, row["pattern"])]
        assert len(hits) == 1, (name, hits)
        if "router" in name:
            assert hits[0]["roles"] == ["router"]
        if "experts.linear_fc2" in name and "shared" not in name:
            assert hits[0]["roles"] == ["expert_out"]


@pytest.mark.parametrize(
    ("adjust", "mode", "ratio"),
    [
        ("original", "shape_scaling", 1.0),
        ("match_rms_adamw", "spectral", M_D**-0.5),
        ("unit_rms_norm", "unit_rms_norm", 1.0),
    ],
)
def test_muon_in_megatron_has_its_scale_mode(adjust, mode, ratio):
    made = asked(optimizer="muon", muon_adjust=adjust)
    table = overrides(made, "megatron", lr=0.02, min_lr=0.002, adam_lr=1e-3, weight_decay=0.1)
    assert (table["optimizer"], table["model"]["muon_scale_mode"]) == ("muon", mode)
    takes = {row["pattern"]: row["take"] for row in table["overrides"]}
    matrix = takes["*decoder.layers.*.self_attention.linear_qkv.weight"]
    assert matrix["max_lr"] == pytest.approx(0.02 * ratio)
    assert "eps" not in matrix
    embedding = takes["*embedding.word_embeddings.weight"]
    assert (embedding["max_lr"], embedding["min_lr"]) == pytest.approx((1e-3, 1e-4))


def test_groups_of_plain_pytorch():
    """Rows as parameter groups of a module with nanoGPT's names, read from JSON."""
    torch = pytest.importorskip("torch")
    table = json.loads(json.dumps(overrides(asked(), "pytorch", lr=1e-3, weight_decay=0.1)))
    names = ["transformer.wte.weight", "transformer.ln_f.weight", "lm_head.weight"]
    layer = ("ln_1", "ln_2", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    names += [f"transformer.h.{index}.{one}.weight" for index in (0, 7) for one in layer]
    tensors = {name: torch.nn.Parameter(torch.zeros(2)) for name in names}
    groups = [
        {"params": [w for n, w in tensors.items() if re.search(row["pattern"], n)], **row["take"]}
        for row in table["overrides"]
    ]
    optimizer = getattr(torch.optim, table["optimizer"])([one for one in groups if one["params"]])
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    rates = {id(w): group["lr"] for group in optimizer.param_groups for w in group["params"]}
    assert rates[id(tensors["transformer.h.0.attn.c_attn.weight"])] == 1e-3 / M_D
    assert rates[id(tensors["transformer.h.7.mlp.c_proj.weight"])] == 1e-3 / (M_D * M_L)


def test_tied_embeddings_have_one_row_and_the_factor_in_the_final_norm():
    table = overrides(asked(tied=True), "megatron", lr=1e-3)
    assert not any("output_layer" in row["pattern"] for row in table["overrides"])
    assert table["model"]["init_ratios"]["final_norm_gain"] == 1 / M_D


def test_names_of_another_model():
    table = overrides(asked(), "torchtitan", lr=1e-3, names={r"\.proj\.weight$": "attention_out"})
    (row,) = table["overrides"]
    assert row["take"]["lr"] == pytest.approx(1e-3 / (M_D * M_L))


@pytest.mark.parametrize(
    ("asking", "framework", "options", "kind", "message"),
    [
        ({"style": "canonical"}, "megatron", {}, UnsupportedModuleError, 'use style="folded"'),
        ({"alpha_A": 0.5}, "megatron", {}, UnsupportedModuleError, "split the projection"),
        ({"tied": True}, "torchtitan", {}, UnsupportedModuleError, "tied=False"),
        ({"optimizer": "sgd"}, "torchtitan", {}, ArgumentError, "covers adam, adamw"),
        ({"optimizer": "sign"}, "megatron", {}, ArgumentError, "covers sgd, momentum, adam, adamw"),
        ({"optimizer": "muon"}, "megatron", {}, ArgumentTypeError, "adam_lr: is missing"),
        (
            {"optimizer": "muon", "muon_adjust": "none"},
            "megatron",
            {"adam_lr": 1e-3},
            ArgumentError,
            "has shape_scaling, spectral, unit_rms_norm",
        ),
        (
            {},
            "megatron",
            {"parameters": ["module.decoder.layers.0.self_attention.linear_kv_down_proj.weight"]},
            UnmatchedParameterError,
            "would train at the rate of the base: no row matches",
        ),
        ({}, "megatorn", {}, ArgumentError, "did you mean 'megatron'"),
        ({}, "megatron", {"lr": "3e-4"}, ArgumentTypeError, "lr: got '3e-4'"),
    ],
)
def test_refusals(asking, framework, options, kind, message):
    with pytest.raises(kind) as refused:
        overrides(asked(**asking), framework, **{"lr": 1e-3, **options})
    assert message in str(refused.value)


@pytest.mark.parametrize("framework", ["megatron", "torchtitan", "pytorch"])
def test_yaml_and_json_say_the_same(framework):
    yaml = pytest.importorskip("yaml")
    table = overrides(asked(), framework, lr=3e-5, eps=1e-8, weight_decay=0.1)
    assert yaml.safe_load(to_yaml(table)) == json.loads(json.dumps(table))


def test_the_command_line_exports(capsys):
    words = "scale --base width=64,heads=4,layers=2 --target width=256,heads=8,layers=8"
    words += " --optimizer adamw --export megatron --weight-decay 0.1"
    assert main([*words.split(), "--lr", "1e-3", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table == json.loads(
        json.dumps(overrides(asked(), "megatron", lr=1e-3, weight_decay=0.1))
    )
    assert main([*words.split(), "--lr", "1e-3"]) == 0
    assert capsys.readouterr().out == to_yaml(table)
    assert main(words.split()) == 2
    assert "--lr: is missing" in capsys.readouterr().err
