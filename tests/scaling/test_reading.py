"""Sizes from text, files and configurations of models, and `translimit scale`."""

import json
from pathlib import Path

import pytest

from translimit.cli import main
from translimit.core import ArgumentError, NoSuchLimitError
from translimit.describe import read_stack
from translimit.scaling import (
    ReadSize,
    Role,
    Rules,
    ShapeMismatchError,
    Size,
    read_size,
    require_same_module,
    roles_without_parameters,
    rules,
    rules_for,
)

CONFIGS = Path(__file__).parents[1] / "predict" / "configs"
SMALL, LARGE = "head_dim=16,heads=4,layers=2", "head_dim=32,heads=8,layers=8"


def test_inline_sizes_and_files(tmp_path):
    expected = ReadSize(Size(head_dim=16, heads=4, layers=2, kv_heads=2, mlp_ratio=3))
    text = "width=64, heads=4, layers=2, kv_heads=2, mlp_ratio=3"
    assert read_size(text) == expected
    (tmp_path / "small.toml").write_text(text.replace(", ", "\n"))
    assert read_size(tmp_path / "small.toml") == expected
    assert read_size({"head_dim": 16, "heads": 4, "layers": 2}).size == read_size(SMALL).size


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_sizes_are_those_of_the_stack(path):
    if path.stem == "bert-base":
        with pytest.raises(NoSuchLimitError, match="post-LN"):
            read_size(path)
        return
    reading, size = read_stack(path), read_size(path).size
    assert (size.width, size.layers, size.groups) == (
        reading.stack.dim,
        len(reading.stack.layers),
        reading.kv_heads,
    )
    assert size.mlp_ratio == reading.mlp_dim / reading.stack.dim


def test_facts_of_the_module():
    gpt2, llama = read_size(CONFIGS / "gpt2.json"), read_size(CONFIGS / "llama-7b.json")
    assert (gpt2.tied, gpt2.packed_qkv, gpt2.vocabulary) == (True, True, 50257)
    assert (llama.tied, llama.packed_qkv) == (False, False)
    qwen = {
        "model_type": "qwen2",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 256,
        "tie_word_embeddings": True,
    }
    assert read_size(qwen).tied
    assert read_size({**qwen, "head_dim": 32}).size.dim == 64
    own = {"kind": "pre-norm", "layers": 2, "dim": 64, "heads": 4, "mlp_dim": 128}
    assert read_size(own).size == Size(head_dim=16, heads=4, layers=2, mlp_ratio=2)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model_type": "bert"}, "'bert' normalises after the residual sum"),
        ({"model_type": "gpt_neo"}, "does not divide its scores"),
        ({"model_type": "modernbert"}, "reads the stream without a norm"),
    ],
)
def test_blocks_that_the_rules_do_not_know_are_refused_by_what_they_are(values, says):
    sizes = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "attention_multiplier": 0.25,
    }
    with pytest.raises(NoSuchLimitError, match=says):
        read_size({**sizes, **values})
    with pytest.raises(NoSuchLimitError, match="albert shares its weights"):
        read_size({**sizes, "model_type": "albert"})


SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 256,
    "head_dim": 16,
}


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        (
            {"model_type": "gemma2", "query_pre_attn_scalar": 16},
            {"branch_gain": True, "scaled_embedding": True},
        ),
        ({"model_type": "gemma"}, {"branch_gain": False, "scaled_embedding": True}),
        ({"model_type": "olmo2"}, {"branch_gain": True, "scaled_embedding": False}),
        ({"model_type": "glm4"}, {"branch_gain": True}),
        (
            {"model_type": "olmoe", "num_experts": 4, "num_experts_per_tok": 2},
            {"normalised_gates": False},
        ),
        (
            {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
            {"normalised_gates": True},
        ),
    ],
)
def test_facts_of_norms_embeddings_and_gates(values, facts):
    read = read_size({**SIZES, **values})
    assert {name: getattr(read, name) for name in facts} == facts
    assert read.size.experts == (4 if "num_experts_per_tok" in values else None)
    made = rules_for({**SIZES, **values}, {**SIZES, **values}, optimizer="adamw")
    assert {name: getattr(made.question, name) for name in facts} == facts


@pytest.mark.parametrize(
    ("values", "other", "message"),
    [
        ({}, {"initializer_range": 0.04}, "initializer_range: is 0.02 in the base and 0.04"),
        ({}, {"hidden_act": "relu"}, "activation: is silu in the base and relu"),
        (
            {"model_type": "granite", "residual_multiplier": 0.2, "attention_multiplier": 0.25},
            {"model_type": "granite", "residual_multiplier": 0.4, "attention_multiplier": 0.25},
            "branch_multiplier: is 0.2 in the base and 0.4",
        ),
        ({"model_type": "vit"}, {"model_type": "vit", "patch_size": 8}, "patch: is 16"),
        (
            {},
            {"model_type": "cohere", "tie_word_embeddings": False},
            "parallel_blocks: is False in the base and True",
        ),
    ],
)
def test_facts_that_are_never_scaled_must_agree(values, other, message):
    plain = {**SIZES, "model_type": "llama", "initializer_range": 0.02}
    with pytest.raises(ShapeMismatchError) as refused:
        rules_for({**plain, **values}, {**plain, **other}, optimizer="adamw")
    assert message in str(refused.value)


