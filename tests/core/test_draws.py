"""Bulk normals and chi-squares against their laws, the generator against its known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy.stats import chi2, kstest

from translimit.core import chi_square, normals
from translimit.core.draws import _words

KEY = jax.random.key(3)


def z(sample: np.ndarray, expected: float) -> float:
    """Distance of the mean in standard errors."""
    return (sample.mean() - expected) / (sample.std(ddof=1) / sample.size**0.5)


def test_words_are_those_of_threefry() -> None:
    # The first of the known answers that come with Random123.
    left, right = _words(jnp.zeros(2, jnp.uint32), 1, jnp.uint32(0))
    assert (int(left[0]), int(right[0])) == (0x6B200159, 0x99BA4EFE)
    seed = jnp.array([0x13198A2E, 0x03707344], jnp.uint32)
    counters = np.concatenate([np.arange(5), np.full(5, 7)]).astype(np.uint32)
    words = np.concatenate(_words(seed, 5, jnp.uint32(7)))
    np.testing.assert_array_equal(words, threefry_2x32(seed, jnp.asarray(counters)))


def test_normals_follow_the_normal_law() -> None:
    sample = np.asarray(normals(KEY, (1000, 1001)), dtype=float).ravel()
    assert sample.size == 1_001_000
    # Beyond the 1.6e-4 quantile of Kolmogorov's law one run in 6,000 would fail.
    assert kstest(sample, "norm").statistic < 2.2 / sample.size**0.5
    for power, moment in [(1, 0), (2, 1), (3, 0), (4, 3), (6, 15), (8, 105)]:
        assert abs(z(sample**power, moment)) < 4.5


def test_normals_are_independent_of_their_neighbours_and_of_other_keys() -> None:
    keys = jax.random.split(KEY, 1000)
    sample = np.asarray(jax.vmap(lambda key: normals(key, (32, 32)))(keys), dtype=float)
    flat = sample.reshape(1000, -1)
    for lag in (1, 2, 32, 512):
        assert abs(z(flat[:, lag:] * flat[:, :-lag], 0.0)) < 4.5
        assert abs(z(flat[:, lag:] ** 2 * flat[:, :-lag] ** 2, 1.0)) < 4.5
    assert abs(z(flat[1:] * flat[:-1], 0.0)) < 4.5
    # A path has the numbers of its key, however many paths there are.
    np.testing.assert_array_equal(sample[5], normals(keys[5], (32, 32)))


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 4, 7)])
def test_normals_of_any_shape(shape: tuple[int, ...]) -> None:
    sample = normals(KEY, shape)
    assert (sample.shape, sample.dtype) == (shape, jnp.float32)
    assert len(np.unique(sample)) == sample.size


@pytest.mark.parametrize("degrees", [0.3, 1.0, 2.5, 4.0, 7.3, 61.0, 1024.5])
def test_chi_squares_follow_their_law(degrees: float) -> None:
    with jax.enable_x64(True):
        sample = np.asarray(jax.jit(chi_square)(KEY, jnp.full(200_000, degrees)))
    assert sample.dtype == np.float64
    assert kstest(sample, "chi2", (degrees,)).statistic < 2.2 / sample.size**0.5
    assert abs(z(sample, degrees)) < 4.5
    assert abs(z((sample - degrees) ** 2, 2 * degrees)) < 4.5


def test_every_entry_has_its_own_degrees() -> None:
    degrees = np.array([1.0, 5.5, 40.0])
    keys = jax.random.split(KEY, 20_000)
    with jax.enable_x64(True):
        sample = jax.jit(jax.vmap(lambda key: chi_square(key, degrees)))(keys)
        alone = chi_square(keys[7], degrees)
    for column, own in zip(np.asarray(sample).T, degrees, strict=True):
        assert kstest(column, "chi2", (own,)).statistic < 2.2 / column.size**0.5
    assert np.abs(np.corrcoef(np.asarray(sample).T) - np.eye(3)).max() < 4.5 / 20_000**0.5
    np.testing.assert_allclose(sample[7], alone, rtol=1e-14)


def test_the_derivative_is_that_of_the_quantile() -> None:
    degrees = np.array([3.0, 8.5, 50.0])
    with jax.enable_x64(True):
        value, slope = jax.jvp(lambda d: chi_square(KEY, d), (degrees,), (np.ones(3),))
    level, step = chi2.cdf(value, degrees), 1e-4
    ahead, behind = chi2.ppf(level, degrees + step), chi2.ppf(level, degrees - step)
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-5)


def test_a_number_of_degrees_that_is_none_gives_nan_and_ends() -> None:
    degrees = np.array([np.inf, np.nan, -4.0, 10.0])
    drawn = np.asarray(jax.jit(lambda key: chi_square(key, degrees))(jax.random.key(0)))
    assert np.isnan(drawn[:3]).all()
    assert drawn[3] > 0
