"""Heads with a mean effect: acceptance rows 6 and 7, orders, the noise of general laws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit import solve
from translimit.core import ArgumentError, ArgumentTypeError, Retraction
from translimit.describe import FiniteHeads, GaussianHeads, ShiftedHeads
from translimit.limits.homogenized import BallisticFlow, ModifiedFlow
from translimit.limits.homogenized.drifts import (
    ballistic_drift,
    mean_update,
    noise_drift,
    sample_noise,
)
from translimit.models import RandomHeadChain

ROWS = np.array([[1.0, 0.2, 0.0], [0.3, 1.0, 0.4], [-0.2, 0.1, 1.0]])
X = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
V = np.array([[1.0, 0.3, 0.0], [-0.2, 0.8, 0.1], [0.0, 0.4, 0.6]])
LAW = ShiftedHeads(mean_v=V, mean_a=np.eye(3), beta=1.0)
STEPS = (0.1, 0.05, 0.025)


@functools.cache
def chain(step: float, retraction: Retraction) -> np.ndarray:
    """Layer by layer, so that all steps share one compilation; the law has no noise."""
    one = RandomHeadChain(law=LAW, step=step, heads=1, layers=1, retraction=retraction)
    tokens = X
    for _ in range(round(1 / step)):
        tokens = one.simulate(tokens, key=jax.random.key(0)).tokens[0, -1]
    return tokens


@functools.cache
def modified(step: float, retraction: Retraction) -> np.ndarray:
    problem = ModifiedFlow(law=LAW, initial=X, t1=1.0, step=step, retraction=retraction)
    return solve(problem, save=[1.0]).tokens[0]


def gap(step: float, chain_kind: Retraction, flow_kind: Retraction) -> float:
    return float(np.abs(chain(step, chain_kind) - modified(step, flow_kind)).max())


def test_acceptance_6_the_ballistic_limit_and_the_chain():
    overlaps = solve(BallisticFlow(law=LAW, initial=X, t1=1.0), save=[0.0, 1.0]).overlaps[1]
    found = overlaps[np.triu_indices(3, 1)]
    np.testing.assert_allclose(found, (0.82887497, 0.56252961, 0.79507946), atol=1e-7)
    found = [x[0] @ x[1] for x in (chain(step, Retraction.AMBIENT) for step in STEPS)]
    np.testing.assert_allclose(found, (0.81200906, 0.82034568, 0.82458733), atol=1e-7)


def test_acceptance_6_full_and_printed_modified_equation():
    full = [gap(step, Retraction.AMBIENT, Retraction.AMBIENT) for step in STEPS]
    printed = [gap(step, Retraction.AMBIENT, Retraction.TANGENT) for step in STEPS]
    np.testing.assert_allclose(full, (2.315e-3, 5.893e-4, 1.486e-4), rtol=0.02)
    np.testing.assert_allclose(printed, (2.686e-2, 1.388e-2, 7.058e-3), rtol=0.02)
    # The orders, two against one.
    assert np.log2(full[1] / full[2]) == pytest.approx(2.0, abs=0.1)
    assert np.log2(printed[1] / printed[2]) == pytest.approx(1.0, abs=0.1)


def test_the_printed_equation_is_right_for_the_tangent_chain():
    gaps = [gap(step, Retraction.TANGENT, Retraction.TANGENT) for step in STEPS]
    assert np.log2(gaps[1] / gaps[2]) == pytest.approx(2.0, abs=0.1)
    assert gaps[0] < 1e-3


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
    noted = [[-0.0061, 0.0304, 0.0399], [0.0095, -0.0018, -0.0026], [0.0550, -0.0158, 0.0126]]
    np.testing.assert_allclose(term, noted, atol=tolerance)


def test_the_noise_drift_of_a_finite_law_is_that_of_its_heads():
    law = ShiftedHeads(mean_v=V, mean_a=np.zeros((3, 3)), beta=1.0, sigma_a=1.0)
    few = FiniteHeads.drawn_from(law, 20_000, key=jax.random.key(0))
    c = noise_drift(few, jnp.asarray(X), 0.1, 2)
    # Row 7 times step / heads; 20 000 heads know the means to about 1e-3.
    noted = [[-0.0061, 0.0304, 0.0399], [0.0095, -0.0018, -0.0026], [0.0550, -0.0158, 0.0126]]
    np.testing.assert_allclose(c / 0.05, noted, atol=6e-3)
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


def test_the_flow_is_self_attention_on_the_sphere():
    """Against the field written out, and without a mean for isotropic heads."""
    x = jnp.asarray(X)
    weights = np.exp(X @ X.T)
    weights /= weights.sum(axis=1, keepdims=True)
    expected = weights @ X @ V.T
    np.testing.assert_allclose(mean_update(LAW, x), expected, rtol=1e-5)
    flat = expected - np.sum(expected * X, axis=1, keepdims=True) * X
    np.testing.assert_allclose(ballistic_drift(LAW, x), flat, rtol=1e-4, atol=1e-6)
    isotropic = GaussianHeads(dim=3, beta=1.0, sigma_a=1.0)
    assert not np.any(mean_update(isotropic, x))
    both = FiniteHeads(V=np.stack([V, 0 * V]), A=np.stack([np.eye(3)] * 2), beta=1.0)
    np.testing.assert_allclose(mean_update(both, x), expected / 2, rtol=1e-5)


def test_solutions_are_labelled_and_drawn():
    solution = solve(BallisticFlow(law=LAW, initial=2 * X, t1=1.0, normalize=True), save=[0.0, 1.0])
    assert solution.to_xarray()["tokens"].dims == ("time", "token", "component")
    np.testing.assert_allclose(solution.tokens[0], X, rtol=1e-12)
    assert solution.plot().lines


@pytest.mark.usefixtures("as_user")
def test_refusals():
    random = ShiftedHeads(mean_v=V, mean_a=np.eye(3), beta=1.0, sigma_a=1.0)
    with pytest.raises(ArgumentTypeError, match="drawn_from"):
        BallisticFlow(law=random, initial=X, t1=1.0)
    with pytest.raises(ArgumentError, match="norm"):
        BallisticFlow(law=LAW, initial=2 * X, t1=1.0)
    with pytest.raises(ArgumentError, match="step"):
        ModifiedFlow(law=LAW, initial=X, t1=1.0, step=0.0)
    with pytest.raises(ArgumentTypeError, match="retraction"):
        ModifiedFlow(law=LAW, initial=X, t1=1.0, step=0.1, retraction="ambient")
    with pytest.raises(ArgumentTypeError, match="law"):
        BallisticFlow(law=None, initial=X, t1=1.0)
