"""What a module does, read off one forward pass: modules whose names mislead, and what names say.

The rival of every case is the judgement by names alone, which is wrong there.
"""

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from translimit.core import ArgumentError  # noqa: E402
from translimit.scaling import (  # noqa: E402
    AmbiguousRuleError,
    Role,
    Size,
    UnmatchedParameterError,
    UnsupportedModuleError,
    rules,
    rules_for,
)
from translimit.scaling.adapters import Place, placed, roles, structure_of  # noqa: E402
from translimit.scaling.adapters import torch as adapter  # noqa: E402

pytestmark = pytest.mark.usefixtures("as_user")

BASE = Size(head_dim=8, heads=2, layers=1, mlp_ratio=2)
SIZE = Size(head_dim=8, heads=2, layers=2, mlp_ratio=2)
IDS = torch.arange(12).reshape(2, 6) % 11


class Gain(nn.Module):
    """Multiplies entry by entry; no norm."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x


class OwnNorm(Gain):
    """An RMS norm in single operations."""

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Attention(nn.Module):
    def __init__(self, size, kind):
        super().__init__()
        d = size.width
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.heads, self.kind = size.heads, kind
        if kind == "normed_heads":
            self.ln1 = nn.RMSNorm(size.head_dim)

    def forward(self, x):
        maps = (self.v, self.k, self.q) if self.kind == "swapped" else (self.q, self.k, self.v)
        q, k, v = (m(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in maps)
        if self.kind == "normed_heads":
            q, k = self.ln1(q), self.ln1(k)
        if self.kind == "one_operation":
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = torch.softmax(q.shape[-1] ** -0.5 * q @ k.transpose(-2, -1), -1) @ v
        return self.o(y.transpose(1, 2).flatten(-2))


class Mlp(nn.Module):
    def __init__(self, size, kind):
        super().__init__()
        d, hidden = size.width, int(size.width * size.mlp_ratio)
        self.kind = kind
        self.up, self.down = nn.Linear(d, hidden, bias=False), nn.Linear(hidden, d, bias=False)
        if kind == "turned":
            self.up, self.down = self.down, self.up
        if kind == "idle":
            self.gate = nn.Linear(d, hidden, bias=False)

    def forward(self, x):
        first, last = (self.down, self.up) if self.kind == "turned" else (self.up, self.down)
        return last(functional.gelu(first(x)))


class Block(nn.Module):
    def __init__(self, size, kind):
        super().__init__()
        d = size.width
        self.kind, self.attn, self.mlp = kind, Attention(size, kind), Mlp(size, kind)
        self.ln1, self.ln2 = nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)
        if kind == "no_norm":
            self.ln2 = Gain(d)
        if kind == "named_scale":
            self.scale_a, self.scale_b = OwnNorm(d), OwnNorm(d)

    def forward(self, x):
        if self.kind == "behind":
            x = x + self.ln1(self.attn(x))
            return x + self.ln2(self.mlp(x))
        if self.kind == "parallel":
            y = self.attn(self.ln1(x))
            return x + y + self.mlp(self.ln2(x))
        if self.kind == "named_scale":
            x = x + self.scale_a(self.attn(self.ln1(x)))
            return x + self.scale_b(self.mlp(self.ln2(x)))
        if self.kind == "functional":

            def norm(y):
                return functional.rms_norm(y, y.shape[-1:])

            x = x + norm(self.attn(norm(self.ln1(x))))
            return x + norm(self.mlp(norm(self.ln2(x))))
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Net(nn.Module):
    """A decoder whose parts have the names that the table of plain modules knows."""

    def __init__(self, kind="plain", size=SIZE):
        super().__init__()
        torch.manual_seed(0)
        self.kind, d = kind, size.width
        self.embed, self.head = nn.Embedding(11, d), nn.Linear(d, 11, bias=False)
        self.norm = nn.LayerNorm(d, bias=False)
        self.blocks = nn.ModuleList(Block(size, kind) for _ in range(size.layers))

    def forward(self, ids):
        x = self.embed(ids)
        if self.kind == "early":
            x = self.norm(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x if self.kind == "early" else self.norm(x))


@pytest.mark.parametrize("kind", ["plain", "one_operation", "normed_heads", "parallel", "behind"])
def test_branches_are_in_their_order_with_what_they_are(kind):
    model = Net(kind)
    seen = structure_of(model, IDS)
    assert seen == structure_of(model, lambda m: m(IDS)) == structure_of(model, {"ids": IDS})
    assert [one.attention for one in seen.branches] == [True, False] * 2
    assert [one.ends for one in seen.branches] == [
        (f"blocks.{block}.{end}.weight",) for block in (0, 1) for end in ("attn.o", "mlp.down")
    ]
    assert seen.branches[2].maps == tuple(f"blocks.1.attn.{m}.weight" for m in "qkvo")
    assert {one.ends_in_norm for one in seen.branches} == {kind == "behind"}
    assert {one.reads_norm for one in seen.branches} == {kind != "behind"}
    assert [one.normed_scores for one in seen.branches] == [kind == "normed_heads", False] * 2
    assert [one.parallel for one in seen.branches] == [False, kind == "parallel"] * 2
    assert seen.final_norm
    assert seen.never_called == ()


def test_a_pass_leaves_the_module_as_it_was():
    model = Net()
    model.blocks[0].mlp.down.weight.data.zero_()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    state = torch.get_rng_state()
    model.blocks[1].eval()
    assert not structure_of(model, IDS).branches[1].ends_in_norm  # with zeros as well
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not model.blocks[1].training


#: What the table of plain names says of a module whose names mislead, and where it is read.
MISLEADING = {
    "behind": ("blocks.0.ln1.weight", Role.BLOCK_NORM_GAIN, Place.END, Role.BRANCH_GAIN),
    "early": ("norm.weight", Role.FINAL_NORM_GAIN, Place.EMBEDDING, None),
    "turned": ("blocks.0.mlp.up.weight", Role.MLP_IN, Place.END_MAP, Role.MLP_OUT),
    "swapped": ("blocks.0.attn.v.weight", Role.VALUE, Place.SCORE_MAP, None),
    "normed_heads": ("blocks.0.attn.ln1.weight", Role.BLOCK_NORM_GAIN, Place.SCORES, None),
}


@pytest.mark.parametrize("kind", [*MISLEADING, "no_norm"])
def test_a_misleading_name_is_told_with_its_place(kind):
    model = Net(kind)
    names = {"blocks.*.attn.ln1.weight": "block_norm_gain"} if kind == "normed_heads" else None
    by_name = roles(model, names)
    both = placed(model, names, IDS)
    if kind == "no_norm":  # what is called a norm is none
        name, role = "blocks.0.ln2.weight", Role.BLOCK_NORM_GAIN
        said = "multiplies what no norm of its branch has made free of scale"
        assert not both.structure.branches[1].reads_norm
    else:
        name, role, place, right = MISLEADING[kind]
        said = place.in_words
        assert both.structure.places[name] == {place}
    assert by_name[name] is role  # the rival: names alone say what is not so
    (told,) = (one for one in both.contradictions if name in one.names)
    assert f"is a {role} by its name" in told.sentence
    assert said in told.sentence
    if kind != "no_norm" and right is not None:
        assert f"'{right}'" in told.remedy
    assert not placed(Net(), None, IDS).contradictions


@pytest.mark.parametrize("kind", ["behind", "no_norm", "early"])
def test_apply_refuses_a_table_that_contradicts_the_pass_and_keeps_the_word_of_a_user(kind):
    made = rules(BASE, SIZE, optimizer="adamw", style="folded")
    before = {name: one.clone() for name, one in Net(kind).state_dict().items()}
    model = Net(kind)
    if kind != "behind":  # the rival: by names alone it is done without a word
        adapter.apply(Net(kind), made, lr=1e-3)
    with pytest.raises(AmbiguousRuleError, match="by its name, and"):
        adapter.apply(model, made, lr=1e-3, example=IDS)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    if kind == "early":
        groups = adapter.apply(
            model, made, lr=1e-3, example=IDS, names={"^norm.weight": "final_norm_gain"}
        )
        assert any("the name counts" in one for one in groups.report["warnings"])


def test_a_norm_behind_a_branch_takes_the_factor_whatever_it_is_called():
    model = Net("named_scale")
    with pytest.raises(UnmatchedParameterError, match="scale_a"):
        roles(model)
    both = placed(model, None, IDS)
    assert {both.found[f"blocks.{b}.scale_{s}.weight"].role for b in (0, 1) for s in "ab"} == {
        Role.BRANCH_GAIN
    }
    assert both.found["blocks.0.ln2.weight"].role is Role.BLOCK_NORM_GAIN
    assert both.facts == {
        "branch_gain": True,
        "qk_norm": False,
        "packed_qkv": False,
        "tied": False,
    }
    made = rules_for(BASE, SIZE, optimizer="adamw", seen=both.facts)
    groups = adapter.apply(model, made, lr=1e-3, example=IDS)
    assert model.blocks[0].scale_b.weight.detach().unique().tolist() == [0.5]  # m_L^{-1}
    assert any("scale_a.weight and 3 more is a branch_gain by" in one for one in
               groups.report["warnings"])  # fmt: skip
    # The rival: what names alone would ask for puts the factor where a norm undoes it.
    plain = rules(BASE, SIZE, optimizer="adamw", style="folded")
    with pytest.raises(UnsupportedModuleError, match="branch_gain"):
        adapter.apply(Net("named_scale"), plain, lr=1e-3, example=IDS)


def test_norms_without_a_module_are_seen():
    seen = structure_of(Net("functional"), IDS)
    assert [one.ends_in_norm for one in seen.branches] == [True] * 4
    assert [one.ends_in_norm for one in structure_of(Net(), IDS).branches] == [False] * 4


def test_what_nothing_reads_is_told():
    seen = structure_of(Net("idle"), IDS)
    assert seen.never_called == ("blocks.0.mlp.gate", "blocks.1.mlp.gate")
    assert seen.places["blocks.0.mlp.gate.weight"] == {Place.NOWHERE}
    made = rules(BASE, SIZE, optimizer="adamw", style="folded")
    groups = adapter.apply(Net("idle"), made, lr=1e-3, example=IDS)
    assert any("blocks.0.mlp.gate is not called" in one for one in groups.report["warnings"])
    assert not any("not called" in one for one in
                   adapter.apply(Net(), made, lr=1e-3, example=IDS).report["warnings"])  # fmt: skip


def test_a_module_without_residual_sums_is_judged_by_names():
    model = nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 11))
    seen = structure_of(model, IDS)
    assert seen.branches == ()
    assert not seen.places


def test_a_configuration_that_says_other_than_the_pass_is_refused():
    small, large = ({"model_type": "llama", "vocab_size": 11, "hidden_size": 16,
                     "num_attention_heads": 2, "num_hidden_layers": layers,
                     "intermediate_size": 32} for layers in (1, 2))  # fmt: skip
    seen = placed(Net("named_scale"), None, IDS).facts
    with pytest.raises(UnsupportedModuleError, match=r"False by the configuration .* True by its"):
        rules_for(small, large, optimizer="adamw", seen=seen)
    told = rules_for(small, large, optimizer="adamw", seen=seen, branch_gain=False)
    assert not told.question.branch_gain
    with pytest.raises(ArgumentError, match="has the fact 'norms'"):
        rules_for(BASE, SIZE, optimizer="adamw", seen={"norms": True})
