"""The tangent flow and the leading error of depth: closed forms, and differences of flows."""

import jax
import numpy as np
import pytest
from scipy.linalg import expm
from tests.limits.meanfield.canonical import K, Q, V

from translimit import solve
from translimit.attention import Sigmoid, Softmax
from translimit.core import ArgumentError
from translimit.integrate import FixedODE
from translimit.limits.meanfield import ParticleFlow, depth_error, tangent_flow
from translimit.models import ResidualAttention

T1 = 0.7


def clouds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, (7, 2)), generator.normal(size=(7, 2))


def test_equal_weights_are_a_linear_flow():
    """Q = 0: every token moves by V times the mean."""
    x, delta = clouds(0)
    equal, flow = Softmax(Q=0 * Q, K=K, V=V), expm(T1 * V)
    with jax.enable_x64(True):
        tokens, moved = map(np.asarray, tangent_flow(equal, x, delta, t1=T1))
        ends, error = map(np.asarray, depth_error(equal, x, t1=T1))
    for start, end in ((x, tokens), (delta, moved), (x, ends)):
        exact = start + (flow - np.eye(2)) @ start.mean(axis=0)
        np.testing.assert_allclose(end, exact, rtol=1e-7, atol=1e-8)
    # (I + t V / L)^L = e^{tV} (I - t^2 V^2 / (2 L)) + O(L^-2), and the unit is t / L.
    exact = -0.5 * T1 * flow @ V @ V @ x.mean(axis=0)
    np.testing.assert_allclose(error, np.tile(exact, (7, 1)), rtol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_against_differences_of_flows_and_networks(causal):
    x, delta = clouds(1)
    chosen = Sigmoid(Q=Q, K=K, V=V, bias=0.3, causal=causal)
    positions = np.arange(7) / 7 if causal else None
    with jax.enable_x64(True):

        def flow(tokens):
            problem = ParticleFlow(attention=chosen, initial=tokens, t1=T1, positions=positions)
            return np.asarray(solve(problem, FixedODE(steps=32), save=[T1]).tokens[-1])

        tokens, moved = tangent_flow(chosen, x, delta, t1=T1, positions=positions)
        np.testing.assert_allclose(tokens, flow(x), rtol=1e-7, atol=1e-9)
        size = 1e-5
        differences = (flow(x + size * delta) - flow(x - size * delta)) / (2 * size)
        np.testing.assert_allclose(moved, differences, rtol=1e-5, atol=1e-7)
        if causal:
            return
        ends, error = depth_error(chosen, x)
        network = np.asarray(ResidualAttention(chosen, 4096).simulate(x).tokens[-1])
        scale = np.abs(np.asarray(error)).max()
        np.testing.assert_allclose(4096 * (network - np.asarray(ends)), error, atol=2e-3 * scale)


@pytest.mark.usefixtures("as_user")
def test_refusals():
    x, delta = clouds(2)
    with pytest.raises(ArgumentError, match="steps: got 0; pass at least 1"):
        tangent_flow(Softmax(Q=Q, K=K, V=V), x, delta, t1=1.0, steps=0)
