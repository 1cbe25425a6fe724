"""Triangular factors: Cholesky where it is right, QR where it is not, and products of both."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, polygamma

from translimit.core import (
    lower_factor,
    lower_product,
    lower_square,
    quick_lower_factor,
    try_cholesky,
    where_allowed,
    wishart_factor,
)

SIZES = [3, 20, 64, 65, 131]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def stack(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 2 * rows))


def thin(rows: int) -> np.ndarray:
    """The last row is a multiple of the first up to 1e-10."""
    parts = stack(rows)
    parts[-1] = 1.5 * parts[0] + 1e-10 * parts[-1]
    return parts


def longdouble_log_det(parts: np.ndarray) -> float:
    """Log det F F^T by modified Gram-Schmidt with 64 bits of mantissa."""
    rest, total = parts.astype(np.longdouble), np.longdouble(0)
    for index in range(len(rest)):
        length = np.sqrt(np.sum(rest[index] ** 2))
        total += 2 * np.log(length)
        unit = rest[index] / length
        rest[index + 1 :] -= np.outer(rest[index + 1 :] @ unit, unit)
    return float(total)


def log_det(factor: jax.Array) -> float:
    return float(2 * jnp.sum(jnp.log(jnp.diagonal(factor))))


@pytest.mark.parametrize("rows", SIZES)
def test_cholesky_and_qr_give_one_factor(rows: int) -> None:
    parts = stack(rows)
    allowed, lower = try_cholesky(jnp.asarray(parts @ parts.T))
    assert bool(allowed)
    np.testing.assert_allclose(lower, lower_factor(jnp.asarray(parts)), atol=1e-11)
    np.testing.assert_allclose(quick_lower_factor(jnp.asarray(parts)), lower, atol=1e-11)
    np.testing.assert_array_equal(np.triu(lower, 1), 0)


@pytest.mark.parametrize("rows", [20, 70])
def test_a_thin_covariance_keeps_its_determinant(rows: int) -> None:
    parts = thin(rows)
    cov = jnp.asarray(parts @ parts.T)
    exact = longdouble_log_det(parts)
    assert abs(log_det(quick_lower_factor(jnp.asarray(parts))) - exact) < 1e-4
    # A Cholesky decomposition of the covariance has lost it, and says so.
    allowed, lower = try_cholesky(cov)
    assert not bool(allowed)
    assert not abs(log_det(lower) - exact) < 0.1


def test_only_those_that_need_it_take_the_careful_factor() -> None:
    batch = jnp.stack([stack(20, 1), thin(20), stack(20, 2)])
    together = jax.jit(jax.vmap(quick_lower_factor))(batch)
    alone = [jax.jit(quick_lower_factor)(parts) for parts in batch]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-12, atol=1e-13)
    assert abs(log_det(together[1]) - longdouble_log_det(thin(20))) < 1e-4
    calls = []

    def careful(value: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: calls.append(1))
        return value

    def choose(allowed: jax.Array) -> jax.Array:
        return where_allowed(allowed, jnp.zeros((2, 2)), careful, jnp.ones((2, 2)))

    for flags, needed in [([True, True], False), ([True, False], True)]:
        calls.clear()
        chosen = jax.jit(jax.vmap(choose))(jnp.array(flags))
        np.testing.assert_array_equal(chosen[:, 0, 0] == 0, flags)
        jax.effects_barrier()
        assert bool(calls) == needed


def test_directional_derivatives() -> None:
    parts, direction, step = jnp.asarray(stack(20)), jnp.asarray(stack(20, 5)), 1e-6
    _, slope = jax.jvp(quick_lower_factor, (parts,), (direction,))
    ahead = quick_lower_factor(parts + step * direction)
    behind = quick_lower_factor(parts - step * direction)
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), atol=1e-7)


@pytest.mark.parametrize("rows", SIZES)
def test_products_of_triangular_matrices(rows: int) -> None:
    rng = np.random.default_rng(rows)
    left, right = np.tril(rng.normal(size=(2, rows, rows)))
    product = lower_product(jnp.asarray(left), jnp.asarray(right))
    np.testing.assert_allclose(product, left @ right, atol=1e-12)
    np.testing.assert_array_equal(np.triu(product, 1), 0)
    square = np.tril(lower_square(jnp.asarray(left)))
    np.testing.assert_allclose(square, np.tril(left @ left.T), atol=1e-12)


def test_wishart_factors() -> None:
    degrees, size, count = 9.3, 4, 40_000
    keys = jax.random.split(jax.random.key(0), count)
    factors = np.asarray(jax.jit(jax.vmap(lambda key: wishart_factor(key, degrees, size)))(keys))
    wishart = factors @ factors.swapaxes(-1, -2)
    # E W = degrees I and Var W_ij = degrees (1 + [i = j]).
    error = (degrees * (1 + np.eye(size)) / count) ** 0.5
    assert (np.abs(wishart.mean(axis=0) - degrees * np.eye(size)) < 4.5 * error).all()
    halves = (degrees - np.arange(size)) / 2
    logs = np.linalg.slogdet(wishart)[1]
    mean = np.sum(digamma(halves) + np.log(2))
    assert abs(logs.mean() - mean) < 4.5 * (np.sum(polygamma(1, halves)) / count) ** 0.5