def test_a_padded_vocabulary_may_be_allowed():
    """Those of Qwen2.5, 151,936 and 152,064."""
    plain = {**SIZES, "model_type": "qwen2"}
    small, large = {**plain, "vocab_size": 151_936}, {**plain, "vocab_size": 152_064}
    with pytest.raises(ShapeMismatchError, match=r"or pass allow=\('vocabulary',\)"):
        rules_for(small, large, optimizer="adamw")
    assert rules_for(small, large, optimizer="adamw", allow=("vocabulary",)).global_lr == 1
    with pytest.raises(ArgumentError, match="unknown fact 'vocab'"):
        rules_for(small, large, optimizer="adamw", allow=("vocab",))


def test_families_beyond_the_first_are_read():
    values = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    qwen3 = read_size({"model_type": "qwen3", "head_dim": 16, "intermediate_size": 128, **values})
    assert qwen3.qk_norm
    assert qwen3.size.mlp_ratio == 2
    phi3 = read_size({"model_type": "phi3", "intermediate_size": 128, **values})
    assert (phi3.packed_qkv, phi3.qk_norm) == (True, False)
    own = {"kind": "stack", "dim": 64, "layers": 2, "norm": "rms", "attention": {"heads": 4}}
    assert read_size({**own, "feed_forward": {"width": 128}}).size == phi3.size
    assert (
        rules_for(
            own | {"feed_forward": {"width": 128}},
            own | {"feed_forward": {"width": 128}},
            optimizer="adamw",
        ).global_lr
        == 1
    )


def test_what_is_never_scaled_must_agree():
    size = read_size(SMALL).size
    require_same_module(ReadSize(size, vocabulary=10), ReadSize(size))
    with pytest.raises(ShapeMismatchError, match="vocabulary: is 10 in the base and 11"):
        require_same_module(ReadSize(size, vocabulary=10), ReadSize(size, vocabulary=11))
    with pytest.raises(ShapeMismatchError, match="tied: is True in the base and False"):
        require_same_module(ReadSize(size, tied=True), ReadSize(size))


def test_roles_without_parameters_are_known_from_a_configuration():
    llama = roles_without_parameters({**SIZES, "model_type": "llama", "attention_bias": False})
    assert {Role.PATCH_EMBEDDING, Role.BLOCK_NORM_BIAS, Role.ROUTER, Role.QUERY_BIAS} <= llama
    assert not {Role.MLP_GATE, Role.QUERY, Role.BLOCK_NORM_GAIN, Role.READOUT} & llama
    qwen = roles_without_parameters({**SIZES, "model_type": "qwen3"})
    assert Role.QK_GAIN in qwen
    assert Role.QK_GAIN_SHARED not in qwen
    mixed = roles_without_parameters("head_dim=16,heads=4,layers=2,experts=4,active_experts=2")
    assert Role.ROUTER not in mixed
    assert Role.EXPERT_IN in roles_without_parameters(SMALL)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head_dim=16,heads=4,layer=2", "unknown key 'layer'; did you mean 'layers'?"),
        ("head_dim=16,heads=4", "missing key 'layers'"),
        ("width=64,layers=2", "missing key 'heads'"),
        ("width=0,head_dim=16,heads=4,layers=2", "dim: got 0"),
        ("width=65,heads=4,layers=2", "width: 4 heads do not divide 65"),
        ("width=many,heads=4,layers=2", "width: got 'many'; pass an integer"),
        ("head_dim=2.5,heads=4,layers=2", "head_dim: got 2.5"),
        ("head_dim=16,heads,layers=2", "has the part 'heads'"),
        ("heads=4,heads=4", "heads is told twice"),
        ("absent.toml", "absent.toml: cannot be read"),
    ],
)
def test_unreadable_sizes(text, message):
    with pytest.raises(ArgumentError) as refused:
        read_size(text)
    assert message in str(refused.value)


