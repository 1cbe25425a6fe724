"""What the page shows, into an address and back, and from an architecture."""

import dataclasses
import json
import math
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translimit.core import ArgumentError, ArgumentTypeError, ConfigError, NoSuchLimitError
from translimit.describe import (
    PUBLIC_MODELS,
    attentions,
    feed_forwards,
    matrices,
    read_stack,
    score_std,
)
from translimit.explore import PANELS, SLIDERS, View
from translimit.explore.resizing import first_step
from translimit.limits.signal import value_gain

GPT2 = {
    "model_type": "gpt2",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "id2label": {str(k): f"LABEL_{k}" for k in range(1000)},
}
QWEN = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "vocab_size": 1000,
}


@given(
    panel=st.sampled_from(sorted(PANELS)),
    heads=st.integers(1, 512),
    tokens=st.integers(2, 1024),
    step=st.floats(1e-3, 100.0),
    score_temperature=st.floats(0.15, 1e4),
    alpha_a=st.floats(0.5, 1.0),
    time=st.floats(0.0, 1.0),
)
def test_an_address_gives_the_view_back(**values) -> None:
    view = View(**values)
    assert View.from_query(dict(parse_qsl(view.to_query()))) == view


def test_an_address_carries_the_architecture() -> None:
    view = View().described_by(json.dumps(GPT2))
    again = View.from_query(dict(parse_qsl(view.to_query())))
    assert again == view
    assert again.reading() == view.reading()
    # It opens on its own panel, unless another is open.
    assert view.panel == "stack"
    assert View(panel="rates").described_by(json.dumps(GPT2)).panel == "rates"
    assert len(view.to_query()) < 400  # the thousand labels say nothing about the architecture


def test_an_address_that_names_an_architecture_has_its_sizes() -> None:
    found = View.from_query({"panel": "stack", "config": "gpt2"})
    assert found == View().described_by("gpt2")
    assert (found.layers, found.heads, found.tokens) == (12, 12, 48)
    # What the address adds is kept, also where it is the default of a page without a description.
    longer = View.from_query({"config": "gpt2", "layers": str(View().layers)})
    assert (longer.layers, longer.heads) == (View().layers, 12)
    assert View.from_query(dict(parse_qsl(longer.to_query()))) == longer


@pytest.mark.parametrize("name", ["gpt2", "llama-2-7b", "bert-base", "vit-base"])
def test_a_described_architecture_opens_with_the_tokens_of_predict(name: str) -> None:
    wanted = {"vit-base": 197}.get(name, 48)
    assert View().described_by(name).tokens == wanted
    assert View(tokens=6).described_by(name).tokens == 6  # a reader's own


@pytest.mark.parametrize("name", ["gpt2", "qwen2-0.5b"])
def test_at_its_own_sliders_a_description_is_not_rounded(name: str) -> None:
    view = View().described_by(name)
    assert view.reading() == read_stack(PUBLIC_MODELS[name])
    assert view.moved_sliders == ()
    moved = dataclasses.replace(view, layers=6)
    assert moved.moved_sliders == ("layers",)
    assert len(moved.reading().stack.layers) == 6


