"""Rows of experts, routers, gains of normalised queries, and of gains that end a branch."""

import math

import pytest
import torch

from translimit.core import ArgumentError
from translimit.scaling import Role, ShapeMismatchError, Size, UnsupportedModuleError, rules

pytestmark = pytest.mark.usefixtures("as_user")

SMALL = Size(head_dim=16, heads=4, layers=2)
LARGE = Size(head_dim=32, heads=8, layers=8)


def mixture(experts, active=2, ratio=1.0, **sizes):
    return Size(**{"head_dim": 8, "heads": 2, "layers": 2, **sizes}, mlp_ratio=ratio).__class__(
        **{"head_dim": 8, "heads": 2, "layers": 2, **sizes},
        mlp_ratio=ratio,
        experts=experts,
        active_experts=active,
    )


def test_gains_of_normalised_queries_by_entry_and_shared_by_heads():
    adam = rules(SMALL, LARGE, optimizer="adamw")
    assert (adam.role("qk_gain_shared").lr, adam.role("qk_gain_shared").eps) == (1, 0.125)
    assert (adam.role("qk_gain").lr, adam.role("qk_gain").eps) == (1, 0.0625)
    sgd = rules(SMALL, LARGE, optimizer="sgd")
    assert (sgd.role("qk_gain_shared").lr, sgd.role("qk_gain").lr) == (8, 16)
    assert adam.role("qk_gain") == adam.role("query_norm_gain")


def test_experts_and_router_take_the_printed_rows():
    """m_d = 4, m_M = 8 with the hidden units, m_E = 2, m_L = 2."""
    base, target = mixture(4), mixture(8, ratio=2.0, head_dim=16, heads=4, layers=4)
    adam = rules(base, target, optimizer="adamw", change_mlp_ratio=True)
    m_d, m_M, m_E, m_L = 4, 8, 2, 2
    into, out, router = (adam.role(name) for name in ("expert_in", "expert_out", "router"))
    assert (into.init, into.lr) == (m_d**-0.5, 1 / m_d)
    assert math.isclose(into.eps, (m_d * m_M) ** -0.5 / m_E / m_L)
    assert math.isclose(out.init, m_M**-0.5)
    assert (out.lr, out.eps) == (1 / m_M, 1 / (m_d * m_E * m_L))
    assert (router.init, router.lr, router.eps) == (0.5, 1 / m_d, 1 / (m_E * m_L))
    sgd = rules(base, target, optimizer="sgd", change_mlp_ratio=True, unsafe=True)
    assert math.isclose(sgd.role("expert_in").lr, (m_M / m_d) ** 0.5 * m_E * m_L)
    assert sgd.role("expert_out").lr == m_d / m_M * m_E * m_L
    assert sgd.role("router").lr == m_E * m_L / m_d
    muon = rules(base, target, optimizer="muon", muon_adjust="none", change_mlp_ratio=True)
    assert math.isclose(muon.role("expert_in").lr, (m_M / m_d) ** 0.5)
    assert math.isclose(muon.role("expert_out").lr, (m_d / m_M) ** 0.5)
    assert muon.role("router") == adam.role("router")  # AdamW beside it
    assert "derived" in muon.warnings[-1]
    # A shared expert is a dense MLP.
    assert adam.role("mlp_out").eps == into.eps * 2 * 8**0.5 / 2 or adam.role("mlp_out").eps > 0


def test_what_depends_on_the_number_of_experts_is_what_is_routed():
    few, many = mixture(4), mixture(16)
    made = rules(few, many, optimizer="adamw")
    moved = {role for role in Role if role.value in made.table() and made.role(role).eps != 1}
    assert moved == {role for role in Role if role.is_routed}
    assert all(made.role(role).eps == 0.25 for role in moved)
    assert all(made.role(role).lr == made.role(role).init == 1 for role in moved)


@pytest.mark.parametrize(
    ("base", "target", "options", "kind", "message"),
    [
        (mixture(4), mixture(8), {"optimizer": "sgd"}, UnsupportedModuleError, "E^0.4"),
        (
            mixture(4),
            mixture(8),
            {"normalised_gates": False},
            UnsupportedModuleError,
            "do not sum to a constant",
        ),
        (mixture(4, 1), mixture(4, 1), {}, UnsupportedModuleError, "router no gradient"),
        (SMALL, mixture(4), {"change_mlp_ratio": True}, ShapeMismatchError, "are None in the base"),
        (
            SMALL,
            LARGE,
            {"scaled_embedding": True, "style": "single_lr"},
            UnsupportedModuleError,
            "use style='folded'",
        ),
    ],
)
def test_mixtures_without_a_flat_choice_are_refused(base, target, options, kind, message):
    with pytest.raises(kind) as refused:
        rules(base, target, **{"optimizer": "adamw", **options})
    assert message in str(refused.value)


