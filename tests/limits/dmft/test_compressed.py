"""Compressed histories: exact where nothing is sampled, and beside whole histories elsewhere.

Heads of infinite dimension are linear in their sources in both forms, so that the two agree to
rounding for every ingredient of the stream, the readout and the heads. Sampled heads and neurons
are compared with populations that keep their whole histories (`histories`).
"""

import math
from typing import Any

import jax
import numpy as np
import pytest
from tests.limits.dmft import histories
from tests.limits.dmft.cases import BASE, FULL, RICH, ring4
from tests.limits.dmft.language import lm12, sin6

from translimit.core import ArgumentError, solve
from translimit.describe import Activation
from translimit.limits.dmft import (
    CausalSampling,
    Huber,
    LinearAlgebra,
    TrainingDynamics,
    setup,
)
from translimit.limits.dmft.compressed.cost import expected_rank, pass_bytes
from translimit.limits.dmft.compressed.passes import compressed_pass
from translimit.limits.dmft.compressed.setup import numbers_of, shape_of
from translimit.limits.dmft.passes import causal_pass

KEY = jax.random.key(0)
TANH: dict[str, Any] = {"mlp": Activation.TANH}
TODAY: dict[str, Any] = {"layers": 2, "alpha_L": 0.5, "beta0": 1.0}
TODAY |= {"qk_norm": "rms", "score_gain": 2.0}
#: Problems of linear heads, one ingredient after another.
LINEAR: dict[str, TrainingDynamics] = {
    "plain": ring4(**BASE),
    "huber": ring4(**{**BASE, "eta0": 0.1}, loss=Huber(0.5)),
    "depth, norm, mask, momentum": ring4(
        **RICH,
        layers=2,
        alpha_L=0.75,
        norm="rms",
        causal=True,
        momentum=0.5,
        steps=8,
        eta0=0.04,
    ),
    "a final norm alone": ring4(**{**BASE, "eta0": 0.05}, final_norm=True),
    "depth ODE": ring4(**RICH, layers=math.inf, steps=5, eta0=0.04),
    "classes, no readout": sin6(eta0=0.3, readout_std=0.0),
    "tokens, heads of today": lm12(eta0=0.5, **TODAY, score_gain_rate=4.0),
    "tied": lm12(eta0=0.25, tied=True),
    "tied, centred, momentum": lm12(eta0=0.1, tied=True, centred=True, momentum=0.5),
    "frozen positions": lm12(eta0=0.5, position_std=0.5, position_rate=0.0),
}


def compressed(problem: TrainingDynamics, *, weights: Any = None, **options: Any) -> Any:
    """The trace of one compressed pass; `weights` [steps, rows] instead of the problem's."""
    method = CausalSampling(**{"heads": 1000, "neurons": 2000, **options})
    layers = problem.architecture.layers
    shape = shape_of(problem.equations, method, 4 if math.isinf(layers) else int(layers))
    numbers = numbers_of(problem.equations, method, shape)
    if weights is not None:
        numbers = numbers._replace(error_weights=weights)
    return compressed_pass(shape, numbers, problem.steps, KEY, 10)


def exactly(problem: TrainingDynamics) -> Any:
    """The pass over whole histories of linear heads, at four cells where depth is infinite."""
    layers, method = problem.architecture.layers, LinearAlgebra()
    plan = setup.plan_of(problem.equations, 4 if math.isinf(layers) else int(layers))
    numbers = setup.numbers_of(problem.equations, method, plan)
    return causal_pass(plan, numbers, problem.steps, KEY, 10)


QUICK = ("depth, norm, mask, momentum", "tokens, heads of today", "a final norm alone")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LINEAR],
)
def test_it_is_an_identity_where_nothing_is_sampled(name: str) -> None:
    problem = LINEAR[name]
    # Below 1e-16 a direction is rounding, divided by its own size.
    exact, found = exactly(problem), compressed(problem, tol=1e-15)
    np.testing.assert_allclose(found.f, exact.f, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.scores, exact.scores, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.ntk, exact.ntk, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.key_gradient, exact.key_gradient, rtol=1e-4, atol=1e-9)
    for kernel in ("residual", "gradient", "motion"):
        np.testing.assert_allclose(found.kernels[kernel], exact.kernels[kernel], atol=2e-6)
    # Directions are fewer than fields, and what is left out at the usual tolerance is small.
    usual = compressed(problem, tol=1e-4)
    assert usual.ranks[-1].max() < found.ranks[-1].max()
    assert 0 < np.abs(usual.f - exact.f).max() < 2e-3


#: (K_00, K_01, K_11) by evaluation, C14.
KERNELS = {
    0: [8.86487, 1.47606, 8.49371],
    3: [9.67755, 1.05660, 9.14412],
    6: [11.60166, 0.02897, 10.73777],
}


@pytest.mark.parametrize(
    ("tol", "allowed"), [(1e-4, 0.02), pytest.param(1e-18, 1e-4, marks=pytest.mark.slow)]
)
def test_the_tangent_kernel_does_not_need_directions_of_its_own(tol: float, allowed: float) -> None:
    # The answer of a branch lies in a direction of relative variance (eta_0 d)^2 = 1e-11, which
    # is left out: its regression is not.
    options: dict[str, Any] = {"layers": 2, "alpha_L": 0.75, "beta0": 1.5, "gamma0": 1.2}
    problem = ring4(**options, norm="rms", causal=True, eta0=0.03, steps=8)
    whole = compressed(problem, tol=tol)
    weights = np.array(problem.equations.weights)
    for t, values in KERNELS.items():
        found = whole.ntk[t][[0, 0, 1], [0, 1, 1]]
        np.testing.assert_allclose(found, values, rtol=0, atol=allowed)
        if t == 3:
            continue
        columns = []
        for error in np.eye(2):
            ends = []
            for size in (1e-4, 0.0):  # Delta(t) = size * error, and nothing else changes
                branch = weights.copy()
                branch[t] = size * error / (problem.targets - whole.f[t, :, 0])
                ends.append(compressed(problem, tol=tol, weights=branch).f[t + 1, :, 0])
            columns.append((ends[0] - ends[1]) / (0.03 * 1e-4))
        by_branch = np.array([columns[0][0], columns[0][1], columns[1][1]])
        np.testing.assert_allclose(by_branch, values, rtol=0, atol=max(allowed, 1e-3))


