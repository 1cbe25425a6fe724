"""Rows of experts, routers and another MLP ratio, measured on networks that train on digits.

Two blocks of RMS norm and a mixture, zero readout, images as 4 tokens of 16 pixels. Rates and
epsilons come from the rules; what they promise is that motions do not depend on the size. Controls
(a router's rate without 1 / m_d, and with it twice; MLP-in by fan-in) are seen to fail.
"""

import functools

import numpy as np
import pytest

from translimit.checks import power_law_exponent
from translimit.data import load_digits
from translimit.scaling import Size, rules

torch = pytest.importorskip("torch")

WIDTHS, EXPERTS, ACTIVE, STEPS = (16, 32, 64), 8, 2, 5


@functools.cache
def images(count=64):
    digits = load_digits()
    pixels, labels = digits.images[:count].reshape(count, -1) / 16, digits.labels[:count]
    pixels = (pixels - pixels.mean()) / pixels.std()
    tokens = pixels.reshape(count, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(count, 4, 16)
    return torch.tensor(tokens), torch.tensor(labels.astype(np.int64))


def norm(x):
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt()


class Mixture(torch.nn.Module):
    """Every weight is named after its role."""

    def __init__(self, size, made, seed):
        super().__init__()
        width, hidden = size.width, round(size.width * size.mlp_ratio)
        self.experts, self.active = size.experts, size.active_experts
        self.gates_of_all = False  # else those of the active ones sum to one
        draw = torch.Generator().manual_seed(seed)
        base = made.question.base

        def normal(role, *shape, std):
            drawn = torch.randn(*shape, generator=draw, dtype=torch.float64)
            return torch.nn.Parameter(std * made.role(role).init * drawn)

        n_d, n_M = base.width**-0.5, (base.width * base.mlp_ratio) ** -0.5
        self.patch_embedding = normal("patch_embedding", 16, width, std=0.25)
        for name, shape, std in (
            ("router", (width, self.experts), n_d),
            ("expert_in", (self.experts, width, hidden), n_d),
            ("expert_out", (self.experts, hidden, width), n_M),
        ):
            each = [normal(name, *shape, std=std) for _ in range(2)]
            self.register_module(name, torch.nn.ParameterList(each))
        self.readout = torch.nn.Parameter(torch.zeros(width, 10, dtype=torch.float64))
        self.mult = made.readout

    def branch(self, layer, x):
        logits = x @ self.router[layer]
        top, chosen = logits.topk(self.active, dim=-1)
        shares = logits.softmax(-1).gather(-1, chosen) if self.gates_of_all else top.softmax(-1)
        gates = torch.zeros_like(logits).scatter(-1, chosen, shares)
        hidden = torch.einsum("btd,edm->btem", x, self.expert_in[layer])
        out = torch.einsum(
            "btem,emd->bted", torch.nn.functional.gelu(hidden), self.expert_out[layer]
        )
        return torch.einsum("bted,bte->btd", out, gates)

    def forward(self, x):
        h = x @ self.patch_embedding
        for layer in range(2):
            h = h + self.branch(layer, norm(h))
        return self.mult * (norm(h).mean(1) @ self.readout)


def moved(base, size, seed, router_power=1, gates_of_all=False):
    """What steps of Adam change: router logits and experts at the inputs of the start, outputs.

    Returns:
        The branch's output at the start, its change, the changes of the router's logits and of the
        experts' pre-activations by their own weights, and that of the logits.
    """
    made = rules(base, size, optimizer="adam", change_mlp_ratio=True)
    model, (x, labels) = Mixture(size, made, seed), images()
    model.gates_of_all = gates_of_all
    groups = []
    for name, tensor in model.named_parameters():
        rule = made.role(name.split(".")[0])
        rate = 0.02 * rule.lr
        if name.startswith("router"):  # the rules' 1 / m_d: never, once, twice
            rate *= (size.width / base.width) ** (1 - router_power)
        groups.append({"params": [tensor], "lr": rate, "eps": 1e-12 * rule.eps})
    trainer = torch.optim.Adam(groups, betas=(0.9, 0.95))
    first = norm(x @ model.patch_embedding.detach())

    @torch.no_grad()
    def seen():
        into = torch.einsum("btd,edm->btem", first, model.expert_in[0])
        return model.branch(0, first), first @ model.router[0], into, model(x)

    start = seen()
    for _ in range(STEPS):
        trainer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        trainer.step()
    changes = [float((a - b).pow(2).mean().sqrt()) for a, b in zip(seen(), start, strict=True)]
    return [float(start[0].pow(2).mean().sqrt()), *changes]


def of_width(width):
    return Size(
        head_dim=width // 4, heads=4, layers=2, mlp_ratio=1, experts=EXPERTS, active_experts=ACTIVE
    )


def exponents(router_power, seeds=2):
    sizes = [of_width(width) for width in WIDTHS]
    rows = [[moved(sizes[0], one, s, router_power) for s in range(seeds)] for one in sizes]
    return [power_law_exponent(WIDTHS, np.array(rows)[..., part]).value for part in (2, 3)]


#: Axes of a mixture, and the sizes along them; the stream is 16 entries wide.
AXES = {
    "experts": [(n, 2, 1) for n in (4, 8, 16, 32)],
    "active": [(4 * n, n, 1) for n in (2, 4, 8, 16)],
    "hidden": [(8, 2, n) for n in (1, 2, 4, 8)],
}


def along(axis, seeds, **changed):
    """Exponents of the five numbers of `moved`, with standard errors over the seeds."""
    sizes = [
        Size(head_dim=4, heads=4, layers=2, mlp_ratio=ratio, experts=count, active_experts=active)
        for count, active, ratio in AXES[axis]
    ]
    grows = [size[{"experts": 0, "active": 1, "hidden": 2}[axis]] for size in AXES[axis]]
    rows = [[moved(sizes[0], one, seed, **changed) for seed in range(seeds)] for one in sizes]
    return [power_law_exponent(grows, np.array(rows)[..., part]) for part in range(5)]


@pytest.mark.parametrize("axis", AXES)
def test_nothing_depends_on_experts_active_ones_or_hidden_units(axis):
    """Acceptance: Adam's rows, within 0.2; with 4k experts the start falls like k^(-1/2)."""
    start, *moves = along(axis, seeds=3)
    expected = -0.42 if axis == "active" else 0.0
    assert abs(start.value - expected) < 0.1, start
    for one in moves:
        assert abs(one.value) < 0.2, moves


def test_gates_that_do_not_sum_to_one_are_refuted():
    """A softmax over all experts lets the branch fall like E^(-1/2)."""
    start = along("experts", seeds=2, gates_of_all=True)[0]
    assert abs(start.value + 0.52) < 0.15, start


def test_routers_and_experts_move_alike_at_every_width():
    router, expert = exponents(1)
    assert abs(router) < 0.3
    assert abs(expert) < 0.2


def test_a_router_without_its_factor_or_with_it_twice_is_refuted():
    assert exponents(0, seeds=1)[0] >= 0.4
    assert exponents(2, seeds=1)[0] <= -0.75


def learned(hidden, seed, by_fan_in):
    """Own-weight motion of the pre-activations of one MLP branch after a step of SGD."""
    base = Size(head_dim=4, heads=4, layers=1, mlp_ratio=1)
    target = Size(head_dim=4, heads=4, layers=1, mlp_ratio=hidden / 16)
    made = rules(base, target, optimizer="sgd", change_mlp_ratio=True)
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape, std):
        return std * torch.randn(*shape, generator=draw, dtype=torch.float64)

    x, labels = images()
    h = x @ normal(16, 16, std=0.25)
    into = normal(16, hidden, std=0.25 * made.role("mlp_in").init).requires_grad_()
    out, readout = (
        normal(hidden, 16, std=0.25 * made.role("mlp_out").init),
        normal(16, 10, std=0.25),
    )
    stream = h + torch.tanh(norm(h) @ into) @ out
    torch.nn.functional.cross_entropy(norm(stream).mean(1) @ readout, labels).backward()
    rate = hidden / 16 if by_fan_in else made.role("mlp_in").lr
    return float((norm(h) @ (rate * into.grad)).pow(2).mean().sqrt())


