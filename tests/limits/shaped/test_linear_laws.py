"""The linear part of the covariance SDE, whose laws are exact."""

import jax
import numpy as np
import pytest
from tests.limits.shaped.cases import THREE, ends, z

from translimit import solve
from translimit.limits.shaped import (
    Block,
    CovarianceSDE,
    EulerMaruyama,
    ShapedMLP,
    StructurePreserving,
    aligned_probability,
    linear_log_det_law,
    linear_norm_law,
    linear_second_moments,
    linear_variance,
)

LINEAR = Block(gamma=0.6, tau0=np.inf, lam=0.8)


@pytest.fixture(scope="module")
def linear_pair():
    method = StructurePreserving(paths=20_000, max_step=0.01)
    return ends(LINEAR, [[1.0, 0.3], [0.3, 1.2]], 0.8, method)


def test_second_moments_of_the_linear_part(linear_pair) -> None:
    expected = linear_second_moments(LINEAR, [[1.0, 0.3], [0.3, 1.2]], 0.8)
    np.testing.assert_allclose(expected, [0.95235, 1.64450, 2.57189], rtol=1e-5)
    cov = linear_pair.cov[:, 0]
    measured = [
        np.mean(cov[:, 0, 1] ** 2),
        np.mean(cov[:, 0, 0] * cov[:, 1, 1]),
        np.mean(cov[:, 0, 0] ** 2),
    ]
    # Bounds for 20,000 paths: log-normal tails, 5 % standard error for the third.
    for value, exact, bound in zip(measured, expected, (0.12, 0.12, 0.20), strict=True):
        assert abs(value / exact - 1) < bound
    assert abs(z(cov[:, 0, 0], 1.0)) < 4.5
    assert abs(z(cov[:, 0, 1], 0.3)) < 4.5


def test_arcsine_of_the_correlation_is_a_martingale(linear_pair) -> None:
    arcsine = np.arcsin(linear_pair.correlation[:, 0, 0, 1])
    assert abs(z(arcsine, np.arcsin(0.3 / 1.2**0.5))) < 4.5
    assert abs(arcsine.mean() - 0.27741) < 0.02


def test_norms_are_log_normal(linear_pair) -> None:
    from scipy.stats import kstest

    for token, norm in enumerate([1.0, 1.2]):
        mean, variance = linear_norm_law(LINEAR, norm, 0.8)
        sample = np.log(linear_pair.cov[:, 0, token, token])
        # Weak order one: the step of 0.01 shifts the law by less than half of a standard error.
        assert kstest(sample, "norm", (mean, variance**0.5)).statistic < 1.63 / 20_000**0.5 + 0.01


def test_log_det_of_three_tokens_and_what_euler_makes_of_it() -> None:
    mean, variance = linear_log_det_law(LINEAR, np.eye(3), 0.8)
    np.testing.assert_allclose([mean, variance], [-2.83392, 2.83392], rtol=1e-5)
    structured = ends(LINEAR, np.eye(3), 0.8, StructurePreserving(paths=20_000, max_step=0.01))
    log_det = structured.log_det[:, 0]
    assert abs(log_det.mean() - mean) < 0.05
    assert abs(log_det.var() / variance - 1) < 0.05
    np.testing.assert_allclose(log_det, np.linalg.slogdet(structured.cov[:, 0])[1], atol=1e-6)
    # At 20 steps Euler-Maruyama is off by -0.49 where this scheme is off by -0.05
    # (docs/theory/shaped.md, The solver).
    coarse = ends(LINEAR, np.eye(3), 0.8, StructurePreserving(paths=4000, max_step=0.04)).log_det
    euler = ends(LINEAR, np.eye(3), 0.8, EulerMaruyama(paths=4000, max_step=0.04)).log_det
    assert abs(coarse.mean() - mean) < 0.15
    assert np.mean(euler) < mean - 0.3


def test_long_horizons_keep_their_log_det() -> None:
    # 800 steps to T = 20; the scheme's exact mean is a sum of digammas, its limit -70.85.
    from scipy.special import digamma

    solution = ends(LINEAR, np.eye(3), 20.0, StructurePreserving(paths=500, max_step=0.025))
    degrees = 1 / (float(linear_variance(LINEAR)) * 0.025)
    step = sum(digamma((degrees - i) / 2) + np.log(2 / degrees) for i in range(3))
    assert abs(800 * step - (-72.01)) < 0.01
    log_det = solution.log_det[:, 0]
    assert np.isfinite(log_det).all()
    assert abs(z(log_det, 800 * step)) < 4.5
    # The covariance itself has lost it: eigenvalues 1e-31 apart.
    assert not np.allclose(np.linalg.slogdet(solution.cov[:, 0])[1], log_det, atol=1.0)


def test_absorption_follows_the_arcsine_law() -> None:
    method = StructurePreserving(paths=2000, max_step=0.05)
    rho = ends(LINEAR, [[1.0, 0.5], [0.5, 1.0]], 40.0, method).correlation[:, 0, 0, 1]
    assert (np.abs(rho) > 0.95).mean() > 0.98
    p = aligned_probability(0.5)
    assert p == pytest.approx(2 / 3)
    assert abs((rho > 0).mean() - p) < 4.5 * (p * (1 - p) / 2000) ** 0.5


def test_kappa_multiplies_the_covariance_at_every_time() -> None:
    # Without attention noise and with a normalised MLP the step is homogeneous of degree one, so
    # that kappa of both parts scales each path: V e^{(kappa + kappa') t}, on the same noise.
    method = StructurePreserving(paths=3, max_step=0.025)

    def run(kappa: float, other: float):
        mlp = ShapedMLP(gamma=0.5, c_plus=0.0, c_minus=-1.0, growth_rate=other)
        block = Block(gamma=0.6, tau0=np.inf, growth_rate=kappa, mlp=mlp)
        sde = CovarianceSDE(block=block, initial=THREE, t1=0.5)
        return solve(sde, method, key=jax.random.key(0), save=[0.2, 0.5])

    plain, grown = run(0.0, 0.0), run(0.7, -0.2)
    growth = 0.5 * np.array([0.2, 0.5])
    np.testing.assert_allclose(
        grown.cov, plain.cov * np.exp(growth)[:, None, None], rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(grown.log_det - plain.log_det, [3 * growth] * 3, rtol=1e-9)
