"""Right and wrong closures in NumPy, and the companions of a flow, against other computations."""

import jax
import numpy as np
import pytest
from scipy.linalg import expm

from translimit import attention
from translimit.experiments.castin2025.canonical import (
    CLOSED,
    COV,
    MEAN,
    K,
    Q,
    V,
    canonical_attention,
    closures,
)
from translimit.experiments.castin2025.tangents import with_companion
from translimit.experiments.castin2025.wrong_closures import (
    FIELDS,
    LAWS,
    RIGHT,
    carried,
    mixed,
    variant_field,
)


@pytest.mark.parametrize("variant", CLOSED)
def test_the_right_field_is_the_librarys(variant):
    """Two laws at once, one of them not centred; wrong fields differ."""
    means, covs = np.stack([MEAN, -2 * MEAN]), np.stack([COV, COV[::-1, ::-1]])
    velocity, matrix = variant_field(variant, RIGHT)(V, V, means, covs)
    with jax.enable_x64(True):
        exact = [
            canonical_attention(variant).gaussian_field(m, c)
            for m, c in zip(means, covs, strict=True)
        ]
    np.testing.assert_allclose(velocity, [np.asarray(one[0]) for one in exact], atol=1e-12)
    np.testing.assert_allclose(matrix, [np.asarray(one[1]) for one in exact], atol=1e-12)
    for law in LAWS[1:]:
        assert np.abs(variant_field(variant, law)(V, V, means, covs)[1] - matrix).max() > 1e-3


def test_laws_are_carried_like_those_of_the_library():
    with jax.enable_x64(True):
        exact = closures(0.8)(MEAN[None], COV[None])
    found = carried(RIGHT, K.T @ Q, V, MEAN, COV, 0.8)
    for one, other in zip(found, exact, strict=True):
        np.testing.assert_allclose(one, np.asarray(other)[0], rtol=1e-7)
    apart = {name: carried(name, K.T @ Q, V, MEAN, COV, 0.8) for name in FIELDS if name != RIGHT}
    for name, (mean, cov) in apart.items():
        assert max(np.abs(mean - found[0]).max(), np.abs(cov - found[1]).max()) > 0.01, name


def test_without_confinement_l2_is_softmax_of_twice_the_scores():
    softmax = attention.Softmax(Q=Q, K=K, V=V, score_scale=2.0)
    with jax.enable_x64(True):
        exact = softmax.gaussian_field(MEAN, COV)
    found = variant_field("l2", LAWS[-1])(V, V, MEAN, COV)
    for one, other in zip(found, exact, strict=True):
        np.testing.assert_allclose(one, np.asarray(other), atol=1e-12)


def test_moments_of_a_mixture_are_those_of_its_samples():
    generator = np.random.default_rng(0)
    means, factors = generator.normal(size=(3, 2)), generator.normal(size=(3, 2, 2))
    # Four points a law, of which the moments are known exactly.
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    points = (means[:, None] + corners @ np.swapaxes(factors, -1, -2)).reshape(-1, 2)
    mean, cov = mixed(means, factors @ np.swapaxes(factors, -1, -2))
    np.testing.assert_allclose(mean, points.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(cov, np.cov(points.T, bias=True), atol=1e-13)


@pytest.mark.parametrize("source", [0.0, -0.5])
def test_companions_of_a_linear_flow(source):
    """x' = W x: e = e^{tW} (e_0 + t source W^2 x_0), Euler's error for -1/2 and e_0 = 0."""
    x, e = np.random.default_rng(1).normal(size=(2, 5, 2))
    with jax.enable_x64(True):
        carry = with_companion(lambda x: x @ V.T, source, 0.7, 40)
        moved = [np.asarray(one) for one in carry(jax.numpy.asarray(x), jax.numpy.asarray(e))]
    flow = expm(0.7 * V)
    np.testing.assert_allclose(moved[0], x @ flow.T, rtol=1e-7)
    exact = (e + 0.7 * source * x @ (V @ V).T) @ flow.T
    np.testing.assert_allclose(moved[1], exact, rtol=1e-6, atol=1e-8)
    if source:
        euler = x @ np.linalg.matrix_power(np.eye(2) + 0.7 * V / 1000, 1000).T
        leading = 0.7 * source * x @ (V @ V).T @ flow.T
        np.testing.assert_allclose(1000 / 0.7 * (euler - x @ flow.T), leading, rtol=3e-3, atol=1e-3)
