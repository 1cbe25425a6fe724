"""What the page shows, into an address and back, and from an architecture."""

import json
import math
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translimit.core import ArgumentError, ArgumentTypeError, ConfigError, NoSuchLimitError
from translimit.describe import read_architecture
from translimit.explore import PANELS, SLIDERS, View

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
    tokens=st.integers(2, 64),
    step=st.floats(1e-3, 100.0),
    temperature=st.floats(0.15, 1e4),
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
    assert again.architecture() == view.architecture()
    # It opens on its own panel, unless another is open.
    assert view.panel == "stack"
    assert View(panel="rates").described_by(json.dumps(GPT2)).panel == "rates"
    assert len(view.to_query()) < 400  # the thousand labels say nothing about the architecture


@pytest.mark.parametrize("config", [GPT2, QWEN], ids=["gpt2", "qwen2"])
def test_a_described_architecture_is_itself_until_a_slider_moves(config) -> None:
    found = read_architecture(config)
    view = View().described_by(json.dumps(config))
    same = view.architecture()
    assert (same.layers, same.dim, same.heads) == (found.layers, found.dim, found.heads)
    assert (same.kv_heads, same.head_dim) == (found.kv_heads, found.head_dim)
    assert same.feed_forward == found.feed_forward
    assert (same.norm, same.causal, same.rotary) == (found.norm, found.causal, found.rotary)
    assert same.v_std == pytest.approx(found.v_std)
    # Sliders show three digits.
    assert same.score_std == pytest.approx(found.score_std, rel=5e-3)
    assert same.branch_square == pytest.approx(found.branch_square, rel=1e-2)


def test_temperature_and_step_set_scores_and_the_first_step() -> None:
    # Without a norm's mean removed and at unit tokens, Gamma / r_0^2 is D sigma_O^2 in this stack.
    view = View(heads=4, head_dim=16, step=0.3, temperature=2.5)
    found = view.architecture()
    assert found.dim * found.qk_std**2 == pytest.approx(1 / 2.5)
    assert found.dim * found.out_std**2 == pytest.approx(0.3**2 / 4)


def test_other_sizes_keep_the_ratio_and_the_variances() -> None:
    view = View().described_by(json.dumps(QWEN))
    doubled = View(**{**vars(view), "heads": 28})
    wide, found = doubled.architecture(), view.architecture()
    assert wide.dim == 2 * found.dim
    assert wide.kv_heads == 2 * found.kv_heads
    assert wide.feed_forward.width == 2 * found.feed_forward.width
    assert wide.dim * wide.feed_forward.in_std**2 == pytest.approx(
        found.dim * found.feed_forward.in_std**2
    )


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
        ('{"model_type": "bert"}', NoSuchLimitError, "post-LN"),
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
        ({"temperature": "0"}, "pass a number in"),
        ({"alpha_a": "0.4"}, "pass a number in"),
        ({"optimizer": "adamm"}, "adamw"),
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
    with pytest.raises(ArgumentTypeError, match="temperature"):
        View(temperature="1")  # pyright: ignore


def test_the_default_view_lies_on_the_stops_and_within_the_bounds() -> None:
    for name, slider in SLIDERS.items():
        assert getattr(View(), name) in slider.values
        assert slider.low <= slider.values[0] < slider.values[-1] <= slider.high
        assert list(slider.values) == sorted(slider.values)
    assert math.prod((View().heads, View().head_dim)) == View().width
