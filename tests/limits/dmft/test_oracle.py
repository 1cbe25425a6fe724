"""The finite update against automatic differentiation; the NumPy pass against printed figures.

Both are the oracles of the compiled solver: they know nothing of translimit.
"""

import math
from typing import Any

import numpy as np
import pytest
from benchmarks.support.dmft_numpy import Setting, solve
from tests.limits.dmft.network import RING4, RING4_Y, Network, inputs_with_kernel

X = inputs_with_kernel(RING4, 2)
VARIANTS = [
    {},
    {"alpha_A": 0.75, "alpha_L": 0.5, "mlp": "tanh"},
    {"alpha_A": 0.5, "norm": "rms", "causal": True},
    {"alpha_L": 0.5, "mlp": "tanh", "norm": "layer"},
    {"alpha_L": 0.75, "attention": False, "mlp": "tanh", "norm": "rms"},
]


def raw_loss(net: Network, raw: dict[str, Any]) -> Any:
    """The loss of the paper's parameterisation: raw weights, multipliers of its table."""
    torch = pytest.importorskip("torch")
    x = torch.tensor(X.reshape(4, 4))
    N, H, n, L = net.N, net.H, net.n, net.L
    outer = L ** (0.5 - net.alpha_L)
    h = outer * 4**-0.5 * x @ raw["E"].T  # [m, n]

    def normed(h: Any) -> Any:
        if net.norm is None:
            return h
        if net.norm == "layer":
            h = h - h.mean(dim=1, keepdim=True)
        return h / torch.sqrt((h**2).mean(dim=1, keepdim=True) + net.norm_eps)

    for layer in range(L):
        if net.attention:
            hb = normed(h)
            k, q = (
                (N ** (net.alpha_A - 1.5) * H**-0.5 * hb @ raw[f"{layer}{z}"].T).reshape(2, 2, H, N)
                for z in "KQ"
            )
            v = (n**-0.5 * hb @ raw[f"{layer}V"].T).reshape(2, 2, H, N)
            scores = N**-net.alpha_A * torch.einsum("pshn,prhn->phsr", k, q)
            if net.causal:
                keep = torch.tril(torch.ones(2, 2, dtype=torch.bool))
                scores = scores.masked_fill(~keep, -math.inf)
            mixed = torch.einsum("phsr,prhn->pshn", scores.softmax(dim=-1), v).reshape(4, n)
            h = h + net.eps * n**-0.5 * mixed @ raw[f"{layer}O"].T
        if net.mlp:
            inner = torch.tanh(n**-0.5 * normed(h) @ raw[f"{layer}1"].T)
            h = h + net.eps * n**-0.5 * inner @ raw[f"{layer}2"].T
    f = outer * h.reshape(2, 2, n).mean(dim=1) @ raw["w"][0] / (net.gamma0 * n)
    return ((torch.tensor(RING4_Y[:, 0]) - f) ** 2).sum() / 4


@pytest.mark.parametrize("variant", VARIANTS)
def test_a0_increments_are_gradients_of_the_papers_parameterisation(
    variant: dict[str, Any],
) -> None:
    torch = pytest.importorskip("torch")
    net = Network(N=3, H=5, L=2, beta0=1.5, gamma0=0.7, eta0=0.2, **variant)
    params = net.random(0, 1, 4)
    fields = net.forward(params, X)
    change = net.increments(params, fields, X, (RING4_Y - fields["f"]) / 2)
    # Raw = hat times this; one learning rate for all raw weights.
    scale = {name: net.L ** (net.alpha_L - 0.5) for name in ("E", "w")}
    scale |= {name: net.N ** (1 - net.alpha_A) for name in params if name[-1] in "KQ"}
    raw = {
        name: torch.tensor(scale.get(name, 1.0) * p[0], requires_grad=True)
        for name, p in params.items()
    }
    raw_loss(net, raw).backward()
    rate = net.eta0 * net.gamma0**2 * net.n * net.L ** (2 * net.alpha_L - 1)
    for name, tensor in raw.items():
        expected = -rate * tensor.grad.numpy() / scale.get(name, 1.0)
        gap = np.linalg.norm(change[name][0] - expected) / np.linalg.norm(expected)
        assert gap < 1e-12, name


def test_a1_deterministic_weights() -> None:
    net = Network(N=2, H=3, beta0=1.5, gamma0=0.7, eta0=0.2)
    f = net.train(net.deterministic(4), X, RING4_Y, 4)["f"][0, :, :, 0]
    expected = [
        [-0.328739441, 0.579363173],
        [0.391518862, -0.083305148],
        [0.793135424, -0.440525313],
        [1.061018569, -0.745534297],
    ]
    np.testing.assert_allclose(f, expected, rtol=0, atol=2e-9)


def test_a1_with_every_ingredient() -> None:
    net = Network(
        N=2,
        H=3,
        L=2,
        alpha_A=0.75,
        alpha_L=0.5,
        beta0=1.5,
        gamma0=0.7,
        eta0=0.2,
        mlp="tanh",
        norm="rms",
        causal=True,
        momentum=0.5,
    )
    f = net.train(net.deterministic(4), X, RING4_Y, 4)["f"][0, 3, :, 0]
    np.testing.assert_allclose(f, [1.336528152, -1.744783503], rtol=0, atol=2e-9)


def test_the_numpy_pass_reproduces_the_exact_rows() -> None:
    base: dict[str, Any] = {"kx": RING4, "y": RING4_Y, "steps": 12, "eta0": 0.03}
    infinite = solve(Setting(**base, head_dim=math.inf))
    np.testing.assert_allclose(
        infinite.f[[1, 2, 5, 11], :, 0],
        [
            [0.1603125, -0.2025],
            [0.30886324, -0.38961613],
            [0.75455799, -0.94787112],
            [0.99749083, -1.24717613],
        ],
        atol=1e-6,
    )
    linear = Setting(
        kx=RING4,
        y=RING4_Y,
        steps=10,
        eta0=0.05,
        layers=3,
        beta0=1.5,
        gamma0=1.5,
        attention=False,
        mlp="linear",
    )
    for seed in (0, 1):
        f = solve(linear, neurons=200, seed=seed).f[9, :, 0]
        np.testing.assert_allclose(f, [0.99997799, -1.25001741], atol=1e-7)
