"""Each ingredient of the training dynamics alone, against what shares no code with the solver.

With infinite heads neither side samples, and both agree to rounding. Elsewhere networks of two
sizes are extrapolated in 1 / heads, or the NumPy pass draws heads of its own.
"""

import math
from typing import Any

import jax
import numpy as np
import pytest
from benchmarks.support import dmft_numpy
from tests.limits.dmft.cases import X, Y, ring4
from tests.limits.dmft.network import RING4, RING4_Y, Network, extrapolated

from translimit.core import solve
from translimit.describe import Activation
from translimit.limits.dmft import CausalSampling, ScoreLaw, lazy_predictions

SCHEDULE = np.array([1.0, 0.5, 0.25, 0.75, 0.5])
RATE = 0.1
SHORT: dict[str, Any] = {"beta0": 2.0, "gamma0": 2.0, "steps": 5, "eta0": 0.03}


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({}, {}),
        ({"norm": "rms"}, {"norm": True}),
        ({"causal": True}, {"causal": True}),
        ({"momentum": 0.5}, {"momentum": 0.5}),
        ({"schedule": SCHEDULE}, {"weights": SCHEDULE[:, None] * np.full((5, 2), 0.5)}),
    ],
    ids=["plain", "norm", "mask", "momentum", "schedule"],
)
def test_one_ingredient_with_infinite_heads(here: dict[str, Any], there: dict[str, Any]) -> None:
    solution = solve(ring4(**SHORT, **here))
    setting = dmft_numpy.Setting(kx=RING4, y=RING4_Y, head_dim=math.inf, **SHORT, **there)
    other = dmft_numpy.solve(setting)
    np.testing.assert_allclose(solution.predictions, other.f[..., 0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(solution.ntk, other.ntk, rtol=1e-5, atol=1e-5)


def test_alpha_below_one_alone() -> None:
    # 4 populations of 2000 heads here, 3 of 2000 there; alpha_A = 1 is off by over nine errors.
    options: dict[str, Any] = {**SHORT, "head_dim": 4}
    method = CausalSampling(heads=2000, populations=4)
    solution = solve(ring4(**options, alpha_A=0.5), method, key=jax.random.key(0))
    runs = {
        alpha: np.stack(
            [
                dmft_numpy.solve(
                    dmft_numpy.Setting(kx=RING4, y=RING4_Y, alpha_A=alpha, **options),
                    heads=2000,
                    seed=seed,
                ).f[..., 0]
                for seed in range(3)
            ]
        )
        for alpha in (0.5, 1.0)
    }
    stderr = np.hypot(solution.stderr, runs[0.5].std(axis=0, ddof=1) / 3**0.5)[1:]
    z = {a: (solution.predictions - f.mean(axis=0))[1:] / stderr for a, f in runs.items()}
    assert np.sqrt(np.mean(z[0.5] ** 2)) < 4.5
    assert np.sqrt(np.mean(z[1.0] ** 2)) > 9


@pytest.fixture(scope="module")
def scheduled() -> tuple[Any, Any]:
    """A deep linear network under a schedule, and networks of 16 and 32 heads."""
    problem = ring4(
        steps=5,
        eta0=RATE,
        head_dim=2,
        beta0=1.5,
        gamma0=1.5,
        attention=False,
        mlp=Activation.LINEAR,
        schedule=SCHEDULE,
    )
    weights = SCHEDULE[:, None] * problem.weights
    nets = {}
    for H in (16, 32):
        net = Network(N=2, H=H, beta0=1.5, gamma0=1.5, eta0=RATE, attention=False, mlp="linear")
        params = net.random(H, 800, 4)
        f = net.train(params, X, RING4_Y, 5, weights=weights)["f"][..., 0]
        nets[H] = f, kernels(net, params, weights, 3)
    return solve(problem), nets


def kernels(net: Network, params: Any, weights: np.ndarray, updates: int) -> np.ndarray:
    """Tangent kernels [seeds, inputs, inputs] of networks after some updates, by differences."""
    params = dict(params)
    for t in range(updates):
        fields = net.forward(params, X)
        change = net.increments(params, fields, X, weights[t, :, None] * (RING4_Y - fields["f"]))
        params = {name: value + change[name] for name, value in params.items()}
    fields, tiny = net.forward(params, X), 1e-5
    columns = []
    for point in range(2):
        error = np.zeros((1, 2, 1))
        error[0, point] = tiny
        change = net.increments(params, fields, X, error * np.ones((len(fields["f"]), 1, 1)))
        moved = {name: value + change[name] for name, value in params.items()}
        after = net.forward(moved, X)["f"]
        columns.append((after - fields["f"])[..., 0] / (tiny * net.eta0))
    return np.stack(columns, axis=-1)


def test_a_schedule_against_networks(scheduled: tuple[Any, Any]) -> None:
    solution, nets = scheduled
    value, stderr = extrapolated(nets[16][0], nets[32][0])
    # 4.5 standard errors, and the bias of the extrapolation, of order 1 / heads^2.
    gap = np.abs(value - solution.predictions)
    assert np.all(gap < 4.5 * stderr + 0.01)
    unscheduled = lazy_predictions(solution.ntk[0], Y, steps=5, eta0=RATE)
    assert np.abs(solution.predictions - unscheduled).max() > 0.1


def test_sharpness_is_that_of_networks_at_every_time(scheduled: tuple[Any, Any]) -> None:
    solution, nets = scheduled
    value, stderr = extrapolated(nets[16][1], nets[32][1])
    # Half the largest eigenvalue of the kernel after three updates; the weights are 1 / 2.
    expected = np.linalg.eigvalsh((value + value.T) / 2)[-1] / 2
    error = np.linalg.norm(stderr) / 2
    assert abs(solution.sharpness[3] - expected) < 4.5 * error + 0.01 * expected
    # The kernel of the start is not that.
    start = np.linalg.eigvalsh(solution.ntk[0])[-1] / 2
    assert abs(start - expected) > 4.5 * error + 0.02 * expected
    # At the edge of stability the rate with its schedule is 2 / sharpness.
    np.testing.assert_allclose(
        solution.edge_ratio, RATE * SCHEDULE * solution.sharpness / 2, rtol=1e-12
    )


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_a_law_by_loops(causal: bool) -> None:
    scores = np.random.default_rng(0).normal(scale=3.0, size=(2, 5, 1, 3, 3))
    scores[0, 0, 0, 0, 2] = 900.0  # a key that the first query may not see
    found = ScoreLaw(scores, causal).attention
    for place in np.ndindex(2, 5, 1, 3):
        seen = place[-1] + 1 if causal else 3
        row = scores[place][:seen]
        expected = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        np.testing.assert_allclose(found[place][:seen], expected, rtol=1e-12)
        assert not found[place][seen:].any()


def test_lazy_predictions_with_weights_of_the_inputs() -> None:
    # y - f(t) = (1 - eta_0 K W)^t y, for one output and for each of several.
    kernel = np.array([[2.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 1.5]])
    weights, y = np.array([0.7, 0.1, 0.0]), np.array([[1.0, 0.5], [-1.0, 2.0], [0.3, -0.4]])
    step = np.eye(3) - 0.2 * kernel @ np.diag(weights)
    expected = y - np.linalg.matrix_power(step, 4) @ y
    options: dict[str, Any] = {"steps": 5, "eta0": 0.2, "weights": weights}
    np.testing.assert_allclose(lazy_predictions(kernel, y, **options)[4], expected)
    np.testing.assert_allclose(lazy_predictions(kernel, y[:, 0], **options)[4], expected[:, 0])
