"""Shaped attention: its formula, its derivative, and scores larger than any precision resolves."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from translimit.attention import shaped_attention
from translimit.core import in_float64
from translimit.describe import Block, ShapedGains
from translimit.models import CompressedShapedTransformer

GAINS = ShapedGains(identity=0.7, attention=1.3, centring=0.4)


def matrix_of(scores: np.ndarray, causal: bool) -> np.ndarray:
    """The formula, by SciPy."""
    tokens = scores.shape[-1]
    seen = np.tril(np.ones((tokens, tokens))) if causal else np.ones((tokens, tokens))
    weights = softmax(np.where(seen > 0, scores, -np.inf), axis=-1)
    uniform = seen / seen.sum(axis=-1, keepdims=True)
    return 0.7 * np.eye(tokens) + 1.3 * weights - 0.4 * uniform


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [0.0, 1.0, 100.0, 1e22])
def test_the_matrix_is_its_formula(size: float, causal: bool) -> None:
    scores = size * np.random.default_rng(0).normal(size=(3, 5, 5))
    found = in_float64(lambda x: shaped_attention(x, GAINS, causal), scores)
    np.testing.assert_allclose(found, matrix_of(scores, causal), atol=1e-13)


@pytest.mark.parametrize("causal", [False, True])
def test_the_derivative_is_that_of_softmax_also_where_scores_are_equal(causal: bool) -> None:
    scores = np.random.default_rng(1).normal(size=(4, 4))
    scores[1] = 0.5
    scores[3, 1:3] = 4.0
    weights = np.random.default_rng(2).normal(size=(4, 4))

    def read(x: jax.Array) -> jax.Array:
        return jnp.sum(weights * shaped_attention(x, GAINS, causal))

    found = in_float64(jax.grad(read), scores)
    step = 1e-6
    for row, column in np.ndindex(4, 4):
        moved = np.zeros((4, 4))
        moved[row, column] = step
        sides = [np.sum(weights * matrix_of(scores + sign * moved, causal)) for sign in (1, -1)]
        assert found[row, column] == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-8)


def test_chains_stay_finite_where_scores_pass_what_an_exponential_holds() -> None:
    """Without centring equal tokens are doubled by A: a trace times (1 + 2^2) / 2 a layer."""
    gains = ShapedGains(centring=0.0)
    block = Block(gamma=0.5**0.5, tau0=1.0, lam=0.5**0.5, shaped_gains=gains)
    chain = CompressedShapedTransformer(block=block, dim=200, layers=100)
    found = chain.simulate(0.8 * np.eye(4) + 0.2, key=jax.random.key(0), seeds=20, save_every=20)
    traces = np.trace(np.asarray(found.cov), axis1=-2, axis2=-1)
    assert np.all(np.isfinite(traces))
    # The first layers make tokens equal. A layer's factor is |x + 2 W x|^2 / (2 |x|^2), of mean
    # 5 / 2 and variance 12 / n; a log has a mean lower by half of its relative variance.
    growth = np.log(traces[:, -1] / traces[:, 1]) / 80
    variance = 12 / 2.5**2 / 200
    error = (variance / (80 * 20)) ** 0.5
    assert abs(growth.mean() - math.log(2.5) + variance / 2) < 4.5 * error
