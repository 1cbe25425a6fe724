"""The causal pass where nothing is sampled: printed figures, depth, ingredients."""

import math
from typing import Any

import numpy as np
import pytest
from tests.limits.dmft.cases import BASE, RICH, X, Y, last_kernel, ring4

from translimit.core import (
    solve,
)
from translimit.limits import dmft
from translimit.limits.dmft import (
    LinearAlgebra,
)


def test_a2_infinite_heads(base: Any) -> None:
    np.testing.assert_allclose(base.predictions[1], [0.1603125, -0.2025], rtol=0, atol=1e-12)
    expected = [[0.30886324, -0.38961613], [0.75455799, -0.94787112], [0.99749083, -1.24717613]]
    np.testing.assert_allclose(base.predictions[[2, 5, 11]], expected, rtol=0, atol=1e-8)
    assert last_kernel(base, 11) == pytest.approx(7.378682, abs=1e-6)
    # First-step suppression: A(0) = A(1) = 0 exactly.
    scores = base.score_law(0).mean[:4, 0, 0, 1]
    np.testing.assert_allclose(scores, [0, 0, -0.00030624, -0.00079377], rtol=0, atol=1e-8)
    assert not base.stderr.any()


def test_the_first_step_follows_the_tangent_kernel_of_uniform_attention(base: Any) -> None:
    # Closed form: K^NTK = (2 + 4 beta0^2) times the kernel of pooled inputs, at any gamma0.
    pooled = X.mean(axis=1)
    kernel = (2 + 4 * 2.0**2) * pooled @ pooled.T / X.shape[-1]
    np.testing.assert_allclose(base.ntk[0], kernel, rtol=1e-13)
    np.testing.assert_allclose(base.predictions[1], 0.03 * kernel @ (Y / 2), rtol=1e-12)


def test_a13_covariance_of_scores_at_initialisation() -> None:
    kernel = ring4(**BASE).input_kernel
    cov = dmft.initial_score_cov(kernel, 2)
    assert cov[0, 0, 0, 0, 0, 0] == 1
    assert cov[0, 0, 0, 0, 0, 1] == pytest.approx(0.5)
    assert cov[0, 0, 1, 1, 0, 1] == pytest.approx(0.06)


@pytest.mark.slow
def test_a2_with_depth_normalisation_mask_and_momentum() -> None:
    problem = ring4(
        **RICH,
        layers=2,
        alpha_L=0.75,
        norm="rms",
        causal=True,
        momentum=0.5,
        steps=8,
        eta0=0.04,
    )
    solution = solve(problem)
    np.testing.assert_allclose(solution.predictions[7], [1.12485276, -1.37205619], atol=1e-7)
    assert last_kernel(solution, 7) == pytest.approx(4.604760, abs=1e-6)


@pytest.mark.slow
def test_a8_infinite_depth() -> None:
    deep: dict[str, Any] = {"beta0": 1.0, "gamma0": 2.0, "steps": 6, "eta0": 0.05}
    ode = ring4(**deep, layers=math.inf)
    plain = solve(ode, LinearAlgebra(cells=64, extrapolate=False))
    np.testing.assert_allclose(plain.predictions[5], [0.378229, -0.476731], atol=1e-6)
    better = solve(ode, LinearAlgebra(cells=64))
    np.testing.assert_allclose(better.predictions[5], [0.379641, -0.478509], atol=1e-6)
    assert np.all(np.abs(better.predictions[5] - [0.37963, -0.47850]) < 1e-4)
    assert np.all(better.cell_error[5] < 1e-4)
    layered, scores = {}, {}
    for layers in (8, 16, 32, 64):
        solution = solve(ring4(**deep, layers=layers))
        layered[layers] = solution.predictions[5]
        scores[layers] = np.sqrt(np.mean(solution.score_law(layers // 2).mean[5] ** 2))
    np.testing.assert_allclose(layered[64], [0.387721, -0.488671], atol=1e-6)
    once = {n: 2 * layered[n] - layered[n // 2] for n in (32, 64)}
    twice = (4 * once[64] - once[32]) / 3
    np.testing.assert_allclose(twice, [0.379610, -0.478470], atol=1e-6)
    # A9: attention that moves at alpha_L = 1, and freezes at alpha_L = 1/2.
    np.testing.assert_allclose(
        [scores[n] for n in (8, 16, 32, 64)], [1.045e-3, 8.66e-4, 7.79e-4, 7.36e-4], rtol=0.01
    )
    for layers, expected in ((8, 6.92e-4), (16, 3.60e-4), (32, 1.82e-4), (64, 9.08e-5)):
        solution = solve(ring4(**deep, layers=layers, alpha_L=0.5))
        rms = np.sqrt(np.mean(solution.score_law(layers // 2).mean[5] ** 2))
        assert rms == pytest.approx(expected, rel=0.01)