def call(capsys, *words):
    capsys.readouterr()
    status = main(["scale", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_prints_the_rules(capsys):
    words = ["--base", SMALL, "--target", LARGE, "--optimizer", "adamw"]
    status, out, err = call(capsys, *words, "--json")
    assert (status, err) == (0, "")
    expected = rules(
        read_size(SMALL).size, read_size(LARGE).size, optimizer="adamw", style="folded"
    )
    assert Rules.from_json(json.loads(out)) == expected
    status, out, _ = call(capsys, *words)
    assert status == 0
    (row,) = [line for line in out.splitlines() if line.startswith("│ attention out, mlp out ")]
    assert [cell.strip() for cell in row.strip("│").split("│")][1:] == [
        "1",
        "0.125",
        "0.0625",
        "0.25",
        "16",
    ]
    assert "scores: 0.125 q . k (absolute); branches: 1" in out


def test_the_command_tells_of_another_batch(capsys):
    words = ["--base", SMALL, "--target", LARGE, "--optimizer", "adamw", "--lr", "1e-3"]
    words += ["--batch", "8:32", "--steps", "100:50", "--decay", "timescale"]
    status, out, _ = call(capsys, *words, "--weight-decay", "0.1")
    assert status == 0
    assert "batch 8 to 32, steps 100 to 50: rate times 2, betas 0.6561 0.996, epsilon times" in out
    assert "weight decay times 1, steps of warm-up times 0.25" in out
    assert "the run is 0.01 time scales of the decay long" in out
    status, out, _ = call(capsys, *words, "--json")
    answer = json.loads(out)
    assert (answer["batch"]["lr"], answer["batch"]["decay"]) == (2, 1)
    assert Rules.from_json(answer).question.decay == "timescale"


def test_the_command_prints_a_recipe(capsys):
    words = ["--base", SMALL, "--target", LARGE, "--optimizer", "adamw"]
    status, out, _ = call(capsys, *words, "--recipe", "nanogpt-completep", "--json")
    told = json.loads(out)
    assert (status, told["numbers"]["query.rate"]) == (0, 0.25)
    assert [one["number"] for one in told["differences"]] == [
        "embedding.epsilon",
        "final_gain.epsilon",
        "readout.epsilon",
    ]
    assert main(["recipes", "diff", "megatron", "translimit", "--optimizer", "sgd"]) == 0
    assert "train the same network" in capsys.readouterr().out
    assert main(["recipes", "show", "mup"]) == 0
    assert "m_d^(-1/2)" in capsys.readouterr().out
    assert main(["recipes"]) == 0
    assert "nanogpt-completep" in capsys.readouterr().out
    assert main(["recipes", "diff", "mup"]) == 2
    assert "diff takes 2 names, and 1 are given" in capsys.readouterr().err


def test_the_command_reads_configurations_of_models(capsys):
    words = ["--base", CONFIGS / "gpt2.json", "--target", CONFIGS / "gpt2-xl.json"]
    status, out, _ = call(capsys, *words, "--optimizer", "sgd", "--json")
    question = json.loads(out)["question"]
    assert (status, question["tied"], question["packed_qkv"]) == (0, True, True)
    assert question["target"]["heads"] == 25


def test_the_command_tells_where_the_rules_leave_what_was_measured(capsys):
    words = ["--base", "head_dim=2,heads=4,layers=2", "--target", LARGE, "--optimizer", "sgd"]
    status, out, _ = call(capsys, *words, "--style", "single_lr", "--alpha-a", "0.5")
    assert status == 0
    assert out.count("note: ") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--alpha-l", "0.3"],
            "--alpha-l: got 0.3; pass a number in [1/2, 1] (--unsafe allows any finite)\n",
        ),
        (["--style", "fold"], "--style: got 'fold'; did you mean 'folded'?"),
        (["--decay", "sqrt_width", "--optimizer", "sgd"], "--decay: got 'sqrt_width' with 'sgd'"),
        (["--target", "head_dim=32,heads=8,layers=8,mlp_ratio=3"], "or pass --change-mlp-ratio"),
        (["--batch", "256"], "--batch: got '256'; write the base's and the target's"),
        (["--batch", "1:32"], "--betas: 0.9 becomes 0.0343 at a batch 32 times as large"),
        (["--recipe", "mup"], "--target: has 8 layers for 2, and 'mup' has no rule of depth"),
    ],
)
def test_the_command_refuses_in_one_line(capsys, words, message):
    given = {"--base": SMALL, "--target": LARGE, "--optimizer": "adamw"}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    status, out, err = call(capsys, *[word for pair in given.items() for word in pair])
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_gains_of_norms_of_queries_are_shared_own_or_none():
    """Rows of rates follow: those of a shared vector, of one an entry, and none."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    rows = {Role.QK_GAIN, Role.QK_GAIN_SHARED}
    for family, more, kept in (
        ("qwen3", {"head_dim": 16}, {Role.QK_GAIN_SHARED}),
        ("cohere", {"use_qk_norm": True}, {Role.QK_GAIN}),
        ("olmo2", {}, {Role.QK_GAIN}),
        ("nanochat", {"num_key_value_heads": 4}, set()),
        ("cohere", {"use_qk_norm": False}, set()),
    ):
        read = read_size({"model_type": family, "intermediate_size": 128, **sizes, **more})
        assert rows - read.absent == kept, family
