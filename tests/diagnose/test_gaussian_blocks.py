"""Gaussian tokens after a norm and an MLP: closed forms beside draws, and wrong ones refuted."""

import numpy as np
import pytest
from scipy.special import ndtr

from translimit.core import ArgumentError
from translimit.describe import Activation, Norm
from translimit.diagnose import mlp_of_gaussian, norm_of_gaussian

DIM, DRAWS = 24, 400_000


def law(seed, scale=0.4):
    rng = np.random.default_rng(seed)
    root = scale * rng.normal(size=(DIM, DIM))
    return 0.5 * rng.normal(size=DIM), root @ root.T, root, rng


def drawn_norm(mean, root, rng, kind, eps):
    x = mean + rng.normal(size=(DRAWS, root.shape[1])) @ root.T
    x = x - x.mean(axis=1, keepdims=True) if kind is Norm.LAYER else x
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)


@pytest.mark.parametrize("kind", list(Norm))
@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_norm_beside_draws(kind, eps):
    mean, cov, root, rng = law(0)
    found = norm_of_gaussian(mean, cov, kind, eps)
    u = drawn_norm(mean, root, rng, kind, eps)
    error = u.std(axis=0) / DRAWS**0.5
    assert np.abs((found.mean - u.mean(axis=0)) / error).max() < 4.5
    products = (u[:, :, None] * u[:, None, :4]).reshape(DRAWS, -1)
    error = products.std(axis=0) / DRAWS**0.5
    apart = found.second[:, :4].reshape(-1) - products.mean(axis=0)
    assert np.abs(apart / error).max() < 4.5
    assert found.error < 1e-9
    # In place of every token's own size the mean size: refuted.
    x_mean = mean - mean.mean() if kind is Norm.LAYER else mean
    size = np.sqrt((np.trace(cov) + mean @ mean) / DIM + eps)
    assert np.abs((x_mean / size - u.mean(axis=0)) / (u.std(axis=0) / DRAWS**0.5)).max() > 9


def test_norm_converges_and_keeps_the_trace_for_few_directions():
    mean, cov, *_ = law(1)
    for kind in Norm:
        few, many = (norm_of_gaussian(mean, cov, kind, steps=n) for n in (100, 400))
        np.testing.assert_allclose(few.second, many.second, atol=1e-10)
    for rank in (1, 2, 8):
        root = np.random.default_rng(rank).normal(size=(DIM, rank))
        found = norm_of_gaussian(np.zeros(DIM), root @ root.T, Norm.RMS)
        assert found.error < 1e-8
        assert np.trace(found.second) == pytest.approx(DIM)
    line = np.outer(np.ones(DIM), np.ones(DIM))  # one direction: x / s is a sign
    np.testing.assert_allclose(
        norm_of_gaussian(np.zeros(DIM), line, Norm.RMS).second, line, atol=1e-8
    )
    with pytest.raises(ArgumentError, match="zero"):
        norm_of_gaussian(np.zeros(DIM), np.zeros((DIM, DIM)), Norm.RMS)


@pytest.mark.parametrize("activation", [Activation.GELU, Activation.RELU])
def test_mlp_beside_draws(activation):
    mean, cov, root, rng = law(2, 0.2)
    w_in, w_out = rng.normal(size=(DIM, 40)) / DIM**0.5, rng.normal(size=(40, DIM)) / 40**0.5
    b_in, b_out = rng.normal(size=40), rng.normal(size=DIM)
    found = mlp_of_gaussian(mean, cov, activation, w_in, w_out, b_in, b_out)
    v = mean + rng.normal(size=(DRAWS, DIM)) @ root.T
    h = v @ w_in + b_in
    f = (h * ndtr(h) if activation is Activation.GELU else np.maximum(h, 0)) @ w_out + b_out
    assert np.abs((found.mean - f.mean(axis=0)) / f.std(axis=0)).max() < 4.5 / DRAWS**0.5
    cov_f, cross = np.cov(f.T, bias=True), (v - v.mean(axis=0)).T @ f / DRAWS
    bound = 4.5 * (2 * DIM / DRAWS) ** 0.5  # of a covariance's relative sampling error
    assert np.linalg.norm(found.cov - cov_f) < bound * np.linalg.norm(cov_f)
    assert np.linalg.norm(found.cross - cross) < bound * np.linalg.norm(cross)
    # Without the power that the series leaves out, or the slope at the mean: refuted.
    first = mlp_of_gaussian(mean, cov, activation, w_in, w_out, b_in, b_out, orders=1)
    assert np.linalg.norm(first.cov - cov_f) > np.linalg.norm(found.cov - cov_f)
    m = mean @ w_in + b_in
    slope = (m > 0).astype(float)
    assert np.linalg.norm((cov @ w_in * slope) @ w_out - cross) > bound * np.linalg.norm(cross)


def test_mlp_of_tokens_that_do_not_move_is_a_constant():
    mean, *_, rng = law(3)
    w_in, w_out = rng.normal(size=(DIM, 10)), rng.normal(size=(10, DIM))
    found = mlp_of_gaussian(mean, np.zeros((DIM, DIM)), Activation.GELU, w_in, w_out)
    h = mean @ w_in
    np.testing.assert_allclose(found.mean, (h * ndtr(h)) @ w_out, atol=1e-10)
    assert np.abs(found.cov).max() == 0
    assert np.abs(found.cross).max() == 0