def test_another_mlp_ratio_takes_the_root_under_sgd():
    widths = (16, 64, 256, 512)
    for by_fan_in, expected in ((False, 0.0), (True, 0.5)):
        rows = np.array([[learned(m, seed, by_fan_in) for seed in range(8)] for m in widths])
        found = power_law_exponent(widths, rows)
        assert abs(found.value - expected) < 0.1, (by_fan_in, found)


def gradient_of_gain(heads, seed, shared):
    """The gradient of the gain of normalised queries in one attention block, at the start."""
    n, width = 8, 8 * heads
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape, std):
        return std * torch.randn(*shape, generator=draw, dtype=torch.float64)

    x, labels = images()
    h = x @ normal(16, width, std=0.25)
    q, k, v, o = (normal(width, width, std=width**-0.5) for _ in range(4))
    gain = torch.ones(n if shared else width, dtype=torch.float64, requires_grad=True)

    def split(y):
        return y.unflatten(-1, (heads, n)).transpose(1, 2)

    queries = norm(split(norm(h) @ q))
    queries = queries * (gain if shared else gain.reshape(heads, 1, n))
    scores = queries @ norm(split(norm(h) @ k)).transpose(-2, -1) / n
    branch = (scores.softmax(-1) @ split(norm(h) @ v)).transpose(1, 2).flatten(-2) @ o
    logits = norm(h + branch).mean(1) @ normal(width, 10, std=1 / width)
    torch.nn.functional.cross_entropy(logits, labels).backward()
    return float(gain.grad.pow(2).mean().sqrt())


def test_a_gain_that_heads_share_has_a_larger_gradient():
    """Along the heads: on its way from H^(-1/2), incoherent, to 0; 1 / H for an entry a channel."""
    heads, found = (2, 4, 8, 16), {}
    for shared in (True, False):
        rows = np.array([[gradient_of_gain(h, seed, shared) for seed in range(6)] for h in heads])
        found[shared] = power_law_exponent(heads, rows).value
    assert abs(found[True] + 0.31) < 0.2
    assert abs(found[False] + 1.03) < 0.2
    assert found[True] - found[False] >= 0.4
