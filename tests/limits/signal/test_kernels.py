"""Kernels of activations against plane quadrature; concentration against simulation."""

from __future__ import annotations

import functools
import itertools

import jax
import numpy as np
import pytest
from scipy import integrate, special, stats

from translimit.core import ArgumentError, in_float64, solve
from translimit.describe import Activation, Attention, FeedForward, pre_norm_stack
from translimit.limits.signal import SignalPropagation, activation_kernel, concentration
from translimit.limits.signal.kernels import kernel_error, kernels

FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0.0),
    "relu2": lambda x: np.maximum(x, 0.0) ** 2,
    "gelu": lambda x: x * stats.norm.cdf(x),
    "silu": lambda x: x * special.expit(x),
    "quick_gelu": lambda x: x * special.expit(1.702 * x),
    "tanh": np.tanh,
    "linear": lambda x: x,
}
COVARIANCES = ((0.3, 0.5, 0.2), (1.0, 2.0, -0.7), (1.5, 1.5, 1.4))


def plane(f, a: float, b: float, c: float) -> float:
    """E f(u) f(v) by adaptive quadrature in v given u."""

    def inner(z: float) -> float:
        u = np.sqrt(a) * z
        mean, std = c * u / a, np.sqrt(b - c * c / a)
        if f is FUNCTIONS["relu"]:  # its corner costs Gauss nodes their accuracy
            below = mean * stats.norm.cdf(mean / std) + std * stats.norm.pdf(mean / std)
            return float(f(u) * below * stats.norm.pdf(z))
        nodes, weights = special.roots_hermitenorm(200)
        points = mean + std * nodes
        return float(f(u) * (weights @ f(points)) / np.sqrt(2 * np.pi) * stats.norm.pdf(z))

    return integrate.quad(inner, -9, 9, limit=400, epsabs=1e-10, points=[0.0])[0]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("cov", COVARIANCES)
def test_kernels_are_the_plane_integrals(name: str, cov: tuple[float, float, float]) -> None:
    kernel, derivative = activation_kernel(name, *cov)
    assert kernel == pytest.approx(plane(FUNCTIONS[name], *cov), abs=1e-6)
    a, b, c = cov
    step = 1e-4
    above, below = (activation_kernel(name, a, b, c + s)[0] for s in (step, -step))
    assert derivative == pytest.approx((above - below) / (2 * step), rel=2e-5)  # Price


@pytest.mark.parametrize(
    ("name", "cov", "kernel", "derivative"),
    [
        ("gelu", (0.3, 0.5, 0.2), 0.07385666, 0.31800372),
        ("silu", (0.3, 0.5, 0.2), 0.06144847, 0.28584456),
        ("relu2", (0.3, 0.5, 0.2), 0.10903508, 0.48023385),
        ("quick_gelu", (0.3, 0.5, 0.2), 0.07445977, 0.31728736),
        ("gelu", (4, 4, 3.6), 1.73776070, 0.45769318),
        ("silu", (4, 4, 3.6), 1.57757002, 0.43600084),
    ],
)
def test_kernels_have_their_reference_values(name, cov, kernel, derivative) -> None:
    assert activation_kernel(name, *cov) == pytest.approx((kernel, derivative), abs=1e-8)


def test_kernels_of_wide_or_vanishing_inputs() -> None:
    assert activation_kernel("clamped_swish", 4, 4, 3.6) == pytest.approx(
        (1.72412, 0.45290), abs=1e-4
    )
    for activation in Activation:
        kernel, derivative = activation_kernel(activation, 0.0, 1.0, 0.0)
        assert np.isfinite([kernel, derivative]).all()
        # phi(0) E phi(z): all but the logistic function vanish at zero.
        expected = 0.25 if activation is Activation.SIGMOID else 0.0
        assert kernel == pytest.approx(expected, abs=1e-12)


def test_a_matrix_that_is_no_covariance_and_an_unknown_name_are_refused() -> None:
    with pytest.raises(ArgumentError, match="c: got 2"):
        activation_kernel("gelu", 1.0, 1.0, 2.0)
    with pytest.raises(ArgumentError, match="name"):
        activation_kernel("gelou", 1.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("n", "std", "value"),
    [
        (8, 0.5, 0.152846),
        (48, 0.3072, 0.022839),
        (48, 1.0, 0.050556),
        (512, 1.0, 0.005235),
        (512, 3.2768, 0.212360),
    ],
)
def test_concentration_has_its_reference_values(n: int, std: float, value: float) -> None:
    assert concentration(n, std) == pytest.approx(value, abs=6e-7)


def test_concentration_is_that_of_drawn_scores() -> None:
    p = special.softmax(2.0 * np.random.default_rng(0).standard_normal((40_000, 12)), axis=1)
    squares = (p**2).sum(axis=1)
    error = squares.std() / len(squares) ** 0.5
    assert abs(concentration(12, 2.0) - squares.mean()) < 4.5 * error
    assert error < 0.002


def test_concentration_at_its_ends() -> None:
    assert concentration(1, 3.0) == 1.0
    assert concentration(7, 0.0) == pytest.approx(1 / 7, abs=1e-9)
    assert concentration(64, 25.0) > 0.9
    with pytest.raises(ArgumentError, match="score_std"):
        concentration(8, 26.0)


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("std", [0.3, 1.0, 3.0, 10.0, 100.0])
def test_the_error_of_the_kernel_is_known_at_every_deviation(
    activation: Activation, std: float
) -> None:
    """Against Gauss-Legendre quadrature of E phi(u)^2, cut where the activation turns."""
    found = in_float64(functools.partial(kernels, activation), np.array([[std**2]]))[0]
    edges = np.unique(np.clip([-9.0, -8 / std, 0.0, 7 / std, 8 / std, 9.0], -9.0, 9.0))
    exact = 0.0
    for low, high in itertools.pairwise(edges):
        nodes, weights = np.polynomial.legendre.leggauss(60)
        z = low + (high - low) * (nodes + 1) / 2
        squares = in_float64(activation, std * z) ** 2 * np.exp(-(z**2) / 2)
        exact += (high - low) / 2 * (weights @ squares) / np.sqrt(2 * np.pi)
    error = abs(found[0, 0] / exact - 1.0)
    assert error == pytest.approx(kernel_error(activation, std), rel=2e-2, abs=1e-6)


def test_inputs_whose_kernel_is_not_known_are_refused() -> None:
    # A tanh of wide inputs is a jump, which the series does not follow.
    stack = pre_norm_stack(
        64,
        1,
        Attention(4, 16, 0.1, 0.1, 0.1, 0.1),
        FeedForward(96, Activation.TANH, in_std=12.5, out_std=0.1),
    )
    with pytest.raises(ArgumentError, match="in_std: gives inputs of deviation 100"):
        solve(SignalPropagation(stack=stack, initial=np.eye(3)), key=jax.random.key(0))
