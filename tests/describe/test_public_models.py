"""Public models by name are what their published configurations describe."""

from pathlib import Path

import pytest

from translimit.core import ConfigError
from translimit.describe import PUBLIC_MODELS, public_model, read_stack
from translimit.predict.predict import read_source
from translimit.scaling import completed, read_size

CONFIGS = Path(__file__).parents[1] / "predict" / "configs"
#: Files of configurations that are called otherwise.
FILES = {"llama-2-7b": "llama-7b"}


@pytest.mark.parametrize("name", PUBLIC_MODELS)
def test_a_name_means_the_published_configuration(name):
    published = read_stack(CONFIGS / f"{FILES.get(name, name)}.json")
    named = read_stack(name)
    assert named.stack == published.stack
    assert (named.vocabulary, named.tied, named.context) == (
        published.vocabulary,
        published.tied,
        published.context,
    )


def test_a_file_is_never_hidden_by_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert public_model("GPT2") == PUBLIC_MODELS["gpt2"]
    (tmp_path / "gpt2").mkdir()
    assert public_model("gpt2") is None
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        read_stack("gpt2")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("gpt-2", "gpt2"), ("llama2-7b", "llama-2-7b"), ("GPT2_XL", "gpt2-xl"), ("gpt3", "")]
    + [(one, "") for one in ("qwen3", "qwen3-8b", "mistral-8x7b", "llama-7b", "mixtral-7b")],
)
def test_a_name_is_hinted_at_only_where_the_spelling_alone_differs(name, meant):
    with pytest.raises(ConfigError, match="no file and no known model; ") as error:
        read_stack(name)
    said = str(error.value)
    assert ("did you mean" in said) == (meant != "")
    assert f"did you mean {meant!r}?" in said or meant == ""
    assert "known: bert-base, gpt2, " in said
    assert "config.json" in said


def test_sizes_are_those_of_the_block_of_gpt2():
    sizes, _ = read_source("heads=12,head_dim=64,layers=12")
    named, folder = read_source("gpt2")
    assert sizes.stack.layers == named.stack.layers
    assert folder is None
    # It is that block, not that model: there is no vocabulary and no context.
    assert sizes.family == "GPT-2's block with 12 heads of dimension 64"
    assert "neither a vocabulary nor a context" in sizes.assumptions[-1]
    with pytest.raises(ConfigError, match="kv_heads"):
        read_source("heads=12,head_dim=64,layers=12,kv_heads=4")
    assert read_size("gpt2-xl").size == read_size("heads=25,head_dim=64,layers=48").size


@pytest.mark.parametrize(
    ("base", "target", "free"),
    [
        ("layers=4", "layers=24", {"head_dim": 64, "heads": 12}),
        ("heads=4,layers=2", "heads=8", {"head_dim": 64}),
        ("head_dim=16,heads=4,layers=2", "layers=8", {}),
        ("width=64,heads=4,layers=2", "width=128", {}),
    ],
)
def test_two_texts_complete_each_other(base, target, free):
    small, large, told = completed(base, target)
    assert told == free
    sizes = [read_size(str(one)).size.head_dim for one in (small, large)]
    assert sizes[0] == sizes[1] or "width" in target
