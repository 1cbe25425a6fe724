"""Language models and today's heads, sampled: printed figures and trained networks."""

from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft.cases import RICH, ring4
from tests.limits.dmft.language import LM12, LM12_NEXT, copy_task, lm12, sin6
from tests.limits.dmft.linear import LINEAR
from tests.limits.dmft.network import extrapolated
from tests.limits.dmft.network_with_autodiff import Net

from translimit.core import solve
from translimit.describe import Activation
from translimit.limits.dmft import CausalSampling, LinearAlgebra

KEY = jax.random.key(0)
TANH: dict[str, Any] = {"mlp": Activation.TANH}
TODAY: dict[str, Any] = {**TANH, "head_dim": 4, "qk_norm": "rms", "score_gain": 2.0}


def near(value: Any, expected: Any, own: Any, stated: float) -> None:
    """Within 4.5 of the errors of both."""
    gap = np.abs(np.asarray(value) - expected)
    assert np.all(gap < 4.5 * np.hypot(own, stated)), gap


def test_a_modern_language_model() -> None:
    method = CausalSampling(heads=600, neurons=1500, populations=4)
    solution = solve(lm12(eta0=0.5, **TODAY), method, key=KEY)
    near(solution.predictions[7, 0, 0], [-0.535, 0.966, -0.369, -0.062], 0.01, 0.006)
    near(solution.loss[3], 1.0022, solution.loss_stderr[3], 0.001)
    assert solution.score_law(0).variance[7].mean() == pytest.approx(1.042, rel=0.05)
    # At the start the normalised scores have variance 4 / N and excess kurtosis -6 / (N + 2).
    law = solution.score_law(0)
    assert law.variance[0].mean() == pytest.approx(1.0, rel=0.03)
    assert law.excess_kurtosis[0].mean() == pytest.approx(-1.0, abs=0.1)
    assert solution.accuracy[7] > 0.6


@pytest.mark.slow
def test_c11_classes() -> None:
    method = CausalSampling(heads=6000, neurons=6000)
    solution = solve(sin6(eta0=0.3, head_dim=2, norm="rms", **TANH), method, key=KEY)
    expected = [1.0986, 0.5578, 0.4496, 0.3801, 0.3198, 0.2615, 0.2060, 0.1577]
    near(solution.loss[1:], expected[1:], solution.loss_stderr[1:], 0.0013)
    near(solution.predictions[7, 0], [1.849, -2.271, 0.422], solution.stderr[7, 0], 0.011)


@pytest.mark.slow
def test_c12_language_models() -> None:
    method = CausalSampling(heads=4000, neurons=6000)
    plain = solve(lm12(eta0=0.5, head_dim=2, **TANH), method, key=KEY)
    near(plain.loss[[3, 7]], [1.0141, 0.7652], plain.loss_stderr[[3, 7]], 0.0003)
    row = [-0.547, 0.962, -0.360, -0.055]
    near(plain.predictions[7, 0, 0], row, plain.stderr[7, 0, 0], 0.0023)
    assert plain.score_law(0).variance[7].mean() == pytest.approx(0.534, rel=0.02)
    today = solve(lm12(eta0=0.5, **TODAY), method, key=KEY)
    near(today.loss[[3, 7]], [1.0022, 0.7294], today.loss_stderr[[3, 7]], 0.001)
    row = [-0.535, 0.966, -0.369, -0.062]
    near(today.predictions[7, 0, 0], row, today.stderr[7, 0, 0], 0.006)
    assert today.score_law(0).variance[7].mean() == pytest.approx(1.042, rel=0.02)


@pytest.mark.slow
def test_c13_the_copy_task() -> None:
    problem = copy_task(**TODAY, beta0=2.0, eta0=1.0)
    method = CausalSampling(heads=2000, neurons=2000, populations=2, at_once=1)
    solution = solve(problem, method, key=KEY)
    expected = [2.0794, 1.9465, 1.8330, 1.7203, 1.6078, 1.4984, 1.3943, 1.2964]
    np.testing.assert_allclose(solution.loss, expected, atol=0.006)
    assert solution.accuracy[0] == pytest.approx(1 / 8)
    assert solution.accuracy[7] == pytest.approx(0.95, abs=0.051)
    assert np.isnan(solution.loss_by_position[:, :3]).all()


