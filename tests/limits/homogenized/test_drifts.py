"""The drift that anisotropic noise supplies, and the noise itself (row 7)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.limits.homogenized.mean_effects import V, X

from translimit.describe import FiniteHeads, ShiftedHeads
from translimit.limits.homogenized.drifts import (
    noise_drift,
    sample_noise,
)


def row_7(samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Second-order means of one step, the theory without the noise drift, and the noise drift.

    The same heads on both sides, in blocks.
    """
    law = ShiftedHeads(mean_v=V, mean_a=np.zeros((3, 3)), beta=1.0, sigma_a=1.0)
    step = 0.005

    @jax.jit
    def sums(x, keys):
        def one(key):
            value, A = law.sample(key, jnp.float64)
            weights = jax.nn.softmax((x @ A.T) @ x.T, axis=-1)
            u = weights @ x @ value.T
            out = jnp.sum(x * u, axis=1, keepdims=True)
            flat = u - out * x
            moved = x + step * u
            moved = moved / jnp.linalg.norm(moved, axis=1, keepdims=True)
            second = (moved - x - step * flat) / step**2
            return second, u, jnp.sum(flat**2, axis=1, keepdims=True), out * flat

        return jax.tree.map(lambda leaf: leaf.sum(0), jax.vmap(one)(keys))

    total = None
    with jax.enable_x64(True):
        blocks = samples // 100_000
        for block in range(blocks):
            keys = jax.random.split(jax.random.key(block), 100_000)
            part = sums(jnp.asarray(X), keys)
            total = part if total is None else jax.tree.map(jnp.add, total, part)
    second, u, square, outward = (np.asarray(one) / samples for one in total)
    out = np.sum(X * u, axis=1, keepdims=True)
    b = u - out * X
    term = -(outward - out * b)  # -E <x, xi> P xi, of the same heads
    return second, -0.5 * square * X - out * b, term


@pytest.mark.parametrize(
    ("samples", "tolerance"),
    [(200_000, 2e-3), pytest.param(2_000_000, 1e-3, marks=pytest.mark.slow)],
)
def test_acceptance_7_the_drift_of_anisotropic_noise(samples, tolerance):
    second, without, term = row_7(samples)
    assert np.abs(second - without - term).max() < 1e-3  # the same heads: no sampling error
    assert np.abs(second - without).max() == pytest.approx(0.0544, abs=tolerance)
    values = [[-0.0061, 0.0304, 0.0399], [0.0095, -0.0018, -0.0026], [0.0550, -0.0158, 0.0126]]
    np.testing.assert_allclose(term, values, atol=tolerance)


def test_the_noise_drift_of_a_finite_law_is_that_of_its_heads():
    law = ShiftedHeads(mean_v=V, mean_a=np.zeros((3, 3)), beta=1.0, sigma_a=1.0)
    few = FiniteHeads.drawn_from(law, 20_000, key=jax.random.key(0))
    c = noise_drift(few, jnp.asarray(X), 0.1, 2)
    # Row 7 times step / heads; 20 000 heads know the means to about 1e-3.
    values = [[-0.0061, 0.0304, 0.0399], [0.0095, -0.0018, -0.0026], [0.0550, -0.0158, 0.0126]]
    np.testing.assert_allclose(c / 0.05, values, atol=6e-3)
    assert np.abs(np.sum(c * X, axis=1)).max() < 1e-6  # tangent


def test_sampled_noise_has_the_covariance_of_the_heads():
    """20 000 draws of 4 heads each: unbiased, within 4.5 standard errors entry by entry."""
    law = ShiftedHeads(mean_v=V, mean_a=np.zeros((3, 3)), beta=1.0, sigma_a=1.0, sigma_v=0.2)
    keys = jax.random.split(jax.random.key(1), 20_000)
    draw = jax.jit(jax.vmap(lambda key: sample_noise(law, jnp.asarray(X), samples=4, key=key)))
    noise = np.asarray(draw(keys)).reshape(-1, 9)
    heads = FiniteHeads.drawn_from(law, 40_000, key=jax.random.key(2))
    updates = jax.jit(jax.vmap(lambda v, a: jax.nn.softmax((X @ a.T) @ X.T, axis=-1) @ X @ v.T))(
        heads.V, heads.A
    )
    xi = np.asarray(updates).reshape(-1, 9)
    xi = xi - xi.mean(axis=0)
    products = [np.einsum("na,nb->nab", one, one) for one in (noise, xi)]
    stderr = np.hypot(*(p.std(axis=0) / np.sqrt(len(p)) for p in products))
    assert (np.abs(products[0].mean(0) - products[1].mean(0)) < 4.5 * stderr).all()
