"""Two tokens under sharp heads at finite dimension, and how sharp heads must be."""

import math

import numpy as np
import pytest
from scipy.special import ive

from translimit.core import ArgumentError
from translimit.limits.homogenized.low_temperature import (
    barycentre_length,
    hitting_probability,
    large_barycentre,
    marginal_square,
    mean_cosine,
    output_cosine,
    settling_exponent,
    sharp_kernel,
    slow_expectation,
)
from translimit.limits.homogenized.two_tokens import (
    joining_probability,
    pair_coefficients,
    pair_expectation,
    without_scores,
)


def test_the_kernel_is_the_mean_cosine_of_a_head():
    R = np.array([-0.83, 0.11, 0.57, 0.96])
    s, p = sharp_kernel(12, 9)(R)
    assert np.all(s == 1.0)
    np.testing.assert_allclose(p, [output_cosine(float(r), 12, 9) for r in R], atol=1e-6)
    np.testing.assert_allclose(sharp_kernel(12, math.inf)(R)[1], mean_cosine(R, 12), atol=1e-8)


@pytest.mark.parametrize(("dim", "head_dim"), [(8, 8), (16, 5), (12, math.inf)])
def test_the_settling_exponent_is_the_drift_of_the_diffusion_at_its_end(dim, head_dim):
    """log(1 - |u|) is -2 y there, and slow time is diffusive time over dim."""
    drift, _ = pair_coefficients(np.array([-7.5, 7.5]), sharp_kernel(dim, head_dim), dim)
    rate = settling_exponent(dim, head_dim)
    np.testing.assert_allclose(-2.0 * dim * drift * [-1, 1], rate, atol=1e-4)
    few = settling_exponent(dim, head_dim, heads=1, step=0.1)
    assert few - rate == pytest.approx(-0.3 / 1.21)


def test_the_slow_equation_at_any_coefficient():
    """Kappa 2 by its closed form, 1 and 3/2 as 40 000 paths gave them; a martingale at 0."""
    for kappa, square, tolerance in ((2.0, float(marginal_square(1.0)), 1e-4), (1.0, 0.648, 5e-3)):
        found = slow_expectation(np.square, kappa, initial=0.0, t1=1.0)
        assert found == pytest.approx(square, abs=tolerance)
    assert slow_expectation(np.square, 1.5, initial=0.0, t1=1.0) == pytest.approx(0.583, abs=5e-3)
    assert slow_expectation(np.sin, 0.0, initial=0.3, t1=0.01) < math.sin(0.3)
    assert slow_expectation(lambda u: u, 0.0, initial=0.3, t1=1.0) == pytest.approx(0.3, abs=1e-4)


def test_the_diffusion_tends_to_the_slow_equation():
    """From .5238 at d = 64 (the backward equation) to .51998; the wide head's to kappa = 3/2."""
    found = pair_expectation(np.square, sharp_kernel(64), initial=0.0, t1=64.0, dim=64)
    assert found == pytest.approx(0.5238, abs=2e-4)
    wide = pair_expectation(np.square, sharp_kernel(400, math.inf), initial=0.0, t1=400.0, dim=400)
    assert wide == pytest.approx(slow_expectation(np.square, 1.5, initial=0.0, t1=1.0), abs=2e-3)


def test_where_a_pair_ends():
    """Noted: .6067, .6044, .6033 at d = 16, 32, 64 from 1/2; .6022 in the limit."""
    for dim, expected in ((16, 0.6067), (32, 0.6044), (64, 0.6033)):
        found = joining_probability(sharp_kernel(dim, math.inf), dim, initial=0.5)
        assert found == pytest.approx(expected, abs=1e-4)
    large = joining_probability(sharp_kernel(1000, math.inf), 1000, initial=0.5)
    assert large == pytest.approx(hitting_probability(0.5, 1.5), abs=2e-4)
    back = joining_probability(sharp_kernel(16, math.inf), 16, initial=-0.5)
    assert back == pytest.approx(1.0 - 0.60670, abs=1e-4)


def test_an_end_that_repels_is_refused():
    with pytest.raises(ArgumentError, match="attract"):
        joining_probability(without_scores, 8, initial=0.0)


@pytest.mark.parametrize("dim", [2, 3, 16, 64])
def test_the_barycentre_is_a_ratio_of_bessel_functions(dim):
    k = np.array([1e-3, 0.5, 7.0, 300.0])
    found = barycentre_length(k, dim)
    np.testing.assert_allclose(found, ive(dim / 2, k) / ive(dim / 2 - 1, k), rtol=1e-9)


def test_the_barycentre_of_large_dimension_and_of_a_cloud():
    assert barycentre_length(3000.0, 2000) == pytest.approx(large_barycentre(1.5), abs=1e-4)
    assert large_barycentre(1.0) ** 2 == pytest.approx(1.0 - 0.6180340, abs=1e-6)
    x = np.random.default_rng(0).standard_normal((400_000, 3))
    cosine = x[:, 0] / np.linalg.norm(x, axis=1)
    weights = np.exp(2.0 * cosine)
    mean = np.sum(weights * cosine) / np.sum(weights)
    assert barycentre_length(2.0, 3) == pytest.approx(mean, abs=4.5e-3)


def test_many_columns_add_half_of_their_inverse():
    """To first order in 1 / head_dim, with both layers' correction of it below 1e-6."""
    first = float(mean_cosine(0.9, 24)) - 0.9 * (1 - 0.81) / (2 * 3072)
    assert output_cosine(0.9, 24, 3072) == pytest.approx(first, abs=1e-6)
