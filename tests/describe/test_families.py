"""A family is one record: a new one is read by predictions, scaling rules, adapters and checks."""

import json
import re

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
    family_called,
    family_of_class,
    linear_names,
    norm_names,
    read_stack,
)
from translimit.describe.families.decoders import Decoder
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
    score_scale=("sharp",),
    interleaved=True,
)


def adjust(k, parts):
    k.require("plain_toy", True)
    k.assumptions.append("toys are drawn as toys")
    return parts


TOY = Family(
    name="toy",
    reader=Decoder(
        rotary=0.0, activation="relu", gated=False, mlp_ratio=3.0, tied=True, adjust=adjust
    ).read,
    aliases=("toy-old",),
    names=NAMES,
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
def test_a_new_family_is_read_and_scaled():
    read = read_stack(CONFIG)
    assert (read.family, read.layers, read.dim, read.head_dim, read.heads) == ("toy", 2, 16, 8, 2)
    attention, units = (block.branches[0] for block in read.stack.layers[0])
    assert (attention.rotary, units.activation) == (None, Activation.RELU)
    assert read.stack.layers[0][0].norm_in.kind is Norm.RMS
    assert "toys are drawn as toys" in read.assumptions
    assert (read.tied, read.own_token, read.packed_qkv) == (True, True, True)
    size = read_size(CONFIG)
    assert (size.size.width, size.size.layers, size.size.mlp_ratio) == (16, 2, 3.0)
    bare = {key: value for key, value in CONFIG.items() if key != "intermediate_size"}
    assert read_stack(bare).mlp_dim == 48
    wide = CONFIG | {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 96}
    assert rules_for(CONFIG, wide, optimizer="adamw").question.packed_qkv
    by_class = {key: value for key, value in CONFIG.items() if key != "model_type"}
    assert read_stack(by_class | {"architectures": ["ToyForWords"]}).family == "toy"
    assert read_stack(CONFIG | {"model_type": "toy-old"}).family == "toy"


@pytest.mark.usefixtures("toy")
def test_what_a_new_family_refuses_is_named():
    with pytest.raises(ConfigError, match="plain_toy is False; write True"):
        read_stack(CONFIG | {"plain_toy": False})
    with pytest.raises(ConfigError, match=r"known: gpt2, .*, toy"):
        read_stack(CONFIG | {"model_type": "unheard_of"})


@pytest.mark.usefixtures("toy")
def test_the_parameters_of_a_new_family_have_roles_in_adapters_and_checks():
    torch = pytest.importorskip("torch")
    from torch import nn

    from translimit.checks import find_places
    from translimit.scaling.adapters import matches, roles, table_of
    from translimit.scaling.adapters import torch as adapter

    class ToyAttention(nn.Module):
        def __init__(self, dim, head_dim):
            super().__init__()
            self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
            self.sharp = head_dim**-0.5

    class ToyRow(nn.Module):
        def __init__(self, dim, head_dim):
            super().__init__()
            self.first, self.second = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.mix = ToyAttention(dim, head_dim)
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
    aliases = [alias for family in FAMILIES.values() for alias in family.aliases]
    assert len({*aliases, *FAMILIES}) == len(aliases) + len(FAMILIES)
    assert all(family_called(alias).name not in aliases for alias in aliases)
    tables = [family.names for family in FAMILIES.values() if family.names]
    assert all(table.family in FAMILIES for table in tables)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen2ForCausalLM", "qwen2"),
        ("GPT2LMHeadModel", "gpt2"),
        ("GPT2Attention", "gpt2"),
        ("GPTNeoXForCausalLM", "gpt_neox"),
        ("GPTNeoForCausalLM", "gpt_neo"),
        ("OPTForCausalLM", "opt"),
        ("Qwen3MoeForCausalLM", "qwen3_moe"),
        ("XLMRobertaModel", "roberta"),
        ("Gemma3ForCausalLM", "gemma3_text"),
        # Names that begin like a known one and are of another block.
        ("Qwen3NextForCausalLM", None),
        ("Llama4ForCausalLM", None),
        ("BertGenerationDecoder", None),
        ("DistilBertForMaskedLM", "distilbert"),
        ("LlamaBlock", None),
    ],
)
def test_a_class_is_of_the_family_whose_name_it_has(name, family):
    found = family_of_class(name)
    assert (found and found.name) == family


@pytest.mark.parametrize(
    ("name", "hint"),
    [("GPT-NeoX", "gpt_neox"), ("Qwen3", "qwen3"), ("qwen-3", "qwen3"), ("t-5", "t5")],
)
def test_a_hint_is_another_spelling_of_one_name(name, hint):
    with pytest.raises(ConfigError, match=f"did you mean '{hint}'"):
        read_stack({"model_type": name})


@pytest.mark.parametrize("name", ["qwen4", "llama4_text", "gemma3n", "glm5", "bert2"])
def test_another_family_is_never_hinted_at_and_its_description_is_begun(name):
    sizes = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 6}
    with pytest.raises(ConfigError) as refused:
        read_stack({"model_type": name, "intermediate_size": 250, **sizes})
    message = str(refused.value)
    assert "did you mean" not in message
    began = re.search(r"(\{\"kind\": \"stack\".*\})", message)[1]
    stack = read_stack(json.loads(began)).stack
    assert (stack.dim, len(stack.layers)) == (96, 3)
    attention, units = (block.branches[0] for block in stack.layers[0])
    assert (attention.heads, units.width) == (6, 250)


@pytest.mark.parametrize("name", ["albert", "mamba", "rwkv", "qwen3_next", "resnet"])
def test_families_without_such_a_limit_are_refused(name):
    with pytest.raises(NoSuchLimitError, match=name):
        read_stack({"model_type": name, "hidden_size": 64})


def test_a_class_that_contradicts_the_name_is_refused():
    llama = {
        "model_type": "qwen3",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
    }
    with pytest.raises(ConfigError, match="architectures says 'Qwen3MoeForCausalLM'"):
        read_stack({**llama, "architectures": ["Qwen3MoeForCausalLM"]})
