"""Attention from Gram matrices alone: the laws of scores and updates, factors, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.attention import (
    gram_factor,
    head_weights,
    mean_root,
    narrow,
    noise_update,
    require_gram,
    sample_scores,
)
from translimit.core import SPHERE, ArgumentError, Retraction
from translimit.describe import GaussianHeads, WideHeads

R = np.array([[1.0, 0.3, -0.2], [0.3, 1.0, 0.5], [-0.2, 0.5, 1.0]])


@pytest.mark.parametrize("dim", [3, 4, 5, 6, 40])
def test_a_factor_has_the_given_overlaps(dim):
    factor = gram_factor(jnp.asarray(R), dim)
    assert factor.shape == (3, 3 if dim >= 6 else dim)
    np.testing.assert_allclose(factor @ factor.T, R, atol=1e-6)


def explicit_scores(law, tokens, key):
    _, A = law.sample(key)
    return law.beta * (tokens @ A.T) @ tokens.T


@pytest.mark.parametrize("columns", [2, 3, 9])
def test_scores_have_the_law_of_explicit_weights(columns):
    """Second and fourth moments of 40 000 draws each, six combinations of entries.

    With columns = 2 and 3 (normals) and 9 (Bartlett). Bound: 4.5 combined standard errors.
    """
    law = GaussianHeads(dim=12, beta=0.8, sigma_a=1.1, head_dim=columns)
    tokens = jnp.concatenate([jnp.linalg.cholesky(jnp.asarray(R)), jnp.zeros((3, 9))], axis=1)
    keys = jax.random.split(jax.random.key(0), 40_000)
    factor = gram_factor(jnp.asarray(R), 12)
    draws = [
        np.asarray(jax.jit(jax.vmap(lambda key: sample_scores(law, factor, key)))(keys)),
        np.asarray(jax.jit(jax.vmap(lambda key: explicit_scores(law, tokens, key)))(keys)),
    ]
    statistics = [
        lambda s: s[:, 0, 0] ** 2,
        lambda s: s[:, 0, 1] * s[:, 1, 0],
        lambda s: s[:, 0, 1] * s[:, 0, 2],
        lambda s: s[:, 0, 2] * s[:, 1, 2],
        lambda s: s[:, 0, 0] ** 2 * s[:, 1, 1] ** 2,
        lambda s: s[:, 0, 1] ** 4,
    ]
    for statistic in statistics:
        values = [statistic(one) for one in draws]
        stderr = np.hypot(*(v.std() / 200 for v in values))
        assert abs(values[0].mean() - values[1].mean()) < 4.5 * stderr


@pytest.mark.parametrize("dim", [4, 11])
def test_updates_have_the_law_of_explicit_values(dim):
    """The Gram matrix of tokens and update: means against c S dim, cross terms against zero."""
    factor = gram_factor(jnp.asarray(R), dim)
    root = jnp.asarray([[0.5, 0.0, 0.1], [0.2, 0.3, 0.0], [0.0, 0.1, 0.4]])
    if factor.shape[1] == dim:
        root = jnp.pad(root, ((0, 0), (0, dim - 3)))
    keys = jax.random.split(jax.random.key(3), 40_000)
    wide, update = jax.vmap(lambda key: noise_update(factor, root, dim, key))(keys)
    gram = np.asarray(update @ update.swapaxes(-1, -2))
    stderr = gram.std(axis=0) / 200
    assert (abs(gram.mean(axis=0) - dim * root @ root.T) < 4.5 * stderr).all()
    cross = np.asarray(wide @ update.swapaxes(-1, -2))
    assert (abs(cross.mean(axis=0)) < 4.5 * cross.std(axis=0) / 200 + 1e-12).all()
    # E <x_i, u_j> <x_k, u_l> = R_ik (root root^T)_jl.
    product = cross[:, 0, 0] * cross[:, 1, 2]
    assert abs(product.mean() - R[0, 1] * (root @ root.T)[0, 2]) < 4.5 * product.std() / 200
    # The variance of |u|^2 tells Bartlett's degrees of freedom: 2 dim (root root^T)_00^2.
    variance = 2 * dim * float((root @ root.T)[0, 0]) ** 2
    assert gram[:, 0, 0].var() == pytest.approx(variance, rel=0.07)


def test_roots_and_narrowing_keep_gram_matrices():
    law = WideHeads(dim=20, score_std=2.0)
    factor = gram_factor(jnp.asarray(R), 20)
    for heads in (1, 2, 5):
        weights = head_weights(law, factor, heads, jax.random.key(heads), causal=False)
        root = mean_root(weights, factor)
        expected = np.mean(np.asarray(weights @ R @ weights.swapaxes(-1, -2)), axis=0)
        np.testing.assert_allclose(root @ root.T, expected, atol=1e-6)
    wide = jax.random.normal(jax.random.key(9), (3, 8))
    np.testing.assert_allclose(narrow(wide, 3) @ narrow(wide, 3).T, wide @ wide.T, atol=1e-5)


def test_causal_and_antithetic_weights():
    factor = gram_factor(jnp.asarray(R), 20)
    law = WideHeads(dim=20, score_std=50.0)  # rows sum to one even where exponents are huge
    weights = np.asarray(
        head_weights(law, factor, 2, jax.random.key(0), causal=True, antithetic=True)
    )
    assert weights.shape == (4, 3, 3)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-6)
    assert (weights[:, np.triu_indices(3, 1)[0], np.triu_indices(3, 1)[1]] == 0).all()


def test_separations_do_not_cancel():
    x = np.array([1.0, 0.0])
    angle = 1e-9
    pair = np.stack([x, [np.cos(angle), np.sin(angle)]])
    assert SPHERE.separations(pair)[0, 1] == pytest.approx(angle**2 / 2, rel=1e-6)


def test_retractions():
    x = np.array([[1.0, 0.0, 0.0]])
    u = np.array([[0.2, 0.1, 0.0]])
    ambient = SPHERE.retract(jnp.asarray(x), jnp.asarray(u), Retraction.AMBIENT)
    np.testing.assert_allclose(ambient[0], np.array([1.2, 0.1, 0]) / np.hypot(1.2, 0.1), rtol=1e-6)
    tangent = SPHERE.retract(jnp.asarray(x), jnp.asarray(u), Retraction.TANGENT)
    np.testing.assert_allclose(tangent[0], np.array([1, 0.1, 0]) / np.hypot(1, 0.1), rtol=1e-6)
    assert np.isnan(SPHERE.retract(jnp.asarray(x), jnp.asarray(-x), Retraction.AMBIENT)).all()


@pytest.mark.parametrize(
    ("overlaps", "problem"),
    [
        (np.ones((2, 3)), "shape"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "not symmetric"),
        (np.array([[1.0, 0.5], [0.5, 0.9]]), "diagonal"),
        (np.array([[1.0, 1.2], [1.2, 1.0]]), "negative eigenvalue"),
        (np.full((2, 2), np.nan), "NaN"),
        (np.eye(4), "rank beyond 3"),
    ],
)
def test_overlaps_that_are_no_correlation_matrix(overlaps, problem):
    with pytest.raises(ArgumentError, match=problem):
        require_gram(overlaps, "overlaps", 3)


def test_tokens_of_another_norm():
    with pytest.raises(ArgumentError, match="token 1 has norm 2"):
        SPHERE.require(np.diag([1.0, 2.0]), "initial", 2)
    np.testing.assert_allclose(
        SPHERE.require(np.diag([1.0, 2.0]), "initial", 2, normalize=True), np.eye(2)
    )
    with pytest.raises(ArgumentError, match="shape"):
        SPHERE.require(np.eye(2), "initial", 3)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("overlaps", "message"),
    [
        (np.ones((2, 3)), r"R: has shape \(2, 3\); pass \[tokens, tokens\]"),
        ([[1.0, 0.5], [0.4, 1.0]], r"R: is not symmetric \(by 0.1\); pass overlaps"),
        (2.0 * np.eye(2), "R: has a diagonal off one by 1; pass overlaps of tokens of norm one"),
    ],
)
def test_what_are_no_overlaps_is_refused(overlaps, message):
    with pytest.raises(ArgumentError, match=message):
        require_gram(overlaps, "R", 8)
