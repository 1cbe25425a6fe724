"""Parameters that no role is for keep the numbers of the base, once somebody says so."""

import pytest

from translimit.core import NoSuchLimitError
from translimit.scaling import Rules, ShapeMismatchError, Size, UnmatchedParameterError, rules
from translimit.scaling.adapters import torch as adapter

torch = pytest.importorskip("torch")

BASE, TARGET = Size(head_dim=8, heads=2, layers=2), Size(head_dim=8, heads=4, layers=4)


class Block(torch.nn.Module):
    """Attention and MLP with a gate for every head."""

    def __init__(self, d, heads):
        super().__init__()
        for name in ("q", "k", "v", "o"):
            self.add_module(name, torch.nn.Linear(d, d, bias=False))
        self.attn_gate = torch.nn.Linear(12, heads, bias=False)
        self.scale = 8**-0.5


class Wrapped(torch.nn.Module):
    """The block one level down, as the plain table has it."""

    def __init__(self, d, heads):
        super().__init__()
        self.attention = Block(d, heads)
        self.up = torch.nn.Linear(d, 4 * d, bias=False)
        self.down = torch.nn.Linear(4 * d, d, bias=False)
        self.mlp = torch.nn.ModuleDict({"up": self.up, "down": self.down})
        del self.up, self.down


class Model(torch.nn.Module):
    """Factors of the stream and embeddings of values, as in nanochat."""

    def __init__(self, size):
        super().__init__()
        d = size.width
        self.wte = torch.nn.Embedding(40, d)
        self.value_embeds = torch.nn.Embedding(40, d)
        self.resid_lambdas = torch.nn.Parameter(torch.full((size.layers,), 0.7))
        self.blocks = torch.nn.ModuleList(Wrapped(d, size.heads) for _ in range(size.layers))
        self.head = torch.nn.Linear(d, 40, bias=False)


OWN = {
    "resid_lambdas": "unscaled",
    "value_embeds.weight": "unscaled",
    "*.attn_gate.weight": "unscaled",
}


def test_they_are_refused_with_the_way_out() -> None:
    made = rules(BASE, TARGET, optimizer="adamw", style="folded")
    with pytest.raises(UnmatchedParameterError, match="'unscaled' keeps the numbers") as refused:
        adapter.apply(Model(TARGET), made, lr=0.1, start="fan_in")
    assert "{'resid_lambdas': 'stream_factor'}" in str(refused.value)
    with pytest.raises(NoSuchLimitError, match="name its parameters 'unscaled'"):
        made.role("score_gain")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_they_keep_the_numbers_of_the_base_without_decay(optimizer) -> None:
    made = rules(BASE, TARGET, optimizer=optimizer, style="folded")
    model = Model(TARGET)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    groups = adapter.apply(
        model, made, lr=0.1, eps=1e-7, weight_decay=0.3, start="fan_in", names=OWN
    )
    own = [name for name in before if any(part in name for part in ("embeds", "gate", "lambdas"))]
    assert len(own) == 2 + TARGET.layers
    for name in own:
        torch.testing.assert_close(dict(model.named_parameters())[name].detach(), before[name])
        (group,) = (one for one in groups if name in one["names"])
        assert (group["lr"], group["weight_decay"]) == (0.1, 0.0)
        assert group.get("eps", 1e-7) == 1e-7
    assert any("6 parameters keep the numbers" in one for one in groups.report["warnings"])
    wide = next(one for one in groups if "blocks.0.mlp.down.weight" in one["names"])
    assert wide["lr"] != 0.1 or optimizer == "sgd"


def test_with_roles_of_their_own_they_take_the_rules() -> None:
    """m_L = 2, m_H = m_d = 2; the values of the first stream's factors start at 0.7 / m_L."""
    names = {
        "resid_lambdas": "skip_factor",
        "value_embeds.weight": "value_embedding",
        "*.attn_gate.weight": "narrow_head_gate",
    }
    made = rules(BASE, TARGET, optimizer="adamw", style="folded")
    model = Model(TARGET)
    embedded = model.value_embeds.weight.detach().clone()
    groups = adapter.apply(
        model, made, lr=0.1, eps=1e-7, weight_decay=0.3, start="fan_in", names=names, seed=1
    )
    assert model.resid_lambdas.detach().tolist() == pytest.approx([0.35] * TARGET.layers)
    assert float(model.value_embeds.weight.detach().std()) == pytest.approx(
        float(embedded.std()), rel=0.1
    )

    def of(name):
        (group,) = (one for one in groups if name in one["names"])
        return group["lr"], group["eps"], group["weight_decay"]

    assert of("resid_lambdas") == pytest.approx((0.05, 1e-7, 0))
    assert of("value_embeds.weight") == pytest.approx((0.1, 2.5e-8, 0.3))
    assert of("blocks.0.attention.attn_gate.weight") == pytest.approx((0.1, 2.5e-8, 0.3))
    assert not any("no rule was verified" in one for one in groups.report["warnings"])


def test_a_gate_of_another_number_of_heads_is_refused() -> None:
    made = rules(BASE, TARGET, optimizer="adamw", style="folded")
    model = Model(TARGET)
    model.blocks[0].attention.attn_gate = torch.nn.Linear(12, 3, bias=False)
    names = {**OWN, "*.attn_gate.weight": "narrow_head_gate"}
    with pytest.raises(ShapeMismatchError, match="a narrow_head_gate of the target has 4 x any"):
        adapter.apply(model, made, lr=0.1, start="fan_in", names=names)


def test_tables_do_not_have_it() -> None:
    made = rules(BASE, TARGET, optimizer="adamw")
    assert "unscaled" not in made.table()
    assert Rules.from_json(made.to_json()) == made
