"""Two tokens: collapse and antipodal exponents, the backward equation (rows 14, 21, 22)."""

import jax
import numpy as np
import pytest

from translimit import solve
from translimit.describe import WideHeads
from translimit.limits.homogenized import OverlapSDE, SphereEuler
from translimit.limits.homogenized.two_tokens import (
    antipodal_exponent,
    antipodal_probability,
    collapse_exponent,
    critical_beta,
    deterministic_kernel,
    pair_expectation,
    random_antipodal_exponent,
)


def slope(dim, tokens, std, runs, time, key):
    law = WideHeads(dim=dim, score_std=std)
    start = np.full((tokens, tokens), 0.9) + 0.1 * np.eye(tokens)
    if tokens > dim:
        basis = np.random.default_rng(0).standard_normal((tokens, dim)) * 0.2 + np.eye(dim)[0]
        basis /= np.linalg.norm(basis, axis=1, keepdims=True)
        start = basis @ basis.T
    problem = OverlapSDE(law=law, initial=start, t1=time)
    method = SphereEuler(max_step=0.02, paths=runs)
    solution = solve(problem, method, key=key, save=[5.0, time])
    logs = np.log(solution.separations[:, :, 0, 1])
    return (logs[:, 1] - logs[:, 0]) / (time - 5.0)


@pytest.mark.parametrize(
    ("dim", "tokens", "std"),
    [
        (4, 2, 0.0),
        pytest.param(4, 6, 2.0, marks=pytest.mark.slow),
        pytest.param(16, 6, 2.0, marks=pytest.mark.slow),
    ],
)
def test_acceptance_14_the_collapse_exponent(dim, tokens, std):
    """64 runs from tau = 5 to 30; separations fall to 1e-13 and do not cancel."""
    values = slope(dim, tokens, std, 64, 30.0, jax.random.key(14))
    assert abs(values.mean() - collapse_exponent(dim)) < 4.5 * values.std() / 8 + 0.01


def test_acceptance_21_antipodal_probabilities():
    expected = {
        (2, 0.6): 0.5,
        (3, 0.6): 0.13460,
        (3, 1.2): 0.25489,
        (4, 1.2): 0.12717,
        (4, 1.6): 0.19658,
        (6, 1.6): 0.08721,
    }
    for (dim, beta), value in expected.items():
        assert antipodal_probability(beta, dim) == pytest.approx(value, abs=1e-4)
    assert antipodal_probability(0.3, 4) == 0.0  # below the transition


def test_antipodal_probability_by_the_backward_equation():
    """At tau = 60 almost every pair is decided: P[R < 0] at d = 4, beta = 1.2."""
    found = pair_expectation(
        lambda r: 0.5 * (1 - np.sign(r)),
        deterministic_kernel(1.2),
        initial=0.0,
        t1=60.0,
        dim=4,
        nodes=1601,
        time_steps=2000,
    )
    assert found == pytest.approx(0.12717, abs=0.02)


def test_acceptance_22_the_transition():
    found = [critical_beta(dim) for dim in (4, 6, 10)]
    np.testing.assert_allclose(found, (0.658479, 1.031719, 1.384330), atol=1e-6)
    assert critical_beta(2) == critical_beta(3) == 0.0
    for dim in (4, 9):
        assert antipodal_exponent(critical_beta(dim), dim) == pytest.approx(0.0, abs=1e-12)


def test_random_scores_repel_antipodal_pairs_from_dimension_four():
    stds = np.linspace(0.05, 8, 100)
    assert max(random_antipodal_exponent(std, 3) for std in stds) < 0
    lowest = min(random_antipodal_exponent(std, 4) for std in stds)
    assert lowest == pytest.approx(0.027, abs=5e-4)
