"""Tables for Megatron-LM and torchtitan: matched as those frameworks match, and read back."""

import fnmatch
import json
import re

import pytest

from translimit.cli import main
from translimit.core import ArgumentError, ArgumentTypeError
from translimit.scaling import Size, UnsupportedModuleError, rules
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
        ({"optimizer": "muon"}, "megatron", {}, ArgumentError, "covers sgd, momentum, adam, adamw"),
        ({}, "megatorn", {}, ArgumentError, "did you mean 'megatron'"),
        ({}, "megatron", {"lr": "3e-4"}, ArgumentTypeError, "lr: got '3e-4'"),
    ],
)
def test_refusals(asking, framework, options, kind, message):
    with pytest.raises(kind) as refused:
        overrides(asked(**asking), framework, **{"lr": 1e-3, **options})
    assert message in str(refused.value)


@pytest.mark.parametrize("framework", ["megatron", "torchtitan"])
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
