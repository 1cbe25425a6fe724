"""Rows of latents with a norm between two narrow maps, and of LoRA, measured on digits."""

import math

import numpy as np
import pytest
from tests.scaling.test_measured_rows import images, norm

from translimit.checks import power_law_exponent
from translimit.core import ArgumentError
from translimit.scaling import Size, UnsupportedModuleError, latent_rules, lora_rules, rules

torch = pytest.importorskip("torch")

RANKS, WIDTH = (4, 8, 16, 32, 64), 32


def asked(optimizer, target=None, **more):
    base = Size(head_dim=8, heads=4, layers=2)
    return rules(base, target or base, optimizer=optimizer, **more)


def test_the_printed_rows():
    """m_N = 2, m_d = 4, m_L = 4, m_r = 2, alpha_A = 1/2, alpha_L = 1."""
    target = Size(head_dim=16, heads=8, layers=8)
    adam = latent_rules(asked("adamw", target, alpha_A=0.5), (4, 8))
    q = 2**-0.5
    assert adam.down.to_json() == pytest.approx(
        {"mult": 1, "init": 0.5, "lr": q / 4, "eps": 1 / (4 * q * 2), "wd": 4 / q}
    )
    assert (adam.up.init, adam.up.lr, adam.up.eps) == pytest.approx((q, q / 2, 1 / (4 * q * 4)))
    assert (adam.gain.init, adam.gain.lr, adam.gain.eps) == pytest.approx((1, q, 1 / (8 * q)))
    sgd = latent_rules(asked("sgd", target), (4, 8))
    assert sgd.down.lr == pytest.approx(4 * (2 / 4) ** 0.5)
    assert sgd.up.lr == pytest.approx(4 * 4 / 2)
    assert sgd.gain.lr == pytest.approx(4 * 2)
    assert sgd.down.eps is None
    muon = latent_rules(asked("muon", target, muon_adjust="none"), (4, 8))
    assert (muon.down.lr, muon.up.lr) == pytest.approx(((2 / 4) ** 0.5, (4 / 2) ** 0.5))
    fixed = latent_rules(asked("muon", target, muon_adjust="none"), (4, 4))
    assert (fixed.down.lr, fixed.up.lr, fixed.up.init) == (0.5, 2, 1)
    own = latent_rules(asked("muon", target), (4, 4))  # (n / r)^{1/2} is in torch's update
    assert (own.down.lr, own.up.lr) == (0.5, 1)
    grouped = latent_rules(asked("adamw", target), (4, 8), "key_value")
    assert "rotary key rows" in grouped.warnings[-1]


def latent_motion(rank, seed, optimizer, control=None):
    """Own-weight motion of both maps of a latent after five updates, at the inputs of the start."""
    made = latent_rules(asked(optimizer), (RANKS[0], rank))
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape, std):
        return (std * torch.randn(*shape, generator=draw, dtype=torch.float64)).requires_grad_()

    x, labels = images()
    embedded = x @ normal(16, WIDTH, std=0.25).detach()
    down = normal(WIDTH, rank, std=WIDTH**-0.5 * made.down.init)
    up = normal(rank, WIDTH, std=RANKS[0] ** -0.5 * made.up.init)
    out = normal(WIDTH, WIDTH, std=WIDTH**-0.5)
    readout = torch.zeros(WIDTH, 10, dtype=torch.float64, requires_grad=True)
    rates = {"down": made.down.lr, "up": made.up.lr}
    if control == "up":
        rates["up"] *= rank / RANKS[0]
    if control == "down":
        rates["down"] *= (rank / RANKS[0]) ** 0.5
    rate, steps = (0.02, 5) if optimizer == "adam" else (0.5, 20)
    groups = [
        {"params": [down], "lr": rate * rates["down"]},
        {"params": [up], "lr": rate * rates["up"]},
        {"params": [out, readout], "lr": rate},
    ]
    adam = {"betas": (0.9, 0.95), "eps": 1e-12}
    trainer = torch.optim.Adam(groups, **adam) if optimizer == "adam" else torch.optim.SGD(groups)
    latent = norm(norm(embedded) @ down).detach()
    start = (norm(embedded) @ down).detach(), (latent @ up).detach()
    for _ in range(steps):
        trainer.zero_grad()
        branch = torch.tanh(norm(norm(embedded) @ down) @ up) @ out
        logits = norm(embedded + branch).mean(1) @ readout
        torch.nn.functional.cross_entropy(logits, labels).backward()
        trainer.step()
    now = (norm(embedded) @ down).detach(), (latent @ up).detach()
    return [float((a - b).pow(2).mean().sqrt()) for a, b in zip(now, start, strict=True)]