CASES: dict[str, tuple[TrainingDynamics, dict[str, Any]]] = {
    "every ingredient, alpha_A below one, momentum": (ring4(**FULL), {}),
    "tokens, normalised heads, final norm": (
        lm12(eta0=0.5, head_dim=4, qk_norm="rms", score_gain=2.0, score_gain_rate=4.0, **TANH),
        {},
    ),
    "infinite heads beside neurons": (ring4(**RICH, **TANH, norm="rms", steps=8, eta0=0.05), {}),
    "tied": (lm12(eta0=0.25, head_dim=2, tied=True, centred=True, **TANH), {}),
    "wide": (lm12(eta0=0.5, head_dim=2, mlp_ratio=2.0, rotary=3.0, **TANH), {}),
    "without R_p at alpha_A below one": (ring4(**FULL), {"omit": ("R_p",)}),
    "without R_h": (ring4(**FULL), {"omit": ("R_h",)}),
    "classes": (sin6(eta0=0.3, head_dim=2, norm="rms", **TANH), {}),
}


@pytest.mark.parametrize(
    "name",
    [
        name
        if name == "every ingredient, alpha_A below one, momentum"
        else pytest.param(name, marks=pytest.mark.slow)
        for name in CASES
    ],
)
def test_sampled_sites_beside_whole_histories(name: str) -> None:
    problem, options = CASES[name]
    method = CausalSampling(heads=1500, neurons=3000, populations=4, check_tol=False, **options)
    found = solve(problem, method, key=KEY)
    mean, stderr = histories.trained(problem, heads=1500, neurons=3000, seeds=4, **options)
    f, own = (x.reshape(mean.shape) for x in (found.predictions, found.stderr))
    # 4.5 standard errors of each mean over time (one common mode dominates), and that of tol.
    joint = np.sqrt(np.mean(own**2 + stderr**2))
    assert np.sqrt(np.mean((f - mean) ** 2)) < 3 * joint + 5e-4
    # Errors of four populations scatter: the root of F(3, 3) is below 3 with 95 %. Of 24
    # populations of the first case the ratio was 1.4.
    assert np.sqrt(np.mean(own**2)) < 3 * np.sqrt(np.mean(stderr**2))


def test_what_is_left_out_is_told() -> None:
    problem = ring4(**BASE, head_dim=2)
    method = CausalSampling(heads=600, populations=2, tol=1e-3)
    solution = solve(problem, method, key=KEY)
    assert 4 < solution.largest_rank < 48
    assert solution.ranks.shape == (12, 1, 1, 5)
    assert 0 < solution.compression_error.max() < 0.05
    assert solution.to_xarray().attrs["largest_rank"] == solution.largest_rank
    np.testing.assert_array_equal(solution.kernel_ts, solution.ts)
    quiet = solve(
        problem, CausalSampling(heads=600, populations=2, tol=1e-3, check_tol=False), key=KEY
    )
    np.testing.assert_array_equal(quiet.predictions, solution.predictions)
    assert not quiet.compression_error.any()
    responses = solution.responses(0)
    assert set(responses) == {"R_h", "R_p", "R_v", "R_g"}
    assert responses["R_v"].shape == responses["R_g"].shape[::-1]


@pytest.mark.slow
@pytest.mark.usefixtures("as_user")
def test_a_population_too_small_for_its_ranks_is_refused_with_the_size_it_needs() -> None:
    problem = ring4(**BASE, head_dim=2)
    with pytest.raises(ArgumentError, match=r"^heads: got 40, where .*; take about \d+") as refused:
        solve(problem, CausalSampling(heads=40, populations=2, check_tol=False), key=KEY)
    needed = int(str(refused.value).split("take about ")[1].split(",")[0])
    assert 40 < needed < 400
    solve(problem, CausalSampling(heads=needed, populations=2, check_tol=False), key=KEY)


def test_cost_is_told_by_expected_ranks() -> None:
    # Linear in the steps from a hundred on: nothing grows but what is kept for kernels.
    sizes = []
    for steps in (200, 5000):
        problem = ring4(**{**BASE, "steps": steps, "eta0": 1.0 / steps}, head_dim=2)
        shape = shape_of(problem.equations, CausalSampling(heads=1000), 1)
        sizes.append(pass_bytes(shape))
        assert shape.kept * shape.fields <= 2048
    assert sizes[1] < 5 * sizes[0]
    assert expected_rank(4, 5) == 4 * 5
    assert expected_rank(4, 100, 1e-3) < expected_rank(4, 100) < expected_rank(4, 100, 1e-6)
    assert expected_rank(4, 1000) == expected_rank(4, 5000)


def test_time_is_told_by_readings_and_by_directions_that_enter() -> None:
    def told(steps: int) -> float:
        problem = ring4(**{**BASE, "steps": steps, "eta0": 1.0 / steps}, head_dim=2)
        return problem.seconds(CausalSampling(heads=1000))

    # Long passes read the same directions at every step; short ones are those that enter.
    assert told(4000) / told(2000) == pytest.approx(2.0, abs=0.05)
    assert told(80) / told(40) < 1.8
