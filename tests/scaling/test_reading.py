"""Sizes from text, files and configurations of models, and `translimit scale`."""

import json
from pathlib import Path

import pytest

from translimit.cli import main
from translimit.core import ArgumentError, NoSuchLimitError
from translimit.describe import read_stack
from translimit.scaling import (
    ReadSize,
    Rules,
    ShapeMismatchError,
    Size,
    read_size,
    require_same_module,
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
    with pytest.raises(ShapeMismatchError, match="4 heads of 32 in a stream of 64"):
        read_size({**qwen, "head_dim": 32})
    own = {"kind": "pre-norm", "layers": 2, "dim": 64, "heads": 4, "mlp_dim": 128}
    assert read_size(own).size == Size(head_dim=16, heads=4, layers=2, mlp_ratio=2)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model_type": "bert"}, "'bert' normalises after the residual sum"),
        ({"model_type": "gemma2", "head_dim": 16}, "normalises what its branches return"),
        ({"model_type": "gemma", "head_dim": 16}, "multiplies its embedding"),
        ({"model_type": "gpt_neo"}, "does not divide its scores"),
        ({"model_type": "olmoe", "num_experts": 4, "num_experts_per_tok": 2}, "has experts"),
        ({"model_type": "granite", "residual_multiplier": 0.2}, "multiplies the stream"),
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


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head_dim=16,heads=4,layer=2", "unknown key 'layer'; did you mean 'layers'?"),
        ("head_dim=16,heads=4", "missing key 'layers'"),
        ("width=64,layers=2", "missing key 'heads'"),
        ("width=64,head_dim=16,heads=4,layers=2", "tells width and head_dim"),
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
        (["--alpha-l", "0.3"], "alpha_L: got 0.3; pass a number in [1/2, 1]"),
        (["--style", "fold"], "--style: got 'fold'; did you mean 'folded'?"),
        (["--decay", "sqrt_width", "--optimizer", "sgd"], "decay: got 'sqrt_width' with 'sgd'"),
        (["--target", "head_dim=32,heads=8,layers=8,mlp_ratio=3"], "change_mlp_ratio"),
    ],
)
def test_the_command_refuses_in_one_line(capsys, words, message):
    given = {"--base": SMALL, "--target": LARGE, "--optimizer": "adamw"}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    status, out, err = call(capsys, *[word for pair in given.items() for word in pair])
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
