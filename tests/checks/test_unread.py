"""What is set and not read, a factor in front of a norm, and decay, which is no learning."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: models are not checked")
from torch import nn  # noqa: E402

from translimit.checks import Trial, coordinate_check  # noqa: E402
from translimit.checks.torch_training import TorchTraining  # noqa: E402
from translimit.core import Verdict  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from toy import BASE, Attention, Block, toy  # noqa: E402

SIZES = (1, 2, 4)


def trial(**changed):
    told = {"base": BASE, "size": replace(BASE, layers=4), "seed": 0, "rate": 0.01}
    return Trial(**{**told, "standard": False, **changed})


def test_a_scale_that_the_module_does_not_read_is_named(monkeypatch):
    made = toy(trial())
    before = {name: one.clone() for name, one in made.model.state_dict().items()}
    assert made.unread() == []
    assert all(torch.equal(one, before[name]) for name, one in made.model.state_dict().items())

    with torch.no_grad():  # a branch so small that no digit of the loss shows it
        for block in made.model.blocks:
            block.attention.out.weight.mul_(1e-9)
    assert made.unread() == []

    def fixed(self, x):
        kept, self.scaling = self.scaling, 0.25
        try:
            return original(self, x)
        finally:
            self.scaling = kept

    original = Attention.forward
    monkeypatch.setattr(Attention, "forward", fixed)
    check = coordinate_check(toy, "layers", SIZES, base=BASE, rate=0.01, seeds=1, steps=(0, 1))
    assert check.overall() is Verdict.refuted
    assert [one.role for one in check.findings] == ["scores"]
    assert "blocks.0.attention.scaling (and 3 more) is set and not read" in check.lint()[0]


def test_a_factor_in_front_of_a_norm_is_named(monkeypatch):
    """The folded factor of the branches, where a norm without a gain ends them."""

    def peri(self, x):
        def norm(y):
            return y / y.pow(2).mean(-1, keepdim=True).sqrt()

        x = x + norm(self.attention(self.norm1(x)))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))

    monkeypatch.setattr(Block, "forward", peri)
    check = coordinate_check(toy, "layers", SIZES, base=BASE, rate=0.01, seeds=1, steps=(0, 1))
    (finding,) = (one for one in check.findings if one.number == "unread")
    assert (finding.role, finding.parameter) == (
        "attention_out",
        "blocks.*.attention.out.weight",
    )
    assert "a norm follows blocks.*.attention.out.weight" in check.lint()[0]


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.3),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.3, momentum=0.8),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.3, momentum=0.8, nesterov=True),
    "dampened": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.3, momentum=0.8, dampening=0.4),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_decay_leaves_of_the_start_is_exact(name):
    """Two starts under the same gradients differ by what decay leaves of their difference."""
    left, ends = [], []
    for start in (1.0, 3.0):
        model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        nn.init.constant_(model.weight, start)
        training = TorchTraining(
            model, [OPTIMIZERS[name](model.parameters())], lambda m, g: (m.weight * g).sum()
        )
        for step in range(5):
            training.update(0.2 + 0.1 * step)
        left.append(training.left(model.weight))
        ends.append(model.weight.item())
    assert left[0] == left[1] != 1
    assert ends[1] - ends[0] == pytest.approx(2 * left[0], abs=1e-12)


def test_decay_inside_of_adam_is_not_taken_out():
    model = nn.Linear(1, 1)
    adam = torch.optim.Adam(model.parameters(), weight_decay=0.1)
    training = TorchTraining(model, [adam], lambda m, g: m(g).sum())
    training.update(torch.ones(1, 1))
    assert not training.decays


def decayed(trial):
    """The toy with decay by the rules, large: a tenth of the weights in ten steps."""
    made = toy(trial)
    for group in made.optimizers[0].param_groups:
        role = made.role_table[
            next(n for n, p in made.model.named_parameters() if p is group["params"][0])
        ][0]
        group["weight_decay"] = made.rules.role(role).wd
    return made


@pytest.mark.parametrize("axis", ["head_dim", "layers"])
def test_decay_alone_is_no_learning(axis):
    """From a readout of zeros nothing but decay moves keys and scores in the first update."""
    sizes = SIZES if axis == "layers" else (8, 16, 32)
    options = {"base": BASE, "rate": 0.01, "seeds": 1, "steps": (1, 4)}
    check = coordinate_check(decayed, axis, sizes, **options)
    assert check.is_still("learned_key_change", 1)
    assert check.is_still("learned_score_change", 1)
    assert ("stream_change", 1) not in check.expected
    assert Verdict.refuted not in {check.verdict(*place, 0.25) for place in check.expected}
    if axis == "head_dim":
        plain = coordinate_check(toy, axis, sizes, **options)
        for name in ("learned_key_change", "update of mlp_in"):
            one, other = (found.exponent(name, 4).value for found in (check, plain))
            assert abs(one - other) < 0.1


def test_what_is_read_elsewhere_than_its_role_says_is_named(monkeypatch):
    """The norm of the MLP stands behind it, and its gain is called as before."""
    assert toy(trial()).misplaced() == []

    def behind(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.norm2(self.down(nn.functional.gelu(self.up(x))))

    monkeypatch.setattr(Block, "forward", behind)
    check = coordinate_check(toy, "layers", SIZES, base=BASE, rate=0.01, seeds=1, steps=(0, 1))
    found = [one for one in check.findings if one.number == "misplaced"]
    assert {one.parameter for one in found} == {"blocks.*.norm2.weight", "blocks.*.norm2.bias"}
    assert found[0].sentence == (
        "blocks.0.norm2.weight (and 3 more) is a block_norm_gain by its name, and is read in a "
        "branch, behind its last map"
    )
    assert check.overall() is Verdict.refuted
