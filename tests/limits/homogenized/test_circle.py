"""Densities on the circle: two layers, particles, what is too concentrated (rows 17, 18)."""

import jax
import jax.numpy as jnp
import numpy as np

from translimit.core import Outcome
from translimit.describe import GaussianHeads
from translimit.limits.homogenized.circle import density_flow


def test_acceptance_17_two_layers_on_the_circle():
    angles = 2 * np.pi * np.arange(256) / 256
    heads = {
        "V": np.array([[[[1, 0.5], [-0.3, 0.8]]], [[[0, 1], [1, 0]]]]),
        "A": np.array([[[[1, 0], [0, -1]]], [[[0.5, 1], [-1, 0.5]]]]),
    }
    initial = 1 + 0.6 * np.cos(angles)
    flow = density_flow(**heads, beta=2.0, step=0.2, initial=initial)
    assert flow.outcome == Outcome.successful
    first, second = flow.moment(1), flow.moment(2)
    np.testing.assert_allclose(
        first[1:], [0.33221319 - 0.008846723j, 0.313906802 + 0.021690003j], atol=1e-8
    )
    np.testing.assert_allclose(
        second[1:], [0.126786033 - 0.05401103j, 0.00403759 + 0.024703504j], atol=1e-8
    )
    np.testing.assert_allclose(flow.density.mean(axis=1) * 2 * np.pi, 1.0, rtol=1e-12)


def test_a_concentrated_density_fails_loudly():
    angles = 2 * np.pi * np.arange(240) / 240
    heads = np.broadcast_to(np.eye(2), (200, 1, 2, 2))
    flow = density_flow(
        V=heads, A=heads, beta=4.0, step=0.3, initial=np.exp(3 * np.cos(angles)), modes=80
    )
    assert flow.outcome == Outcome.not_converged
    assert np.isnan(flow.density[-1]).all()
    assert np.isfinite(flow.density[0]).all()


def circle_heads(layers, key):
    law = GaussianHeads(dim=2, beta=2.0, sigma_a=2**-0.25)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(layers))
    with jax.enable_x64(True):
        V, A = jax.vmap(lambda one: law.sample(one, jnp.float64))(keys)
        return np.asarray(V)[:, None], np.asarray(A)[:, None]


def particles(angles, V, A, step):
    """E e^{i phi} of systems of tokens [replicas, tokens] under given heads."""
    x = np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)
    for value, score in zip(V[:, 0].astype(np.float32), A[:, 0].astype(np.float32), strict=True):
        weights = np.exp(np.float32(2.0) * (x @ score.T) @ x.swapaxes(-1, -2))
        x = x + np.float32(step) * (weights / weights.sum(-1, keepdims=True)) @ x @ value.T
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return np.mean(x[..., 0] + 1j * x[..., 1], axis=-1)


def test_acceptance_18_particles_against_the_density():
    """n MSE at 100 and 400 tokens: their ratio 1 +- .15 (300 and 60 replicas, 4.5 s.e. ~ .7).

    The start rho = (1 + .6 cos phi) / 2 pi by its inverse distribution.
    """
    V, A = circle_heads(30, jax.random.key(2))
    angles = 2 * np.pi * np.arange(768) / 768
    step = np.sqrt(0.02)
    initial = 1 + 0.6 * np.cos(angles)
    flow = density_flow(V=V, A=A, beta=2.0, step=step, initial=initial, modes=240)
    assert flow.outcome == Outcome.successful
    grid = np.linspace(0, 2 * np.pi, 20_001)
    cdf = (grid + 0.6 * np.sin(grid)) / (2 * np.pi)
    generator = np.random.default_rng(0)
    scaled = []
    for tokens, replicas in ((100, 300), (400, 150)):
        start = np.interp(generator.uniform(size=(replicas, tokens)), cdf, grid)
        errors = tokens * np.abs(particles(start, V, A, step) - flow.moment(1)[-1]) ** 2
        scaled.append((errors.mean(), errors.std() / np.sqrt(replicas)))
    ratio = scaled[1][0] / scaled[0][0]
    stderr = ratio * np.hypot(*(s / m for m, s in scaled))
    assert abs(ratio - 1) < 4.5 * stderr
    assert stderr < 0.12  # so that a wrong power of n (a ratio of 2 or 4) fails
