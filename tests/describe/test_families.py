"""A family is one record: a new one is read by predictions, scaling rules, adapters and checks."""

import json
from dataclasses import replace

import pytest

from translimit.core import ArgumentError, ConfigError, NoSuchLimitError
from translimit.describe import (
    FAMILIES,
    QKV,
    Activation,
    Family,
    NameTable,
    Norm,
    Role,
    family_of_class,
    linear_names,
    norm_names,
    read_architecture,
    read_stack_sizes,
)
from translimit.predict import predict
from translimit.scaling import read_size, rules_for

NAMES = NameTable(
    family="toy",
    roles={
        "words.weight": Role.TOKEN_EMBEDDING,
        **norm_names("rows.*.{first,second}", "block"),
        "rows.*.mix.qkv.weight": QKV,
        **linear_names("rows.*.mix.out", Role.ATTENTION_OUT),
        **linear_names("rows.*.wide", Role.MLP_IN),
        **linear_names("rows.*.narrow", Role.MLP_OUT),
        **norm_names("last", "final"),
        "guess.weight": Role.READOUT,
    },
    attention=("rows.*.mix",),
    scale=("sharp",),
)


def block(fields, stack):
    fields.assumptions.append("toys are drawn as toys")
    return replace(
        stack,
        out_std=2 * stack.init_std,
        norm="rms",
        mlp_dim=fields.count("mlp_dim"),
        activation="relu",
        context=fields.optional_count("context"),
    )


TOY = Family(
    names=NAMES,
    class_prefix="Toy",
    block=block,
    mlp_ratio=3,
    tied=True,
    interleaved=True,
    requires={"plain_toy": True},
)
CONFIG = {
    "model_type": "toy",
    "hidden_size": 16,
    "num_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "d_model": 16,
}


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(FAMILIES, "toy", TOY)
    return TOY


@pytest.mark.usefixtures("toy")
def test_a_new_family_is_predicted(tmp_path):
    read = read_architecture(CONFIG)
    assert (read.family, read.layers, read.dim, read.head_dim) == ("toy", 2, 16, 8)
    assert (read.norm, read.out_std, read.token_std) == (Norm.RMS, 0.04, 0.02)
    assert read.feed_forward.activation is Activation.RELU
    assert read.assumptions == (
        "initializer_range is absent: 0.02, the family's default",
        "toys are drawn as toys",
    )
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    answer = predict(path, tokens=4)
    assert answer.architecture == read
    assert "toys are drawn as toys" in answer.assumptions
    assert str(answer).splitlines()[1].startswith("toy: 2 layers, width 16, 2 heads of 8")


@pytest.mark.usefixtures("toy")
def test_a_new_family_is_scaled():
    read = read_size(CONFIG)
    assert (read.size.width, read.size.layers, read.size.mlp_ratio) == (16, 2, 3.0)
    assert (read.tied, read.packed_qkv) == (True, True)
    bare = {key: value for key, value in CONFIG.items() if key != "intermediate_size"}
    assert read_stack_sizes(bare).mlp_dim == 48
    wide = CONFIG | {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 96}
    assert rules_for(CONFIG, wide, optimizer="adamw").question.packed_qkv
    by_class = {key: value for key, value in CONFIG.items() if key != "model_type"}
    assert read_stack_sizes(by_class | {"architectures": ["ToyForWords"]}).family == "toy"


@pytest.mark.usefixtures("toy")
def test_what_a_new_family_refuses_is_named():
    with pytest.raises(ConfigError, match="plain_toy is False; write True, the only one"):
        read_architecture(CONFIG | {"plain_toy": False})
    with pytest.raises(ConfigError, match="known: gpt2, gpt_neox, llama, mistral, qwen2, toy, vit"):
        read_architecture(CONFIG | {"model_type": "mamba"})
    with pytest.raises(NoSuchLimitError, match=r"understood: gpt2, .*, toy;"):
        read_architecture(CONFIG | {"model_type": "bert"})


@pytest.mark.usefixtures("toy")
def test_the_parameters_of_a_new_family_have_roles_in_adapters_and_checks():
    torch = pytest.importorskip("torch")
    from torch import nn

    from translimit.checks import find_places
    from translimit.scaling.adapters import matches, roles, table_of
    from translimit.scaling.adapters import torch as adapter

    class ToyMix(nn.Module):
        def __init__(self, dim, head_dim):
            super().__init__()
            self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
            self.sharp = head_dim**-0.5

    class ToyRow(nn.Module):
        def __init__(self, dim, head_dim):
            super().__init__()
            self.first, self.second = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.mix = ToyMix(dim, head_dim)
            self.wide, self.narrow = nn.Linear(dim, 3 * dim), nn.Linear(3 * dim, dim)

    class Toy(nn.Module):
        def __init__(self, dim, head_dim=8):
            super().__init__()
            self.words = nn.Embedding(7, dim)
            self.rows = nn.ModuleList(ToyRow(dim, head_dim) for _ in range(2))
            self.last, self.guess = nn.LayerNorm(dim), nn.Linear(dim, 7, bias=False)
            self.guess.weight = self.words.weight

    torch.manual_seed(0)
    model = Toy(32)
    with pytest.raises(ArgumentError, match="the table 'plain' has no role"):
        roles(model)
    found = matches(model, "toy")
    assert found["rows.0.mix.qkv.weight"].parts == QKV
    model.config = type("Config", (), {"model_type": "toy", "initializer_range": 0.02})()
    assert table_of(model) == NAMES
    assert matches(model) == found
    places = find_places(model, {name: match.parts for name, match in found.items()})
    assert places.interleaved
    assert places.packed == ("rows.0.mix.qkv", "rows.1.mix.qkv")
    assert places.blocks == ("rows.0", "rows.1")
    wide = CONFIG | {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 96}
    rules = rules_for(CONFIG, wide, optimizer="adamw")
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if not (found[name].role.is_gain or found[name].role.is_bias):
                tensor.normal_(0, 0.02)
    groups = adapter.apply(model, rules, lr=1e-2)
    assert groups.report["table"] == "toy"
    assert {scale["attribute"] for scale in groups.report["scales"].values()} == {"sharp"}


def test_families_are_listed_by_their_own_names():
    assert all(name == family.name for name, family in FAMILIES.items())
    prefixes = [family.class_prefix for family in FAMILIES.values()]
    assert len(set(prefixes)) == len(prefixes)
    assert family_of_class("Qwen2ForCausalLM").name == "qwen2"
    assert family_of_class("OPTForCausalLM") is None
    assert {name for name, one in FAMILIES.items() if one.packed_qkv} == {"gpt2", "gpt_neox"}
