"""Two routes: PyTorch trains one small language model in all styles, in float64.

The network and its optimisers are written here or come from PyTorch; from translimit there are
only numbers. Every role but those of patches has its parameter.
"""

import functools

import pytest

torch = pytest.importorskip("torch")

from translimit.scaling import (  # noqa: E402
    STYLES,
    Parameterization,
    Role,
    RoleRule,
    Size,
    Update,
    rules,
    standard_parameterization,
)

BASE = Size(head_dim=4, heads=2, layers=1, kv_heads=1, mlp_ratio=2)
TARGET = Size(head_dim=8, heads=4, layers=3, kv_heads=2, mlp_ratio=2)
VOCABULARY, TOKENS, SEQUENCES, STEPS = 7, 5, 6, 8
ALPHAS = [(1.0, 1.0), (0.5, 0.5), (0.75, 0.6)]


@functools.cache
def batch():
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(VOCABULARY, (SEQUENCES, TOKENS + 1), generator=generator)
    return text[:, :-1], text[:, 1:]


def shapes(size):
    d, keys, hidden = size.width, size.head_dim * size.groups, int(size.width * size.mlp_ratio)
    outer = {
        Role.TOKEN_EMBEDDING: (VOCABULARY, d),
        Role.POSITION_EMBEDDING: (TOKENS, d),
        Role.FINAL_NORM_GAIN: (d,),
        Role.FINAL_NORM_BIAS: (d,),
        Role.READOUT: (VOCABULARY, d),
        Role.READOUT_BIAS: (VOCABULARY,),
    }
    block = {
        Role.BLOCK_NORM_GAIN: (2, d),
        Role.BLOCK_NORM_BIAS: (2, d),
        Role.QUERY: (d, d),
        Role.KEY: (keys, d),
        Role.VALUE: (keys, d),
        Role.ATTENTION_OUT: (d, d),
        Role.QUERY_BIAS: (d,),
        Role.VALUE_BIAS: (keys,),
        Role.ATTENTION_OUT_BIAS: (d,),
        Role.MLP_IN: (hidden, d),
        Role.MLP_GATE: (hidden, d),
        Role.MLP_OUT: (d, hidden),
        Role.MLP_IN_BIAS: (hidden,),
        Role.MLP_GATE_BIAS: (hidden,),
        Role.MLP_OUT_BIAS: (d,),
    }
    layers = {(role, l): shape for l in range(size.layers) for role, shape in block.items()}
    return {(role, None): shape for role, shape in outer.items()} | layers


def draw(numbers: Parameterization, tied: bool):
    """Parameters from the same normal numbers in every style."""
    generator = torch.Generator().manual_seed(1)
    parameters = {}
    for (role, layer), shape in shapes(numbers.size).items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        start = torch.ones_like(noise) if role.is_gain else noise
        parameters[role, layer] = (numbers.role(role).init * start).requires_grad_()
    if tied:
        del parameters[Role.READOUT, None]
    return parameters


def normalise(h):
    return torch.nn.functional.layer_norm(h, h.shape[-1:], eps=1e-6)


