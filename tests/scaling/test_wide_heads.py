"""Heads that together are wider or narrower than the stream, as in Qwen3-0.6B and Gemma."""

from dataclasses import replace

import numpy as np
import pytest

from translimit.checks import power_law_exponent
from translimit.checks.trial import resized
from translimit.core import ArgumentError, ConfigError
from translimit.describe import Role
from translimit.predict import predict
from translimit.scaling import (
    Rules,
    ShapeMismatchError,
    Size,
    UnsupportedModuleError,
    paper_parameterization,
    read_size,
    recipes,
    rules,
    rules_for,
)
from translimit.scaling.adapters import torch as adapter

QWEN = {
    "model_type": "qwen3",
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "vocab_size": 40,
    "tie_word_embeddings": False,
}
NARROW = Size(head_dim=8, heads=2, layers=2, dim=16)
WIDE = Size(head_dim=8, heads=8, layers=2, dim=16)


def test_a_width_of_its_own_is_none_where_it_is_that_of_the_heads() -> None:
    assert Size(head_dim=8, heads=2, layers=2, dim=16) == Size(head_dim=8, heads=2, layers=2)
    assert WIDE.width == 16
    assert WIDE.attention_ratio == 4.0
    assert NARROW.dim is None
    with pytest.raises(ArgumentError, match="dim"):
        Size(head_dim=8, heads=2, layers=2, dim=0)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_at_a_fixed_ratio_the_rules_are_those_of_heads_that_fill_the_stream(optimizer) -> None:
    small, large = Size(head_dim=16, heads=4, layers=2), Size(head_dim=32, heads=8, layers=8)
    usual = rules(small, large, optimizer=optimizer)
    found = rules(replace(small, dim=32), replace(large, dim=128), optimizer=optimizer)
    assert found.table() == usual.table()
    assert not any("heads together" in one for one in found.warnings)


def test_at_another_ratio_queries_values_and_outputs_take_what_is_counted_by_hand() -> None:
    """Four times the heads in one stream: m_d = 1, m_H = 4."""
    sgd, adam = (rules(NARROW, WIDE, optimizer=name) for name in ("sgd", "adam"))
    wanted = {  # init, rate of Adam, epsilon, rate of SGD
        "query": (1, 1, 1 / 4, 4),
        "key": (1, 1, 1 / 4, 4),
        "value": (1, 1, 1 / 2, 2),
        "value_bias": (1, 1, 1 / 2, 2),
        "attention_out": (1 / 2, 1 / 4, 1, 1 / 4),
        "mlp_in": (1, 1, 1, 1),
        "token_embedding": (1, 1, 1, 1),
    }
    for role, numbers in wanted.items():
        one, other = adam.role(role), sgd.role(role)
        assert (one.init, one.lr, one.eps, other.lr) == pytest.approx(numbers, rel=1e-12), role
    assert any("heads together are 1 times" in one for one in sgd.warnings)


def test_questions_without_a_width_of_their_own_keep_their_form_and_others_come_back() -> None:
    usual = rules(NARROW, NARROW, optimizer="adam").to_json()
    assert "dim" not in usual["question"]["base"]
    made = rules(NARROW, WIDE, optimizer="adam")
    assert made.to_json()["question"]["target"]["dim"] == 16
    assert Rules.from_json(made.to_json()) == made


def test_configurations_and_texts_tell_the_width() -> None:
    read = read_size(QWEN).size
    assert read == Size(head_dim=8, heads=4, layers=2, kv_heads=2, mlp_ratio=3.0, dim=16)
    text = "width=16,head_dim=8,heads=4,layers=2,kv_heads=2,mlp_ratio=3"
    assert read_size(text).size == read
    larger = QWEN | {"hidden_size": 32, "head_dim": 16, "intermediate_size": 96}
    made = rules_for(QWEN, larger, optimizer="adamw")
    assert made.role("mlp_in").lr == 1 / 2
    assert made.question.target.dim == 32
    deeper = rules_for(text, "layers=8,kv_heads=2,mlp_ratio=3", optimizer="adamw").question.target
    assert deeper == replace(read, layers=8)