def latent_exponents(optimizer, control=None, seeds=3):
    rows = np.array(
        [[latent_motion(r, s, optimizer, control) for s in range(seeds)] for r in RANKS]
    )
    return [power_law_exponent(RANKS, rows[..., part]).value for part in range(2)]


def test_both_maps_of_a_latent_move_alike_at_every_rank():
    """Adam: measured +0.15 and -0.12 along r from 4 to 64 at d = 32; without 1 / m_r above."""
    down, up = latent_exponents("adam")
    assert abs(down) < 0.3
    assert abs(up) < 0.3
    assert latent_exponents("adam", "up", seeds=1)[1] > 0.6


def test_the_down_map_takes_the_root_under_sgd():
    rooted, counted = latent_exponents("sgd")[0], latent_exponents("sgd", "down")[0]
    assert abs(rooted) < 0.2
    assert counted - rooted > 0.2


def test_the_up_map_under_sgd():
    """Measured -0.25 along r from 4 to 64 at d = 32, and +0.66 without 1 / m_r; errors 0.04."""
    assert abs(latent_exponents("sgd", seeds=2)[1]) < 0.35
    assert latent_exponents("sgd", "up", seeds=1)[1] > 0.45


def orthogonal_motion(rank, width, seed, by, sizes, control=0.0):
    """Own-weight motion of both maps after five steps of Muon; all else trains under Adam.

    Two images have 8 tokens: what more directions than the rank teach is not in one update.
    """
    target = Size(head_dim=4, heads=width // 4, layers=2)
    base = Size(head_dim=4, heads=sizes[0] // 4, layers=2) if by == "width" else target
    first = sizes[0] if by == "rank" else rank
    question = rules(base, target, optimizer="muon", muon_adjust="none")
    made = latent_rules(question, (first, rank))
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape, std):
        return (std * torch.randn(*shape, generator=draw, dtype=torch.float64)).requires_grad_()

    x, labels = (one[:2] for one in images())
    embedded = x @ normal(16, width, std=0.25).detach()
    down, up = normal(width, rank, std=width**-0.5), normal(rank, width, std=rank**-0.5)
    out = normal(width, width, std=width**-0.5)
    readout = torch.zeros(width, 10, dtype=torch.float64, requires_grad=True)
    m_d = question.question.m_d
    adam = [{"params": [out], "lr": 0.02 / m_d}, {"params": [readout], "lr": 0.02}]
    trainer = torch.optim.Adam(adam, betas=(0.9, 0.95), eps=1e-14)
    grown = (rank if by == "rank" else width) / sizes[0]
    rates = {down: made.down.lr * grown**control, up: made.up.lr * grown**-control}
    latent = norm(norm(embedded) @ down).detach()
    start = (norm(embedded) @ down).detach(), (latent @ up).detach()
    momentum = dict.fromkeys(rates, torch.zeros(()))
    for _ in range(5):
        for one in (down, up, out, readout):
            one.grad = None
        branch = torch.tanh(norm(norm(embedded) @ down) @ up) @ out
        logits = norm(embedded + branch).mean(1) @ readout / m_d
        torch.nn.functional.cross_entropy(logits, labels).backward()
        trainer.step()
        with torch.no_grad():
            for one, rate in rates.items():
                momentum[one] = 0.95 * momentum[one] + one.grad
                if momentum[one].count_nonzero():
                    u, _, v = torch.linalg.svd(momentum[one], full_matrices=False)
                    one -= 0.1 * rate * (u @ v)
    now = (norm(embedded) @ down).detach(), (latent @ up).detach()
    return [float((a - b).pow(2).mean().sqrt()) for a, b in zip(now, start, strict=True)]


@pytest.mark.parametrize("by", ["rank", "width"])
def test_both_maps_of_a_latent_move_alike_under_muon(by):
    """Along the rank at width 64, and along the width at rank 8; one rate for all is refuted."""
    sizes = (8, 16, 32, 64) if by == "rank" else (16, 32, 64)

    def exponents(control, seeds):
        told = [(n, 64) if by == "rank" else (8, n) for n in sizes]
        rows = [[orthogonal_motion(*one, s, by, sizes, control) for s in seeds] for one in told]
        return [power_law_exponent(sizes, np.array(rows)[..., part]).value for part in (0, 1)]

    down, up = exponents(0.0, range(3))
    assert abs(down) < 0.15
    assert abs(up) < 0.15
    wrong = 0.5 if by == "width" else -0.5  # what makes both rates 1
    down, up = exponents(wrong, range(2))
    assert np.sign(wrong) * down > 0.25
    assert np.sign(wrong) * up < -0.25


def lora_change(rank, seed, optimizer, factor, scaled, steps=1, examples=2):
    """The change of the output of a frozen layer by an adapter, after some updates."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape, std):
        return std * torch.randn(*shape, generator=draw, dtype=torch.float64)

    n = 128
    x, frozen = normal(examples, n, std=1.0), normal(n, n, std=n**-0.5)
    readout, goal = normal(n, 4, std=1 / n), normal(examples, 4, std=1.0)
    a = normal(rank, n, std=n**-0.5).requires_grad_()
    b = torch.zeros(n, rank, dtype=torch.float64, requires_grad=True)
    made = lora_rules((2, rank), optimizer=optimizer, factor=factor)
    lr_a, lr_b = (made.a.lr, made.b.lr) if scaled else (1.0, 1.0)
    rate = 0.003 if optimizer == "adam" else 1.0
    groups = [{"params": [a], "lr": rate * lr_a}, {"params": [b], "lr": rate * lr_b}]
    if optimizer == "adam":
        trainer = torch.optim.Adam(groups, betas=(0.9, 0.95), eps=1e-14)
    else:
        trainer = torch.optim.SGD(groups)
    for _ in range(steps):
        trainer.zero_grad()
        y = x @ frozen.T + made.factor * (x @ a.T) @ b.T
        (torch.tanh(y) @ readout - goal).pow(2).sum().backward()
        trainer.step()
    return float((made.factor * (x @ a.T) @ b.T).detach().pow(2).mean().sqrt())


@pytest.mark.parametrize(
    ("optimizer", "factor", "scaled", "expected", "tol"),
    [
        ("adam", "a/r", False, 0.0, 0.15),
        ("adam", "a/sqrt(r)", False, 0.5, 0.15),
        ("adam", "a/sqrt(r)", True, 0.0, 0.15),
        ("sgd", "a/sqrt(r)", False, 0.0, 0.3),
        ("sgd", "a/r", False, -1.0, 0.3),
        ("sgd", "a/r", True, 0.0, 0.3),
    ],
)
def test_what_an_adapter_changes_at_every_rank(optimizer, factor, scaled, expected, tol):
    """Two examples, one update, ranks 2 to 64; with the rates of the rules (scaled) or with one."""
    ranks = (2, 4, 8, 16, 32, 64)
    rows = np.array(
        [[lora_change(r, s, optimizer, factor, scaled) for s in range(6)] for r in ranks]
    )
    assert abs(power_law_exponent(ranks, rows).value - expected) < tol


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_two_factors_are_one_move_apart(optimizer):
    """Ten updates by the rules of a / r and of a / r^(1/2) give the same output."""
    told = [lora_change(16, 0, optimizer, f, True, steps=10) for f in ("a/r", "a/sqrt(r)")]
    assert told[0] == pytest.approx(told[1], rel=1e-9)


@pytest.mark.usefixtures("as_user")
def test_refusals_and_remarks():
    with pytest.raises(UnsupportedModuleError, match="has no row for LoRA"):
        lora_rules((2, 4), optimizer="muon")
    with pytest.raises(ArgumentError, match=r"rank: got \(0, 4\); pass two numbers"):
        lora_rules((0, 4), optimizer="adamw")
    with pytest.raises(ArgumentError, match="factor: got"):
        lora_rules((2, 4), optimizer="adamw", factor="a")  # pyright: ignore
    target = Size(head_dim=16, heads=4, layers=2)
    with pytest.raises(UnsupportedModuleError, match="one latent makes keys and values"):
        latent_rules(asked("adamw", target, alpha_A=0.5), (4, 4), "key_value")
    with pytest.raises(UnsupportedModuleError, match="a multiplier of its own"):
        latent_rules(asked("adamw", style="single_lr"), (4, 4))
    with pytest.raises(ArgumentError, match="part: got"):
        latent_rules(asked("adamw"), (4, 4), "value")  # pyright: ignore
    wide = lora_rules((2, 4), optimizer="adamw", fan_in=(8, 16), fan_out=(8, 16))
    assert (wide.a.lr, wide.b.lr, wide.a.eps, wide.b.eps) == (0.5, 1, 0.5, 0.25)
    assert math.isclose(wide.a.init, 2**-0.5)
    assert "counted, not measured" in wide.warnings[-1]