def loss_of(parameters, numbers: Parameterization, tied: bool):
    tokens, following = batch()
    size = numbers.size

    def weight(role, layer=None):
        name = Role.TOKEN_EMBEDDING if tied and role is Role.READOUT else role
        return numbers.role(role).mult * parameters[name, layer]

    def heads(x, count):
        return x.unflatten(-1, (count, size.head_dim)).transpose(1, 2)

    h = weight(Role.TOKEN_EMBEDDING)[tokens] + weight(Role.POSITION_EMBEDDING)
    mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    for layer in range(size.layers):
        w = functools.partial(weight, layer=layer)
        gain, bias = w(Role.BLOCK_NORM_GAIN), w(Role.BLOCK_NORM_BIAS)
        x = normalise(h) * gain[0] + bias[0]
        q = heads(x @ w(Role.QUERY).T + w(Role.QUERY_BIAS), size.heads)
        k = heads(x @ w(Role.KEY).T, size.groups)
        v = heads(x @ w(Role.VALUE).T + w(Role.VALUE_BIAS), size.groups)
        k, v = (y.repeat_interleave(size.heads // size.groups, dim=1) for y in (k, v))
        scores = numbers.score_scale * (q @ k.transpose(-1, -2))
        attention = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        mixed = (attention @ v).transpose(1, 2).flatten(-2)
        out = mixed @ w(Role.ATTENTION_OUT).T + w(Role.ATTENTION_OUT_BIAS)
        h = h + numbers.residual * out
        x = normalise(h) * gain[1] + bias[1]
        gate = torch.nn.functional.silu(x @ w(Role.MLP_GATE).T + w(Role.MLP_GATE_BIAS))
        hidden = gate * (x @ w(Role.MLP_IN).T + w(Role.MLP_IN_BIAS))
        h = h + numbers.residual * (hidden @ w(Role.MLP_OUT).T + w(Role.MLP_OUT_BIAS))
    x = normalise(h) * weight(Role.FINAL_NORM_GAIN) + weight(Role.FINAL_NORM_BIAS)
    f = x @ weight(Role.READOUT).T + weight(Role.READOUT_BIAS)
    return torch.nn.functional.cross_entropy(f.flatten(0, 1), following.flatten())


def orthogonal(gradient):
    """Newton-Schulz of Muon in float64: smooth where a gradient has less than full rank."""
    x = gradient if gradient.shape[0] <= gradient.shape[1] else gradient.T
    x = x / x.norm()
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x if gradient.shape[0] <= gradient.shape[1] else x.T


class Orthogonal(torch.optim.Optimizer):
    """Muon without momentum."""

    def __init__(self, groups):
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * orthogonal(p.grad))


def optimisers_of(parameters, numbers, optimizer, update_of):
    """PyTorch's own optimisers, a group a parameter, with the rates that the rules give."""
    groups = {}
    for (role, _), p in parameters.items():
        rule = numbers.role(role)
        matrix = update_of(role) is Update.ORTHOGONAL
        group = {"params": [p], "lr": (0.3 if optimizer == "sgd" else 0.01) * rule.lr}
        group["weight_decay"] = 0.1 * rule.wd
        if optimizer != "sgd" and not matrix:
            group["eps"] = 1e-4 * rule.eps
        groups.setdefault(matrix, []).append(group)
    made = []
    for matrix, listed in groups.items():
        if matrix:
            made.append(Orthogonal(listed))
        elif optimizer == "sgd":
            made.append(torch.optim.SGD(listed, momentum=0.9))
        else:
            made.append(torch.optim.AdamW(listed, betas=(0.9, 0.95)))
    return made


def losses(style, optimizer, alphas, *, tied=False, clip=None, spoil=None):
    """Losses of some steps; `spoil` multiplies the rate of one role."""
    made = rules(
        BASE,
        TARGET,
        optimizer=optimizer,
        alpha_A=alphas[0],
        alpha_L=alphas[1],
        style=style,
        tied=tied,
    )
    numbers = made.applied(standard_parameterization(BASE))
    if spoil is not None:
        wrong = RoleRule(1.0, 1.0, 1.25, 1.0, 1.0).times(numbers.role(spoil))
        roles = {**numbers.roles, spoil: wrong}
        numbers = Parameterization(TARGET, roles, numbers.score_scale, numbers.residual)
    parameters = draw(numbers, tied)
    optimisers = optimisers_of(parameters, numbers, optimizer, made.update)
    found = []
    for _ in range(STEPS):
        loss = loss_of(parameters, numbers, tied)
        found.append(loss.item())
        for p in parameters.values():
            p.grad = None
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters.values(), clip)
        for one in optimisers:
            one.step()
    return torch.tensor(found, dtype=torch.float64)


def gap(one, other):
    return (one - other).abs().max().item()


@pytest.mark.parametrize("alphas", ALPHAS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_four_styles_are_one_training(optimizer, alphas):
    canonical = losses("canonical", optimizer, alphas)
    assert canonical[-1] < canonical[0] - 0.01  # something is learned
    for style in STYLES:
        assert gap(losses(style, optimizer, alphas), canonical) < 1e-12


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_four_styles_are_one_training_with_tied_embeddings(optimizer):
    canonical = losses("canonical", optimizer, (1.0, 1.0), tied=True)
    for style in STYLES:
        assert gap(losses(style, optimizer, (1.0, 1.0), tied=True), canonical) < 1e-12


@pytest.mark.parametrize("role", [Role.QUERY, Role.ATTENTION_OUT, Role.READOUT, Role.MLP_OUT_BIAS])
def test_a_wrong_rate_of_one_role_is_seen(role):
    right = losses("folded", "adamw", (0.75, 0.6))
    assert gap(losses("folded", "adamw", (0.75, 0.6), spoil=role), right) > 1e-9


def test_clipping_tells_the_styles_apart():
    canonical = losses("canonical", "sgd", (1.0, 1.0), clip=0.5)
    assert gap(losses("single_lr", "sgd", (1.0, 1.0), clip=0.5), canonical) > 1e-3
