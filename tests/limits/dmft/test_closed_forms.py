"""Closed forms: deep linear networks, two layers, the lazy limit."""

import math

import numpy as np
import pytest
from tests.limits.dmft.cases import ring4
from tests.limits.dmft.linear import LINEAR
from tests.limits.dmft.network import RING4 as KX

from translimit.core import ArgumentError, solve
from translimit.limits import dmft
from translimit.limits.dmft import (
    Architecture,
    TrainingDynamics,
)


def test_a4_deep_linear_networks_and_a12_two_layers() -> None:
    linear = solve(ring4(**LINEAR, steps=10, eta0=0.05))
    np.testing.assert_allclose(linear.predictions[9], [0.99997799, -1.25001741], atol=1e-7)
    # One compiled shape, three richnesses; y - f at eta_0 t = 1.
    for gamma0, expected in ((0.3, 0.184022), (1.0, 0.087246), (2.0, 0.011391)):
        problem = TrainingDynamics(
            architecture=Architecture(head_dim=1, gamma0=gamma0, attention=False),
            inputs=np.ones((1, 1, 1)),
            targets=[1.5],
            steps=101,
            eta0=0.01,
        )
        solution = solve(problem)
        assert 1.5 - solution.predictions[-1, 0] == pytest.approx(expected, abs=1e-6)
        exact = dmft.two_layer_linear(1.5, gamma0, [1.0])[0]
        assert solution.predictions[-1, 0] == pytest.approx(exact, abs=6e-3)
        f = solution.predictions[-1, 0]
        assert solution.kernel(1)[-1, 0, 0, -1, 0, 0] == pytest.approx(
            math.sqrt(1 + (gamma0 * f) ** 2), abs=0.02
        )


@pytest.mark.parametrize(("gamma0", "rest"), [(0.3, 0.188016), (1.0, 0.090592), (2.0, 0.012815)])
def test_a12_the_flow_of_two_layers_in_closed_form(gamma0: float, rest: float) -> None:
    assert 1.5 - dmft.two_layer_linear(1.5, gamma0, [1.0])[0] == pytest.approx(rest, abs=1e-6)
    # Against the equation itself, by differences; odd in the target; at rest at the target.
    times = np.array([0.3 - 1e-5, 0.3, 0.3 + 1e-5, 60.0])
    f = dmft.two_layer_linear(1.5, gamma0, times)
    slope = 2 * math.sqrt(1 + (gamma0 * f[1]) ** 2) * (1.5 - f[1])
    assert (f[2] - f[0]) / 2e-5 == pytest.approx(slope, rel=1e-8)
    assert f[3] == pytest.approx(1.5)
    np.testing.assert_allclose(dmft.two_layer_linear(-1.5, gamma0, times), -f)


def test_lazy_predictions_follow_the_kernel() -> None:
    kernel = np.array([[2.0, 0.3], [0.3, 1.0]])
    f = dmft.lazy_predictions(kernel, [1.0, -1.0], steps=4, eta0=0.1)
    step = np.eye(2) - 0.05 * kernel
    expected = np.array([1.0, -1.0]) - np.linalg.matrix_power(step, 3) @ [1.0, -1.0]
    np.testing.assert_allclose(f[3], expected)
    heavy = dmft.lazy_predictions(kernel, [1.0, -1.0], steps=3, eta0=0.1, momentum=0.5)
    np.testing.assert_allclose(heavy[2] - heavy[1], 0.5 * heavy[1] + (f[2] - f[1]))


@pytest.mark.parametrize(("layers", "alpha_L"), [(1, 1.0), (3, 0.75), (4, 0.5)])
def test_the_start_of_uniform_attention(layers: int, alpha_L: float) -> None:
    """The causal pass knows nothing of the closed forms; blocks are then uncorrelated."""
    solution = solve(ring4(steps=1, eta0=0.01, layers=layers, alpha_L=alpha_L, beta0=1.7))
    sizes = {"layers": layers, "beta0": 1.7, "alpha_L": alpha_L}
    ntk = dmft.uniform_attention_ntk(KX, 2, **sizes)
    np.testing.assert_allclose(solution.ntk[0], ntk, rtol=1e-12)
    moved, varied = (one[0] for one in solution.stream_motion())
    said = dmft.uniform_attention_motion(KX, 2, **sizes)
    np.testing.assert_allclose(moved, np.repeat(said[:, None], 2, axis=1), rtol=1e-12)
    np.testing.assert_allclose(moved, varied, rtol=1e-12)


def test_the_start_of_uniform_attention_at_infinite_depth() -> None:
    for alpha_L, growth in ((1.0, 1.0), (0.5, math.exp(1.5**2)), (0.8, 1.0)):
        sizes = {"beta0": 1.5, "alpha_L": alpha_L}
        whole = dmft.uniform_attention_ntk(KX, 2, layers=math.inf, **sizes)
        pooled = KX.reshape(2, 2, 2, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(whole, (2 + 2 * 1.5**2) * growth * pooled, rtol=1e-12)
        deep = dmft.uniform_attention_ntk(KX, 2, layers=10**8, **sizes)
        np.testing.assert_allclose(deep, whole, rtol=1e-3)
        moved = dmft.uniform_attention_motion(KX, 2, layers=math.inf, **sizes)
        np.testing.assert_allclose(moved, (growth - 1) * np.diag(pooled), rtol=1e-12)
    with pytest.raises(ArgumentError, match="inputs: got 3 for 4 fields; pass a divisor of 4"):
        dmft.uniform_attention_ntk(KX, 3, layers=2, beta0=1.0)
    with pytest.raises(ArgumentError, match="layers"):
        dmft.uniform_attention_motion(KX, 2, layers=0, beta0=1.0)


def test_training_makes_the_stream_coherent() -> None:
    """Of one block D = Q at all times; of four the figures of another program."""
    rich = {"steps": 13, "eta0": 0.05, "beta0": 1.0, "gamma0": 2.0}
    moved, varied = solve(ring4(layers=1, **rich)).stream_motion()
    np.testing.assert_allclose(moved, varied, rtol=1e-12)
    moved, varied = (
        one.mean(axis=(1, 2)) for one in solve(ring4(layers=4, **rich)).stream_motion()
    )
    assert moved[0] == pytest.approx(0.19896, abs=1e-5)
    assert moved[-1] == pytest.approx(2.450, abs=5e-4)
    assert moved[-1] / varied[-1] == pytest.approx(2.114, abs=5e-4)
    none = TrainingDynamics(
        architecture=Architecture(head_dim=1, attention=False),
        inputs=np.ones((1, 1, 1)),
        targets=[1.0],
        steps=1,
        eta0=0.1,
    )
    with pytest.raises(ArgumentError, match="there are no blocks"):
        solve(none).stream_motion()
