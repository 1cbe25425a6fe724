"""Right and wrong closures in NumPy against those of the library, and samples."""

import jax
import numpy as np
import pytest

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