@pytest.mark.slow
def test_an_mlp_of_any_ratio_is_exact_where_it_is_linear() -> None:
    # Sampled neurons with exact second moments against coefficient rows: two routes to one number.
    problem = ring4(**LINEAR, mlp_ratio=3.0, steps=6, eta0=0.05)
    exact = solve(problem, LinearAlgebra())
    sampled = solve(problem, CausalSampling(neurons=100, populations=2, tol=1e-18), key=KEY)
    np.testing.assert_allclose(sampled.predictions, exact.predictions, atol=1e-9)
    # Three times the neurons carry three times the square of the first matrix's gradients.
    alone = solve(ring4(**LINEAR, steps=6, eta0=0.05), LinearAlgebra())
    assert np.abs(alone.predictions - exact.predictions).max() > 1e-3


NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "rms": ({"qk_norm": "rms", "score_gain": 2.0}, {"qk_norm": "rms", "score_gain": 2.0}),
    "layer": ({"head_dim": 4, "qk_norm": "layer"}, {"N": 4, "qk_norm": "layer"}),
    "gain": ({"score_gain_rate": 8.0}, {"score_gain_rate": 8.0}),
    "rotary": ({"head_dim": 4, "rotary": 3.0}, {"N": 4, "rotary": 3.0}),
    "wide": ({"mlp_ratio": 2.0}, {"mlp_ratio": 2}),
    "grouped": (
        {"queries_per_key": 2, "qk_norm": "rms", "score_gain": 2.0, "score_gain_rate": 4.0},
        {"group": 2, "qk_norm": "rms", "score_gain": 2.0, "score_gain_rate": 4.0},
    ),
    "tied": ({"tied": True, "centred": True}, {"tied": True, "centred": True}),
    "frozen": (
        {"position_std": 0.5, "position_rate": 0.0},
        {"position_std": 0.5, "position_rate": 0.0},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_trained_networks_approach_it(name: str) -> None:
    here, there = NETWORKS[name]
    options: dict[str, Any] = {"head_dim": 2, **TANH, **here}
    eta0 = 0.25 if name == "tied" else 0.5
    method = CausalSampling(heads=2000, neurons=4000)
    solution = solve(lm12(eta0=eta0, **options), method, key=KEY)
    runs = [
        np.asarray(
            Net(**{"N": 2, "H": H, "vocabulary": 4, **there}).train(
                jax.random.key(H), LM12, LM12_NEXT, eta0=eta0, steps=8, seeds=seeds
            )
        )
        for H, seeds in ((16, 400), (32, 200))
    ]
    value, stderr = extrapolated(*runs)
    z = (value - solution.predictions)[1:] / np.hypot(stderr, solution.stderr)[1:]
    assert np.sqrt(np.mean(z**2)) < 2


@pytest.mark.slow
def test_infinite_heads_are_approached() -> None:
    # Rms distances of f halve from N = 4 to 8 to 16 (printed: .022, .012, .006).
    options: dict[str, Any] = {"layers": 2, "alpha_L": 0.5, "beta0": 1.0}
    options |= {"qk_norm": "rms", "score_gain": 2.0}
    exact = solve(lm12(eta0=0.5, **options)).predictions
    rms = {}
    for N in (4, 16):
        method = CausalSampling(heads=8000 // N, populations=4)
        solution = solve(lm12(eta0=0.5, head_dim=N, **options), method, key=KEY)
        rms[N] = np.sqrt(np.mean((solution.predictions - exact) ** 2))
    assert rms[4] == pytest.approx(0.022, rel=0.2)
    assert rms[16] == pytest.approx(0.006, rel=0.25)


@pytest.mark.slow
def test_trained_gains_enter_the_tangent_kernel() -> None:
    # One output: at small gamma_0 the next update follows the kernel of now at any time.
    options: dict[str, Any] = {**RICH, "gamma0": 0.02, "score_gain_rate": 4.0, "steps": 6}
    solution = solve(ring4(**options, eta0=0.05))
    f, y = solution.predictions, solution.targets
    predicted = 0.05 * np.einsum("tij,tj->ti", solution.ntk, (y - f) / 2)
    np.testing.assert_allclose(np.diff(f, axis=0), predicted[:-1], rtol=5e-3)
