"""Sums and halves of matrices of tokens against NumPy, the slope of a cap by differences."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit.describe import Attention
from translimit.limits.signal.heads import cap_slopes, capped
from translimit.limits.signal.norms import mirrored, pair_sums

MIXER = Attention(2, 4, 0.02, 0.02, 0.02, 0.02)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def test_the_upper_half_is_that_of_the_lower_whatever_stood_there() -> None:
    whole = drawn(3, 5, 5)
    whole = whole + whole.swapaxes(1, 2)
    with jax.enable_x64(True):
        lower = jnp.asarray(np.tril(whole) + np.triu(np.full((5, 5), np.nan), 1))
        found = jax.jit(mirrored)(lower, jnp.asarray(True))
        np.testing.assert_array_equal(found, whole)
        np.testing.assert_array_equal(mirrored(lower[0], jnp.asarray(True)), whole[0])


def test_sums_over_pairs_of_tokens() -> None:
    grams, cov = drawn(3, 40, 40), drawn(40, 40)
    with jax.enable_x64(True):
        found = pair_sums(jnp.asarray(grams), jnp.asarray(cov))
        single = pair_sums(jnp.asarray(grams, jnp.float32), jnp.asarray(cov))
    right = np.einsum("mij,ij->m", grams, cov)
    np.testing.assert_allclose(found, right, rtol=1e-12)
    # Entries in single precision, 1,600 of them of size about 1: 6e-8 of each at most.
    assert np.abs(np.asarray(single) - right).max() < 1600 * 6e-8 * 8
    assert np.abs(np.einsum("mij,ij->m", np.tril(grams), cov) - right).max() > 1


@pytest.mark.parametrize("cap", [None, 0.7])
def test_the_slope_of_a_cap_is_its_derivative(cap: float | None) -> None:
    mixer = replace(MIXER, scores=replace(MIXER.scores, softcap=cap))
    products, step = drawn(6, 6), 1e-5
    with jax.enable_x64(True):
        ends = [np.asarray(capped(mixer, jnp.asarray(products + h))) for h in (-step, step)]
        found = np.asarray(cap_slopes(mixer, capped(mixer, jnp.asarray(products))))
        unread = np.asarray(cap_slopes(mixer, jnp.asarray(products)))
    slopes = (ends[1] - ends[0]) / (2 * step)
    np.testing.assert_allclose(found, slopes, atol=1e-8)
    if cap is not None:  # of what stands before the cap it is another number
        assert np.abs(unread - slopes).max() > 0.1