def test_a_module_takes_the_rules_and_another_width_is_refused() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    values = {key: value for key, value in QWEN.items() if key != "model_type"}
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**values))
    base = QWEN | {"hidden_size": 8, "head_dim": 4, "intermediate_size": 24}
    made = rules_for(base, QWEN, optimizer="adamw")
    before = model.model.layers[0].self_attn.o_proj.weight.detach().clone()
    groups = adapter.apply(model, made, lr=0.1, start="fixed")
    after = model.model.layers[0].self_attn.o_proj.weight.detach()
    assert float((after / before).median()) == pytest.approx(2**-0.5)
    torch.optim.AdamW(groups)
    filled = rules_for("head_dim=4,heads=4,layers=2", "head_dim=8,heads=4,layers=2",
                       optimizer="adamw", qk_norm=True)  # fmt: skip
    other = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**values))
    with pytest.raises(ShapeMismatchError, match="pass the sizes of this module"):
        adapter.apply(other, filled, lr=0.1, start="fixed")


def test_a_check_grows_the_stream_with_the_heads() -> None:
    assert resized(WIDE, "heads", 16) == replace(WIDE, heads=16, kv_heads=16, dim=32)
    assert resized(WIDE, "head_dim", 4) == replace(WIDE, head_dim=4, dim=8)
    assert resized(WIDE, "layers", 4) == replace(WIDE, layers=4)
    with pytest.raises(ArgumentError, match="grows with it"):
        resized(replace(WIDE, dim=17), "heads", 12)


def test_what_has_no_place_for_it_says_so() -> None:
    with pytest.raises(ArgumentError, match="the paper's stream"):
        paper_parameterization(WIDE, optimizer="sgd")
    with pytest.raises(UnsupportedModuleError, match="of which recipes have no power"):
        recipes.get("mup").at(NARROW, WIDE, "adam")["query.rate"]
    with pytest.raises(ConfigError, match="write a config"):
        predict("head_dim=8,heads=8,layers=2,width=16")


@pytest.mark.parametrize(("power", "expected"), [(0.5, 0.0), (1.0, 0.5)])
def test_values_move_alike_with_any_number_of_heads_in_one_stream(power, expected) -> None:
    """Own-weight motion under SGD along H at d = 16: the root of the ratio, not the ratio."""
    torch = pytest.importorskip("torch")
    heads, seeds, d, head_dim = (2, 4, 8, 16, 32), 6, 16, 8
    moved = np.zeros((len(heads), seeds))
    for place, h in enumerate(heads):
        size = Size(head_dim=head_dim, heads=h, layers=1, dim=d)
        made = rules(Size(head_dim=head_dim, heads=2, layers=1), size, optimizer="sgd")
        ratio = h / heads[0]
        assert made.role(Role.VALUE).lr == pytest.approx(ratio**0.5)
        n = h * head_dim
        for seed in range(seeds):
            torch.manual_seed(seed)
            draw = lambda *shape: torch.randn(*shape, dtype=torch.float64)  # noqa: E731
            x, target = draw(24, 5, d), draw(24, d)
            std = {"q": d**-0.5, "k": d**-0.5, "v": d**-0.5, "o": n**-0.5}
            shapes = {"q": (d, n), "k": (d, n), "v": (d, n), "o": (n, d)}
            w = {name: (draw(*shapes[name]) * std[name]).requires_grad_() for name in std}
            start = w["v"].detach().clone()
            roles = {"q": Role.QUERY, "k": Role.KEY, "o": Role.ATTENTION_OUT}
            rates = {name: made.role(role).lr for name, role in roles.items()}
            rates["v"] = ratio**power
            for _ in range(5):
                q, k, v = (
                    (x @ w[name]).unflatten(-1, (h, head_dim)).transpose(1, 2) for name in "qkv"
                )
                mixed = torch.softmax(q @ k.transpose(-1, -2) / head_dim, -1) @ v
                out = mixed.transpose(1, 2).flatten(-2).mean(1) @ w["o"]
                loss = 0.5 * ((out - target) ** 2).sum(-1).mean()
                grads = torch.autograd.grad(loss, list(w.values()))
                with torch.no_grad():
                    for (name, value), grad in zip(w.items(), grads, strict=True):
                        value -= 0.02 * rates[name] * grad
            moved[place, seed] = float(((x @ (w["v"].detach() - start)) ** 2).mean().sqrt())
    found = power_law_exponent(heads, moved)
    assert found.value == pytest.approx(expected, abs=0.15)
    assert abs(found.value - (0.5 - expected)) > 0.15 + 4.5 * found.stderr