GEMMA = {
    "model_type": "gemma2",
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 512,
    "vocab_size": 1000,
}
DEEPSEEK = {
    "model_type": "deepseek_v3",
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 32,
    "v_head_dim": 48,
    "intermediate_size": 512,
    "moe_intermediate_size": 320,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "vocab_size": 1000,
}
BERT = {
    "model_type": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
FAMILIES = {"gpt2": GPT2, "qwen2": QWEN, "gemma2": GEMMA, "deepseek": DEEPSEEK, "bert": BERT}


def numbers(stack) -> list[float]:
    """Standard deviations and multipliers of all blocks, in their order."""
    found = [one.std for layer in stack.layers for one in matrices(layer, stack.dim).values()]
    return found + [block.branch for block in stack.sub_blocks]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_described_architecture_is_itself_until_a_slider_moves(name) -> None:
    found = read_stack(FAMILIES[name]).stack
    same = View().described_by(json.dumps(FAMILIES[name])).reading().stack
    # Sliders show three digits.
    assert numbers(same) == pytest.approx(numbers(found), rel=1e-2)
    assert dataclasses.replace(same, layers=found.layers) == found
    first, other = next(attentions(found)), next(attentions(same))
    assert score_std(other, same.dim) == pytest.approx(score_std(first, found.dim), rel=5e-3)
    assert first_step(same) == pytest.approx(first_step(found), rel=1e-2)


def test_temperature_and_step_set_scores_and_the_first_step() -> None:
    # At unit tokens gamma_A / q_0 is D sigma_O^2 in this stack.
    found = View(heads=4, head_dim=16, step=0.3, score_temperature=2.5).reading().stack
    attention = next(attentions(found))
    assert found.dim * attention.query_std**2 == pytest.approx(1 / 2.5)
    assert found.dim * attention.out_std**2 == pytest.approx(0.3**2 / 4)


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_and_the_first_step_are_set_in_every_family(name) -> None:
    view = View().described_by(json.dumps(FAMILIES[name]))
    found = dataclasses.replace(view, score_temperature=2.5, step=0.3).reading().stack
    for one in attentions(found):
        assert score_std(one, found.dim) == pytest.approx(1 / 2.5)
    assert first_step(found) == pytest.approx(0.3**2 / view.heads)


@pytest.mark.parametrize("name", ["qwen2", "gemma2", "deepseek"])
def test_other_sizes_keep_the_variances(name) -> None:
    view = View().described_by(json.dumps(FAMILIES[name]))
    doubled = dataclasses.replace(view, heads=2 * view.heads)
    wide, found = doubled.reading().stack, view.reading().stack
    ratio = wide.dim / found.dim
    for one, other in zip(attentions(found), attentions(wide), strict=True):
        assert other.heads == 2 * one.heads
        # The step tells gamma_A / q_0 = step^2 / heads; behind a norm it acts on the multiplier.
        before, after = value_gain(one, found.dim), value_gain(other, wide.dim)
        factor = 1 if name == "gemma2" else 2
        assert factor * after == pytest.approx(before, rel=1e-6)
    for one, other in zip(feed_forwards(found), feed_forwards(wide), strict=True):
        assert other.width == pytest.approx(ratio * one.width)
        assert wide.dim * other.in_std**2 == pytest.approx(found.dim * one.in_std**2)
        assert other.width * other.out_std**2 == pytest.approx(one.width * one.out_std**2)
    longer = dataclasses.replace(view, head_dim=view.head_dim * 2, layers=7).reading().stack
    assert len(longer.layers) == 7
    assert next(attentions(longer)).head_dim == 2 * next(attentions(found)).head_dim
    turned, before = next(attentions(longer)).rotary, next(attentions(found)).rotary
    assert turned.dims == pytest.approx(2 * before.dims)
    # The same course of frequencies from one to the inverse of the base, twice as dense.
    assert turned.thetas[::2] == pytest.approx(before.thetas, rel=1e-6)


def test_text_may_be_sizes_json_or_toml() -> None:
    short = View().described_by("heads=4,head_dim=32,layers=6")
    assert (short.heads, short.head_dim, short.layers, short.config) == (4, 32, 6, "")
    own = 'kind = "pre-norm"\nlayers = 3\ndim = 64\nheads = 4\ninit_std = 0.2\n'
    view = View().described_by(own)
    assert (view.layers, view.heads, view.head_dim) == (3, 4, 16)
    assert view.described_by("").config == ""


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("{", ConfigError, "neither JSON"),
        ("hello", ConfigError, "neither JSON"),
        ('{"model_type": "unheard"}', ConfigError, "known"),
        ('{"model_type": "albert"}', NoSuchLimitError, "shares its weights"),
        ('{"model_type": "gpt2", "n_embd": 768}', ConfigError, "n_layer"),
        ("heads=4,head_dim=32,layers=100000", ArgumentError, "layers"),
    ],
)
def test_an_architecture_that_is_not_understood_is_refused_in_words(text, kind, says) -> None:
    with pytest.raises(kind, match=says):
        View().described_by(text)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"head": "4"}, "heads"),
        ({"heads": "four"}, "whole number"),
        ({"heads": "4.5"}, "whole number"),
        ({"step": "fast"}, "a number"),
        ({"step": "nan"}, "step: got nan; pass a number in"),
        ({"score_temperature": "0"}, "pass a number in"),
        ({"alpha_a": "0.4"}, "pass a number in"),
        ({"optimizer": "adamm"}, "adamw"),
        ({"seed": "-1"}, "seed"),
        ({"variant": "soft"}, "softmax"),
        ({"maps_text": "1,0,0,1 / 1,0,0,1"}, "four numbers"),
        ({"maps_text": "1,0,0,1 / 1,0,0,1 / 1,0,0,nan"}, "four numbers"),
        ({"moved": "0:1,0"}, "number:x,y,z"),
        ({"moved": "0:1,0,0;0:0,1,0"}, "number:x,y,z"),
        ({"moved": "0:0,0,0"}, "number:x,y,z"),
        ({"config": "{"}, "neither JSON"),
        ({"config": '{"x": "' + "y" * 5000 + '"}'}, "characters"),
    ],
)
def test_an_address_that_is_wrong_is_refused_in_words(query, says) -> None:
    with pytest.raises(ArgumentError, match=says):
        View.from_query(query)


@pytest.mark.usefixtures("as_user")
def test_values_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="heads"):
        View(heads=2.0)  # pyright: ignore
    with pytest.raises(ArgumentTypeError, match="step"):
        View(step=True)
    with pytest.raises(ArgumentTypeError, match="score_temperature"):
        View(score_temperature="1")  # pyright: ignore


def test_the_default_view_lies_on_the_stops_and_within_the_bounds() -> None:
    for name, slider in SLIDERS.items():
        assert getattr(View(), name) in slider.values
        assert slider.low <= slider.values[0] < slider.values[-1] <= slider.high
        assert list(slider.values) == sorted(slider.values)
    assert math.prod((View().heads, View().head_dim)) == View().width