def test_experts_of_a_size():
    assert mixture(4, None).active_experts == 1
    with pytest.raises(ArgumentError, match="active_experts: 5 of 4 experts"):
        mixture(4, 5)
    with pytest.raises(ArgumentError, match="pass experts as well"):
        mixture(None, 2)
    said = rules(mixture(8, 2), mixture(8, 4), optimizer="adamw").warnings[-1]
    assert "active experts go from 2 to 4" in said


def test_a_branch_that_ends_in_a_gain_has_the_factor_there():
    """LayerScale's row, and no factor in front of a norm, where it would do nothing."""
    made = rules(SMALL, LARGE, optimizer="adamw", style="folded", branch_gain=True)
    plain = rules(SMALL, LARGE, optimizer="adamw")
    gain = made.role("branch_gain")
    assert (gain.init, gain.lr, gain.eps) == (0.25, 0.25, 0.25)  # 1 / m_L, 1 / m_L, 1 / m_d
    assert made.role("attention_out") == plain.role("attention_out")
    assert made.role("mlp_out_bias") == plain.role("mlp_out_bias")
    sgd = rules(SMALL, LARGE, optimizer="sgd", style="folded", branch_gain=True)
    assert sgd.role("branch_gain").lr == 1.0  # m_d / m_L


class Normalised(torch.nn.Module):
    """Branches with a norm and its gain behind them; the embedding times d^{1/2}, and tied."""

    def __init__(self, width, layers, made, fold):
        super().__init__()
        draw = torch.Generator().manual_seed(0)

        def normal(role, *shape, std):
            drawn = torch.randn(*shape, generator=draw, dtype=torch.float64)
            return torch.nn.Parameter(std * made.role(role).init * drawn)

        def gain(role):
            value = made.role(role).init * torch.ones(width, dtype=torch.float64)
            return torch.nn.Parameter(value)

        self.token_embedding = normal("token_embedding", 7, width, std=0.25)
        each = range(layers)
        self.mlp_in = torch.nn.ParameterList(
            [normal("mlp_in", width, 2 * width, std=0.4) for _ in each]
        )
        self.mlp_out = torch.nn.ParameterList(
            [normal("mlp_out", 2 * width, width, std=0.3) for _ in each]
        )
        self.branch_gain = torch.nn.ParameterList([gain("branch_gain") for _ in each])
        self.final_norm_gain = gain("final_norm_gain")
        self.b = 1.0 if fold else made.residual
        self.out = 1.0 if fold else made.readout
        self.width = width

    def forward(self, ids):
        def norm(x):
            return x / x.pow(2).mean(-1, keepdim=True).sqrt()

        h = self.width**0.5 * self.token_embedding[ids]
        for into, out, gain in zip(self.mlp_in, self.mlp_out, self.branch_gain, strict=True):
            h = h + self.b * gain * norm(torch.tanh(norm(h) @ into) @ out)
        return self.out * (self.final_norm_gain * norm(h)) @ self.token_embedding.T


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_folding_into_the_gain_of_a_norm_trains_the_same_network(optimizer):
    """Tied, with the embedding times d^{1/2}; the same fold in front of the norm does not."""
    base, target = Size(head_dim=4, heads=2, layers=1), Size(head_dim=8, heads=2, layers=3)
    ids, losses = torch.arange(6), {}
    for style in ("canonical", "folded", "wrong"):
        made = rules(
            base,
            target,
            optimizer=optimizer,
            style="canonical" if style == "canonical" else "folded",
            tied=True,
            scaled_embedding=True,
            branch_gain=style != "wrong",
        )
        model = Normalised(target.width, target.layers, made, style != "canonical")
        groups = []
        for name, tensor in model.named_parameters():
            rule = made.role(name.split(".")[0])
            group = {"params": [tensor], "lr": 0.05 * rule.lr, "weight_decay": 0.1 * rule.wd}
            groups.append(group if rule.eps is None else {**group, "eps": 1e-3 * rule.eps})
        kind = torch.optim.SGD if optimizer == "momentum" else torch.optim.AdamW
        trainer = kind(groups, **({"momentum": 0.9} if optimizer == "momentum" else {}))
        losses[style] = []
        for _ in range(6):
            trainer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(ids), (ids + 1) % 7)
            loss.backward()
            trainer.step()
            losses[style].append(loss.item())
    assert torch.allclose(
        torch.tensor(losses["canonical"]), torch.tensor(losses["folded"]), rtol=0, atol=1e-6
    )
    gap = max(abs(a - b) for a, b in zip(losses["canonical"], losses["folded"], strict=True))
    assert gap < 1e-12
    assert max(abs(a - b) for a, b in zip(losses["canonical"], losses["wrong"], strict=True)) > 1e-2
