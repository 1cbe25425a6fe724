"""The overlap of tokens: one definition, from tokens and from their cosines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.observe import cosines, mean_overlap, mean_overlap_of, overlap_all, overlaps_of


def unit_tokens(*shape: int) -> np.ndarray:
    tokens = np.random.default_rng(0).normal(size=shape)
    return tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)


def test_it_is_the_mean_over_pairs_of_different_tokens() -> None:
    tokens = unit_tokens(2, 3, 5, 4)
    R = tokens @ np.swapaxes(tokens, -1, -2)
    off = R[..., ~np.eye(5, dtype=bool)].mean(axis=-1)
    np.testing.assert_allclose(mean_overlap(tokens), off, rtol=1e-12)
    np.testing.assert_allclose(mean_overlap_of(R), off, rtol=1e-12)
    np.testing.assert_allclose(overlap_all(off, 5), R.mean(axis=(-2, -1)), rtol=1e-12)
    # What leaves the ones in is another number.
    assert np.abs(mean_overlap(tokens) - R.mean(axis=(-2, -1))).min() > 0.05


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_of_numpy_stay_so_and_those_of_jax_are_traced(dtype: type) -> None:
    tokens = unit_tokens(5, 4).astype(dtype)
    found = mean_overlap(tokens)
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == ((), dtype)
    traced = jax.jit(mean_overlap)(jnp.asarray(tokens, jnp.float32))
    assert float(traced) == pytest.approx(float(found), rel=1e-5)


def test_cosines_of_a_covariance_are_those_of_its_tokens() -> None:
    tokens = np.random.default_rng(1).normal(size=(2, 5, 4))
    cov = tokens @ np.swapaxes(tokens, -1, -2) / 4
    np.testing.assert_allclose(overlaps_of(cov), cosines(tokens), rtol=1e-12)
    wide = np.random.default_rng(2).normal(size=(5, 40))  # rows of a sample: NumPy has its own
    np.testing.assert_allclose(overlaps_of(np.cov(wide)), np.corrcoef(wide), rtol=1e-12)
    traced = jax.jit(overlaps_of)(jnp.asarray(cov, jnp.float32))
    np.testing.assert_allclose(traced, cosines(tokens), atol=1e-6)


def test_a_token_that_is_zero_has_overlap_zero_and_a_gradient() -> None:
    cov = np.diag([0.0, 2.0, 3.0])
    np.testing.assert_allclose(overlaps_of(cov), np.diag([0.0, 1.0, 1.0]), rtol=1e-12)
    slope = jax.grad(lambda c: overlaps_of(c).sum())(jnp.asarray(cov, jnp.float32))
    assert np.isfinite(slope).all()


def test_ends() -> None:
    assert mean_overlap(np.eye(4)) == 0.0
    assert mean_overlap(np.ones((4, 1))) == 1.0
    assert np.isnan(mean_overlap(np.eye(1)))
    assert np.isnan(mean_overlap_of(np.ones((1, 1))))
    assert overlap_all(0.0, 4) == 0.25
